//! wait4(2), waitid(2).

use crate::prelude::*;
use crate::process::pidfd;
use crate::process::wait::{Options, Which, wait};
use crate::syscall::usage::Rusage;
use crate::task::siginfo::{SIGCHLD, SigInfo};

pub fn sys_wait4(pid: i32, status: UserAddr, options: u32, rusage: UserAddr) -> SysResult {
    let allowed =
        Options::NOHANG | Options::STOPPED | Options::CONTINUED | Options::NOTHREAD | Options::CLONE | Options::ALL;
    let options = Options::from_bits(options).filter(|options| allowed.contains(*options)).ok_or(Errno::EINVAL)?;
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(current().process.pgid()),
        i32::MIN => return Err(Errno::ESRCH),
        group if group < 0 => Which::Group(group.unsigned_abs()),
        pid => Which::Pid(pid as u32),
    };
    let Some(event) = wait(which, options | Options::EXITED)? else { return Ok(0) };
    UserPtr::<u32>::new(status).write_opt(&event.status)?;
    UserPtr::<Rusage>::new(rusage).write_opt(&Rusage::from_usage(&event.usage))?;
    Ok(event.pid as usize)
}

const P_ALL: i32 = 0;
const P_PID: i32 = 1;
const P_PGID: i32 = 2;
const P_PIDFD: i32 = 3;

pub fn sys_waitid(idtype: i32, id: i32, infop: UserAddr, options: u32, rusage: UserAddr) -> SysResult {
    let options = Options::from_bits(options).ok_or(Errno::EINVAL)?;
    if !options.intersects(Options::EXITED | Options::STOPPED | Options::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let mut options = options;
    let mut nonblocking_pidfd = false;
    let which = match idtype {
        P_ALL => Which::Any,
        P_PID if id > 0 => Which::Pid(id as u32),
        P_PGID if id > 0 => Which::Group(id as u32),
        P_PGID if id == 0 => Which::Group(current().process.pgid()),
        P_PIDFD if id >= 0 => {
            let (process, nonblocking) = pidfd::lookup(id)?;
            nonblocking_pidfd = nonblocking && !options.contains(Options::NOHANG);
            if nonblocking {
                options |= Options::NOHANG;
            }
            Which::Pid(process.pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let event = wait(which, options)?;
    let info = match &event {
        Some(event) => {
            let mut info = SigInfo::child(event.code, event.pid, event.uid, event.value, 0, 0);
            info.signo = SIGCHLD as i32;
            info
        }
        None if nonblocking_pidfd => return Err(Errno::EAGAIN),
        None => {
            let mut info = SigInfo::child(0, 0, 0, 0, 0, 0);
            info.signo = 0;
            info
        }
    };
    if let Some(event) = &event {
        UserPtr::<Rusage>::new(rusage).write_opt(&Rusage::from_usage(&event.usage))?;
    }
    if !infop.is_null() {
        // Linux writes these fields and leaves the rest of the structure alone.
        UserPtr::<[i32; 3]>::new(infop).write(&[info.signo, info.errno, info.code])?;
        let fields = UserAddr(infop.0 + 16);
        UserPtr::<[u32; 3]>::new(fields).write(&[
            info.fields[0] as u32,
            (info.fields[0] >> 32) as u32,
            info.fields[1] as u32,
        ])?;
    }
    Ok(0)
}
