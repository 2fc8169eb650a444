//! Inode numbers: which group, which bit.

use super::{Group, bitmap};
use crate::layout::group::{BLOCK_UNINIT, INODE_UNINIT};
use crate::layout::zeroed;
use crate::prelude::*;
use core::sync::atomic::Ordering;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// The inode bitmap of a group whose lock is held.
    fn inode_bitmap(&self, group: u32, state: &super::GroupState) -> Result<Arc<Buffer<L>>> {
        let geometry = &self.geometry;
        let desc = &state.desc;
        if desc.flags & INODE_UNINIT != 0 {
            return self.cache.read(desc.inode_bitmap, geometry.block_size, |bytes| {
                bitmap::fill(bytes, geometry.inodes_per_group..(geometry.block_size * 8) as u32, true);
                Ok(())
            });
        }
        let buffer = self.read_block(desc.inode_bitmap)?;
        if !buffer.is_verified(Seal::None) {
            self.check_bitmap(group, &buffer.bytes()?, geometry.inodes_per_group, desc.inode_bitmap_csum)?;
            buffer.set_verified(Seal::None);
        }
        Ok(buffer)
    }

    /// Takes an inode number: for a file in its directory's group, for a directory where there is space, those at the top spread
    /// out. ENOSPC.
    pub(crate) fn allocate_inode(&self, handle: &Handle<'_, D, L>, parent: u32, is_dir: bool) -> Result<u32> {
        let geometry = &self.geometry;
        let parent_group = (parent - 1) / geometry.inodes_per_group;
        let mut first = parent_group;
        if is_dir && parent == 2 {
            first = self.roomiest_group();
        }
        let mut failure = Errno::ENOSPC;
        for i in 0..geometry.groups {
            let number = (first + i) % geometry.groups;
            match self.allocate_inode_in(handle, number, is_dir) {
                Ok(Some(inode)) => return Ok(inode),
                Ok(None) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The group with most free blocks among those with an average count of free inodes.
    fn roomiest_group(&self) -> u32 {
        let average = self.counters.free_inodes.load(Ordering::Relaxed) / i64::from(self.geometry.groups.max(1));
        let mut best = (0, 0);
        for (number, group) in (0u32..).zip(&self.groups) {
            let desc = group.desc();
            if i64::from(desc.free_inodes) >= average && desc.free_blocks > best.1 {
                best = (number, desc.free_blocks);
            }
        }
        best.0
    }

    fn allocate_inode_in(&self, handle: &Handle<'_, D, L>, number: u32, is_dir: bool) -> Result<Option<u32>> {
        let geometry = &self.geometry;
        let group: &Group<L> = self.group(number)?;
        if group.desc().free_inodes == 0 {
            return Ok(None);
        }
        handle.note_group(number)?;
        let mut state = group.0.lock();
        let buffer = self.inode_bitmap(number, &state)?;
        let bytes = buffer.bytes()?;
        let per_group = geometry.inodes_per_group;
        // Inode numbers below the first are reserved, whatever the bitmap says.
        let from = if number == 0 { geometry.first_inode - 1 } else { 0 };
        let Some(run) = bitmap::free_run(&bytes, &state.busy_inodes, from.min(per_group), per_group, 1) else {
            return Ok(None);
        };
        let bit = run.start;
        if state.desc.free_inodes == 0 {
            return Ok(None);
        }
        drop(bytes);
        // Inodes in use in a group mean that its block bitmap is real, as e2fsck takes it.
        if state.desc.flags & BLOCK_UNINIT != 0 {
            let blocks = self.block_bitmap(number, &state)?;
            handle.modify(&blocks, Seal::None, |_| ())?;
            blocks.set_verified(Seal::None);
            state.desc.flags &= !BLOCK_UNINIT;
        }
        handle.modify(&buffer, Seal::None, |bytes| bitmap::fill(bytes, run, true))?;
        buffer.set_verified(Seal::None);
        state.desc.flags &= !INODE_UNINIT;
        state.desc.free_inodes -= 1;
        state.desc.used_dirs += u32::from(is_dir);
        // Never a gap of inodes that were not written: the first free bit is at most the first unused inode.
        state.desc.unused_inodes = state.desc.unused_inodes.min(per_group - bit - 1);
        self.counters.free_inodes.fetch_sub(1, Ordering::Relaxed);
        Ok(Some(number * per_group + bit + 1))
    }

    /// Records an inode as free.
    pub(crate) fn free_inode(&self, handle: &Handle<'_, D, L>, inode: u32, is_dir: bool) -> Result<()> {
        let geometry = &self.geometry;
        let (number, bit) = ((inode - 1) / geometry.inodes_per_group, (inode - 1) % geometry.inodes_per_group);
        handle.note_group(number)?;
        let mut state = self.group(number)?.0.lock();
        let buffer = self.inode_bitmap(number, &state)?;
        if state.busy_inodes.is_empty() {
            state.busy_inodes = zeroed(geometry.block_size)?;
        }
        handle.note_freed_inode(inode)?;
        bitmap::fill(&mut state.busy_inodes, bit..bit + 1, true);
        state.busy_inode_count += 1;
        if !handle.modify(&buffer, Seal::None, |bytes| bitmap::fill(bytes, bit..bit + 1, false))? {
            return Err(self.corrupt(format_args!("freeing free inode {inode}")));
        }
        state.desc.free_inodes += 1;
        state.desc.used_dirs = state.desc.used_dirs.saturating_sub(u32::from(is_dir));
        self.counters.free_inodes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The transaction that freed it is on disk.
    pub(crate) fn inode_is_free(&self, inode: u32) {
        let per_group = self.geometry.inodes_per_group;
        if let Ok(group) = self.group((inode - 1) / per_group) {
            let mut state = group.0.lock();
            let bit = (inode - 1) % per_group;
            bitmap::fill(&mut state.busy_inodes, bit..bit + 1, false);
            state.busy_inode_count = state.busy_inode_count.saturating_sub(1);
            if state.busy_inode_count == 0 {
                state.busy_inodes = Vec::new();
            }
        }
    }

    /// Whether the bitmap says that an inode is in use.
    pub(crate) fn is_inode_used(&self, inode: u32) -> Result<bool> {
        let per_group = self.geometry.inodes_per_group;
        let number = (inode - 1) / per_group;
        let state = self.group(number)?.0.lock();
        let buffer = self.inode_bitmap(number, &state)?;
        Ok(bitmap::get(&buffer.bytes()?, (inode - 1) % per_group))
    }
}
