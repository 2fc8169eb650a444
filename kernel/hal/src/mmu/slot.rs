//! One leaf entry, found by a single walk: the page-fault path's cursor.

use super::PageTable;
use super::entry::{Entry, counted_frame, publish, refs, taken_frame};
use super::tlb::flush_range;
use crate::frame::Frame;
use base::addr::PAGE_SIZE;
use base::page_table::{ADDRESS, BLOCK_BYTES, Frames, PageFlags, index, is_present, is_valid};

/// One leaf entry, found by a single walk.
pub struct Slot<'a> {
    pub(super) table: &'a mut PageTable,
    pub(super) va: u64,
    pub(super) entry: Entry,
}

impl Slot<'_> {
    /// The mapped page's flags and its frame's reference count (the count is not touched).
    #[inline]
    pub fn get(&self) -> Option<(PageFlags, u32)> {
        let entry = self.entry.load();
        is_present(entry).then(|| (PageFlags::decode(entry), refs(entry)))
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        !is_present(self.entry.load())
    }
    /// A counted reference to the mapped frame.
    pub fn frame(&self) -> Option<Frame> {
        let entry = self.entry.load();
        is_present(entry).then(|| counted_frame(entry))
    }
    /// Maps `frame` where nothing is mapped; panics if something is.
    #[inline]
    pub fn map(&mut self, frame: Frame, flags: PageFlags) {
        self.table.tree.fill(self.entry, flags.encode(frame.into_phys()));
        publish();
    }
    /// As [`PageTable::replace`].
    pub fn replace(&mut self, frame: Frame, flags: PageFlags) -> Option<Frame> {
        let old = self.entry.load();
        if !is_present(old) {
            self.map(frame, flags);
            return None;
        }
        self.entry.store(0);
        self.flush();
        self.entry.store(flags.encode(frame.into_phys()));
        publish();
        // SAFETY: overwritten above, and no TLB knows it.
        Some(unsafe { taken_frame(old) })
    }
    /// As [`PageTable::protect`].
    pub fn protect(&mut self, flags: PageFlags) {
        let old = self.entry.load();
        if !is_present(old) {
            return;
        }
        let new = flags.encode(old & ADDRESS);
        if new == old {
            return;
        }
        self.entry.store(new);
        // Entries that were invalid are in no TLB; a stale entry with fewer rights would fault for ever on some CPUs, so
        // it is flushed too.
        if is_valid(old) {
            self.flush();
        } else {
            publish();
        }
    }
    fn flush(&self) {
        flush_range(self.table.root.asid, self.va..self.va + PAGE_SIZE as u64);
    }
}

/// The leaf table of one 2 MiB block.
pub struct Block<'a> {
    pub(super) table: &'a mut PageTable,
    pub(super) start: u64,
    pub(super) first: Entry,
}

impl Block<'_> {
    /// The leaf entry of page address `va`, which is in the block.
    #[inline]
    pub fn slot(&mut self, va: u64) -> Slot<'_> {
        assert!(va & !(BLOCK_BYTES - 1) == self.start, "not in the block");
        let entry = self.table.tree.frames().sibling(self.first, index(va, 3));
        Slot { table: self.table, va, entry }
    }
}
