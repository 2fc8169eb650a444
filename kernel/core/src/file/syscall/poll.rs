//! File: system calls of poll.

use crate::prelude::*;

pub fn sys_pselect6(_nfds: i32, _readfds: UserAddr, _writefds: UserAddr, _exceptfds: UserAddr, _timeout: UserAddr, _sigmask: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_ppoll(_fds: UserAddr, _nfds: usize, _timeout: UserAddr, _sigmask: UserAddr, _sigsetsize: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
