//! File content: read, write back, fsync.

use super::*;
use crate::allocator::Class;
use crate::extents::{self, Extent, State};
use crate::layout::inode::S_IFREG;
use crate::layout::zeroed;

/// Moves pages to the disk for [`Ext4::write_back`].
pub trait PageIo {
    /// Begins to write `len` bytes (whole blocks) of the file from byte `offset` to the disk from `sector` on.
    fn write(&mut self, offset: u64, sector: u64, len: u64) -> Result<()>;
    /// Waits for all that was begun. EIO if any of it failed.
    fn wait(&mut self) -> Result<()>;
}

/// Runs of blocks that are written before one handle records them.
const RUNS: usize = 8;
/// Blocks of one run.
const RUN: u32 = 2048;

#[derive(Clone, Copy)]
struct Run {
    extent: Extent,
    state: State,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    fn to_sector(&self, block: u64) -> u64 {
        block << (self.geometry.block_bits - 9)
    }

    /// Writes the dirty pages of `range` (bytes; it begins at a block and ends at one or at the file's end `size`) back: blocks are
    /// chosen where there are none, the data is written, and then one handle records blocks and size. Overwriting what is there
    /// needs no handle. Returns how many blocks were holes before: that much of the reservation is used. ENOSPC, EIO.
    pub fn write_back(
        &self,
        inode: &Inode<L>,
        range: core::ops::Range<u64>,
        size: u64,
        io: &mut dyn PageIo,
    ) -> Result<u64> {
        self.check_writable()?;
        let block_size = self.geometry.block_size as u64;
        if range.end > self.geometry.max_file_size() {
            return Err(Errno::EFBIG);
        }
        let (mut at, end) = ((range.start / block_size) as u32, range.end.div_ceil(block_size) as u32);
        let mut filled = 0;
        while at < end {
            let (runs, map_changes) = self.with_retry(|| self.plan(inode, at, end))?;
            let Some(last) = runs.last() else { return Err(Errno::EIO) };
            let next = last.extent.end() as u32;
            let written = runs
                .iter()
                .try_for_each(|run| {
                    let offset = u64::from(run.extent.logical) * block_size;
                    io.write(offset, self.to_sector(run.extent.block), u64::from(run.extent.len) * block_size)
                })
                .and(io.wait());
            if let Err(error) = written {
                // What was begun has ended, or will: nothing may be given to others while it is under way.
                let _ = io.wait();
                self.unchoose_runs(&runs);
                return Err(error);
            }
            let new_size = size.min(u64::from(next) * block_size);
            match self.record(inode, &runs, map_changes, new_size) {
                Ok(blocks) => filled += blocks,
                // Somebody took blocks away meanwhile: once more with what is there now.
                Err(Errno::EAGAIN) => continue,
                Err(error) => return Err(error),
            }
            at = next;
        }
        Ok(filled)
    }

    fn unchoose_runs(&self, runs: &[Run]) {
        for run in runs.iter().filter(|run| run.state == State::Hole) {
            self.unchoose(run.extent.block, run.extent.len);
        }
    }

    /// Says where the blocks from `at` go: where they are, or to blocks chosen now.
    fn plan(&self, inode: &Inode<L>, mut at: u32, end: u32) -> Result<(ArrayVec<Run, RUNS>, u64)> {
        let state = inode.lock();
        if !state.is(S_IFREG) || state.flags() & flag::EXTENTS == 0 {
            return Err(if state.is(S_IFREG) { Errno::EOPNOTSUPP } else { Errno::EINVAL });
        }
        if state.is_gone {
            return Err(Errno::ESTALE);
        }
        let mut runs: ArrayVec<Run, RUNS> = ArrayVec::new();
        let mut goal = match at.checked_sub(1) {
            Some(before) => self.map_locked(&state, before, 1)?.block.map(|block| block + 1),
            None => None,
        };
        while at < end && !runs.is_full() {
            let found = self.map_locked(&state, at, (end - at).min(RUN)).and_then(|map| match map.block {
                Some(block) => Ok((block, map.len, map.state)),
                None => {
                    let goal = goal.unwrap_or_else(|| self.goal(inode.number));
                    self.choose(goal, map.len, Class::Reserved).map(|(block, len)| (block, len, State::Hole))
                }
            });
            let (block, len, state) = match found {
                Ok(found) => found,
                // What is planned so far goes first.
                Err(_) if !runs.is_empty() => break,
                Err(error) => return Err(error),
            };
            runs.push(Run { extent: Extent { logical: at, block, len, unwritten: false }, state });
            goal = Some(block + u64::from(len));
            at += len;
        }
        Ok((runs, state.map_changes))
    }

    /// Records what was written. EAGAIN if the map has changed: nothing is recorded then.
    fn record(&self, inode: &Inode<L>, runs: &[Run], map_changes: u64, size: u64) -> Result<u64> {
        let mut state = inode.lock();
        if state.map_changes != map_changes || state.is_gone {
            self.unchoose_runs(runs);
            return Err(if state.is_gone { Errno::ESTALE } else { Errno::EAGAIN });
        }
        if runs.iter().all(|run| run.state == State::Written) && size <= state.size() {
            return Ok(0);
        }
        let handle = match self.begin(extents::CREDITS + RUNS * 4) {
            Ok(handle) => handle,
            Err(error) => {
                self.unchoose_runs(runs);
                return Err(error);
            }
        };
        let mut filled = 0;
        let mut result = Ok(());
        for (i, run) in runs.iter().enumerate() {
            let extent = run.extent;
            result = match run.state {
                State::Written => Ok(()),
                State::Unwritten => self.convert(&handle, &mut state, extent.logical, extent.end(), false),
                State::Hole => self.insert(&handle, &mut state, extent).inspect(|()| {
                    filled += u64::from(extent.len);
                    state.add_blocks(&self.geometry, i64::from(extent.len));
                }),
            };
            if result.is_err() {
                self.unchoose_runs(&runs[i..]);
                break;
            }
            if run.state == State::Hole {
                self.half_done(self.claim(&handle, extent.block, extent.len))?;
            }
        }
        if result.is_ok() && size > state.size() {
            state.set_size(size);
        }
        inode.data_tid.store(handle.tid, Ordering::Release);
        self.half_done(self.write_inode(&handle, inode, &mut state))?;
        result.map(|()| filled)
    }

