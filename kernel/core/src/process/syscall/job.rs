//! Process: system calls of job.

use crate::prelude::*;

pub fn sys_setpgid(_pid: i32, _pgid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getpgid(_pid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getsid(_pid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setsid() -> SysResult {
    Err(Errno::ENOSYS)
}
