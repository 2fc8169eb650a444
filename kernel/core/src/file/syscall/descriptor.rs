//! File: system calls of descriptor.

use crate::prelude::*;

pub fn sys_eventfd2(_count: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_dup(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_dup3(_oldfd: i32, _newfd: i32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fcntl(_fd: i32, _cmd: u32, _arg: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_ioctl(_fd: i32, _cmd: u32, _arg: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_close(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pipe2(_fds: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_close_range(_first: u32, _last: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
