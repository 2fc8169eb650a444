//! Process groups and sessions: setpgid(2), setsid(2) and the calls that ask.

use crate::prelude::*;
use crate::task::{find_process, process_group};
use core::sync::atomic::Ordering;

fn target(pid: i32) -> Result<Arc<Process>, Errno> {
    if pid == 0 {
        return Ok(current().process.clone());
    }
    u32::try_from(pid).ok().and_then(find_process).ok_or(Errno::ESRCH)
}

pub fn sys_setpgid(pid: i32, pgid: i32) -> SysResult {
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let own = &current().process;
    let process = target(pid)?;
    let is_child = process.parent().is_some_and(|parent| Arc::ptr_eq(&parent, own));
    if is_child {
        if process.sid() != own.sid() {
            return Err(Errno::EPERM);
        }
        if process.life.has_execed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    } else if !Arc::ptr_eq(&process, own) {
        return Err(Errno::ESRCH);
    }
    if process.sid() == process.pid {
        return Err(Errno::EPERM);
    }
    let pgid = if pgid == 0 { process.pid } else { pgid as u32 };
    if pgid != process.pid && !process_group(pgid).iter().any(|member| member.sid() == own.sid()) {
        return Err(Errno::EPERM);
    }
    process.relations.lock().pgid = pgid;
    Ok(0)
}

pub fn sys_getpgid(pid: i32) -> SysResult {
    Ok(target(pid)?.pgid() as usize)
}

pub fn sys_getsid(pid: i32) -> SysResult {
    Ok(target(pid)?.sid() as usize)
}

pub fn sys_setsid() -> SysResult {
    let process = &current().process;
    if process.pid != 1 && (process.pgid() == process.pid || !process_group(process.pid).is_empty()) {
        return Err(Errno::EPERM);
    }
    let mut relations = process.relations.lock();
    relations.pgid = process.pid;
    relations.sid = process.pid;
    Ok(process.pid as usize)
}
