//! File: system calls of splice.

use crate::prelude::*;

pub fn sys_sendfile(_out_fd: i32, _in_fd: i32, _offset: UserAddr, _count: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_vmsplice(_fd: i32, _iov: UserAddr, _nr_segs: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_splice(_fd_in: i32, _off_in: UserAddr, _fd_out: i32, _off_out: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_tee(_fd_in: i32, _fd_out: i32, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_copy_file_range(_fd_in: i32, _off_in: UserAddr, _fd_out: i32, _off_out: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
