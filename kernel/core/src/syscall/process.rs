//! Process: system calls of process.

use crate::prelude::*;
use crate::process::{exit, may_inspect};
use crate::task::{find_task, life};
use core::sync::atomic::Ordering;

pub fn sys_personality(persona: u32) -> SysResult {
    let task = current();
    // All ones only asks.
    let old = if persona == u32::MAX {
        task.personality.load(Ordering::Relaxed)
    } else {
        task.personality.swap(persona, Ordering::Relaxed)
    };
    Ok(old as usize)
}

pub fn sys_exit(status: i32) -> SysResult {
    exit::exit_thread(life::exited(status as u32))
}

pub fn sys_exit_group(status: i32) -> SysResult {
    exit::exit_group(life::exited(status as u32))
}

pub fn sys_set_tid_address(tidptr: UserAddr) -> SysResult {
    let task = current();
    task.clear_child_tid.store(tidptr.0, Ordering::Relaxed);
    Ok(task.tid() as usize)
}

pub fn sys_prctl(option: i32, arg2: u64, arg3: u64, arg4: u64, arg5: u64) -> SysResult {
    super::prctl::prctl(option, arg2, arg3, arg4, arg5)
}

pub fn sys_getpid() -> SysResult {
    Ok(current().process.pid as usize)
}

pub fn sys_getppid() -> SysResult {
    Ok(current().process.ppid() as usize)
}

pub fn sys_gettid() -> SysResult {
    Ok(current().tid() as usize)
}

pub fn sys_kcmp(pid1: i32, pid2: i32, kind: i32, idx1: u64, idx2: u64) -> SysResult {
    let find = |pid: i32| u32::try_from(pid).ok().and_then(find_task).ok_or(Errno::ESRCH);
    let (first, second) = (find(pid1)?, find(pid2)?);
    if !may_inspect(&first.process) || !may_inspect(&second.process) {
        return Err(Errno::EPERM);
    }
    // An order that means nothing but is the same each time.
    let order = |a: usize, b: usize| match a.cmp(&b) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    };
    let address = |pointer: *const u8| pointer as usize;
    Ok(match kind {
        0 => {
            let file = |task: &Task, fd: u64| -> Result<usize, Errno> {
                let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
                Ok(address(Arc::as_ptr(&task.files.get().get(fd).ok_or(Errno::EBADF)?).cast()))
            };
            order(file(&first, idx1)?, file(&second, idx2)?)
        }
        1 => {
            let space = |task: &Task| task.mm.get().map_or(0, |space| space.id() as usize);
            order(space(&first), space(&second))
        }
        2 => order(address(Arc::as_ptr(&first.files.get()).cast()), address(Arc::as_ptr(&second.files.get()).cast())),
        3 => order(address(Arc::as_ptr(&first.fs.get()).cast()), address(Arc::as_ptr(&second.fs.get()).cast())),
        4 => {
            let actions = |task: &Task| address(Arc::as_ptr(&task.process.signal.actions()).cast());
            order(actions(&first), actions(&second))
        }
        5 => {
            // Without a priority of its own a thread has no I/O context.
            let context = |task: &Task| match task.sched.io_priority() {
                0 => 0,
                _ => task.tid() as usize,
            };
            order(context(&first), context(&second))
        }
        6 => order(crate::ipc::undo_identity(&first), crate::ipc::undo_identity(&second)),
        _ => return Err(Errno::EINVAL),
    })
}

pub fn sys_rseq(_rseq: UserAddr, _len: u32, _flags: u32, _sig: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
