//! Writing everything back: sync(2), syncfs(2), and before the machine ends.

use crate::file::block;
use crate::mm::object::writeback;
use crate::prelude::*;
use crate::vfs::superblock::SuperBlock;

/// sync(2): page caches, then every file system, then the block nodes. Errors are for who has the files open.
pub fn sync() {
    writeback::sync_all(None);
    for superblock in SuperBlock::all() {
        if superblock.sync().is_err() {
            crate::warn!("{}: what was written last may be lost", superblock.name());
        }
    }
    block::sync_nodes();
}

/// syncfs(2) of the file system `device` whose superblock is `superblock`.
pub fn sync_fs(superblock: &SuperBlock, device: u64) -> Result<(), Errno> {
    writeback::sync_all(Some(device));
    superblock.sync()
}

/// Before power-off and reboot: everything is written, and every file system left as one that was unmounted. A panic does not come
/// here.
pub fn shutdown() {
    sync();
    for superblock in SuperBlock::all() {
        superblock.shutdown();
    }
    block::sync_nodes();
}
