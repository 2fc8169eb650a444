//! One leaf entry, found by a single walk: the page-fault path's cursor.

use super::PageTable;
use super::entry::{Entry, PageFlags, borrow_frame, index, load, present, refs, store};
use super::tlb::{flush_range, publish};
use crate::frame::Frame;
use crate::kmap::{ADDRESS, VALID};
use base::addr::PAGE_SIZE;

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
        let entry = load(self.entry);
        present(entry).then(|| (PageFlags::decode(entry), refs(entry)))
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        !present(load(self.entry))
    }
    /// A counted reference to the mapped frame.
    pub fn frame(&self) -> Option<Frame> {
        let entry = load(self.entry);
        present(entry).then(|| borrow_frame(entry))
    }
    /// Maps `frame` where nothing is mapped; panics if something is.
    #[inline]
    pub fn map(&mut self, frame: Frame, flags: PageFlags) {
        assert!(!present(load(self.entry)), "a page is mapped there already");
        store(self.entry, flags.encode(frame.into_phys()));
        self.table.resident += 1;
        publish();
    }
    /// As [`PageTable::replace`].
    pub fn replace(&mut self, frame: Frame, flags: PageFlags) -> Option<Frame> {
        let old = load(self.entry);
        if !present(old) {
            self.map(frame, flags);
            return None;
        }
        store(self.entry, 0);
        self.flush();
        store(self.entry, flags.encode(frame.into_phys()));
        publish();
        Some(Frame::from_phys(old & ADDRESS))
    }
    /// As [`PageTable::protect`].
    pub fn protect(&mut self, flags: PageFlags) {
        let old = load(self.entry);
        if !present(old) {
            return;
        }
        let new = flags.encode(old & ADDRESS);
        if new == old {
            return;
        }
        store(self.entry, new);
        // Entries that were invalid are in no TLB; a stale entry with fewer rights would fault for ever on some CPUs, so
        // it is flushed too.
        if old & VALID != 0 {
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

pub(super) const BLOCK_BYTES: u64 = 1 << 21;

impl Block<'_> {
    /// The leaf entry of page address `va`, which is in the block.
    #[inline]
    pub fn slot(&mut self, va: u64) -> Slot<'_> {
        assert!(va & !(BLOCK_BYTES - 1) == self.start, "not in the block");
        // SAFETY: `first` is entry 0 of a leaf table, which stays while its address space's table is borrowed.
        let entry = unsafe { self.first.add(index(va, 3)) };
        Slot { table: self.table, va, entry }
    }
}
