//! The virtual file system: inodes, directory entries, mounts, path walk; the file systems below it.
//!
//! [`inode`] what a file system gives · [`path`] dentries, mounts, contexts · [`superblock`] what mounts share · [`walk`] the path walk · [`permission`] ·
//! [`open`] open(2) · [`change`] creating, linking, renaming, removing · [`tmpfs`], [`devfs`], [`devpts`], [`proc`], [`sysfs`] file systems ·
//! [`initramfs`] unpacking · [`lock`] file locks ·
//! [`notify`], [`inotify`] events · [`anonymous`] what has no path.

pub mod anonymous;
pub mod attributes;
pub mod change;
pub mod devfs;
pub mod devpts;
pub mod initramfs;
pub mod inode;
pub mod inotify;
pub mod lock;
pub mod notify;
pub mod open;
pub mod path;
pub mod permission;
pub mod proc;
pub mod superblock;
pub mod syscall;
pub mod sysfs;
pub mod tmpfs;
pub mod walk;

pub use change::create_socket_node;
pub use inode::{FileType, Inode, Stat};
pub use open::{open, open_exec};
pub use path::{FsContext, Path};

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

/// What the command line asks of the root file system, behind a size that leaves an eighth of memory to programs: much of it
/// may still be the initramfs's, and unknown to the frame allocator.
fn root_options() -> String {
    let size = hal::boot::info().memory_bytes / 8 * 7;
    alloc::format!("size={size},{}", crate::init::option("rootflags").unwrap_or(""))
}

/// Mounts the root tmpfs and devfs; unpacks the initramfs.
pub fn init() -> Result<(), Errno> {
    let rootfs = tmpfs::TmpFs::new("rootfs", root_options().as_bytes())?;
    let root = mount_fs(rootfs, "rootfs", MountFlags::empty(), None);
    ROOT.call_once(|| root.clone());
    current().fs.replace(initial_context());
    initramfs::unpack();
    // Programs expect /dev to be there, as with CONFIG_DEVTMPFS_MOUNT.
    match change::mkdir(AT_FDCWD, b"/dev", 0o755) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let dev = walk::find(AT_FDCWD, b"/dev", Walk::FOLLOW)?;
    mount_fs(devfs::instance()?, "devtmpfs", MountFlags::empty(), Some(dev));
    let own = |path: &[u8]| walk::find(AT_FDCWD, path, Walk::FOLLOW);
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount_fs(devpts::DevPts::instance(), "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(own(b"/dev/pts")?));
    mount_fs(tmpfs::TmpFs::new("tmpfs", b"")?, "tmpfs", safe, Some(own(b"/dev/shm")?));
    mount_fs(proc::instance(b"mqueue")?, "mqueue", safe | MountFlags::NOEXEC, Some(own(b"/dev/mqueue")?));
    Ok(())
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
