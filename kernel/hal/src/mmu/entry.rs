//! Tables in RAM: how [`Tree`](base::page_table::Tree) reaches them.
//!
//! What keeps it sound: a [`Table`] is a frame from `alloc_raw` that is a table of a live tree, or in a `TlbGather` on its way out; it
//! is reached from the tree's root alone, and the tree's owner is borrowed while an [`Entry`] of it is in use (`mmu`: `PageTable`,
//! `Slot`, `Block`). Entries of levels 0 to 2 are written by `link` and `unlink` alone, so that what `child` finds is a table. Leaves
//! hold descriptors of frames whose reference they own. Walkers of other CPUs read the same words at any time, which is why they are
//! accessed as atomics; only the owner of the tree writes them.

use crate::frame::{self, Frame, Pressure, Use, meta};
use crate::layout::linear;
use aarch64_cpu::asm::barrier;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use base::page_table::{ADDRESS, Frames, NoTable, TABLE, VALID};
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, Ordering};

/// A table frame, by its physical address.
#[derive(Clone, Copy)]
pub(super) struct Table(u64);

impl Table {
    pub(super) fn alloc() -> Result<Self, crate::OutOfMemory> {
        frame::alloc_raw_zeroed(Use::PageTable).map(Self)
    }
    pub(super) fn phys(self) -> u64 {
        self.0
    }
    /// Makes this the first of a list of tables on their way out, which is linked through their metadata: freeing memory needs none.
    pub(super) fn push_to(self, list: &mut Option<Table>) {
        let next = list.map_or(frame::NONE, |table| (table.0 >> PAGE_SHIFT) as u32);
        meta((self.0 >> PAGE_SHIFT) as usize).next.store(next, Ordering::Relaxed);
        *list = Some(self);
    }
    pub(super) fn pop_from(list: &mut Option<Table>) -> Option<Self> {
        let first = (*list)?;
        let next = meta((first.0 >> PAGE_SHIFT) as usize).next.load(Ordering::Relaxed);
        *list = (next != frame::NONE).then(|| Table(u64::from(next) << PAGE_SHIFT));
        Some(first)
    }
    /// # Safety
    /// No tree and no CPU's translation reaches the table any more, nor any TLB.
    pub(super) unsafe fn release(self) {
        // SAFETY: from `alloc`; the rest is the caller's promise.
        unsafe { frame::release_raw(self.0, Use::PageTable) }
    }
}

/// An entry of a table: its linear-map address.
#[derive(Clone, Copy)]
pub(super) struct Entry(*const AtomicU64);

impl Entry {
    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: made by `entry` or `sibling` below, inside a table that stays one while it is used (see the module's page).
        unsafe { &*self.0 }
    }
    #[inline(always)]
    pub(super) fn load(self) -> u64 {
        self.word().load(Ordering::Relaxed)
    }
    #[inline(always)]
    pub(super) fn store(self, descriptor: u64) {
        self.word().store(descriptor, Ordering::Relaxed);
    }
}

/// RAM, in the linear map.
pub(super) struct Ram;

impl Frames for Ram {
    type Table = Table;
    type Entry = Entry;

    fn new_table(&self) -> Result<Table, NoTable> {
        // Programs' tables, like their pages, leave the reserve alone.
        if frame::pressure() == Pressure::Pages && frame::look_at_pressure() == Pressure::Pages {
            return Err(NoTable);
        }
        Table::alloc().map_err(|_| NoTable)
    }
    #[inline(always)]
    fn entry(&self, table: Table, index: usize) -> Entry {
        Entry(linear(PhysAddr(table.0)).cast::<AtomicU64>().wrapping_add(index & 511))
    }
    #[inline(always)]
    fn sibling(&self, entry: Entry, index: usize) -> Entry {
        Entry(entry.0.map_addr(|at| at & !(PAGE_SIZE - 1)).wrapping_add(index & 511))
    }
    #[inline(always)]
    fn child(&self, entry: Entry) -> Option<Table> {
        let value = entry.load();
        (value & VALID != 0).then_some(Table(value & ADDRESS))
    }
    fn link(&self, entry: Entry, table: Table) {
        // The zeroes must be seen before the table is.
        publish();
        entry.store(table.0 | TABLE | VALID);
    }
    fn unlink(&self, entry: Entry) {
        entry.store(0);
    }
    #[inline(always)]
    fn load(&self, leaf: Entry) -> u64 {
        leaf.load()
    }
    #[inline(always)]
    fn store(&self, leaf: Entry, descriptor: u64) {
        leaf.store(descriptor);
    }
    /// Most of a thread's stack was never touched, and four loads of two entries take a third of the instructions of eight looks.
    #[inline(always)]
    fn are_eight_zero(&self, leaf: Entry) -> bool {
        let pair = |at: usize| {
            // SAFETY: as in `word`: a multiple of 8 has seven more behind it in its table, which is aligned to its size. Volatile, as
            // walkers only read and the tree's owner is who asks.
            unsafe { leaf.0.add(at).cast::<u128>().read_volatile() }
        };
        pair(0) | pair(2) | pair(4) | pair(6) == 0
    }
    #[inline(always)]
    fn share(&self, descriptor: u64) {
        core::mem::forget(counted_frame(descriptor));
    }
}

/// Makes table writes visible to the walkers (an invalid entry became valid: Arm ARM D8.16.1).
pub(super) fn publish() {
    barrier::dsb(barrier::ISHST);
}

/// The frame that a present leaf maps, for a look: the leaf's own reference keeps it.
#[inline(always)]
pub(super) fn borrowed_frame(descriptor: u64) -> ManuallyDrop<Frame> {
    // SAFETY: the leaf owns a reference, which stays its own: this one is never dropped.
    ManuallyDrop::new(unsafe { Frame::from_phys(descriptor & ADDRESS) })
}

/// A counted reference to the frame that a present leaf maps.
#[inline(always)]
pub(super) fn counted_frame(descriptor: u64) -> Frame {
    Frame::clone(&borrowed_frame(descriptor))
}

/// # Safety
/// The leaf that held this descriptor is overwritten: its reference is the caller's.
#[inline(always)]
pub(super) unsafe fn taken_frame(descriptor: u64) -> Frame {
    // SAFETY: the caller's promise.
    unsafe { Frame::from_phys(descriptor & ADDRESS) }
}

#[inline]
pub(super) fn refs(descriptor: u64) -> u32 {
    meta(((descriptor & ADDRESS) >> PAGE_SHIFT) as usize).refs.load(Ordering::Acquire)
}
