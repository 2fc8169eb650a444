//! Process: system calls of wait.

use crate::prelude::*;

pub fn sys_waitid(_idtype: i32, _id: i32, _infop: UserAddr, _options: u32, _rusage: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_wait4(_pid: i32, _status: UserAddr, _options: u32, _rusage: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
