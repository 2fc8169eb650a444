//! Commit: the running transaction goes to the log. Waiters for one transaction share its commit: they wait for the log's lock and
//! then find it done.

use super::{Log, Running, format};
use crate::layout::{copied, group, push, put_be32, zeroed};
use crate::prelude::*;
use core::sync::atomic::Ordering;

/// A block of the transaction: its content does not change.
struct Block<L: RawMutex> {
    buffer: Arc<Buffer<L>>,
    bytes: Arc<Vec<u8>>,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Makes transaction `tid` durable, with all data written before. No handle is open in this thread. EIO when the journal has
    /// stopped; ENOMEM (nothing is lost: it may be tried again).
    pub(crate) fn commit(&self, tid: u64) -> Result<()> {
        let journal = &self.journal;
        let mut log = journal.log.lock();
        if journal.is_committed(tid) {
            return Ok(());
        }
        if journal.is_aborted() {
            return Err(Errno::EIO);
        }
        // An empty one is not closed: the numbers in the log have no gaps.
        let Some((transaction, mut blocks)) = self.close_running()? else { return Ok(()) };
        let result = self
            .add_descriptors(&transaction, &mut blocks)
            .and_then(|()| self.write_transaction(&mut log, &transaction, blocks));
        if let Err(error) = result {
            self.abort(format_args!("commit of transaction {}: error {}", transaction.tid, error.0));
            return Err(Errno::EIO);
        }
        for (first, count) in &transaction.freed {
            self.blocks_are_free(*first, *count);
        }
        for number in &transaction.freed_inodes {
            self.inode_is_free(*number);
        }
        journal.committed.store(transaction.tid, Ordering::Release);
        Ok(())
    }

    /// The transaction that handles add to now.
    pub(crate) fn running_tid(&self) -> u64 {
        self.journal.running.lock().tid
    }
    /// Whether that has anything in it.
    pub(crate) fn has_running(&self) -> bool {
        !self.journal.running.lock().is_empty()
    }

    /// Waits for the open handles, takes the transaction and begins a new one.
    fn close_running(&self) -> Result<Option<(Running<L>, Vec<Block<L>>)>> {
        let rooms: arrayvec::ArrayVec<_, { super::ROOMS }> =
            self.journal.rooms.iter().map(|room| room.lock()).collect();
        let mut running = self.journal.running.lock();
        if running.is_empty() {
            return Ok(None);
        }
        let mut blocks = Vec::new();
        blocks.try_reserve(running.buffers.len() + running.groups.len()).map_err(|_| Errno::ENOMEM)?;
        for buffer in running.buffers.values() {
            let bytes = buffer.sealed(|seal, block, bytes| self.seal(seal, block, bytes))?;
            blocks.push(Block { buffer: buffer.clone(), bytes });
        }
        let next = Running::new(running.tid + 1);
        let transaction = core::mem::replace(&mut *running, next);
        // Descriptors are as they are now: taken before the next handle changes them.
        for group in transaction.groups.keys() {
            self.snapshot_group(*group);
        }
        drop(running);
        drop(rooms);
        Ok(Some((transaction, blocks)))
    }

    /// Writes the changed group descriptors, with their bitmaps' checksums, into their blocks and adds these.
    fn add_descriptors(&self, transaction: &Running<L>, blocks: &mut Vec<Block<L>>) -> Result<()> {
        let geometry = &self.geometry;
        blocks.sort_unstable_by_key(|block| block.buffer.block);
        let of = |blocks: &[Block<L>], number: u64| {
            let at = blocks.binary_search_by_key(&number, |block| block.buffer.block).ok()?;
            Some(blocks[at].bytes.clone())
        };
        let mut changed: HashMap<usize, ()> = HashMap::new();
        changed.try_reserve(transaction.groups.len()).map_err(|_| Errno::ENOMEM)?;
        for number in transaction.groups.keys() {
            let mut desc = self.group_snapshot(*number);
            if geometry.has_csum() {
                if let Some(bitmap) = of(blocks, desc.block_bitmap) {
                    let len = geometry.blocks_per_group as usize / 8;
                    desc.block_bitmap_csum = self.disk.crc32c(geometry.csum_seed, &bitmap[..len]);
                }
                if let Some(bitmap) = of(blocks, desc.inode_bitmap) {
                    let len = geometry.inodes_per_group as usize / 8;
                    desc.inode_bitmap_csum = self.disk.crc32c(geometry.csum_seed, &bitmap[..len]);
                }
                self.set_bitmap_csums(*number, &desc);
            }
            let per_block = geometry.block_size / geometry.desc_size;
            let (index, at) = (*number as usize / per_block, *number as usize % per_block * geometry.desc_size);
            self.desc_buffers[index].change(Seal::None, |bytes| {
                let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
                if let Some(place) = bytes.get_mut(at..at + geometry.desc_size) {
                    group::Descriptor::store(&desc, geometry, *number, place, crc);
                }
            })?;
            changed.insert(index, ());
        }
        for index in changed.keys() {
            let buffer = self.desc_buffers[*index].clone();
            let bytes = buffer.bytes()?;
            push(blocks, Block { buffer, bytes })?;
        }
        Ok(())
    }

