//! File: system calls of rw.

use crate::prelude::*;

pub fn sys_lseek(_fd: i32, _offset: i64, _whence: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_read(_fd: i32, _buf: UserAddr, _count: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_write(_fd: i32, _buf: UserAddr, _count: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_readv(_fd: i32, _iov: UserAddr, _iovcnt: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_writev(_fd: i32, _iov: UserAddr, _iovcnt: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pread64(_fd: i32, _buf: UserAddr, _count: usize, _offset: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pwrite64(_fd: i32, _buf: UserAddr, _count: usize, _offset: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_preadv(_fd: i32, _iov: UserAddr, _iovcnt: usize, _offset: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pwritev(_fd: i32, _iov: UserAddr, _iovcnt: usize, _offset: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_preadv2(_fd: i32, _iov: UserAddr, _iovcnt: usize, _offset: i64, _offset_high: u64, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_pwritev2(_fd: i32, _iov: UserAddr, _iovcnt: usize, _offset: i64, _offset_high: u64, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
