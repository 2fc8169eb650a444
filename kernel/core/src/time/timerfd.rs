//! Time: system calls of timerfd.

use crate::prelude::*;

pub fn sys_timerfd_create(_clockid: i32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timerfd_settime(_fd: i32, _flags: u32, _new: UserAddr, _old: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timerfd_gettime(_fd: i32, _cur: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

/// CLOCK_REALTIME was set: cancels timers that asked for it (TFD_TIMER_CANCEL_ON_SET).
pub fn clock_was_set() {}