    fn write_transaction(&self, log: &mut Log<L>, transaction: &Running<L>, blocks: Vec<Block<L>>) -> Result<()> {
        let bits = self.geometry.block_bits;
        if log.space.is_some() {
            // Only what the log holds needs a revocation.
            let mut revoked = Vec::new();
            for block in &transaction.revoked {
                if log.copies.contains_key(block) {
                    push(&mut revoked, *block)?;
                }
            }
            let room = |log: &Log<L>| log.space.as_ref().map_or(0, |(format, _)| format.capacity() - log.used);
            let need = log.space.as_ref().map_or(0, |(format, _)| {
                blocks.len()
                    + blocks.len().div_ceil(format.tags_per_block())
                    + revoked.len().div_ceil(format.revokes_per_block())
                    + 2
            });
            if (room(log) as usize) < need || log.copies.len() > super::checkpoint::MAX_PENDING {
                self.checkpoint_log(log, transaction.tid)?;
                revoked.clear();
            }
            if (room(log) as usize) < need {
                return Err(Errno::ENOSPC);
            }
            let Some((format, map)) = &log.space else { return Err(Errno::EIO) };
            let sequence = transaction.tid as u32;
            let mut position = log.head;
            let mut pieces: Vec<Arc<Vec<u8>>> = Vec::new();
            pieces.try_reserve(need).map_err(|_| Errno::ENOMEM)?;
            for part in revoked.chunks(format.revokes_per_block()) {
                let mut block = zeroed(format.block_size)?;
                format.revoke(&self.disk, sequence, part, &mut block);
                pieces.push(Arc::new(block));
            }
            for part in blocks.chunks(format.tags_per_block()) {
                let mut copies: Vec<(u64, Arc<Vec<u8>>, bool)> = Vec::new();
                copies.try_reserve_exact(part.len()).map_err(|_| Errno::ENOMEM)?;
                for block in part {
                    let escaped = crate::layout::be32(&block.bytes, 0) == format::MAGIC;
                    let bytes = if escaped {
                        let mut bytes = copied(&block.bytes)?;
                        put_be32(&mut bytes, 0, 0);
                        Arc::new(bytes)
                    } else {
                        block.bytes.clone()
                    };
                    copies.push((block.buffer.block, bytes, escaped));
                }
                let mut tags: Vec<(u64, &[u8], bool)> = Vec::new();
                tags.try_reserve_exact(part.len()).map_err(|_| Errno::ENOMEM)?;
                tags.extend(copies.iter().map(|(block, bytes, escaped)| (*block, &bytes[..], *escaped)));
                let mut descriptor = zeroed(format.block_size)?;
                format.descriptor(&self.disk, sequence, &tags, &mut descriptor);
                pieces.push(Arc::new(descriptor));
                pieces.extend(copies.into_iter().map(|(_, bytes, _)| bytes));
            }
            // Runs that are contiguous on disk, up to 256 blocks each.
            let mut rest = &pieces[..];
            while !rest.is_empty() {
                let (block, follow) = map.place(position)?;
                let count = rest.len().min(follow.min(format.end - position).min(256) as usize);
                let mut run: Vec<&[u8]> = Vec::new();
                run.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
                run.extend(rest[..count].iter().map(|piece| &piece[..]));
                self.disk.write(block << (bits - 9), &run, false)?;
                for _ in 0..count {
                    position = format.next(position);
                }
                rest = &rest[count..];
            }
            self.disk.flush()?;
            let mut commit = zeroed(format.block_size)?;
            format.commit(&self.disk, sequence, self.disk.now(), &mut commit);
            self.disk.write(map.place(position)?.0 << (bits - 9), &[&commit], true)?;
            let next = format.next(position);
            log.head = next;
            log.used += pieces.len() as u32 + 1;
        }
        // On disk: what was freed is not written home, what was changed is, some time.
        for block in &transaction.revoked {
            log.pending.remove(block);
            log.copies.remove(block);
        }
        log.pending.try_reserve(blocks.len()).map_err(|_| Errno::ENOMEM)?;
        log.copies.try_reserve(blocks.len()).map_err(|_| Errno::ENOMEM)?;
        for block in blocks {
            log.copies.insert(block.buffer.block, block.bytes);
            log.pending.insert(block.buffer.block, block.buffer);
        }
        if log.space.is_none() {
            self.checkpoint_log(log, transaction.tid + 1)?;
        }
        Ok(())
    }
}
