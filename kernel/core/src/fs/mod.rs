//! The virtual file system: inodes, directory entries, mounts, path walk; the file systems below it.

pub mod inode;
pub mod lock;
pub mod syscall;
pub mod path;

pub use inode::{FileType, Inode, Stat};
pub use path::{FsContext, Path};

use crate::file::{OpenFile, OpenFlags};
use crate::prelude::*;

/// AT_FDCWD.
pub const AT_FDCWD: i32 = -100;

/// Mounts the root tmpfs, devfs and the kernel's own file systems; unpacks the initramfs.
pub fn init() -> Result<(), Errno> {
    todo!()
}

/// The context of pid 1: root and working directory `/`, umask 022.
pub fn initial_context() -> Arc<FsContext> {
    todo!()
}

/// Walks `path` from directory `dirfd` (AT_FDCWD is the working directory) as the calling thread.
pub fn lookup(_dirfd: i32, _path: &[u8], _follow_last: bool) -> Result<Path, Errno> {
    todo!()
}

/// open(2) as the calling thread, without installing a descriptor.
pub fn open(_dirfd: i32, _path: &[u8], _flags: OpenFlags, _mode: u32) -> Result<Arc<OpenFile>, Errno> {
    todo!()
}

/// Opens a program for execve: regular file, execute permission (EACCES), write denied while it runs (ETXTBSY).
/// `flags` are execveat's AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW.
pub fn open_exec(_dirfd: i32, _path: &[u8], _flags: u32) -> Result<Arc<OpenFile>, Errno> {
    todo!()
}

/// Creates a socket node for bind(2) of a UNIX socket: EADDRINUSE when it exists. Answers its path.
pub fn create_socket_node(_path: &[u8], _mode: u32) -> Result<Path, Errno> {
    todo!()
}
