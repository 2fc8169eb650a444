//! The descriptor table: lowest free number, close-on-exec, RLIMIT_NOFILE.

use super::OpenFile;
use crate::prelude::*;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FdFlags: u32 {
        const CLOEXEC = 1;
    }
}

pub struct FdTable {}

impl FdTable {
    pub fn new() -> Arc<Self> {
        todo!()
    }
    /// A copy for fork(2).
    pub fn fork(&self) -> Arc<Self> {
        todo!()
    }
    /// EBADF.
    pub fn get(&self, _fd: i32) -> Result<Arc<OpenFile>, Errno> {
        todo!()
    }
    /// The lowest free descriptor: EMFILE at RLIMIT_NOFILE.
    pub fn insert(&self, _file: Arc<OpenFile>, _flags: FdFlags) -> Result<i32, Errno> {
        todo!()
    }
    /// Takes the descriptor out (close): EBADF.
    pub fn remove(&self, _fd: i32) -> Result<Arc<OpenFile>, Errno> {
        todo!()
    }
    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        todo!()
    }
    /// Closes everything (exit).
    pub fn close_all(&self) {
        todo!()
    }
    /// A snapshot of (fd, file, flags), for /proc/PID/fd.
    pub fn snapshot(&self) -> Vec<(i32, Arc<OpenFile>, FdFlags)> {
        todo!()
    }
}

/// The calling thread's file `fd`: EBADF (also for O_PATH files).
pub fn file(_fd: i32) -> Result<Arc<OpenFile>, Errno> {
    todo!()
}

/// As [`file`], O_PATH files included.
pub fn file_or_path(_fd: i32) -> Result<Arc<OpenFile>, Errno> {
    todo!()
}

/// Installs a file at the calling thread's lowest free descriptor: EMFILE.
pub fn install(_file: Arc<OpenFile>, _cloexec: bool) -> SysResult {
    todo!()
}
