//! stat, statx, statfs.

use crate::prelude::*;

pub fn sys_statfs(_path: UserAddr, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fstatfs(_fd: i32, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_newfstatat(_dirfd: i32, _path: UserAddr, _buf: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fstat(_fd: i32, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_statx(_dirfd: i32, _path: UserAddr, _flags: u32, _mask: u32, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
