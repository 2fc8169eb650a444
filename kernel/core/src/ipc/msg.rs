//! Ipc: system calls of msg.

use crate::prelude::*;

pub fn sys_msgget(_key: i32, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_msgctl(_id: i32, _cmd: i32, _buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_msgrcv(_id: i32, _msgp: UserAddr, _size: usize, _mtype: i64, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_msgsnd(_id: i32, _msgp: UserAddr, _size: usize, _flags: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
