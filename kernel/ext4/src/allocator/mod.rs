//! Blocks and inodes: chosen in memory, recorded in a handle, given back when the transaction that freed them is on disk.
//!
//! A block is free (allowed to be chosen), *busy* (chosen and not recorded yet, or freed and not committed yet: a bit in the group's
//! `busy`), or in use (a bit in the bitmap on disk). Reservations of dirty pages are only a number.

mod bitmap;
mod inodes;

use crate::layout::group::{BLOCK_UNINIT, Descriptor};
use crate::layout::{push, zeroed};
use crate::prelude::*;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, Ordering};

/// What an allocation may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anything that is free: blocks of dirty pages, for which space was reserved, and the metadata that names them.
    Reserved,
    /// What nobody has reserved.
    Ordinary,
}

pub struct GroupState {
    pub desc: Descriptor,
    /// As it was when the transaction that is being committed was closed.
    snapshot: Descriptor,
    /// Blocks that are neither free nor in use by the bitmap; empty when there are none.
    busy: Vec<u8>,
    busy_count: u32,
    /// Inodes freed and not committed; empty when there are none.
    busy_inodes: Vec<u8>,
    busy_inode_count: u32,
    /// No free block lies before this one.
    first_free: u32,
}

/// One group: descriptor and what is in flight. Its lock is held while its bitmap is looked at.
pub struct Group<L: RawMutex>(Mutex<L, GroupState>);

impl<L: RawMutex> Group<L> {
    pub fn new(desc: Descriptor) -> Self {
        Group(Mutex::new(GroupState {
            desc,
            snapshot: desc,
            busy: Vec::new(),
            busy_count: 0,
            busy_inodes: Vec::new(),
            busy_inode_count: 0,
            first_free: 0,
        }))
    }
    pub fn desc(&self) -> Descriptor {
        self.0.lock().desc
    }
}

/// Counts for the whole file system.
#[derive(Default)]
pub struct Counters {
    /// Blocks that may be chosen.
    pub free: AtomicI64,
    /// Blocks freed by transactions that are not on disk.
    pub freeing: AtomicI64,
    /// Blocks promised to dirty pages.
    pub reserved: AtomicI64,
    pub free_inodes: AtomicI64,
}

impl GroupState {
    /// Adds to or takes from `busy`.
    fn set_busy(&mut self, geometry: &Geometry, bits: Range<u32>, value: bool) -> Result<()> {
        let count = bits.len() as u32;
        if value {
            if self.busy.is_empty() {
                self.busy = zeroed(geometry.block_size)?;
            }
            self.busy_count += count;
        } else {
            self.busy_count = self.busy_count.saturating_sub(count);
            self.first_free = self.first_free.min(bits.start);
        }
        bitmap::fill(&mut self.busy, bits, value);
        if self.busy_count == 0 {
            self.busy = Vec::new();
        }
        Ok(())
    }
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    pub(crate) fn snapshot_group(&self, group: u32) {
        if let Some(group) = self.groups.get(group as usize) {
            let mut state = group.0.lock();
            state.snapshot = state.desc;
        }
    }
    pub(crate) fn group_snapshot(&self, group: u32) -> Descriptor {
        self.groups.get(group as usize).map(|group| group.0.lock().snapshot).unwrap_or_default()
    }
    /// Only a commit sets these.
    pub(crate) fn set_bitmap_csums(&self, group: u32, desc: &Descriptor) {
        if let Some(group) = self.groups.get(group as usize) {
            let mut state = group.0.lock();
            state.desc.block_bitmap_csum = desc.block_bitmap_csum;
            state.desc.inode_bitmap_csum = desc.inode_bitmap_csum;
        }
    }

    fn group(&self, group: u32) -> Result<&Group<L>> {
        self.groups.get(group as usize).ok_or(Errno::EUCLEAN)
    }

