//! The virtual file system: open files and descriptors; inodes, directory entries, mounts, path walk.
//!
//! [`ops`] what an open file can do · [`table`] descriptors · [`poll`] readiness, [`owner`] who is signalled of it · [`file_attributes`] of files without a file system ·
//! [`inode`] what a file system gives · [`path`] dentries, mounts, contexts · [`superblock`] what mounts share · [`walk`] the path walk · [`permission`] ·
//! [`open`] open(2) · [`change`] creating, linking, renaming, removing · [`lock`] file locks · [`notify`] events ·
//! [`anonymous`] what has no path. The file systems are in [`crate::fs`].

pub mod anonymous;
pub mod attributes;
pub mod change;
mod file_attributes;
pub mod inode;
pub mod lock;
pub mod notify;
pub mod open;
pub mod ops;
pub mod owner;
pub mod path;
pub mod permission;
pub mod poll;
pub mod protected;
pub mod superblock;
pub mod table;
pub mod walk;

pub use change::create_socket_node;
pub use file_attributes::Attributes;
pub use inode::{FileType, Inode, Stat};
pub use open::{open, open_exec};
pub use ops::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
pub use path::{FsContext, Path};
pub use poll::{PollEvents, PollSet, PollTable};
pub use table::{FdFlags, FdTable};

use crate::prelude::*;
use path::{FileSystem, Mount, MountFlags};
use spin::Once;
use superblock::SuperBlock;
use walk::Walk;

/// AT_FDCWD.
pub const AT_FDCWD: i32 = -100;

static ROOT: Once<Path> = Once::new();

/// Mounts `fs` at `on` (or as the root); answers its root.
pub fn mount_fs(fs: Arc<dyn FileSystem>, source: &str, flags: MountFlags, on: Option<Path>) -> Path {
    let fs = SuperBlock::new(fs);
    let root = fs.root().clone();
    let mount = Mount::new(fs, root.clone(), source, flags);
    path::attach(&mount, on);
    Path { mount, dentry: root }
}

/// Makes `root` the root directory of pid 1 and of every kernel thread that asks.
pub fn set_root(root: Path) {
    ROOT.call_once(|| root);
    current().fs.replace(initial_context());
}

/// The context of pid 1: root and working directory `/`, umask 022.
pub fn initial_context() -> Arc<FsContext> {
    match ROOT.get() {
        Some(root) => FsContext::at(root.clone()),
        None => FsContext::detached(),
    }
}

/// Walks `path` from directory `dirfd` (AT_FDCWD is the working directory) as the calling thread.
pub fn lookup(dirfd: i32, path: &[u8], follow_last: bool) -> Result<Path, Errno> {
    walk::find(dirfd, path, if follow_last { Walk::FOLLOW } else { Walk::empty() })
}
