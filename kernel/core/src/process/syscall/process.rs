//! Process: system calls of process.

use crate::prelude::*;
use crate::process::{exit, life};
use core::sync::atomic::Ordering;

pub fn sys_personality(_persona: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_exit(status: i32) -> SysResult {
    exit::exit_thread(life::exited(status as u32))
}

pub fn sys_exit_group(status: i32) -> SysResult {
    exit::exit_group(life::exited(status as u32))
}

pub fn sys_set_tid_address(tidptr: UserAddr) -> SysResult {
    let task = current();
    task.clear_child_tid.store(tidptr.0, Ordering::Relaxed);
    Ok(task.tid as usize)
}

pub fn sys_prctl(_option: i32, _arg2: u64, _arg3: u64, _arg4: u64, _arg5: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getpid() -> SysResult {
    Ok(current().process.pid as usize)
}

pub fn sys_getppid() -> SysResult {
    Ok(current().process.ppid() as usize)
}

pub fn sys_gettid() -> SysResult {
    Ok(current().tid as usize)
}

pub fn sys_kcmp(_pid1: i32, _pid2: i32, _kind: i32, _idx1: u64, _idx2: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rseq(_rseq: UserAddr, _len: u32, _flags: u32, _sig: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