    /// The block bitmap of a group whose lock is held.
    fn block_bitmap(&self, group: u32, state: &GroupState) -> Result<Arc<Buffer<L>>> {
        let geometry = &self.geometry;
        let desc = &state.desc;
        if desc.flags & BLOCK_UNINIT != 0 {
            return self.cache.read(desc.block_bitmap, geometry.block_size, |bytes| {
                self.initial_block_bitmap(group, desc, bytes);
                Ok(())
            });
        }
        let buffer = self.read_block(desc.block_bitmap)?;
        if !buffer.is_verified(Seal::None) {
            let bytes = buffer.bytes()?;
            self.check_bitmap(group, &bytes, geometry.blocks_per_group, desc.block_bitmap_csum)?;
            // The bits of its own bitmaps and table: else they would be given away.
            let start = geometry.group_start(group);
            let is_used = |block: u64| {
                let (of, bit) = geometry.group_of(block);
                of != group || bitmap::get(&bytes, bit)
            };
            if !(is_used(desc.block_bitmap) && is_used(desc.inode_bitmap) && is_used(desc.inode_table))
                || (geometry.has_super(group) && !bitmap::get(&bytes, 0))
            {
                return Err(self.corrupt(format_args!("block bitmap of group {group} at {start}")));
            }
            buffer.set_verified(Seal::None);
        }
        Ok(buffer)
    }

    fn check_bitmap(&self, group: u32, bytes: &[u8], bits: u32, csum: u32) -> Result<()> {
        if !self.geometry.has_csum() {
            return Ok(());
        }
        let sum = self.disk.crc32c(self.geometry.csum_seed, &bytes[..bits as usize / 8]);
        let same = if self.geometry.desc_size >= 64 { sum == csum } else { sum as u16 == csum as u16 };
        if same { Ok(()) } else { Err(self.bad_checksum(format_args!("bitmap of group {group}"))) }
    }

    /// What a bitmap that was never written stands for.
    fn initial_block_bitmap(&self, group: u32, desc: &Descriptor, bytes: &mut [u8]) {
        let geometry = &self.geometry;
        bitmap::fill(bytes, 0..geometry.base_meta_blocks(group).min(geometry.blocks_per_group), true);
        let table = geometry.inodes_per_group / geometry.inodes_per_block();
        for (first, count) in [(desc.block_bitmap, 1), (desc.inode_bitmap, 1), (desc.inode_table, table)] {
            for block in first..first + u64::from(count) {
                let (of, bit) = geometry.group_of(block);
                if of == group {
                    bitmap::fill(bytes, bit..bit + 1, true);
                }
            }
        }
        bitmap::fill(bytes, geometry.group_len(group)..(geometry.block_size * 8) as u32, true);
    }

    /// Chooses up to `want` free blocks in a row, near `goal`: they are busy from now on. First a run as long as wanted, then any.
    /// ENOSPC.
    pub(crate) fn choose(&self, goal: u64, want: u32, class: Class) -> Result<(u64, u32)> {
        let geometry = &self.geometry;
        if class == Class::Ordinary
            && self.counters.free.load(Ordering::Relaxed) <= self.counters.reserved.load(Ordering::Relaxed)
        {
            return Err(Errno::ENOSPC);
        }
        let goal = if geometry.contains(goal, 1) { goal } else { geometry.first_data_block };
        let (first, bit) = geometry.group_of(goal);
        let want = want.clamp(1, 32767.min(geometry.blocks_per_group));
        let mut failure = Errno::ENOSPC;
        for least in [want, want.div_ceil(8), 1] {
            for i in 0..geometry.groups {
                let number = (first + i) % geometry.groups;
                let from = if i == 0 { bit } else { 0 };
                match self.choose_in(number, from, want, least) {
                    Ok(Some(run)) => return Ok(run),
                    Ok(None) => {}
                    // A group that cannot be read is passed over.
                    Err(error) => failure = error,
                }
            }
            if least == 1 {
                break;
            }
        }
        Err(failure)
    }

