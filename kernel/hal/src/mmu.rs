//! User page tables, ASIDs and TLB maintenance.
//!
//! A [`PageTable`] owns its table frames and one reference per mapped frame. Methods take `&mut self`: the address space
//! above holds a lock. Unmapped frames are freed only after the TLBs of all CPUs have forgotten them ([`TlbGather`]).
//!
//! Leaf descriptors keep three software bits: COW (55), DIRTY (56), and NO_ACCESS (57): a page that is present for the
//! kernel's bookkeeping but whose hardware entry is invalid (PROT_NONE).

use crate::OutOfMemory;
use crate::frame::{self, Frame, Use, meta};
use crate::kmap::{ADDRESS, TABLE, VALID};
use crate::layout::linear;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, USER_END};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;

const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER: u64 = 3 << 8;
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const COW: u64 = 1 << 55;
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
    fn encode(self, phys: u64) -> u64 {
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
    fn decode(entry: u64) -> Self {
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
fn present(entry: u64) -> bool {
    entry & (VALID | NO_ACCESS) != 0
}

// ---- ASIDs ----------------------------------------------------------------------------------------------------------

/// One bit per ASID; 0 is the one nobody uses. An ASID is free again only after its TLB entries were flushed.
struct Asids {
    used: [u64; 1024],
    hint: usize,
}

static ASIDS: Mutex<Asids> = Mutex::new(Asids { used: [0; 1024], hint: 0 });

fn asid_words() -> usize {
    // ASIDBits: 2 is 16 bits, else 8.
    if ID_AA64MMFR0_EL1.get() >> 4 & 0xf == 2 { 1024 } else { 4 }
}

fn alloc_asid() -> Result<u16, OutOfMemory> {
    let _irq = crate::cpu::IrqGuard::new();
    let mut asids = ASIDS.lock();
    let words = asid_words();
    asids.used[0] |= 1;
    for step in 0..words {
        let word = (asids.hint + step) % words;
        let free = !asids.used[word];
        if free != 0 {
            let bit = free.trailing_zeros();
            asids.used[word] |= 1 << bit;
            asids.hint = word;
            return Ok((word * 64) as u16 + bit as u16);
        }
    }
    Err(OutOfMemory)
}

fn free_asid(asid: u16) {
    let _irq = crate::cpu::IrqGuard::new();
    ASIDS.lock().used[asid as usize / 64] &= !(1 << (asid % 64));
}

// ---- TLB and caches ---------------------------------------------------------------------------------------------------

fn flush_asid(asid: u16) {
    // SAFETY: TLB maintenance only forgets.
    unsafe {
        core::arch::asm!("dsb ishst", "tlbi aside1is, {}", "dsb ish", in(reg) u64::from(asid) << 48, options(nostack));
    }
}

/// Forgets the leaf entries of a page range.
fn flush_range(asid: u16, range: Range<u64>) {
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
fn publish() {
    barrier::dsb(barrier::ISHST);
}

pub(crate) fn sync_instruction_cache(start: *const u8, len: usize) {
    let ctr: u64;
    // SAFETY: cache maintenance by address on mapped memory.
    unsafe {
        core::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack));
        let end = start as u64 + len as u64;
        let dline = 4u64 << (ctr >> 16 & 0xf);
        let iline = 4u64 << (ctr & 0xf);
        let mut at = start as u64 & !(dline - 1);
        while at < end {
            core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack));
            at += dline;
        }
        core::arch::asm!("dsb ish", options(nostack));
        let mut at = start as u64 & !(iline - 1);
        while at < end {
            core::arch::asm!("ic ivau, {}", in(reg) at, options(nostack));
            at += iline;
        }
        core::arch::asm!("dsb ish", "isb", options(nostack));
    }
}

