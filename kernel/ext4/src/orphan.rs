//! Orphans: inodes that are to be truncated, or freed because nobody names them any more, after a crash too. Ours go onto the list
//! whose head is in the superblock; the orphan file that newer Linux writes is read at mount.

use crate::layout::inode::{DTIME, flag};
use crate::layout::superblock::{LAST_ORPHAN, RO_COMPAT, compat, ro_compat};
use crate::layout::{le32, put32};
use crate::prelude::*;
use core::sync::atomic::Ordering;

/// At the end of each block of the orphan file: magic number, checksum.
const FILE_MAGIC: u32 = 0x0B10_CA04;

/// The superblock, and the inode before in the list.
pub const CREDITS: usize = 3;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Puts an inode at the head of the list. The caller writes the inode afterwards, in the same handle.
    pub(crate) fn add_orphan(&self, handle: &Handle<'_, D, L>, inode: &Arc<Inode<L>>) -> Result<()> {
        let mut orphans = self.orphans.lock();
        if inode.is_orphan.load(Ordering::Acquire) {
            return Ok(());
        }
        let next = orphans.first().map_or(0, |first| first.number);
        orphans.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.change_super(handle, |block| put32(block, LAST_ORPHAN, inode.number))?;
        inode.next_orphan.store(next, Ordering::Release);
        inode.is_orphan.store(true, Ordering::Release);
        orphans.insert(0, inode.clone());
        Ok(())
    }

    /// Takes an inode off the list. The caller holds its lock (or nobody else has the inode), and writes it afterwards.
    pub(crate) fn remove_orphan(&self, handle: &Handle<'_, D, L>, inode: &Inode<L>) -> Result<()> {
        let mut orphans = self.orphans.lock();
        let Some(at) = orphans.iter().position(|orphan| orphan.number == inode.number) else { return Ok(()) };
        let next = inode.next_orphan.load(Ordering::Acquire);
        match at.checked_sub(1) {
            Some(before) => self.write_orphan_link(handle, &orphans[before], next)?,
            None => self.change_super(handle, |block| put32(block, LAST_ORPHAN, next))?,
        }
        let removed = orphans.remove(at);
        inode.is_orphan.store(false, Ordering::Release);
        drop(orphans);
        drop(removed);
        Ok(())
    }

    /// Finishes what a crash left: truncations, and files that were unlinked while open. At mount, before anybody else.
    pub(crate) fn clean_orphans(&self) -> Result<()> {
        let mut count = 0;
        // The list first: read all of it, then each is taken off from its head.
        let mut next = self.super_field(LAST_ORPHAN)?;
        let mut list: Vec<Arc<Inode<L>>> = Vec::new();
        while next != 0 {
            let known = list.iter().any(|inode| inode.number == next);
            if next > self.geometry.inodes || next < self.geometry.first_inode || known || list.len() > 65536 {
                self.corrupt(format_args!("orphan list at inode {next}"));
                break;
            }
            let inode = match self.is_inode_used(next).and_then(|_| self.inode(next)) {
                Ok(inode) => inode,
                Err(_) => {
                    self.corrupt(format_args!("orphan list at inode {next}"));
                    break;
                }
            };
            next = le32(&inode.lock().raw, DTIME);
            inode.next_orphan.store(next, Ordering::Release);
            inode.is_orphan.store(true, Ordering::Release);
            crate::layout::push(&mut list, inode)?;
        }
        for inode in &list {
            crate::layout::push(&mut self.orphans.lock(), inode.clone())?;
        }
        for inode in list {
            self.clean_orphan(&inode)?;
            count += 1;
        }
        count += self.clean_orphan_file()?;
        if count != 0 {
            self.disk.log(format_args!("ext4: {count} orphans cleaned up"));
        }
        Ok(())
    }

    fn clean_orphan(&self, inode: &Arc<Inode<L>>) -> Result<()> {
        if inode.lock().links() == 0 {
            return self.release(inode);
        }
        // A truncation that was under way: the size says up to where. Blocks beyond it that fallocate left go too, as on Linux.
        let size = {
            let state = inode.lock();
            if state.has_map() && state.flags() & flag::EXTENTS != 0 { Some(state.size()) } else { None }
        };
        if let Some(size) = size {
            self.remove_blocks(inode, size.div_ceil(self.geometry.block_size as u64))?;
        }
        let mut state = inode.lock();
        let handle = self.begin(CREDITS + 1)?;
        self.half_done(self.remove_orphan(&handle, inode).and_then(|()| {
            put32(&mut state.raw, DTIME, 0);
            self.write_inode(&handle, inode, &mut state)
        }))
    }

    /// The orphan file: numbers in blocks, zero for a free place.
    fn clean_orphan_file(&self) -> Result<u32> {
        let geometry = &self.geometry;
        if geometry.compat & compat::ORPHAN_FILE == 0 || geometry.ro_compat & ro_compat::ORPHAN_PRESENT == 0 {
            return Ok(0);
        }
        let file = self.inode(geometry.orphan_file_inode)?;
        let blocks = (file.lock().size() >> geometry.block_bits).min(512) as u32;
        let places = (geometry.block_size - 8) / 4;
        let mut count = 0;
        for logical in 0..blocks {
            let run = self.map(&file, logical, 1)?;
            let Some(block) = run.block else { continue };
            let buffer = self.read_block(block)?;
            let bytes = buffer.bytes()?;
            if le32(&bytes, places * 4) != FILE_MAGIC
                || (geometry.has_csum() && !self.orphan_block_is_valid(&file, block, &bytes))
            {
                self.corrupt(format_args!("orphan file, block {logical}"));
                continue;
            }
            for place in 0..places {
                let number = le32(&bytes, place * 4);
                if number == 0 {
                    continue;
                }
                if number < geometry.first_inode || number > geometry.inodes {
                    self.corrupt(format_args!("orphan file names inode {number}"));
                    continue;
                }
                let inode = match self.inode(number) {
                    Ok(inode) => inode,
                    // Freed before the crash already.
                    Err(Errno::ESTALE) => continue,
                    Err(_) => {
                        self.corrupt(format_args!("orphan file names inode {number}"));
                        continue;
                    }
                };
                self.clean_orphan(&inode)?;
                count += 1;
            }
            drop(bytes);
            // All of them are dealt with: should the machine stop before this, they are dealt with once more.
            let handle = self.begin(2)?;
            let seed = file.lock().seed;
            let sum = self.orphan_block_checksum(seed, block, &[0; 4], places);
            handle.modify(&buffer, Seal::None, |bytes| {
                bytes[..places * 4].fill(0);
                put32(bytes, places * 4 + 4, sum);
            })?;
        }
        let handle = self.begin(2)?;
        self.change_super(&handle, |block| {
            put32(block, RO_COMPAT, le32(block, RO_COMPAT) & !ro_compat::ORPHAN_PRESENT);
        })?;
        Ok(count)
    }

    /// The checksum of a block of the orphan file whose places all have `word`.
    fn orphan_block_checksum(&self, seed: u32, block: u64, word: &[u8], places: usize) -> u32 {
        let sum = self.disk.crc32c(seed, &block.to_le_bytes());
        (0..places).fold(sum, |sum, _| self.disk.crc32c(sum, word))
    }

    fn orphan_block_is_valid(&self, file: &Inode<L>, block: u64, bytes: &[u8]) -> bool {
        let places = (self.geometry.block_size - 8) / 4;
        let sum = self.disk.crc32c(file.lock().seed, &block.to_le_bytes());
        self.disk.crc32c(sum, &bytes[..places * 4]) == le32(bytes, places * 4 + 4)
    }
}
