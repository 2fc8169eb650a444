//! The operations a VFS calls: [`names`] (directories), [`attributes`], [`data`] (read, write back, fsync), [`space`] (truncate,
//! fallocate, seek).

mod attributes;
mod data;
mod names;
mod space;

use crate::inode::InodeState;
use crate::layout::inode::{MODE, S_IFDIR, S_IFMT, flag};
use crate::layout::put32;
use crate::prelude::*;
use arrayvec::ArrayVec;
pub use attributes::SetAttr;
use core::sync::atomic::Ordering;
pub use data::PageIo;
use lock_api::MutexGuard;
pub use names::{NewInode, RenameMode};
pub use space::{FallocateMode, Seek};

const NAME_MAX: usize = 255;
/// Links a file may have (EXT4_LINK_MAX); a directory with more subdirectories has 1, where the feature dir_nlink is.
const LINK_MAX: u32 = 65000;

/// The locks of several inodes, taken in the order of their numbers.
struct Locked<'a, L: RawMutex>(ArrayVec<(&'a Inode<L>, MutexGuard<'a, L, InodeState>), 4>);

impl<'a, L: RawMutex> Locked<'a, L> {
    fn new(inodes: &[Option<&'a Inode<L>>]) -> Self {
        let mut list: ArrayVec<&'a Inode<L>, 4> = inodes.iter().flatten().copied().take(4).collect();
        list.sort_unstable_by_key(|inode| inode.number);
        let mut locked = ArrayVec::new();
        let mut last = 0;
        for inode in list {
            if inode.number != last {
                last = inode.number;
                locked.push((inode, inode.lock()));
            }
        }
        Locked(locked)
    }
    fn get(&mut self, inode: &Inode<L>) -> Result<&mut InodeState> {
        let found = self.0.iter_mut().find(|(locked, _)| locked.number == inode.number);
        found.map(|(_, state)| &mut **state).ok_or(Errno::ESTALE)
    }
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Runs an operation, and again after a commit if space was lacking that a commit may give back.
    pub(crate) fn with_retry<R>(&self, mut operation: impl FnMut() -> Result<R>) -> Result<R> {
        for _ in 0..3 {
            match operation() {
                Err(Errno::ENOSPC) if self.counters.freeing.load(Ordering::Relaxed) > 0 => {
                    self.commit(self.running_tid())?;
                }
                result => return result,
            }
        }
        operation()
    }
}
