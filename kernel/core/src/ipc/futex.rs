//! Futexes: wait, wake, requeue, priority inheritance, robust lists.

use crate::prelude::*;

/// Wakes up to `count` waiters of the word at `addr` in the calling thread's address space (clear_child_tid at exit).
pub fn wake(_addr: UserAddr, _count: usize) {
    todo!()
}

/// Walks the calling thread's robust list at exit.
pub fn exit_robust_list() {
    todo!()
}

pub fn sys_futex(_uaddr: UserAddr, _op: u32, _val: u32, _timeout: UserAddr, _uaddr2: UserAddr, _val3: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_set_robust_list(_head: UserAddr, _len: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_get_robust_list(_pid: i32, _head: UserAddr, _len: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_futex_waitv(_waiters: UserAddr, _nr: u32, _flags: u32, _timeout: UserAddr, _clockid: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
