//! Modes, owners, times.

use crate::prelude::*;

pub fn sys_fchmod(_fd: i32, _mode: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fchmodat(_dirfd: i32, _path: UserAddr, _mode: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fchownat(_dirfd: i32, _path: UserAddr, _uid: u32, _gid: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fchown(_fd: i32, _uid: u32, _gid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_utimensat(_dirfd: i32, _path: UserAddr, _times: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
