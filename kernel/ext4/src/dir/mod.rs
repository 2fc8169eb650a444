//! Directories: find, add, take out, list. [`block`] has a block's bytes, [`index`] those of the index, [`htree`] what an indexed
//! directory needs.
//!
//! The caller holds the directory's lock and writes its inode in the same handle.

mod block;
pub mod hash;
mod htree;
mod index;
mod list;

use crate::allocator::Class;
use crate::extents::{Extent, State};
use crate::inode::InodeState;
use crate::layout::inode::flag;
use crate::layout::{le32, put8, put32};
use crate::prelude::*;
pub use block::seal as seal_leaf;
pub use index::seal as seal_index;
pub use list::Listed;

/// Where a name was found.
pub struct Found<L: RawMutex> {
    pub inode: u32,
    pub kind: u8,
    buffer: Arc<Buffer<L>>,
    at: usize,
    seal: Seal,
}

/// Blocks that adding a name may touch: the leaf and its split, the index and its split, a new block each.
pub const CREDITS: usize = crate::extents::CREDITS + 12;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    fn has_index(&self, state: &InodeState) -> bool {
        state.flags() & flag::INDEX != 0 && self.geometry.has_dir_index()
    }

    fn dir_blocks(&self, state: &InodeState) -> u32 {
        (state.size() >> self.geometry.block_bits).min(u64::from(u32::MAX)) as u32
    }

    /// Block `logical` of a directory, checked. With `index` it is the index's root or node.
    fn dir_block(&self, number: u32, state: &InodeState, logical: u32, index: Option<usize>) -> Result<Arc<Buffer<L>>> {
        let bad = |what: &str| self.corrupt(format_args!("directory {number}, block {logical}: {what}"));
        if logical >= self.dir_blocks(state) {
            return Err(bad("beyond the end"));
        }
        let run = self.map_locked(state, logical, 1)?;
        let Some(number_on_disk) = run.block.filter(|_| run.state == State::Written) else {
            return Err(bad("hole"));
        };
        let buffer = self.read_block(number_on_disk)?;
        let seal = if index.is_some() { Seal::DirIndex(state.seed) } else { Seal::DirLeaf(state.seed) };
        if !buffer.is_verified(seal) {
            let bytes = buffer.bytes()?;
            let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
            let has_csum = self.geometry.has_csum();
            let (fine, sum) = match index {
                Some(start) => (
                    index::start(&bytes) == start && index::is_valid(&bytes, start, has_csum),
                    index::seal_is_valid(&bytes, state.seed, crc),
                ),
                None => (block::is_valid(&bytes, self.geometry.inodes), block::seal_is_valid(&bytes, state.seed, crc)),
            };
            if !fine {
                return Err(bad("structure"));
            }
            if has_csum && !sum {
                return Err(self.bad_checksum(format_args!("directory {number}, block {logical}")));
            }
            buffer.set_verified(seal);
        }
        Ok(buffer)
    }

    /// Block `logical` when the directory is read from front to back: of an index only what looks like entries.
    fn any_dir_block(&self, number: u32, state: &InodeState, logical: u32) -> Result<(Arc<Buffer<L>>, Seal)> {
        if self.has_index(state) {
            let start = if logical == 0 { index::ROOT } else { index::NODE };
            let is_index = logical == 0 || {
                let run = self.map_locked(state, logical, 1)?;
                let number_on_disk = run.block.ok_or(Errno::EUCLEAN)?;
                let bytes = self.read_block(number_on_disk)?.bytes()?;
                le32(&bytes, 0) == 0 && index::start(&bytes) == index::NODE
            };
            // Without checksums an empty leaf looks like a node: nothing in it in any case.
            if is_index && (logical == 0 || self.geometry.has_csum()) {
                return Ok((self.dir_block(number, state, logical, Some(start))?, Seal::DirIndex(state.seed)));
            }
        }
        Ok((self.dir_block(number, state, logical, None)?, Seal::DirLeaf(state.seed)))
    }

    /// Looks for a name. ENOENT.
    pub(crate) fn find_name(&self, number: u32, state: &InodeState, name: &[u8]) -> Result<Found<L>> {
        let dots = name == b"." || name == b"..";
        if self.has_index(state)
            && !dots
            && let Some(found) = self.find_hashed(number, state, name)?
        {
            return found.ok_or(Errno::ENOENT);
        }
        let blocks = if dots { 1 } else { self.dir_blocks(state) };
        for logical in 0..blocks {
            let (buffer, seal) = self.any_dir_block(number, state, logical)?;
            if let Some(found) = found_in(&buffer, name, seal)? {
                return Ok(found);
            }
        }
        Err(Errno::ENOENT)
    }

    /// Adds a name that is not there. ENOSPC, and then nothing has changed but perhaps the directory's size.
    pub(crate) fn add_name(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        name: &[u8],
        inode: u32,
        kind: u8,
    ) -> Result<()> {
        if self.has_index(state) && self.index_version(number, state)?.is_some() {
            return self.add_hashed(handle, number, state, name, inode, kind);
        }
        if state.flags() & flag::INDEX != 0 {
            // An index nobody knows how to keep: a plain directory from now on.
            if self.geometry.has_csum() {
                return Err(Errno::EOPNOTSUPP);
            }
            state.set_flags(state.flags() & !flag::INDEX);
        }
        let blocks = self.dir_blocks(state);
        for logical in 0..blocks {
            let buffer = self.dir_block(number, state, logical, None)?;
            if self.add_to_leaf(handle, state, &buffer, name, inode, kind)? {
                return Ok(());
            }
        }
        if blocks == 1 && self.geometry.has_dir_index() && hash::is_known(self.geometry.hash_version) {
            self.make_index(handle, number, state)?;
            return self.add_hashed(handle, number, state, name, inode, kind);
        }
        let (_, buffer) = self.append_dir_block(handle, number, state)?;
        self.add_to_leaf(handle, state, &buffer, name, inode, kind)?;
        Ok(())
    }

    /// Adds a name to a leaf if there is room.
    fn add_to_leaf(
        &self,
        handle: &Handle<'_, D, L>,
        state: &InodeState,
        buffer: &Arc<Buffer<L>>,
        name: &[u8],
        inode: u32,
        kind: u8,
    ) -> Result<bool> {
        let Some(room) = block::room(&buffer.bytes()?, name.len()) else { return Ok(false) };
        handle.modify(buffer, Seal::DirLeaf(state.seed), |bytes| block::insert(bytes, room, inode, kind, name))?;
        Ok(true)
    }

    pub(crate) fn remove_name(&self, handle: &Handle<'_, D, L>, found: &Found<L>) -> Result<()> {
        handle.modify(&found.buffer, found.seal, |bytes| block::remove(bytes, found.at))
    }

    /// Makes a name stand for another inode.
    pub(crate) fn set_name(&self, handle: &Handle<'_, D, L>, found: &Found<L>, inode: u32, kind: u8) -> Result<()> {
        handle.modify(&found.buffer, found.seal, |bytes| {
            put32(bytes, found.at, inode);
            put8(bytes, found.at + 7, kind);
        })
    }

    /// The type of a directory entry, 0 where the file system has none.
    pub(crate) fn entry_kind(&self, mode: u16) -> u8 {
        let has = self.geometry.incompat & crate::layout::superblock::incompat::FILETYPE != 0;
        if has { crate::layout::inode::dirent_type(mode) } else { 0 }
    }

    /// Gives a new directory its first block, with "." and "..".
    pub(crate) fn init_dir(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        parent: u32,
    ) -> Result<()> {
        let (_, buffer) = self.append_dir_block(handle, number, state)?;
        let kind = self.entry_kind(crate::layout::inode::S_IFDIR);
        handle.modify(&buffer, Seal::DirLeaf(state.seed), |bytes| {
            let len = usize::from(crate::layout::le16(bytes, 4));
            block::write(bytes, 0, 12, number, kind, b".");
            block::write(bytes, 12, len - 12, parent, kind, b"..");
        })
    }

    /// Whether a directory has only "." and "..".
    pub(crate) fn is_empty_dir(&self, number: u32, state: &InodeState) -> Result<bool> {
        for logical in 0..self.dir_blocks(state) {
            let (buffer, _) = self.any_dir_block(number, state, logical)?;
            let bytes = buffer.bytes()?;
            if block::entries(&bytes).any(|e| e.inode != 0 && e.name != b"." && e.name != b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a directory one more block, an empty leaf. ENOSPC, and then nothing has changed.
    fn append_dir_block(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
    ) -> Result<(u32, Arc<Buffer<L>>)> {
        if state.flags() & flag::EXTENTS == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let logical = self.dir_blocks(state);
        let goal = match logical.checked_sub(1) {
            Some(last) => self.map_locked(state, last, 1)?.block.unwrap_or(0) + 1,
            None => self.goal(number),
        };
        let (block, _) = self.choose(goal, 1, Class::Ordinary)?;
        let added = self.insert(handle, state, Extent { logical, block, len: 1, unwritten: false });
        if let Err(error) = added {
            self.unchoose(block, 1);
            return Err(error);
        }
        let has_csum = self.geometry.has_csum();
        let seal = Seal::DirLeaf(state.seed);
        self.half_done(self.claim(handle, block, 1).and_then(|()| {
            let buffer = self.cache.fresh(block, self.geometry.block_size)?;
            handle.modify(&buffer, seal, |bytes| block::init(bytes, has_csum))?;
            buffer.set_verified(seal);
            state.add_blocks(&self.geometry, 1);
            state.set_size(u64::from(logical + 1) << self.geometry.block_bits);
            Ok((logical, buffer))
        }))
    }

    /// Where an inode's first block should be: in its group.
    pub(crate) fn goal(&self, number: u32) -> u64 {
        self.geometry.group_start((number - 1) / self.geometry.inodes_per_group)
    }
}

fn found_in<L: RawMutex>(buffer: &Arc<Buffer<L>>, name: &[u8], seal: Seal) -> Result<Option<Found<L>>> {
    let bytes = buffer.bytes()?;
    Ok(block::find(&bytes, name).map(|entry| Found {
        inode: entry.inode,
        kind: entry.kind,
        buffer: buffer.clone(),
        at: entry.at,
        seal,
    }))
}
