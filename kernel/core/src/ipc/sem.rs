//! Ipc: system calls of sem.

use crate::prelude::*;

pub fn sys_semget(_key: i32, _nsems: i32, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_semctl(_id: i32, _num: i32, _cmd: i32, _arg: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_semtimedop(_id: i32, _ops: UserAddr, _nops: usize, _timeout: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_semop(_id: i32, _ops: UserAddr, _nops: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
