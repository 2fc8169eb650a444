//! truncate(2), fallocate(2), and SEEK_HOLE.

use super::*;
use crate::allocator::Class;
use crate::extents::{self, Extent, State, node::MAX_UNWRITTEN};
use crate::layout::inode::S_IFREG;
use crate::layout::zeroed;

/// fallocate(2)'s modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FallocateMode {
    /// Space that reads as zeroes; `keep_size` leaves the file's size.
    Allocate {
        keep_size: bool,
    },
    PunchHole,
    ZeroRange {
        keep_size: bool,
    },
    CollapseRange,
    InsertRange,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    Data,
    Hole,
}

/// Extents that one handle frees.
const REMOVE: usize = 4;
/// Blocks that takes: each extent may lie in several groups, with 1 KiB blocks.
const REMOVE_CREDITS: usize = extents::CREDITS + REMOVE * 6;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    fn check_file(&self, state: &InodeState, truncates: bool) -> Result<()> {
        if !state.is(S_IFREG) {
            return Err(if state.is_dir() { Errno::EISDIR } else { Errno::EINVAL });
        }
        if state.is_gone {
            return Err(Errno::ESTALE);
        }
        if state.flags() & flag::EXTENTS == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let forbidden = flag::IMMUTABLE | if truncates { flag::APPEND } else { 0 };
        if state.flags() & forbidden != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Writes zeroes over bytes of one block, if that has content on disk.
    fn zero_part(&self, state: &InodeState, range: core::ops::Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let block_size = self.geometry.block_size;
        let run = self.map_locked(state, (range.start >> self.geometry.block_bits) as u32, 1)?;
        let Some(block) = run.block.filter(|_| run.state == State::Written) else { return Ok(()) };
        let sector = block << (self.geometry.block_bits - 9);
        let mut bytes = zeroed(block_size)?;
        self.disk.read(sector, &mut bytes)?;
        let from = range.start as usize % block_size;
        let to = from + (range.end - range.start) as usize;
        if let Some(part) = bytes.get_mut(from..to.min(block_size)).filter(|part| part.iter().any(|byte| *byte != 0)) {
            part.fill(0);
            self.disk.write(sector, &[&bytes], false)?;
        }
        Ok(())
    }

    /// Makes a regular file `size` bytes long: zeroes at the end, or blocks freed. What lies behind the new end in its last block is
    /// zeroed on disk, so that a file that grows again shows zeroes. EISDIR, EINVAL, EFBIG, EPERM, EIO.
    pub fn truncate(&self, inode: &Arc<Inode<L>>, size: u64) -> Result<()> {
        if size > self.geometry.max_file_size() {
            return Err(Errno::EFBIG);
        }
        let block_size = self.geometry.block_size as u64;
        let first = size.div_ceil(block_size);
        let is_done = {
            let mut state = inode.lock();
            self.check_file(&state, true)?;
            self.check_writable()?;
            if size < state.size() {
                // Data, so before the handle; the lock keeps the map as it is.
                self.zero_part(&state, size..first * block_size)?;
            }
            let handle = self.begin(REMOVE_CREDITS + crate::orphan::CREDITS)?;
            let grows = size > state.size();
            state.set_size(size);
            state.touch(self.disk.now());
            let finish = (|| {
                // Space behind the end (fallocate) goes too, unless the file grows.
                let is_done = grows || self.remove_some(&handle, &mut state, first, 1 << 32)?;
                if !is_done {
                    self.add_orphan(&handle, inode)?;
                }
                self.write_inode(&handle, inode, &mut state)?;
                Ok(is_done)
            })();
            inode.data_tid.store(handle.tid, Ordering::Release);
            self.half_done(finish)?
        };
        if is_done {
            return Ok(());
        }
        self.remove_blocks(inode, first)?;
        let mut state = inode.lock();
        // Without a name it stays an orphan.
        if state.links() == 0 || state.is_gone {
            return Ok(());
        }
        let handle = self.begin(crate::orphan::CREDITS + 1)?;
        self.half_done(
            self.keep(&handle, inode, &mut state).and_then(|()| self.write_inode(&handle, inode, &mut state)),
        )
    }

    /// Frees a few extents at the end of `from..to`; returns whether none are left.
    fn remove_some(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, from: u64, to: u64) -> Result<bool> {
        let Ok(from) = u32::try_from(from) else { return Ok(true) };
        for _ in 0..REMOVE {
            if self.remove_last(handle, state, from, to)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Frees all blocks from `from` on, in as many transactions as it takes.
    pub(crate) fn remove_blocks(&self, inode: &Inode<L>, from: u64) -> Result<()> {
        self.remove_range(inode, from, 1 << 32)
    }

    fn remove_range(&self, inode: &Inode<L>, from: u64, to: u64) -> Result<()> {
        loop {
            let mut state = inode.lock();
            let handle = self.begin(REMOVE_CREDITS)?;
            let done = self.remove_some(&handle, &mut state, from, to);
            inode.data_tid.store(handle.tid, Ordering::Release);
            self.half_done(self.write_inode(&handle, inode, &mut state))?;
            if done? {
                return Ok(());
            }
        }
    }

    /// fallocate(2) on a regular file. EINVAL, EFBIG, ENOSPC, EPERM, EISDIR. The caller has dropped the pages of what goes away.
    pub fn fallocate(&self, inode: &Arc<Inode<L>>, mode: FallocateMode, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= self.geometry.max_file_size()).ok_or(Errno::EFBIG)?;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        self.check_writable()?;
        self.check_file(&inode.lock(), mode != (FallocateMode::Allocate { keep_size: false }))?;
        let block_size = self.geometry.block_size as u64;
        let (first, last) = (offset.div_ceil(block_size), end / block_size);
        match mode {
            FallocateMode::Allocate { keep_size } => {
                self.preallocate(inode, offset / block_size, end.div_ceil(block_size))?;
                self.finish(inode, if keep_size { None } else { Some(end) })
            }
            FallocateMode::PunchHole => {
                self.zero_edges(inode, offset, end)?;
                if first < last {
                    self.remove_range(inode, first, last)?;
                }
                self.finish(inode, None)
            }
            FallocateMode::ZeroRange { keep_size } => {
                self.zero_edges(inode, offset, end)?;
                if first < last {
                    self.make_unwritten(inode, first, last)?;
                }
                self.preallocate(inode, offset / block_size, end.div_ceil(block_size))?;
                self.finish(inode, if keep_size { None } else { Some(end) })
            }
            FallocateMode::CollapseRange | FallocateMode::InsertRange => {
                let size = inode.lock().size();
                let inserts = mode == FallocateMode::InsertRange;
                if !offset.is_multiple_of(block_size) || !len.is_multiple_of(block_size) {
                    return Err(Errno::EINVAL);
                }
                if if inserts { offset >= size } else { end >= size } {
                    return Err(Errno::EINVAL);
                }
                if inserts {
                    if size + len > self.geometry.max_file_size() {
                        return Err(Errno::EFBIG);
                    }
                    self.insert_range(inode, first as u32, (len / block_size) as u32, size + len)
                } else {
                    self.remove_range(inode, first, last)?;
                    self.shift(inode, last as u32, (len / block_size) as u32, true)?;
                    self.set_size_after_shift(inode, size - len)
                }
            }
        }
    }

    /// Zeroes what is not whole blocks at both ends of a range.
    fn zero_edges(&self, inode: &Inode<L>, offset: u64, end: u64) -> Result<()> {
        let block_size = self.geometry.block_size as u64;
        let state = inode.lock();
        let after = offset.div_ceil(block_size) * block_size;
        self.zero_part(&state, offset..after.min(end))?;
        let before = end / block_size * block_size;
        if before >= after { self.zero_part(&state, before..end) } else { Ok(()) }
    }

    /// Sets the times, and the size if it grows.
    fn finish(&self, inode: &Inode<L>, size: Option<u64>) -> Result<()> {
        let mut state = inode.lock();
        let handle = self.begin(1)?;
        if let Some(size) = size.filter(|size| *size > state.size()) {
            state.set_size(size);
        }
        state.touch(self.disk.now());
        inode.data_tid.store(handle.tid, Ordering::Release);
        self.write_inode(&handle, inode, &mut state)
    }

    /// Fills holes with unwritten extents.
    fn preallocate(&self, inode: &Inode<L>, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            at = self.with_retry(|| self.preallocate_one(inode, at as u32, to))?;
        }
        Ok(())
    }

    fn preallocate_one(&self, inode: &Inode<L>, at: u32, to: u64) -> Result<u64> {
        let mut state = inode.lock();
        let map = self.map_locked(&state, at, (to - u64::from(at)).min(u64::from(MAX_UNWRITTEN)) as u32)?;
        if map.state != State::Hole {
            return Ok(u64::from(at) + u64::from(map.len));
        }
        let goal = match at.checked_sub(1) {
            Some(before) => self.map_locked(&state, before, 1)?.block.map(|block| block + 1),
            None => None,
        };
        let handle = self.begin(extents::CREDITS + 3)?;
        let goal = goal.unwrap_or_else(|| self.goal(inode.number));
        let (block, len) = self.choose(goal, map.len, Class::Ordinary)?;
        let extent = Extent { logical: at, block, len, unwritten: true };
        if let Err(error) = self.insert(&handle, &mut state, extent) {
            self.unchoose(block, len);
            self.half_done(self.write_inode(&handle, inode, &mut state))?;
            return Err(error);
        }
        state.add_blocks(&self.geometry, i64::from(len));
        inode.data_tid.store(handle.tid, Ordering::Release);
        self.half_done(self.claim(&handle, block, len).and_then(|()| self.write_inode(&handle, inode, &mut state)))?;
        Ok(extent.end())
    }

    fn make_unwritten(&self, inode: &Inode<L>, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            let mut state = inode.lock();
            let map = self.map_locked(&state, at as u32, (to - at).min(u64::from(MAX_UNWRITTEN)) as u32)?;
            let end = at + u64::from(map.len);
            if map.state == State::Written {
                let handle = self.begin(extents::CREDITS + 2)?;
                let result = self.convert(&handle, &mut state, at as u32, end, true);
                inode.data_tid.store(handle.tid, Ordering::Release);
                self.half_done(self.write_inode(&handle, inode, &mut state))?;
                result?;
            }
            at = end;
        }
        Ok(())
    }

    fn insert_range(&self, inode: &Inode<L>, first: u32, distance: u32, size: u64) -> Result<()> {
        {
            let mut state = inode.lock();
            // Blocks behind the end must not be moved out of the range of numbers.
            let last = self.last_block(&state)?;
            if last + u64::from(distance) > u64::from(u32::MAX) {
                return Err(Errno::EFBIG);
            }
            let handle = self.begin(extents::CREDITS + 1)?;
            let result = self.split_at(&handle, &mut state, first);
            self.half_done(self.write_inode(&handle, inode, &mut state))?;
            result?;
        }
        self.shift(inode, first, distance, false)?;
        self.set_size_after_shift(inode, size)
    }

    /// The block after the last that is mapped.
    fn last_block(&self, state: &InodeState) -> Result<u64> {
        let mut at = 0;
        let mut last = 0;
        while at < u32::MAX {
            let map = self.map_locked(state, at, u32::MAX - at)?;
            at = at.saturating_add(map.len);
            if map.state != State::Hole {
                last = u64::from(at);
            }
        }
        Ok(last)
    }

    fn set_size_after_shift(&self, inode: &Inode<L>, size: u64) -> Result<()> {
        let mut state = inode.lock();
        let handle = self.begin(1)?;
        state.set_size(size);
        state.touch(self.disk.now());
        inode.data_tid.store(handle.tid, Ordering::Release);
        self.write_inode(&handle, inode, &mut state)
    }

    /// Moves everything from block `first` on by `distance` blocks, leaf by leaf: a crash may leave some moved and some not, as on
    /// Linux.
    fn shift(&self, inode: &Inode<L>, first: u32, distance: u32, down: bool) -> Result<()> {
        let (mut from, mut to) = (first, 1 << 32);
        loop {
            let mut state = inode.lock();
            let handle = self.begin(extents::CREDITS)?;
            let next = self.shift_leaf(&handle, &mut state, (from, to), distance, down);
            inode.data_tid.store(handle.tid, Ordering::Release);
            self.half_done(self.write_inode(&handle, inode, &mut state))?;
            match self.half_done(next)? {
                Some(next) if down => match u32::try_from(next) {
                    Ok(next) => from = next,
                    Err(_) => return Ok(()),
                },
                Some(next) => to = next,
                None => return Ok(()),
            }
        }
    }

    /// The next data or hole at or after `offset` in a file of `size` bytes, as the disk knows it: space that is not written is a
    /// hole (the caller looks for dirty pages there). ENXIO at or behind the end, or when no data follows.
    pub fn seek(&self, inode: &Inode<L>, offset: u64, size: u64, seek: Seek) -> Result<u64> {
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let bits = self.geometry.block_bits;
        let end = size.div_ceil(1 << bits).min(u64::from(u32::MAX)) as u32;
        let mut at = (offset >> bits) as u32;
        while at < end {
            let map = self.map(inode, at, end - at)?;
            if (map.state == State::Written) == (seek == Seek::Data) {
                return Ok((u64::from(at) << bits).max(offset));
            }
            at += map.len;
        }
        if seek == Seek::Hole { Ok(size) } else { Err(Errno::ENXIO) }
    }
}
