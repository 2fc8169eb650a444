//! Maps without extents, as ext2 and ext3 made them: read, never written.

use super::{Mapping, State};
use crate::inode::InodeState;
use crate::layout::le32;
use crate::prelude::*;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    pub(super) fn map_indirect(&self, state: &InodeState, logical: u32, most: u32) -> Result<Mapping> {
        let per_block = (self.geometry.block_size / 4) as u64;
        let mut rest = u64::from(logical);
        let (slot, levels) = 'place: {
            if rest < 12 {
                break 'place (rest as usize, 0);
            }
            rest -= 12;
            let mut span = per_block;
            for level in 1..=3 {
                if rest < span {
                    break 'place (11 + level, level);
                }
                rest -= span;
                span *= per_block;
            }
            return Err(Errno::EFBIG);
        };
        let mut block = u64::from(le32(state.block(), slot * 4));
        let mut bytes: Option<Arc<Vec<u8>>> = None;
        // A hole that a missing table stands for ends with the table.
        let mut hole = 1;
        let mut index = slot;
        for level in (0..levels).rev() {
            let span = per_block.pow(level as u32);
            if block == 0 {
                hole = span * per_block - rest % (span * per_block);
                break;
            }
            if !self.may_hold(block, 1) {
                return Err(self.corrupt(format_args!("indirect block {block}")));
            }
            let table = self.read_block(block)?.bytes()?;
            index = (rest / span % per_block) as usize;
            block = u64::from(le32(&table, index * 4));
            bytes = Some(table);
        }
        if block == 0 {
            return Ok(Mapping { state: State::Hole, block: None, len: hole.min(u64::from(most)) as u32 });
        }
        // How far the run goes in the same table.
        let (table, end): (&[u8], usize) = match &bytes {
            Some(bytes) => (bytes, per_block as usize),
            None => (state.block(), 12),
        };
        let len = (1..most)
            .take_while(|i| {
                let at = index + *i as usize;
                at < end && u64::from(le32(table, at * 4)) == block + u64::from(*i)
            })
            .count() as u32
            + 1;
        if !self.may_hold(block, len) {
            return Err(self.corrupt(format_args!("indirect map: block {block}")));
        }
        Ok(Mapping { state: State::Written, block: Some(block), len })
    }
}
