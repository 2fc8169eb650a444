//! Ipc: system calls of mq.

use crate::prelude::*;

pub fn sys_mq_open(_name: UserAddr, _oflag: u32, _mode: u32, _attr: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mq_unlink(_name: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mq_timedsend(_mqdes: i32, _msg: UserAddr, _len: usize, _prio: u32, _timeout: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mq_timedreceive(_mqdes: i32, _msg: UserAddr, _len: usize, _prio: UserAddr, _timeout: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mq_notify(_mqdes: i32, _sevp: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mq_getsetattr(_mqdes: i32, _new: UserAddr, _old: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
