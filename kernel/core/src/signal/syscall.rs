//! Signal: system calls of syscall.

use crate::prelude::*;
use hal::trap::UserContext;

pub fn sys_restart_syscall() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_kill(_pid: i32, _sig: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_tkill(_tid: i32, _sig: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_tgkill(_tgid: i32, _tid: i32, _sig: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sigaltstack(_context: &mut UserContext, _ss: UserAddr, _old_ss: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigsuspend(_mask: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigaction(_sig: i32, _act: UserAddr, _oldact: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigprocmask(_how: i32, _set: UserAddr, _oldset: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigpending(_set: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigtimedwait(_set: UserAddr, _info: UserAddr, _timeout: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigqueueinfo(_pid: i32, _sig: i32, _info: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_sigreturn(_context: &mut UserContext) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rt_tgsigqueueinfo(_tgid: i32, _tid: i32, _sig: i32, _info: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