    /// Reads bytes of a regular file from `offset`: holes and space not written are zeroes. Returns how many there are, fewer only
    /// at the end. For callers without a page cache.
    pub fn read(&self, inode: &Inode<L>, offset: u64, out: &mut [u8]) -> Result<usize> {
        let size = {
            let state = inode.lock();
            if !state.is(S_IFREG) {
                return Err(if state.is_dir() { Errno::EISDIR } else { Errno::EINVAL });
            }
            state.size()
        };
        let len = out.len().min(size.saturating_sub(offset).min(usize::MAX as u64) as usize);
        let block_size = self.geometry.block_size;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let (block, into) = ((at >> self.geometry.block_bits) as u32, at as usize % block_size);
            let most = (len - done + into).div_ceil(block_size).min(1 << 16) as u32;
            let run = self.map(inode, block, most)?;
            let bytes = (run.len as usize * block_size - into).min(len - done);
            let place = &mut out[done..done + bytes];
            match run.block.filter(|_| run.state == State::Written) {
                None => place.fill(0),
                Some(first) if into == 0 && bytes.is_multiple_of(block_size) => {
                    self.disk.read(self.to_sector(first), place)?
                }
                Some(first) => {
                    // One block at the edge; the rest in the next turn.
                    let mut whole = zeroed(block_size)?;
                    let edge = into != 0 || bytes < block_size;
                    if edge {
                        self.disk.read(self.to_sector(first), &mut whole)?;
                        let bytes = bytes.min(block_size - into);
                        place[..bytes].copy_from_slice(&whole[into..into + bytes]);
                        done += bytes;
                    } else {
                        let bytes = bytes - bytes % block_size;
                        self.disk.read(self.to_sector(first), &mut place[..bytes])?;
                        done += bytes;
                    }
                    continue;
                }
            }
            done += bytes;
        }
        Ok(len)
    }

    /// Writes bytes at `offset`, through to the disk but not durably. For callers without a page cache. ENOSPC, EIO, EFBIG, EPERM.
    pub fn write(&self, inode: &Arc<Inode<L>>, offset: u64, bytes: &[u8]) -> Result<usize> {
        let block_size = self.geometry.block_size as u64;
        let (flags, is_file) = {
            let state = inode.lock();
            (state.flags(), state.is(S_IFREG))
        };
        if !is_file {
            return Err(Errno::EINVAL);
        }
        if flags & flag::IMMUTABLE != 0 {
            return Err(Errno::EPERM);
        }
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.geometry.max_file_size()) {
            return Err(Errno::EFBIG);
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let len = (bytes.len() - done).min(1 << 18);
            let start = at / block_size * block_size;
            let end = (at + len as u64).div_ceil(block_size) * block_size;
            let mut pages = zeroed((end - start) as usize)?;
            // The blocks at the edges keep what is not written.
            let into = (at - start) as usize;
            if into != 0 {
                self.read(inode, start, &mut pages[..into])?;
            }
            if !(into + len).is_multiple_of(block_size as usize) {
                self.read(inode, at + len as u64, &mut pages[into + len..])?;
            }
            pages[into..into + len].copy_from_slice(&bytes[done..done + len]);
            let size = self.stat(inode).size.max(at + len as u64);
            let mut io = Bytes { disk: &self.disk, start, bytes: &pages };
            self.write_back(inode, start..end, size, &mut io)?;
            done += len;
        }
        self.touch(inode, None, Some(self.disk.now()))?;
        Ok(done)
    }

    /// fsync(2) or, with `data_only`, fdatasync(2): what was written back is durable, and with it what is needed to read it again,
    /// or the whole inode. Concurrent callers share a commit. EIO.
    pub fn fsync(&self, inode: &Inode<L>, data_only: bool) -> Result<()> {
        if self.journal.is_aborted() {
            return Err(Errno::EIO);
        }
        if self.is_read_only() {
            return Ok(());
        }
        if !data_only {
            self.write_if_dirty(inode)?;
        }
        let tid = if data_only { &inode.data_tid } else { &inode.tid }.load(Ordering::Acquire);
        if tid == 0 || self.journal.is_committed(tid) { self.disk.flush() } else { self.commit(tid) }
    }
}

/// Pages in memory, for [`Ext4::write`].
struct Bytes<'a, D: Disk> {
    disk: &'a D,
    start: u64,
    bytes: &'a [u8],
}

impl<D: Disk> PageIo for Bytes<'_, D> {
    fn write(&mut self, offset: u64, sector: u64, len: u64) -> Result<()> {
        let from = (offset - self.start) as usize;
        self.disk.write(sector, &[self.bytes.get(from..from + len as usize).ok_or(Errno::EINVAL)?], false)
    }
    fn wait(&mut self) -> Result<()> {
        Ok(())
    }
}
