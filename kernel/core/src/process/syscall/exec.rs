//! Process: system calls of exec.

use crate::prelude::*;
use hal::trap::UserContext;

pub fn sys_execve(_context: &mut UserContext, _path: UserAddr, _argv: UserAddr, _envp: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_execveat(_context: &mut UserContext, _dirfd: i32, _path: UserAddr, _argv: UserAddr, _envp: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
