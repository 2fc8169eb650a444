//! devtmpfs: a tmpfs with the kernel's device nodes in it; one instance however often it is mounted.

use super::tmpfs::TmpFs;
use crate::block::{
    self,
    registry::{self, Change},
};
use crate::file::device;
use crate::prelude::*;
use crate::vfs::path::FileSystem;
use crate::vfs::{FileType, Inode};
use spin::Once;

static INSTANCE: Once<Arc<TmpFs>> = Once::new();

/// Directories and links that programs expect beside the nodes.
const DIRECTORIES: &[(&[u8], u32)] = &[(b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)];
const LINKS: &[(&[u8], &[u8])] = &[
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

fn populate(root: &dyn Inode) -> Result<(), Errno> {
    for (name, rdev, mode) in device::NODES {
        root.create(name.as_bytes(), FileType::Char, *mode, 0, 0, *rdev)?;
    }
    for (name, mode) in DIRECTORIES {
        root.create(name, FileType::Directory, *mode, 0, 0, 0)?;
    }
    for (name, target) in LINKS {
        root.symlink(name, target, 0, 0)?;
    }
    // From here on the registry says what comes and goes; what was there before is made twice, and once is refused.
    registry::set_listener(changed);
    for volume in block::volumes() {
        changed(Change::Added(&volume));
    }
    Ok(())
}

/// Makes and removes the nodes of disks and partitions.
fn changed(change: Change<'_>) {
    let Some(instance) = INSTANCE.get() else { return };
    let root = instance.root_inode();
    let result = match change {
        Change::Added(volume) => {
            root.create(volume.name.as_bytes(), FileType::Block, 0o600, 0, 0, volume.number).map(drop)
        }
        Change::Removed(volume) => root.unlink(volume.name.as_bytes()),
    };
    match result {
        Ok(()) | Err(Errno::EEXIST | Errno::ENOENT) => {}
        Err(errno) => crate::warn!("devtmpfs: a disk's node: {errno}"),
    }
}

pub fn instance() -> Result<Arc<dyn FileSystem>, Errno> {
    if let Some(instance) = INSTANCE.get() {
        return Ok(instance.clone());
    }
    let fresh = TmpFs::new("devtmpfs", b"")?;
    let fresh = INSTANCE.call_once(|| fresh).clone();
    populate(&*fresh.root_inode())?;
    Ok(fresh)
}
