//! Sched: system calls of syscall.

use crate::prelude::*;

pub fn sys_sched_setparam(_pid: i32, _param: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_setscheduler(_pid: i32, _policy: i32, _param: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_getscheduler(_pid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_getparam(_pid: i32, _param: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_setaffinity(_pid: i32, _len: usize, _mask: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_getaffinity(_pid: i32, _len: usize, _mask: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_yield() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_get_priority_max(_policy: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_get_priority_min(_policy: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_rr_get_interval(_pid: i32, _interval: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setpriority(_which: i32, _who: i32, _prio: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getpriority(_which: i32, _who: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getcpu(_cpu: UserAddr, _node: UserAddr, _cache: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_setattr(_pid: i32, _attr: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sched_getattr(_pid: i32, _attr: UserAddr, _size: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_ioprio_set(_which: i32, _who: i32, _prio: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_ioprio_get(_which: i32, _who: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
