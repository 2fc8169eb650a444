//! Extended attributes.

use crate::prelude::*;

pub fn sys_setxattr(_path: UserAddr, _name: UserAddr, _value: UserAddr, _size: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_lsetxattr(_path: UserAddr, _name: UserAddr, _value: UserAddr, _size: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fsetxattr(_fd: i32, _name: UserAddr, _value: UserAddr, _size: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getxattr(_path: UserAddr, _name: UserAddr, _value: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_lgetxattr(_path: UserAddr, _name: UserAddr, _value: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fgetxattr(_fd: i32, _name: UserAddr, _value: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_listxattr(_path: UserAddr, _list: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_llistxattr(_path: UserAddr, _list: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_flistxattr(_fd: i32, _list: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_removexattr(_path: UserAddr, _name: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_lremovexattr(_path: UserAddr, _name: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fremovexattr(_fd: i32, _name: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
