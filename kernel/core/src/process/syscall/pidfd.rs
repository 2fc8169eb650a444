//! Process: system calls of pidfd.

use crate::prelude::*;

pub fn sys_pidfd_send_signal(_pidfd: i32, _sig: i32, _info: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pidfd_open(_pid: i32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pidfd_getfd(_pidfd: i32, _targetfd: i32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
