//! User page tables.
//!
//! A [`PageTable`] owns its table frames and one reference per mapped frame. Methods take `&mut self`: the address space
//! above holds a lock. Unmapped frames are freed only after the TLBs of all CPUs have forgotten them ([`TlbGather`]).

mod asid;
mod entry;
mod slot;
mod tlb;

pub use base::page_table::PageFlags;
pub use slot::{Block, Slot};
pub use tlb::TlbGather;

use crate::OutOfMemory;
use crate::cpu;
use crate::frame::Frame;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use alloc::sync::Arc;
use base::addr::USER_END;
use base::page_table::{BLOCK_BYTES, NoTable, Tree, is_present};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use entry::{Ram, Table, borrowed_frame, counted_frame, publish, refs};
use tlb::{Unmapped, flush_asid, flush_range};

impl From<NoTable> for OutOfMemory {
    fn from(_: NoTable) -> Self {
        Self
    }
}

/// Root table and ASID; lives as long as any CPU may still walk it.
struct Root {
    table: Table,
    asid: u16,
}

impl Root {
    /// TTBR0_EL1 for this root: never 0, as ASIDs are not.
    #[inline(always)]
    fn ttbr(&self) -> u64 {
        self.table.phys() | u64::from(self.asid) << 48
    }
}

impl Drop for Root {
    /// Leaves the translation, should the calling CPU still have it; panics if another has.
    fn drop(&mut self) {
        let own = self.ttbr();
        if cpu::block().translation.load(Ordering::Relaxed) == own {
            deactivate();
        }
        // Whoever activated it had a reference then, whose end this drop has seen (`Arc`).
        assert!(cpu::blocks().all(|block| block.translation.load(Ordering::Relaxed) != own), "a CPU uses the tables");
        flush_asid(self.asid);
        asid::free(self.asid);
        // SAFETY: no CPU's translation by the check above, and forgotten by all TLBs; the tables below are gone (`PageTable::drop`).
        unsafe { self.table.release() };
    }
}

/// One process's translation tree (48-bit, 4 levels, 4 KiB pages) and its ASID.
pub struct PageTable {
    root: Arc<Root>,
    tree: Tree<Ram>,
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

#[inline]
fn activate(root: &Root) {
    let ttbr = root.ttbr();
    cpu::block().translation.store(ttbr, Ordering::Relaxed);
    TTBR0_EL1.set(ttbr);
    barrier::isb(barrier::SY);
}

impl PageTable {
    pub fn new() -> Result<Self, OutOfMemory> {
        let table = Table::alloc()?;
        // SAFETY: just allocated: nothing knows it.
        let asid = asid::alloc().inspect_err(|_| unsafe { table.release() })?;
        // On failure the root's drop gives both back.
        let root = Arc::try_new(Root { table, asid }).map_err(|_| OutOfMemory)?;
        Ok(Self { root, tree: Tree::new(Ram, table) })
    }

    /// Makes this the calling CPU's user translation. No TLB flush: ASIDs keep address spaces apart. Takes `&self`.
    pub fn activate(&self) {
        activate(&self.root);
    }

    /// What a context switch needs, without the lock that guards the table: cheap to clone.
    pub fn translation(&self) -> Translation {
        Translation { root: self.root.clone() }
    }

    /// Walks to the leaf entry of page address `va` once, making tables on the way: the page-fault path's cursor.
    pub fn slot(&mut self, va: u64) -> Result<Slot<'_>, OutOfMemory> {
        let entry = self.tree.find_or_make(va)?;
        Ok(Slot { table: self, va, entry })
    }

    /// As [`PageTable::slot`] for several pages of one 2 MiB block, that of `va`: see [`Block::slot`].
    pub fn block(&mut self, va: u64) -> Result<Block<'_>, OutOfMemory> {
        let start = va & !(BLOCK_BYTES - 1);
        let first = self.tree.find_or_make(start)?;
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
        let entry = self.tree.find(va)?;
        Slot { table: self, va, entry }.replace(frame, flags)
    }

    /// The frame and flags mapped at `va`.
    pub fn get(&self, va: u64) -> Option<(Frame, PageFlags)> {
        let entry = self.tree.find(va)?.load();
        is_present(entry).then(|| (counted_frame(entry), PageFlags::decode(entry)))
    }

    /// Flags and the frame's reference count at `va`, without touching the count.
    pub fn query(&self, va: u64) -> Option<(PageFlags, u32)> {
        let entry = self.tree.find(va)?.load();
        is_present(entry).then(|| (PageFlags::decode(entry), refs(entry)))
    }

    /// Changes one page's flags; TLB flushed when rights are taken away.
    pub fn protect(&mut self, va: u64, flags: PageFlags) {
        if let Some(entry) = self.tree.find(va) {
            Slot { table: self, va, entry }.protect(flags);
        }
    }

    /// Applies `f` to the flags of every mapped page in `range`, then flushes once.
    pub fn protect_range(&mut self, range: Range<u64>, f: &mut dyn FnMut(u64, PageFlags) -> PageFlags) {
        if self.tree.protect(range.clone(), f) {
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
        let mut unmapped = Unmapped { gather, asid: self.root.asid };
        let (pages, tables) = self.tree.unmap(range.clone(), free, &mut unmapped);
        if pages > 0 || tables > 0 {
            gather.add(&self.root, range, tables > 0);
        }
    }

    /// Calls `f` for every mapped page in `range`, in order.
    pub fn for_each(&self, range: Range<u64>, f: &mut dyn FnMut(u64, &Frame, PageFlags)) {
        self.tree.walk(range, &mut |va, entry| {
            let value = entry.load();
            f(va, &borrowed_frame(value), PageFlags::decode(value));
        });
    }

    /// Copies every mapping of `range` into `child` (which has nothing there). With `cow`, writable pages become read-only
    /// with the `cow` bit in both; else they are shared as they are. The caller flushes once with [`PageTable::flush_all`].
    pub fn fork_range(&mut self, child: &mut PageTable, range: Range<u64>, cow: bool) -> Result<(), OutOfMemory> {
        let result = self.tree.fork(&mut child.tree, range, cow);
        publish();
        Ok(result?)
    }

    /// Moves the mappings of `from` to `to` (mremap); `from` is flushed.
    pub fn move_range(&mut self, from: Range<u64>, to: u64) -> Result<(), OutOfMemory> {
        self.tree.move_pages(from.clone(), to)?;
        flush_range(self.root.asid, from);
        Ok(())
    }

    /// Flushes this address space's TLB entries on all CPUs.
    pub fn flush_all(&self) {
        flush_asid(self.root.asid);
    }

    /// Number of pages mapped now (resident set).
    pub fn resident(&self) -> usize {
        self.tree.resident()
    }

    /// Frames used by the tables themselves.
    pub fn table_frames(&self) -> usize {
        self.tree.tables()
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        if self.tree.tables() == 1 {
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
        let Ok(table) = Table::alloc() else { panic!("no memory") };
        root = table.phys();
        if let Err(other) = EMPTY.compare_exchange(0, root, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just allocated: nothing knows it.
            unsafe { table.release() };
            root = other;
        }
    }
    TTBR0_EL1.set(root);
    barrier::isb(barrier::SY);
    cpu::block().translation.store(0, Ordering::Relaxed);
}