    /// Chooses a run of `least..=want` blocks in one group: first after `from`, then anywhere.
    fn choose_in(&self, number: u32, from: u32, want: u32, least: u32) -> Result<Option<(u64, u32)>> {
        let geometry = &self.geometry;
        let mut state = self.group(number)?.0.lock();
        if state.desc.free_blocks < least {
            return Ok(None);
        }
        let bytes = self.block_bitmap(number, &state)?.bytes()?;
        let end = geometry.group_len(number);
        let first_free = bitmap::free_run(&bytes, &state.busy, state.first_free, end, 1).map_or(end, |run| run.start);
        state.first_free = first_free;
        let mut found = None;
        for (mut from, end) in [(from.max(first_free), end), (first_free, from.min(end))] {
            while let Some(run) = bitmap::free_run(&bytes, &state.busy, from, end, want) {
                if run.len() as u32 >= least {
                    found = Some(run);
                    break;
                }
                from = run.end;
            }
            if found.is_some() {
                break;
            }
        }
        let Some(run) = found else { return Ok(None) };
        let block = geometry.group_start(number) + u64::from(run.start);
        let count = run.len() as u32;
        if self.in_zone(block, u64::from(count)) {
            return Err(self.corrupt(format_args!("block bitmap of group {number} frees metadata")));
        }
        state.set_busy(geometry, run, true)?;
        self.counters.free.fetch_sub(i64::from(count), Ordering::Relaxed);
        Ok(Some((block, count)))
    }

    /// Gives back chosen blocks that were not recorded.
    pub(crate) fn unchoose(&self, block: u64, count: u32) {
        let (group, bit) = self.geometry.group_of(block);
        if let Ok(group) = self.group(group) {
            let _ = group.0.lock().set_busy(&self.geometry, bit..bit + count, false);
            self.counters.free.fetch_add(i64::from(count), Ordering::Relaxed);
        }
    }

    /// Records chosen blocks as in use.
    pub(crate) fn claim(&self, handle: &Handle<'_, D, L>, block: u64, count: u32) -> Result<()> {
        let (number, bit) = self.geometry.group_of(block);
        handle.note_group(number)?;
        let mut state = self.group(number)?.0.lock();
        let buffer = self.block_bitmap(number, &state)?;
        let fresh = handle.modify(&buffer, Seal::None, |bytes| bitmap::fill(bytes, bit..bit + count, true))?;
        buffer.set_verified(Seal::None);
        if !fresh || state.desc.free_blocks < count {
            return Err(self.corrupt(format_args!("group {number}: count of free blocks")));
        }
        state.desc.free_blocks -= count;
        state.desc.flags &= !BLOCK_UNINIT;
        state.set_busy(&self.geometry, bit..bit + count, false)
    }

    /// Chooses and records `want` blocks or fewer, for metadata.
    pub(crate) fn allocate(&self, handle: &Handle<'_, D, L>, goal: u64, want: u32, class: Class) -> Result<(u64, u32)> {
        let (block, count) = self.choose(goal, want, class)?;
        self.claim(handle, block, count)?;
        Ok((block, count))
    }

    /// Records blocks as free; they may be chosen again when the transaction is on disk.
    pub(crate) fn free_blocks(&self, handle: &Handle<'_, D, L>, block: u64, count: u32) -> Result<()> {
        let geometry = &self.geometry;
        if !geometry.contains(block, u64::from(count)) || self.in_zone(block, u64::from(count)) {
            return Err(self.corrupt(format_args!("freeing blocks {block}+{count}")));
        }
        let (mut block, mut left) = (block, count);
        while left > 0 {
            let (number, bit) = geometry.group_of(block);
            let count = left.min(geometry.blocks_per_group - bit);
            handle.note_group(number)?;
            let mut state = self.group(number)?.0.lock();
            let buffer = self.block_bitmap(number, &state)?;
            handle.note_freed(block, count)?;
            state.set_busy(geometry, bit..bit + count, true)?;
            if !handle.modify(&buffer, Seal::None, |bytes| bitmap::fill(bytes, bit..bit + count, false))? {
                return Err(self.corrupt(format_args!("freeing free blocks {block}+{count}")));
            }
            state.desc.free_blocks += count;
            self.counters.freeing.fetch_add(i64::from(count), Ordering::Relaxed);
            block += u64::from(count);
            left -= count;
        }
        Ok(())
    }

    /// The transaction that freed them is on disk.
    pub(crate) fn blocks_are_free(&self, block: u64, count: u32) {
        self.counters.freeing.fetch_sub(i64::from(count), Ordering::Relaxed);
        self.unchoose(block, count);
    }

