//! Process: system calls of clone.

use crate::prelude::*;
use hal::trap::UserContext;

pub fn sys_clone(_context: &mut UserContext, _flags: u64, _stack: UserAddr, _parent_tid: UserAddr, _tls: u64, _child_tid: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_clone3(_context: &mut UserContext, _args: UserAddr, _size: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
