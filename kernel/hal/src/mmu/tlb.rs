//! What the TLBs remember, and how they are made to forget it.

use super::Root;
use super::entry::{Table, taken_frame};
use crate::frame::Frame;
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::addr::{PAGE_SHIFT, PAGE_SIZE};
use base::page_table::Gather;
use core::ops::Range;

pub(super) fn flush_asid(asid: u16) {
    // SAFETY: TLB maintenance only forgets (Arm ARM D8.16.6); the barriers make it come after the writes to the tables and complete on
    // all CPUs before what follows.
    unsafe {
        core::arch::asm!("dsb ishst", "tlbi aside1is, {}", "dsb ish", in(reg) u64::from(asid) << 48, options(nostack));
    }
}

/// Forgets the leaf entries of a page range.
pub(super) fn flush_range(asid: u16, range: Range<u64>) {
    let pages = (range.end - range.start) >> PAGE_SHIFT;
    if pages > 64 {
        return flush_asid(asid);
    }
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack));
        let mut va = range.start;
        while va < range.end {
            core::arch::asm!("tlbi vale1is, {}", in(reg) u64::from(asid) << 48 | va >> PAGE_SHIFT, options(nostack));
            va += PAGE_SIZE as u64;
        }
        core::arch::asm!("dsb ish", options(nostack));
    }
}

/// Collects unmapped frames and the ranges to invalidate; `finish` (or drop) invalidates once, then frees.
#[derive(Default)]
pub struct TlbGather {
    /// Pages unmapped so far; the frames of some may be freed already.
    pub(super) pages: usize,
    frames: Vec<Frame>,
    /// Tables to be freed.
    tables: Option<Table>,
    root: Option<Arc<Root>>,
    range: Range<u64>,
    whole: bool,
}

impl TlbGather {
    pub fn new() -> Self {
        Self::default()
    }
    pub(super) fn add(&mut self, root: &Arc<Root>, range: Range<u64>, whole: bool) {
        match &self.root {
            Some(own) if own.asid != root.asid => panic!("one gather, two address spaces"),
            Some(_) => {
                self.range = self.range.start.min(range.start)..self.range.end.max(range.end);
            }
            None => {
                self.root = Some(root.clone());
                self.range = range;
            }
        }
        // Table entries are cached by walkers: leaf invalidation does not reach them.
        self.whole |= whole;
    }
    pub fn finish(self) {}

    /// Keeps an unmapped frame until the flush. A full collection is flushed and freed at once: what is being torn down may
    /// be most of memory, and the collection itself must not need much of it.
    pub(super) fn keep(&mut self, frame: Frame, asid: u16) {
        const MOST: usize = 512;
        self.pages += 1;
        let full = self.frames.len() == self.frames.capacity();
        if full && (self.frames.len() >= MOST || self.frames.try_reserve(64).is_err()) {
            flush_asid(asid);
            self.frames.clear();
            if self.frames.capacity() == 0 {
                // Not even room for a few: this one goes alone, already flushed.
                drop(frame);
                return;
            }
        }
        self.frames.push(frame);
    }
}

/// What the tree takes away goes to the gather that it belongs to.
pub(super) struct Unmapped<'a> {
    pub(super) gather: &'a mut TlbGather,
    pub(super) asid: u16,
}

impl Gather<Table> for Unmapped<'_> {
    #[inline(always)]
    fn page(&mut self, descriptor: u64) {
        // SAFETY: the tree has emptied the leaf.
        self.gather.keep(unsafe { taken_frame(descriptor) }, self.asid);
    }
    fn table(&mut self, table: Table) {
        table.push_to(&mut self.gather.tables);
    }
}

impl Drop for TlbGather {
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            if self.whole {
                flush_asid(root.asid);
            } else {
                flush_range(root.asid, self.range.clone());
            }
        }
        while let Some(table) = Table::pop_from(&mut self.tables) {
            // SAFETY: unlinked from its tree, and forgotten by all TLBs and walk caches since the flush above, which is of the whole
            // address space where there are tables.
            unsafe { table.release() };
        }
        self.frames.clear();
    }
}
