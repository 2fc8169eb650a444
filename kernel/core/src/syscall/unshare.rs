//! unshare(2): the caller stops sharing its descriptors, its directories, its semaphore adjustments.

use crate::prelude::*;
use crate::process::clone::flag;
use crate::task::credentials::cap;

/// What unshare(2) knows.
const KNOWN: u64 =
    flag::FS | flag::FILES | flag::SYSVSEM | flag::THREAD | flag::SIGHAND | flag::VM | flag::NEWTIME | flag::NAMESPACES;

/// EINVAL: unknown flags; CLONE_THREAD, CLONE_SIGHAND or CLONE_VM while it is shared, for nothing can part it; name spaces, of
/// which there is one each (EPERM without the privilege).
pub fn sys_unshare(flags: u64) -> SysResult {
    let task = current();
    let mut flags = flags;
    // What cannot be had alone.
    if flags & flag::NEWUSER != 0 {
        flags |= flag::THREAD | flag::FS;
    }
    if flags & flag::VM != 0 {
        flags |= flag::SIGHAND;
    }
    if flags & flag::SIGHAND != 0 {
        flags |= flag::THREAD;
    }
    if flags & !KNOWN != 0 || flags & flag::THREAD != 0 && task.process.nr_threads() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags & (flag::VM | flag::SIGHAND) != 0 && shares_memory(task) {
        return Err(Errno::EINVAL);
    }
    if flags & (flag::NAMESPACES | flag::NEWTIME) != 0 {
        let privileged = task.creds().has_cap(cap::SYS_ADMIN);
        return Err(if privileged { Errno::EINVAL } else { Errno::EPERM });
    }
    // What may fail comes first.
    if flags & flag::FILES != 0 {
        crate::syscall::descriptor::unshare_files()?;
    }
    if flags & flag::SYSVSEM != 0 {
        crate::ipc::unshare_undo(task);
    }
    if flags & flag::FS != 0 {
        drop(task.fs.replace(task.fs.get().fork()));
    }
    Ok(0)
}

/// Whether another process lives in the caller's memory (and, where it asked so, uses its handlers).
fn shares_memory(task: &Task) -> bool {
    let Some(space) = task.mm.get() else { return false };
    crate::task::all_processes().iter().filter(|process| process.pid != task.process.pid).any(|process| {
        let other = process.any_thread();
        other.is_some_and(|other| other.mm.with(|mm| mm.is_some_and(|mm| Arc::ptr_eq(mm, &space))))
    })
}
