//! File systems: [`tmpfs`], [`devfs`], [`devpts`]; [`initramfs`] unpacking; [`sync`] writing everything back · [`types`] the list of all.
//! procfs and sysfs are in [`crate::observe`].

pub mod devfs;
pub mod devpts;
pub mod initramfs;
pub mod sync;
pub mod tmpfs;
pub mod types;

use crate::prelude::*;
use crate::vfs::path::MountFlags;
use crate::vfs::walk::{self, Walk};
use crate::vfs::{self, AT_FDCWD, change, mount_fs};

/// What the command line asks of the root file system, behind a size that leaves an eighth of memory to programs: much of it
/// may still be the initramfs's, and unknown to the frame allocator.
fn root_options() -> String {
    let size = hal::boot::info().memory_bytes / 8 * 7;
    alloc::format!("size={size},{}", crate::command_line::option("rootflags").unwrap_or(""))
}

/// Mounts the root tmpfs and devfs; unpacks the initramfs.
pub fn init() -> Result<(), Errno> {
    let rootfs = tmpfs::TmpFs::new("rootfs", root_options().as_bytes())?;
    let root = mount_fs(rootfs, "rootfs", MountFlags::empty(), None);
    vfs::set_root(root);
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
    mount_fs(types::instance(b"mqueue", b"")?, "mqueue", safe | MountFlags::NOEXEC, Some(own(b"/dev/mqueue")?));
    Ok(())
}
