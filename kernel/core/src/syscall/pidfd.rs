//! Process descriptors: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use crate::prelude::*;
use crate::process::may_inspect;
use crate::process::pidfd::{install, lookup};
use crate::syscall::signal::kill_one;
use crate::task::find_process;
use crate::task::siginfo::SigInfo;
use crate::vfs::OpenFlags;
use crate::vfs::table::{self, file};

const PIDFD_NONBLOCK: u32 = OpenFlags::NONBLOCK.bits();

pub fn sys_pidfd_open(pid: i32, flags: u32) -> SysResult {
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let process = match find_process(pid as u32) {
        Some(process) => process,
        // A thread that is not a leader.
        None if crate::task::find_task(pid as u32).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    install(process, flags & PIDFD_NONBLOCK != 0)
}

pub fn sys_pidfd_send_signal(pidfd: i32, sig: i32, info: UserAddr, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    // An open /proc/PID will do as well.
    let process = match crate::observe::proc::process_of(&*file(pidfd)?) {
        Some(process) => process,
        None => lookup(pidfd)?.0,
    };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    let own = current();
    let given = match UserPtr::<SigInfo>::new(info).non_null() {
        Some(pointer) => {
            let given = pointer.read()?;
            if given.signo != sig {
                return Err(Errno::EINVAL);
            }
            // Only to itself may a process say that the kernel or kill(2) sent something.
            if process.pid != own.process.pid && (given.code >= 0 || given.code == -6) {
                return Err(Errno::EPERM);
            }
            given
        }
        None => SigInfo::user(sig as u32, 0, own.process.pid, own.creds().uid, 0),
    };
    if process.nr_threads() == 0 && !process.life.is_zombie() {
        return Err(Errno::ESRCH);
    }
    kill_one(&process, sig as u32, given)?;
    Ok(0)
}

pub fn sys_pidfd_getfd(pidfd: i32, targetfd: i32, flags: u32) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (process, _) = lookup(pidfd)?;
    if !may_inspect(&process) {
        return Err(Errno::EPERM);
    }
    let task = process.any_thread().ok_or(Errno::ESRCH)?;
    let file = task.files.get().get(targetfd).ok_or(Errno::EBADF)?;
    table::install(file, true)
}
