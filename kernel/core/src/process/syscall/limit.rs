//! Process: system calls of limit.

use crate::prelude::*;

pub fn sys_getrlimit(_resource: u32, _rlim: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setrlimit(_resource: u32, _rlim: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_prlimit64(_pid: i32, _resource: u32, _new: UserAddr, _old: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
