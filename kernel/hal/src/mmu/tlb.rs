//! What the TLBs remember, and how they are made to forget it.

use super::Root;
use crate::frame::{self, Frame, Use};
use aarch64_cpu::asm::barrier;
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::addr::{PAGE_SHIFT, PAGE_SIZE};
use core::ops::Range;
use core::sync::atomic::Ordering;

pub(super) fn flush_asid(asid: u16) {
    // SAFETY: TLB maintenance only forgets.
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

/// Makes table writes visible to the walkers (an invalid entry became valid).
pub(super) fn publish() {
    barrier::dsb(barrier::ISHST);
}

/// Collects unmapped frames and the ranges to invalidate; `finish` (or drop) invalidates once, then frees.
#[derive(Default)]
pub struct TlbGather {
    /// Pages unmapped so far; the frames of some may be freed already.
    pub(super) pages: usize,
    frames: Vec<Frame>,
    /// Tables to be freed, linked through their metadata: freeing memory needs none.
    tables: Option<u32>,
    pub(super) nr_tables: usize,
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

    /// Keeps a table until the flush.
    pub(super) fn keep_table(&mut self, phys: u64) {
        let pfn = (phys >> PAGE_SHIFT) as u32;
        frame::meta(pfn as usize).next.store(self.tables.unwrap_or(frame::NONE), Ordering::Relaxed);
        self.tables = Some(pfn);
        self.nr_tables += 1;
    }

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

impl Drop for TlbGather {
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            if self.whole {
                flush_asid(root.asid);
            } else {
                flush_range(root.asid, self.range.clone());
            }
        }
        let mut tables = self.tables.take();
        while let Some(pfn) = tables {
            let next = frame::meta(pfn as usize).next.load(Ordering::Relaxed);
            tables = (next != frame::NONE).then_some(next);
            frame::release_raw(u64::from(pfn) << PAGE_SHIFT, Use::PageTable);
        }
        self.frames.clear();
    }
}
