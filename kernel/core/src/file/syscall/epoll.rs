//! File: system calls of epoll.

use crate::prelude::*;

pub fn sys_epoll_create1(_flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_epoll_ctl(_epfd: i32, _op: i32, _fd: i32, _event: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_epoll_pwait(_epfd: i32, _events: UserAddr, _maxevents: i32, _timeout: i32, _sigmask: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_epoll_pwait2(_epfd: i32, _events: UserAddr, _maxevents: i32, _timeout: UserAddr, _sigmask: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
