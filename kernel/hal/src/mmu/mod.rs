//! User page tables.
//!
//! A [`PageTable`] owns its table frames and one reference per mapped frame. Methods take `&mut self`: the address space
//! above holds a lock. Unmapped frames are freed only after the TLBs of all CPUs have forgotten them ([`TlbGather`]).

mod asid;
mod entry;
mod slot;
mod tlb;

pub use entry::PageFlags;
pub use slot::{Block, Slot};
pub use tlb::TlbGather;

use crate::OutOfMemory;
use crate::frame::{self, Frame, Use, meta};
use crate::kmap::{ADDRESS, TABLE, VALID};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use alloc::sync::Arc;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, USER_END};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use entry::{
    COW, EIGHT_PAGES, Entry, READ_ONLY, are_eight_zero, borrow_frame, entry_at, index, load, present, refs, store,
};
use slot::BLOCK_BYTES;
use tlb::{flush_asid, flush_range, publish};

/// Root table and ASID; lives as long as any CPU may still walk it.
struct Root {
    phys: u64,
    asid: u16,
}

impl Drop for Root {
    fn drop(&mut self) {
        flush_asid(self.asid);
        asid::free(self.asid);
        frame::release_raw(self.phys, Use::PageTable);
    }
}

/// One process's translation tree (48-bit, 4 levels, 4 KiB pages) and its ASID.
pub struct PageTable {
    root: Arc<Root>,
    resident: usize,
    tables: usize,
}

/// The root and ASID of a [`PageTable`], shared with it (it keeps the root table alive): context switches use it with no lock.
#[derive(Clone)]
pub struct Translation {
    root: Arc<Root>,
}

impl Translation {
    /// As [`PageTable::activate`].
    #[inline]
    pub fn activate(&self) {
        activate(&self.root);
    }
}

fn activate(root: &Root) {
    TTBR0_EL1.set(root.phys | u64::from(root.asid) << 48);
    barrier::isb(barrier::SY);
}

impl PageTable {
    pub fn new() -> Result<Self, OutOfMemory> {
        let phys = frame::alloc_raw_zeroed(Use::PageTable)?;
        let asid = asid::alloc().inspect_err(|_| frame::release_raw(phys, Use::PageTable))?;
        match Arc::try_new(Root { phys, asid }) {
            Ok(root) => Ok(Self { root, resident: 0, tables: 1 }),
            // The root's drop gives both back.
            Err(_) => Err(OutOfMemory),
        }
    }

    /// Makes this the calling CPU's user translation. No TLB flush: ASIDs keep address spaces apart. Takes `&self`.
    pub fn activate(&self) {
        activate(&self.root);
    }

    /// What a context switch needs, without the lock that guards the table: cheap to clone.
    pub fn translation(&self) -> Translation {
        Translation { root: self.root.clone() }
    }

    /// The leaf entry of `va`, when its tables exist.
    #[inline]
    fn find(&self, va: u64) -> Option<Entry> {
        debug_assert!(va < USER_END);
        let mut table = self.root.phys;
        for level in 0..3 {
            let next = load(entry_at(table, index(va, level)));
            if next & VALID == 0 {
                return None;
            }
            table = next & ADDRESS;
        }
        Some(entry_at(table, index(va, 3)))
    }

    /// The leaf entry of `va`, making tables on the way.
    #[inline]
    fn find_or_make(&mut self, va: u64) -> Result<Entry, OutOfMemory> {
        assert!(va < USER_END, "not a user address");
        let mut table = self.root.phys;
        for level in 0..3 {
            let entry = entry_at(table, index(va, level));
            let mut next = load(entry);
            if next & VALID == 0 {
                // Programs' tables, like their pages, leave the reserve alone.
                if frame::pressure() == frame::Pressure::Pages && frame::look_at_pressure() == frame::Pressure::Pages {
                    return Err(OutOfMemory);
                }
                next = frame::alloc_raw_zeroed(Use::PageTable)? | TABLE | VALID;
                self.tables += 1;
                // The zeroes must be seen before the table is.
                publish();
                store(entry, next);
            }
            table = next & ADDRESS;
        }
        Ok(entry_at(table, index(va, 3)))
    }

