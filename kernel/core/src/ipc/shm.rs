//! Ipc: system calls of shm.

use crate::prelude::*;

pub fn sys_shmget(_key: i32, _size: usize, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_shmctl(_id: i32, _cmd: i32, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_shmat(_id: i32, _addr: UserAddr, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_shmdt(_addr: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
