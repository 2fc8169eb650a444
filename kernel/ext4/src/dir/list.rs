//! readdir: in the order of hashes where the file system has indexed directories, so that a cookie stays right when leaves are
//! split; else by place.

use super::block;
use crate::inode::InodeState;
use crate::layout::push;
use crate::prelude::*;

/// The cookie at the end.
const END: u64 = i64::MAX as u64;

/// One entry of readdir; `next` is the cookie with which the list goes on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    pub name: &'a [u8],
    pub inode: u32,
    /// As in the directory: 1 regular, 2 directory, 3 character, 4 block device, 5 FIFO, 6 socket, 7 symlink, 0 unknown.
    pub kind: u8,
    pub next: u64,
}

/// Entries that come next, of one block as a rule: their cookies and where they are (block, offset).
#[derive(Default)]
struct Batch {
    blocks: Vec<Arc<Vec<u8>>>,
    entries: Vec<(u64, usize, usize)>,
    /// The cookie after the last.
    next: u64,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Lists a directory from `cookie` (0: the beginning) until `each` returns false or the end; no lock is held while `each` runs.
    /// Returns the cookie to go on with. ENOTDIR.
    pub fn readdir(&self, dir: &Inode<L>, mut cookie: u64, mut each: impl FnMut(Listed<'_>) -> bool) -> Result<u64> {
        while cookie < END {
            let batch = {
                let state = dir.lock();
                if !state.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                self.next_entries(dir.number, &state, cookie)?
            };
            for (i, (place, of, at)) in batch.entries.iter().enumerate() {
                // Names with one cookie: better twice than not at all.
                let next = batch.entries.get(i + 1).map_or(batch.next, |(next, ..)| (*next).min(place + 1));
                let bytes = batch.blocks.get(*of).and_then(|block| block.get(*at..)).unwrap_or_default();
                let Some(entry) = block::entries(bytes).next() else { continue };
                if !each(Listed { name: entry.name, inode: entry.inode, kind: entry.kind, next }) {
                    return Ok(*place);
                }
            }
            cookie = batch.next;
        }
        Ok(END)
    }

    fn next_entries(&self, number: u32, state: &InodeState, cookie: u64) -> Result<Batch> {
        let blocks = self.dir_blocks(state);
        let has_index = self.has_index(state);
        let version = if has_index { self.index_version(number, state)? } else { None };
        let by_hash = version.is_some() || (self.geometry.has_dir_index() && blocks == 1 && !has_index);
        if !by_hash {
            return self.next_by_place(number, state, cookie, blocks);
        }
        let mut batch = Batch::default();
        if cookie < 2 {
            // "." and ".." come first, wherever their hashes are.
            let (buffer, _) = self.any_dir_block(number, state, 0)?;
            let bytes = buffer.bytes()?;
            let name: &[u8] = if cookie == 0 { b"." } else { b".." };
            if let Some(entry) = block::find(&bytes, name) {
                push(&mut batch.entries, (cookie, 0, entry.at))?;
            }
            push(&mut batch.blocks, bytes)?;
            batch.next = cookie + 1;
            return Ok(batch);
        }
        let Some(version) = version else {
            let buffer = self.dir_block(number, state, 0, None)?;
            self.add_by_hash(&mut batch, &buffer, self.geometry.hash_version % 3, cookie)?;
            batch.next = END;
            return Ok(batch);
        };
        let wanted = ((cookie >> 32) << 1) as u32;
        let (mut frames, mut leaf) = self.descend(number, state, wanted)?;
        loop {
            let buffer = self.dir_block(number, state, leaf, None)?;
            self.add_by_hash(&mut batch, &buffer, version, cookie)?;
            match self.next_leaf(number, state, &mut frames)? {
                // Names with one hash go on there (odd): all of them are one batch.
                Some((least, next)) if batch.entries.is_empty() || least & 1 != 0 => leaf = next,
                Some((least, _)) => {
                    let last = batch.entries.last().map_or(0, |(place, ..)| place + 1);
                    batch.next = (u64::from(least >> 1) << 32).max(last);
                    return Ok(batch);
                }
                None => {
                    batch.next = END;
                    return Ok(batch);
                }
            }
        }
    }

    /// Adds the entries of a leaf from `cookie` on, and sorts all by hash.
    fn add_by_hash(&self, batch: &mut Batch, buffer: &Arc<Buffer<L>>, version: u8, cookie: u64) -> Result<()> {
        let bytes = buffer.bytes()?;
        for entry in block::entries(&bytes).filter(|entry| entry.inode != 0) {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let (major, minor) = self.hash_of(entry.name, version);
            let place = (u64::from(major >> 1) << 32 | u64::from(minor)).max(2);
            if place >= cookie {
                push(&mut batch.entries, (place, batch.blocks.len(), entry.at))?;
            }
        }
        push(&mut batch.blocks, bytes)?;
        batch.entries.sort_unstable();
        Ok(())
    }

    fn next_by_place(&self, number: u32, state: &InodeState, cookie: u64, blocks: u32) -> Result<Batch> {
        let bits = self.geometry.block_bits;
        let mut batch = Batch { next: END, ..Batch::default() };
        for logical in (cookie >> bits).min(u64::from(blocks)) as u32..blocks {
            let (buffer, _) = self.any_dir_block(number, state, logical)?;
            let bytes = buffer.bytes()?;
            let base = u64::from(logical) << bits;
            for entry in block::entries(&bytes).filter(|entry| entry.inode != 0) {
                if base + entry.at as u64 >= cookie {
                    push(&mut batch.entries, (base + entry.at as u64, 0, entry.at))?;
                }
            }
            if !batch.entries.is_empty() {
                push(&mut batch.blocks, bytes)?;
                batch.next = if logical + 1 == blocks { END } else { u64::from(logical + 1) << bits };
                break;
            }
        }
        Ok(batch)
    }
}