    /// Promises `blocks` blocks to pages that become dirty. Unless `privileged`, the administrator's reserve is left. ENOSPC.
    pub fn reserve(&self, blocks: u64, privileged: bool) -> Result<()> {
        self.check_writable()?;
        let counters = &self.counters;
        let geometry = &self.geometry;
        // For the extents of what is written back.
        let margin = (geometry.blocks / 64).min(1024) as i64;
        let kept = if privileged { 0 } else { geometry.reserved_blocks as i64 };
        let blocks = i64::try_from(blocks).map_err(|_| Errno::ENOSPC)?;
        let reserved = counters.reserved.fetch_add(blocks, Ordering::Relaxed);
        let free = counters.free.load(Ordering::Relaxed) + counters.freeing.load(Ordering::Relaxed);
        if free - reserved - kept.max(margin) < blocks {
            counters.reserved.fetch_sub(blocks, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Takes back what [`Ext4::reserve`] promised (the pages are gone, or written back).
    pub fn unreserve(&self, blocks: u64) {
        self.counters.reserved.fetch_sub(blocks as i64, Ordering::Relaxed);
    }

    /// FITRIM: discards free runs of at least `least` blocks within `range` (blocks of the file system); returns the blocks discarded.
    pub fn trim(&self, range: Range<u64>, least: u32) -> Result<u64> {
        self.check_writable()?;
        // What is freed on paper only must not be discarded, and is not: it is busy. More is free after a commit.
        self.commit(self.running_tid())?;
        let geometry = &self.geometry;
        let mut trimmed = 0;
        for number in 0..geometry.groups {
            let start = geometry.group_start(number);
            let end = geometry.group_len(number).min(range.end.saturating_sub(start).min(u64::from(u32::MAX)) as u32);
            let mut from = range.start.saturating_sub(start).min(u64::from(u32::MAX)) as u32;
            while from < end {
                let mut state = self.group(number)?.0.lock();
                let bytes = self.block_bitmap(number, &state)?.bytes()?;
                let Some(run) = bitmap::free_run(&bytes, &state.busy, from, end, 32768) else { break };
                from = run.end;
                let count = run.len() as u32;
                if count < least.max(1) {
                    continue;
                }
                state.set_busy(geometry, run.clone(), true)?;
                self.counters.free.fetch_sub(i64::from(count), Ordering::Relaxed);
                drop(state);
                let block = start + u64::from(run.start);
                let shift = geometry.block_bits - 9;
                let result = self.disk.discard(block << shift, u64::from(count) << shift);
                self.unchoose(block, count);
                result?;
                trimmed += u64::from(count);
            }
        }
        Ok(trimmed)
    }

    /// Whether any of the blocks are the file system's own tables.
    pub(crate) fn in_zone(&self, block: u64, count: u64) -> bool {
        let at = self.zones.partition_point(|(first, len)| first + len <= block);
        self.zones.get(at).is_some_and(|(first, _)| *first < block.saturating_add(count))
    }

    /// The areas of [`Ext4::in_zone`], sorted and joined; EUCLEAN for tables outside the file system or on top of each other.
    pub(crate) fn find_zones(geometry: &Geometry, groups: &[Group<L>]) -> Result<Vec<(u64, u64)>> {
        let mut all = Vec::new();
        all.try_reserve_exact(groups.len() * 4).map_err(|_| Errno::ENOMEM)?;
        let table = u64::from(geometry.inodes_per_group / geometry.inodes_per_block());
        for (number, group) in (0u32..).zip(groups) {
            let desc = group.desc();
            let base = geometry.base_meta_blocks(number).min(geometry.group_len(number));
            for (first, len) in [
                (geometry.group_start(number), u64::from(base)),
                (desc.block_bitmap, 1),
                (desc.inode_bitmap, 1),
                (desc.inode_table, table),
            ] {
                if len == 0 {
                    continue;
                }
                if !geometry.contains(first, len) {
                    return Err(Errno::EUCLEAN);
                }
                all.push((first, len));
            }
        }
        all.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, len) in all {
            match joined.last_mut() {
                Some((before, count)) if *before + *count > first => return Err(Errno::EUCLEAN),
                Some((before, count)) if *before + *count == first => *count += len,
                _ => push(&mut joined, (first, len))?,
            }
        }
        Ok(joined)
    }
}
