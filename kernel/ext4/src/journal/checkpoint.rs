//! Checkpoint: committed blocks are written home, and the log is empty again.

use super::{Log, format};
use crate::Write;
use crate::layout::put_be32;
use crate::prelude::*;

/// Committed blocks that may wait to be written home: they stay in memory until then.
pub const MAX_PENDING: usize = 4096;
/// Blocks that go to the disk at once.
const BATCH: usize = 64;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Writes home what the log holds. `next` is the first transaction that is not in it.
    pub(super) fn checkpoint_log(&self, log: &mut Log<L>, next: u64) -> Result<()> {
        let bits = self.geometry.block_bits;
        let mut blocks: Vec<(u64, &Arc<Vec<u8>>)> = Vec::new();
        blocks.try_reserve_exact(log.copies.len()).map_err(|_| Errno::ENOMEM)?;
        blocks.extend(log.copies.iter().map(|(block, bytes)| (*block, bytes)));
        blocks.sort_unstable_by_key(|(block, _)| *block);
        for batch in blocks.chunks(BATCH) {
            let writes: arrayvec::ArrayVec<Write<'_>, BATCH> =
                batch.iter().map(|(block, bytes)| Write { sector: block << (bits - 9), bytes }).collect();
            self.disk.write_batch(&writes)?;
        }
        self.disk.flush()?;
        let head = log.head;
        if let Some((format, map)) = &mut log.space {
            put_be32(&mut format.superblock, format::SEQUENCE, next as u32);
            put_be32(&mut format.superblock, format::START, head);
            map.write_superblock(&self.disk, bits, format)?;
        }
        log.used = 0;
        log.pending.clear();
        log.copies.clear();
        Ok(())
    }

    /// Writes home everything that has been committed. EIO.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let mut log = self.journal.log.lock();
        if self.journal.is_aborted() {
            return Err(Errno::EIO);
        }
        if log.copies.is_empty() && log.used == 0 {
            return Ok(());
        }
        let next = self.journal.committed.load(core::sync::atomic::Ordering::Acquire) + 1;
        self.checkpoint_log(&mut log, next).inspect_err(|error| {
            self.abort(format_args!("writing metadata back: error {}", error.0));
        })
    }

    /// Whether the log is more than half full.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let log = self.journal.log.lock();
        log.copies.len() > MAX_PENDING / 2
            || log.space.as_ref().is_some_and(|(format, _)| log.used > format.capacity() / 2)
    }
}
