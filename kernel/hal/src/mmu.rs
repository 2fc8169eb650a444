//! User page tables, ASIDs and TLB maintenance.
//!
//! A [`PageTable`] owns its table frames and one reference per mapped frame. Methods take `&mut self`: the address space
//! above holds a lock. Unmapped frames are freed only after the TLBs of all CPUs have forgotten them ([`TlbGather`]).

use crate::OutOfMemory;
use crate::frame::Frame;
use core::ops::Range;

/// What user code may do with a mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFlags {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// A software bit: private page shared copy-on-write; a write fault copies.
    pub cow: bool,
    /// A software bit: written through this mapping since it was mapped (set by the mapper; kept by `protect`).
    pub dirty: bool,
}

/// One process's translation tree (48-bit, 4 levels, 4 KiB pages) and its ASID.
pub struct PageTable {
    _private: (),
}

impl PageTable {
    pub fn new() -> Result<Self, OutOfMemory> {
        todo!()
    }

    /// Makes this the calling CPU's user translation. No TLB flush: ASIDs keep address spaces apart. Takes `&self`.
    pub fn activate(&self) {
        todo!()
    }

    /// What a context switch needs, without the lock that guards the table: cheap to clone.
    pub fn translation(&self) -> Translation {
        todo!()
    }

    /// Walks to the leaf entry of page address `va` once, making tables on the way: the page-fault path's cursor.
    pub fn slot(&mut self, _va: u64) -> Result<Slot<'_>, OutOfMemory> {
        todo!()
    }

    /// Maps `frame` at page address `va` where nothing is mapped. Fails only for want of table frames. Panics if a page is
    /// mapped there already.
    pub fn map(&mut self, _va: u64, _frame: Frame, _flags: PageFlags) -> Result<(), OutOfMemory> {
        todo!()
    }

    /// Replaces the page at `va` (break-before-make, TLB flushed) and returns the old frame.
    pub fn replace(&mut self, _va: u64, _frame: Frame, _flags: PageFlags) -> Option<Frame> {
        todo!()
    }

    /// The frame and flags mapped at `va`.
    pub fn get(&self, _va: u64) -> Option<(Frame, PageFlags)> {
        todo!()
    }

    /// Flags and the frame's reference count at `va`, without touching the count.
    pub fn query(&self, _va: u64) -> Option<(PageFlags, u32)> {
        todo!()
    }

    /// Changes one page's flags; TLB flushed when rights are taken away.
    pub fn protect(&mut self, _va: u64, _flags: PageFlags) {
        todo!()
    }

    /// Applies `f` to the flags of every mapped page in `range`, then flushes once.
    pub fn protect_range(&mut self, _range: Range<u64>, _f: &mut dyn FnMut(u64, PageFlags) -> PageFlags) {
        todo!()
    }

    /// Unmaps every page in `range` into `gather`; empty tables are freed.
    pub fn unmap_range(&mut self, _range: Range<u64>, _gather: &mut TlbGather) {
        todo!()
    }

    /// Calls `f` for every mapped page in `range`, in order.
    pub fn for_each(&self, _range: Range<u64>, _f: &mut dyn FnMut(u64, &Frame, PageFlags)) {
        todo!()
    }

    /// Copies every mapping of `range` into `child` (which has nothing there). With `cow`, writable pages become read-only
    /// with the `cow` bit in both; else they are shared as they are. The caller flushes once with [`PageTable::flush_all`].
    pub fn fork_range(&mut self, _child: &mut PageTable, _range: Range<u64>, _cow: bool) -> Result<(), OutOfMemory> {
        todo!()
    }

    /// Moves the mappings of `from` to `to` (mremap); `from` is flushed.
    pub fn move_range(&mut self, _from: Range<u64>, _to: u64) -> Result<(), OutOfMemory> {
        todo!()
    }

    /// Flushes this address space's TLB entries on all CPUs.
    pub fn flush_all(&self) {
        todo!()
    }

    /// Number of pages mapped now (resident set) in `range`; whole space with `0..USER_END`.
    pub fn resident(&self) -> usize {
        todo!()
    }

    /// Frames used by the tables themselves.
    pub fn table_frames(&self) -> usize {
        todo!()
    }
}

/// The root and ASID of a [`PageTable`], shared with it (it keeps the root table alive): context switches use it with no lock.
#[derive(Clone)]
pub struct Translation {
    _private: (),
}

impl Translation {
    /// As [`PageTable::activate`].
    pub fn activate(&self) {
        todo!()
    }
}

/// One leaf entry, found by a single walk.
pub struct Slot<'a> {
    _table: &'a mut PageTable,
}

impl Slot<'_> {
    /// The mapped page's flags and its frame's reference count (the count is not touched).
    pub fn get(&self) -> Option<(PageFlags, u32)> {
        todo!()
    }
    /// A counted reference to the mapped frame.
    pub fn frame(&self) -> Option<Frame> {
        todo!()
    }
    /// Maps `frame` where nothing is mapped; panics if something is.
    pub fn map(&mut self, _frame: Frame, _flags: PageFlags) {
        todo!()
    }
    /// As [`PageTable::replace`].
    pub fn replace(&mut self, _frame: Frame, _flags: PageFlags) -> Option<Frame> {
        todo!()
    }
    /// As [`PageTable::protect`].
    pub fn protect(&mut self, _flags: PageFlags) {
        todo!()
    }
}

/// Collects unmapped frames and the ranges to invalidate; `finish` (or drop) invalidates once, then frees.
#[derive(Default)]
pub struct TlbGather {
    _private: (),
}

impl TlbGather {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn finish(self) {
        todo!()
    }
}

/// Leaves user translation (idle threads): no user page can be reached until the next `activate`.
pub fn deactivate() {
    todo!()
}