    /// Walks to the leaf entry of page address `va` once, making tables on the way: the page-fault path's cursor.
    pub fn slot(&mut self, va: u64) -> Result<Slot<'_>, OutOfMemory> {
        let entry = self.find_or_make(va)?;
        Ok(Slot { table: self, va, entry })
    }

    /// As [`PageTable::slot`] for several pages of one 2 MiB block, that of `va`: see [`Block::slot`].
    pub fn block(&mut self, va: u64) -> Result<Block<'_>, OutOfMemory> {
        let start = va & !(BLOCK_BYTES - 1);
        let first = self.find_or_make(start)?;
        Ok(Block { table: self, start, first })
    }

    /// Maps `frame` at page address `va` where nothing is mapped. Fails only for want of table frames. Panics if a page is
    /// mapped there already.
    pub fn map(&mut self, va: u64, frame: Frame, flags: PageFlags) -> Result<(), OutOfMemory> {
        self.slot(va)?.map(frame, flags);
        Ok(())
    }

    /// Replaces the page at `va` (break-before-make, TLB flushed) and returns the old frame.
    pub fn replace(&mut self, va: u64, frame: Frame, flags: PageFlags) -> Option<Frame> {
        let entry = self.find(va)?;
        Slot { table: self, va, entry }.replace(frame, flags)
    }

    /// The frame and flags mapped at `va`.
    pub fn get(&self, va: u64) -> Option<(Frame, PageFlags)> {
        let entry = load(self.find(va)?);
        present(entry).then(|| (borrow_frame(entry), PageFlags::decode(entry)))
    }

    /// Flags and the frame's reference count at `va`, without touching the count.
    pub fn query(&self, va: u64) -> Option<(PageFlags, u32)> {
        let entry = load(self.find(va)?);
        present(entry).then(|| (PageFlags::decode(entry), refs(entry)))
    }

    /// Changes one page's flags; TLB flushed when rights are taken away.
    pub fn protect(&mut self, va: u64, flags: PageFlags) {
        if let Some(entry) = self.find(va) {
            Slot { table: self, va, entry }.protect(flags);
        }
    }

    /// Calls `f(va, entry)` for every present leaf entry in `range`.
    fn walk(&self, range: Range<u64>, f: &mut dyn FnMut(u64, Entry)) {
        let mut va = range.start;
        let end = range.end.min(USER_END);
        while va < end {
            let mut table = self.root.phys;
            let mut skip = 0;
            for level in 0..3 {
                let next = load(entry_at(table, index(va, level)));
                if next & VALID == 0 {
                    skip = 1u64 << (39 - 9 * level);
                    break;
                }
                table = next & ADDRESS;
            }
            if skip != 0 {
                va = (va & !(skip - 1)) + skip;
                continue;
            }
            let table_end = ((va & !0x1f_ffff) + 0x20_0000).min(end);
            while va < table_end {
                let entry = entry_at(table, index(va, 3));
                if va.is_multiple_of(EIGHT_PAGES) && va + EIGHT_PAGES <= table_end && are_eight_zero(entry) {
                    va += EIGHT_PAGES;
                    continue;
                }
                if present(load(entry)) {
                    f(va, entry);
                }
                va += PAGE_SIZE as u64;
            }
        }
    }

    /// Applies `f` to the flags of every mapped page in `range`, then flushes once.
    pub fn protect_range(&mut self, range: Range<u64>, f: &mut dyn FnMut(u64, PageFlags) -> PageFlags) {
        let mut changed = false;
        self.walk(range.clone(), &mut |va, entry| {
            let old = load(entry);
            let new = f(va, PageFlags::decode(old)).encode(old & ADDRESS);
            if new != old {
                store(entry, new);
                changed = true;
            }
        });
        if changed {
            flush_range(self.root.asid, range);
        }
    }

    /// Unmaps every page in `range` into `gather`; tables that lie wholly in `range` are freed.
    pub fn unmap_range(&mut self, range: Range<u64>, gather: &mut TlbGather) {
        self.unmap_area(range.clone(), range, gather);
    }

    /// As [`PageTable::unmap_range`], for a caller who knows that nothing is mapped in `free` (which contains `range`) but
    /// in `range`: tables on the way that lie wholly in `free` are freed.
    pub fn unmap_area(&mut self, range: Range<u64>, free: Range<u64>, gather: &mut TlbGather) {
        let range = range.start..range.end.min(USER_END);
        if range.is_empty() {
            return;
        }
        let (pages, tables) = (gather.pages, gather.nr_tables);
        unmap_level((self.root.phys, self.root.asid), 0, 0, &range, &free, gather);
        let freed = gather.nr_tables - tables;
        let unmapped = gather.pages - pages;
        self.resident -= unmapped;
        self.tables -= freed;
        if unmapped > 0 || freed > 0 {
            gather.add(&self.root, range, freed > 0);
        }
    }

    /// Calls `f` for every mapped page in `range`, in order.
    pub fn for_each(&self, range: Range<u64>, f: &mut dyn FnMut(u64, &Frame, PageFlags)) {
        self.walk(range, &mut |va, entry| {
            let value = load(entry);
            // Borrowed, not counted: the table's own reference keeps it.
            let frame = core::mem::ManuallyDrop::new(Frame::from_phys(value & ADDRESS));
            f(va, &frame, PageFlags::decode(value));
        });
    }

    /// Copies every mapping of `range` into `child` (which has nothing there). With `cow`, writable pages become read-only
    /// with the `cow` bit in both; else they are shared as they are. The caller flushes once with [`PageTable::flush_all`].
    pub fn fork_range(&mut self, child: &mut PageTable, range: Range<u64>, cow: bool) -> Result<(), OutOfMemory> {
        let mut result = Ok(());
        let mut table: Option<(u64, Entry)> = None;
        self.walk(range, &mut |va, entry| {
            let mut value = load(entry);
            if result.is_err() {
                return;
            }
            let block = va >> 21;
            let first = match table {
                Some((known, first)) if known == block => first,
                _ => match child.find_or_make(va & !0x1f_ffff) {
                    Ok(first) => {
                        table = Some((block, first));
                        first
                    }
                    Err(error) => {
                        result = Err(error);
                        return;
                    }
                },
            };
            if cow && value & (VALID | READ_ONLY) == VALID {
                value |= READ_ONLY | COW;
                store(entry, value);
            }
            let old = meta(((value & ADDRESS) >> PAGE_SHIFT) as usize).refs.fetch_add(1, Ordering::Relaxed);
            assert!(old != 0 && old < u32::MAX / 2, "frame reference count");
            // SAFETY: `first` is entry 0 of a leaf table of the child.
            store(unsafe { first.add(index(va, 3)) }, value);
            child.resident += 1;
        });
        publish();
        result
    }

    /// Calls `f` for the address of every page mapped in `range`; `f` may change the table.
    fn in_chunks(
        &mut self,
        range: Range<u64>,
        f: &mut dyn FnMut(&mut Self, u64) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let mut at = range.start;
        'next: while at < range.end {
            let mut table = self.root.phys;
            for level in 0..3 {
                let next = load(entry_at(table, index(at, level)));
                if next & VALID == 0 {
                    let skip = 1u64 << (39 - 9 * level);
                    at = (at & !(skip - 1)) + skip;
                    continue 'next;
                }
                table = next & ADDRESS;
            }
            let mut found = [0; 64];
            let mut len = 0;
            // As many pages as there is room for: no walk goes on over what comes behind them.
            let end = range.end.min(at + (found.len() * PAGE_SIZE) as u64);
            self.walk(at..end, &mut |va, _| {
                found[len] = va;
                len += 1;
            });
            for &va in &found[..len] {
                f(self, va)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Moves the mappings of `from` to `to` (mremap); `from` is flushed.
    pub fn move_range(&mut self, from: Range<u64>, to: u64) -> Result<(), OutOfMemory> {
        // Make the target's tables first, so that a failure leaves everything as it was.
        self.in_chunks(from.clone(), &mut |table, va| table.find_or_make(to + (va - from.start)).map(|_| ()))?;
        self.in_chunks(from.clone(), &mut |table, va| {
            if let (Some(old), Some(new)) = (table.find(va), table.find(to + (va - from.start))) {
                let value = load(old);
                assert!(!present(load(new)), "moving onto a mapped page");
                store(old, 0);
                store(new, value);
            }
            Ok(())
        })?;
        flush_range(self.root.asid, from);
        Ok(())
    }

    /// Flushes this address space's TLB entries on all CPUs.
    pub fn flush_all(&self) {
        flush_asid(self.root.asid);
    }

    /// Number of pages mapped now (resident set).
    pub fn resident(&self) -> usize {
        self.resident
    }

    /// Frames used by the tables themselves.
    pub fn table_frames(&self) -> usize {
        self.tables
    }
}

/// Empties the entries of `table` (at `level`, covering addresses from `base`) that `range` touches, into `gather`; child
/// tables that lie wholly in `free` go too. Visits nothing outside `range`.
fn unmap_level(
    (table, asid): (u64, u16),
    level: u32,
    base: u64,
    range: &Range<u64>,
    free: &Range<u64>,
    gather: &mut TlbGather,
) {
    let shift = 39 - 9 * level;
    let first = (range.start.max(base) - base) >> shift;
    // Exclusive: an inclusive range costs twice the instructions for each entry.
    let end = ((range.end - 1 - base) >> shift).min(511) + 1;
    if level == 3 {
        let mut slot = first;
        while slot < end {
            let entry = entry_at(table, slot as usize);
            if slot.is_multiple_of(8) && slot + 8 <= end && are_eight_zero(entry) {
                slot += 8;
                continue;
            }
            slot += 1;
            let old = load(entry);
            if present(old) {
                store(entry, 0);
                gather.keep(Frame::from_phys(old & ADDRESS), asid);
            }
        }
        return;
    }
    for slot in first..end {
        let entry = entry_at(table, slot as usize);
        let value = load(entry);
        if value & VALID == 0 {
            continue;
        }
        let start = base + (slot << shift);
        unmap_level((value & ADDRESS, asid), level + 1, start, range, free, gather);
        if free.start <= start && start + (1u64 << shift) <= free.end {
            store(entry, 0);
            gather.keep_table(value & ADDRESS);
        }
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        if self.tables == 1 {
            return; // the root alone: its owner frees it
        }
        let mut gather = TlbGather::new();
        self.unmap_range(0..USER_END, &mut gather);
        gather.finish();
    }
}

/// The empty table of CPUs that run no user code.
static EMPTY: AtomicU64 = AtomicU64::new(0);

/// Leaves user translation (idle threads): no user page can be reached until the next `activate`.
pub fn deactivate() {
    let mut root = EMPTY.load(Ordering::Acquire);
    if root == 0 {
        match frame::alloc_raw_zeroed(Use::PageTable) {
            Ok(phys) => root = phys,
            Err(OutOfMemory) => panic!("no memory"),
        }
        if let Err(other) = EMPTY.compare_exchange(0, root, Ordering::AcqRel, Ordering::Acquire) {
            frame::release_raw(root, Use::PageTable);
            root = other;
        }
    }
    TTBR0_EL1.set(root);
    barrier::isb(barrier::SY);
}
