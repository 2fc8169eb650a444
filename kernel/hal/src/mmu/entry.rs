//! Leaf descriptors and the entries of tables.
//!
//! Leaf descriptors keep three software bits: COW (55), DIRTY (56), and NO_ACCESS (57): a page that is present for the
//! kernel's bookkeeping but whose hardware entry is invalid (PROT_NONE).

use crate::frame::{Frame, meta};
use crate::kmap::{ADDRESS, TABLE, VALID};
use crate::layout::linear;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use core::sync::atomic::Ordering;

const USER: u64 = 1 << 6;
pub(super) const READ_ONLY: u64 = 1 << 7;
const INNER: u64 = 3 << 8;
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
pub(super) const COW: u64 = 1 << 55;
const DIRTY: u64 = 1 << 56;
const NO_ACCESS: u64 = 1 << 57;

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

impl PageFlags {
    pub(super) fn encode(self, phys: u64) -> u64 {
        let mut entry = phys | TABLE | USER | INNER | AF | NG | PXN;
        if self.read || self.write || self.execute {
            entry |= VALID;
        } else {
            entry |= NO_ACCESS;
        }
        if !self.write {
            entry |= READ_ONLY;
        }
        if !self.execute {
            entry |= UXN;
        }
        if self.cow {
            entry |= COW;
        }
        if self.dirty {
            entry |= DIRTY;
        }
        entry
    }
    pub(super) fn decode(entry: u64) -> Self {
        let accessible = entry & VALID != 0;
        Self {
            read: accessible,
            write: accessible && entry & READ_ONLY == 0,
            execute: accessible && entry & UXN == 0,
            cow: entry & COW != 0,
            dirty: entry & DIRTY != 0,
        }
    }
}

#[inline(always)]
pub(super) fn present(entry: u64) -> bool {
    entry & (VALID | NO_ACCESS) != 0
}

pub(super) type Entry = *mut u64;

#[inline(always)]
pub(super) fn entry_at(table: u64, index: usize) -> Entry {
    // SAFETY: a table frame has 512 entries; callers keep index below that.
    unsafe { linear(PhysAddr(table)).cast::<u64>().add(index) }
}

#[inline(always)]
pub(super) fn load(entry: Entry) -> u64 {
    // SAFETY: entries point into live table frames of a tree the caller has exclusively (or a walker's snapshot).
    unsafe { entry.read_volatile() }
}

pub(super) const EIGHT_PAGES: u64 = 8 * PAGE_SIZE as u64;

/// Whether this entry, a multiple of 8, and the seven behind it are zero: most of a thread's stack was never touched, and four
/// loads of two entries take a third of the instructions of eight looks.
#[inline(always)]
pub(super) fn are_eight_zero(entry: Entry) -> bool {
    let pair = |at: usize| {
        // SAFETY: as above; a multiple of 8 has seven more behind it, and the table is aligned to its size.
        unsafe { entry.add(at).cast::<u128>().read_volatile() }
    };
    pair(0) | pair(2) | pair(4) | pair(6) == 0
}

#[inline(always)]
pub(super) fn store(entry: Entry, value: u64) {
    // SAFETY: as above.
    unsafe { entry.write_volatile(value) }
}

#[inline(always)]
pub(super) const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level) & 511) as usize
}

#[inline]
pub(super) fn refs(entry: u64) -> u32 {
    meta(((entry & ADDRESS) >> PAGE_SHIFT) as usize).refs.load(Ordering::Acquire)
}

#[inline]
pub(super) fn borrow_frame(entry: u64) -> Frame {
    let frame = core::mem::ManuallyDrop::new(Frame::from_phys(entry & ADDRESS));
    Frame::clone(&frame)
}
