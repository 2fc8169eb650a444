//! File locks: POSIX byte ranges (by process), open-file-description ranges, flock.

use crate::file::OpenFile;
use crate::prelude::*;

/// fcntl F_GETLK, F_SETLK, F_SETLKW and their F_OFD_ forms; `arg` names a `struct flock`.
/// EBADF by open mode, EINVAL, EAGAIN, EDEADLK, EINTR, ENOLCK.
pub fn fcntl_lock(_file: &Arc<OpenFile>, _cmd: u32, _arg: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

/// A close(2) of any descriptor of the file drops the calling process's POSIX locks on its inode.
pub fn release_posix(_file: &OpenFile) {}

/// The last reference to the open file description goes: its flock and OFD locks too.
pub fn release_description(_file: &OpenFile) {}

/// /proc/locks.
pub fn format_locks() -> String {
    String::new()
}
