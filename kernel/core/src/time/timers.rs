//! Time: system calls of timers.

use crate::prelude::*;

/// A process's POSIX timers and interval timers.
pub struct ProcessTimers {}

impl ProcessTimers {
    pub fn new() -> Self {
        Self {}
    }
    /// The process ends: all timers are disarmed.
    pub fn clear(&self) {}
    /// execve: POSIX timers are deleted, interval timers go on.
    pub fn on_exec(&self) {}
}

impl Default for ProcessTimers {
    fn default() -> Self {
        Self::new()
    }
}

pub fn sys_getitimer(_which: i32, _value: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setitimer(_which: i32, _value: UserAddr, _ovalue: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timer_create(_clockid: i32, _sevp: UserAddr, _timerid: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timer_gettime(_timerid: i32, _value: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timer_getoverrun(_timerid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timer_settime(_timerid: i32, _flags: u32, _new: UserAddr, _old: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_timer_delete(_timerid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
