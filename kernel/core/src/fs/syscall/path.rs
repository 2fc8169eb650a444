//! Path and directory calls.

use crate::prelude::*;

pub fn sys_getcwd(_buf: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mknodat(_dirfd: i32, _path: UserAddr, _mode: u32, _dev: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mkdirat(_dirfd: i32, _path: UserAddr, _mode: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_unlinkat(_dirfd: i32, _path: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_symlinkat(_target: UserAddr, _dirfd: i32, _path: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_linkat(_olddirfd: i32, _oldpath: UserAddr, _newdirfd: i32, _newpath: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_renameat(_olddirfd: i32, _oldpath: UserAddr, _newdirfd: i32, _newpath: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_truncate(_path: UserAddr, _length: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_ftruncate(_fd: i32, _length: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fallocate(_fd: i32, _mode: u32, _offset: i64, _len: i64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_faccessat(_dirfd: i32, _path: UserAddr, _mode: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_chdir(_path: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fchdir(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_chroot(_path: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_openat(_dirfd: i32, _path: UserAddr, _flags: u32, _mode: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getdents64(_fd: i32, _buf: UserAddr, _count: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_readlinkat(_dirfd: i32, _path: UserAddr, _buf: UserAddr, _size: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sync() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fsync(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fdatasync(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sync_file_range(_fd: i32, _offset: i64, _nbytes: i64, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_umask(_mask: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_readahead(_fd: i32, _offset: i64, _count: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_fadvise64(_fd: i32, _offset: i64, _len: i64, _advice: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_syncfs(_fd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_renameat2(_olddirfd: i32, _oldpath: UserAddr, _newdirfd: i32, _newpath: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_openat2(_dirfd: i32, _path: UserAddr, _how: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_faccessat2(_dirfd: i32, _path: UserAddr, _mode: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
