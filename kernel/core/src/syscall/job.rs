//! Process groups and sessions: setpgid(2), setsid(2) and the calls that ask.

use crate::prelude::*;
use crate::task::{find_process, find_task, process_group, tree};
use core::sync::atomic::Ordering;

fn target(pid: i32) -> Result<Arc<Process>, Errno> {
    if pid == 0 {
        return Ok(current().process.clone());
    }
    let pid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    find_process(pid).ok_or(Errno::ESRCH)
}

/// As [`target`], also by the number of one of its threads.
fn target_of_thread(pid: i32) -> Result<Arc<Process>, Errno> {
    target(pid).or_else(|errno| {
        let task = u32::try_from(pid).ok().and_then(find_task).ok_or(errno)?;
        Ok(task.process.clone())
    })
}

pub fn sys_setpgid(pid: i32, pgid: i32) -> SysResult {
    // Without a group the process's own number is meant, whatever it is.
    if pgid < 0 || pgid == 0 && pid < 0 {
        return Err(Errno::EINVAL);
    }
    let own = &current().process;
    let process = match target(pid) {
        Err(errno) if target_of_thread(pid).is_ok() => {
            let _ = errno;
            return Err(Errno::EINVAL); // a thread that leads no process
        }
        found => found?,
    };
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
    tree::set_group(&process, pgid, None)?;
    Ok(0)
}

pub fn sys_getpgid(pid: i32) -> SysResult {
    Ok(target_of_thread(pid)?.pgid() as usize)
}

pub fn sys_getsid(pid: i32) -> SysResult {
    Ok(target_of_thread(pid)?.sid() as usize)
}

pub fn sys_setsid() -> SysResult {
    let process = &current().process;
    if process.pid != 1 && (process.pgid() == process.pid || !process_group(process.pid).is_empty()) {
        return Err(Errno::EPERM);
    }
    tree::set_group(process, process.pid, Some(process.pid))?;
    process.life.gave_terminal_up.store(false, Ordering::Relaxed);
    Ok(process.pid as usize)
}