/// Writes memory back to the point of coherency, for CPUs whose caches are off.
pub(crate) fn clean_data_cache(start: *const u8, len: usize) {
    let mut at = start as u64 & !63;
    while at < start as u64 + len as u64 {
        // SAFETY: cache maintenance by address on mapped memory.
        unsafe { core::arch::asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += 64;
    }
    barrier::dsb(barrier::SY);
}

// ---- tables -------------------------------------------------------------------------------------------------------------

/// Root table and ASID; lives as long as any CPU may still walk it.
struct Root {
    phys: u64,
    asid: u16,
}

impl Drop for Root {
    fn drop(&mut self) {
        flush_asid(self.asid);
        free_asid(self.asid);
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

type Entry = *mut u64;

#[inline(always)]
fn entry_at(table: u64, index: usize) -> Entry {
    // SAFETY: a table frame has 512 entries; callers keep index below that.
    unsafe { linear(PhysAddr(table)).cast::<u64>().add(index) }
}

#[inline(always)]
fn load(entry: Entry) -> u64 {
    // SAFETY: entries point into live table frames of a tree the caller has exclusively (or a walker's snapshot).
    unsafe { entry.read_volatile() }
}

const EIGHT_PAGES: u64 = 8 * PAGE_SIZE as u64;

/// Whether this entry, a multiple of 8, and the seven behind it are zero: most of a thread's stack was never touched, and four
/// loads of two entries take a third of the instructions of eight looks.
#[inline(always)]
fn are_eight_zero(entry: Entry) -> bool {
    let pair = |at: usize| {
        // SAFETY: as above; a multiple of 8 has seven more behind it, and the table is aligned to its size.
        unsafe { entry.add(at).cast::<u128>().read_volatile() }
    };
    pair(0) | pair(2) | pair(4) | pair(6) == 0
}

#[inline(always)]
fn store(entry: Entry, value: u64) {
    // SAFETY: as above.
    unsafe { entry.write_volatile(value) }
}

#[inline(always)]
const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level) & 511) as usize
}

impl PageTable {
    pub fn new() -> Result<Self, OutOfMemory> {
        let phys = frame::alloc_raw_zeroed(Use::PageTable)?;
        let asid = alloc_asid().inspect_err(|_| frame::release_raw(phys, Use::PageTable))?;
        Ok(Self { root: Arc::new(Root { phys, asid }), resident: 0, tables: 1 })
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
        let (pages, tables) = (gather.pages, gather.tables.len());
        unmap_level((self.root.phys, self.root.asid), 0, 0, &range, &free, gather);
        let freed = gather.tables.len() - tables;
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

    /// Moves the mappings of `from` to `to` (mremap); `from` is flushed.
    pub fn move_range(&mut self, from: Range<u64>, to: u64) -> Result<(), OutOfMemory> {
        // Make the target's tables first, so that a failure leaves everything as it was.
        let mut needed = Vec::new();
        self.walk(from.clone(), &mut |va, _| needed.push(va));
        for &va in &needed {
            self.find_or_make(to + (va - from.start))?;
        }
        for &va in &needed {
            if let (Some(old), Some(new)) = (self.find(va), self.find(to + (va - from.start))) {
                let value = load(old);
                assert!(!present(load(new)), "moving onto a mapped page");
                store(old, 0);
                store(new, value);
            }
        }
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

/// The leaf table of one 2 MiB block.
pub struct Block<'a> {
    table: &'a mut PageTable,
    start: u64,
    first: Entry,
}

const BLOCK_BYTES: u64 = 1 << 21;

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
            gather.tables.push(value & ADDRESS);
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

#[inline]
fn refs(entry: u64) -> u32 {
    meta(((entry & ADDRESS) >> PAGE_SHIFT) as usize).refs.load(Ordering::Acquire)
}

#[inline]
fn borrow_frame(entry: u64) -> Frame {
    let frame = core::mem::ManuallyDrop::new(Frame::from_phys(entry & ADDRESS));
    Frame::clone(&frame)
}

/// One leaf entry, found by a single walk.
pub struct Slot<'a> {
    table: &'a mut PageTable,
    va: u64,
    entry: Entry,
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

/// Collects unmapped frames and the ranges to invalidate; `finish` (or drop) invalidates once, then frees.
#[derive(Default)]
pub struct TlbGather {
    /// Pages unmapped so far; the frames of some may be freed already.
    pages: usize,
    frames: Vec<Frame>,
    tables: Vec<u64>,
    root: Option<Arc<Root>>,
    range: Range<u64>,
    whole: bool,
}

impl TlbGather {
    pub fn new() -> Self {
        Self::default()
    }
    fn add(&mut self, root: &Arc<Root>, range: Range<u64>, whole: bool) {
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
    fn keep(&mut self, frame: Frame, asid: u16) {
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
        for table in self.tables.drain(..) {
            frame::release_raw(table, Use::PageTable);
        }
        self.frames.clear();
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
