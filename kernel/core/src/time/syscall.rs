//! Time: system calls of syscall.

use crate::prelude::*;

pub fn sys_nanosleep(_req: UserAddr, _rem: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_clock_settime(_clockid: i32, _tp: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_clock_gettime(_clockid: i32, _tp: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_clock_getres(_clockid: i32, _res: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_clock_nanosleep(_clockid: i32, _flags: u32, _req: UserAddr, _rem: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_gettimeofday(_tv: UserAddr, _tz: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_settimeofday(_tv: UserAddr, _tz: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_adjtimex(_buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
