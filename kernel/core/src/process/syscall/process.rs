//! Process: system calls of process.

use crate::prelude::*;

pub fn sys_personality(_persona: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_exit(_status: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_exit_group(_status: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_set_tid_address(_tidptr: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_times(_buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getrusage(_who: i32, _usage: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_prctl(_option: i32, _arg2: u64, _arg3: u64, _arg4: u64, _arg5: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getpid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getppid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_gettid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_kcmp(_pid1: i32, _pid2: i32, _kind: i32, _idx1: u64, _idx2: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_rseq(_rseq: UserAddr, _len: u32, _flags: u32, _sig: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
