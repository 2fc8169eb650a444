//! The kernel's global allocator: size classes over page frames with per-CPU magazines; large blocks straight from frames.
//!
//! A block of up to 2048 bytes comes from this CPU's list of its class; an empty list takes a batch from the class's partly
//! used pages. A heap page's metadata (frame.rs) holds its class, how many of its blocks are out and its free list. Pages
//! whose blocks are all back return to the frame allocator. Larger blocks are runs of frames, or, when memory is in pieces, single
//! frames mapped in a row (vmap.rs).
//!
//! An allocation may use the last frames, the reserve (frame.rs). Whoever can fail asks `base::heap` first, which leaves the
//! reserve to those who cannot.

use crate::cpu::{IrqGuard, MAX_CPUS, PerCpu};
use crate::frame::{self, NONE, Use, meta};
use crate::layout::{linear, linear_to_phys};
use crate::vmap;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use spin::Mutex;
use talc::base::Talc;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;

const CLASSES: [u16; 14] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1360, 2048];

/// Class of a size in units of 16 bytes.
static CLASS_OF: [u8; 129] = {
    let mut table = [0u8; 129];
    let mut unit = 0;
    while unit <= 128 {
        let mut class = 0;
        while (CLASSES[class] as usize) < unit * 16 {
            class += 1;
        }
        table[unit] = class as u8;
        unit += 1;
    }
    table
};

/// Blocks taken from or given back to the pages at once.
const BATCH: usize = 16;
const LIMIT: usize = 2 * BATCH;

/// One CPU's free blocks of each class, linked through their first word.
struct Local {
    heads: UnsafeCell<[*mut u8; CLASSES.len()]>,
    lens: UnsafeCell<[usize; CLASSES.len()]>,
    /// Set while this CPU is inside the frame allocator's tree: allocate from the bootstrap region.
    bootstrap: AtomicBool,
}

// SAFETY: touched only by its own CPU with IRQs masked.
unsafe impl Sync for Local {}
// SAFETY: as above.
unsafe impl Send for Local {}

static LOCAL: PerCpu<Local> = PerCpu::new(
    [const {
        Local {
            heads: UnsafeCell::new([null_mut(); CLASSES.len()]),
            lens: UnsafeCell::new([0; CLASSES.len()]),
            bootstrap: AtomicBool::new(false),
        }
    }; MAX_CPUS],
);

/// Heads of the lists of partly used pages, per class.
static PARTIAL: [Mutex<u32>; CLASSES.len()] = [const { Mutex::new(NONE) }; CLASSES.len()];

static USED: AtomicI64 = AtomicI64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);

struct Bootstrap(Talc<Manual, DefaultBinning>);
// SAFETY: only reached under its mutex.
unsafe impl Send for Bootstrap {}

static BOOTSTRAP: Mutex<Bootstrap> = Mutex::new(Bootstrap(Talc::new(Manual)));
static BOOTSTRAP_START: AtomicU64 = AtomicU64::new(0);
static BOOTSTRAP_END: AtomicU64 = AtomicU64::new(0);

/// Size of the bootstrap region: the frame allocator's trees at their worst.
pub(crate) fn bootstrap_bytes(memory: u64) -> usize {
    ((memory / 400) as usize).max(48 << 10)
}

pub(crate) fn init_bootstrap(range: Range<u64>) {
    let start = linear(PhysAddr(range.start));
    let len = (range.end - range.start) as usize;
    // SAFETY: carved at boot for this use alone.
    let claimed = unsafe { BOOTSTRAP.lock().0.claim(start, len) };
    assert!(claimed.is_some(), "bootstrap heap");
    BOOTSTRAP_START.store(start as u64, Ordering::Relaxed);
    BOOTSTRAP_END.store(start as u64 + len as u64, Ordering::Relaxed);
}

/// While it lives, this CPU's allocations come from the bootstrap region. IRQs are masked by the frame allocator's caller.
pub(crate) struct BootstrapScope(bool);

impl BootstrapScope {
    pub(crate) fn enter() -> Self {
        Self(LOCAL.get().bootstrap.swap(true, Ordering::Relaxed))
    }
}

impl Drop for BootstrapScope {
    fn drop(&mut self) {
        LOCAL.get().bootstrap.store(self.0, Ordering::Relaxed);
    }
}

// Metadata of a heap page: class << 24 | blocks out << 12 | first free block index + 1 (0 is none).
fn pack(class: usize, out: u32, free: u32) -> u32 {
    (class as u32) << 24 | out << 12 | free
}

/// Takes a block from a page with free blocks. The class lock is held.
fn take_from(pfn: u32, class: usize, partial: &mut u32) -> *mut u8 {
    let meta = meta(pfn as usize);
    let info = meta.info.load(Ordering::Relaxed);
    let (out, free) = (info >> 12 & 0xfff, info & 0xfff);
    let block = page_block(pfn, class, free - 1);
    // SAFETY: a free block of a heap page; its first word holds the next index.
    let next = unsafe { block.cast::<u32>().read() };
    meta.info.store(pack(class, out + 1, next), Ordering::Relaxed);
    if next == 0 {
        unlink(pfn, partial);
    }
    block
}

fn page_block(pfn: u32, class: usize, index: u32) -> *mut u8 {
    let offset = index as usize * CLASSES[class] as usize;
    // SAFETY: inside the page: index is below PAGE_SIZE / class size.
    unsafe { linear(PhysAddr(u64::from(pfn) << PAGE_SHIFT)).add(offset) }
}

fn link(pfn: u32, partial: &mut u32) {
    let own = meta(pfn as usize);
    own.prev.store(NONE, Ordering::Relaxed);
    own.next.store(*partial, Ordering::Relaxed);
    if *partial != NONE {
        meta(*partial as usize).prev.store(pfn, Ordering::Relaxed);
    }
    *partial = pfn;
}

fn unlink(pfn: u32, partial: &mut u32) {
    let own = meta(pfn as usize);
    let (prev, next) = (own.prev.load(Ordering::Relaxed), own.next.load(Ordering::Relaxed));
    if prev == NONE {
        *partial = next;
    } else {
        meta(prev as usize).next.store(next, Ordering::Relaxed);
    }
    if next != NONE {
        meta(next as usize).prev.store(prev, Ordering::Relaxed);
    }
}

/// Fills this CPU's list of `class` with up to a batch of blocks; answers whether there is one.
#[cold]
fn refill(class: usize, head: &mut *mut u8, len: &mut usize) -> bool {
    let size = CLASSES[class] as usize;
    let mut partial = PARTIAL[class].lock();
    let before = *len;
    while *len < BATCH {
        if *partial == NONE {
            if *len > 0 {
                break;
            }
            let Ok(phys) = frame::alloc_raw(Use::Kernel) else { return false };
            HELD.fetch_add(PAGE_SIZE as i64, Ordering::Relaxed);
            let pfn = (phys >> PAGE_SHIFT) as u32;
            let blocks = (PAGE_SIZE / size) as u32;
            for index in 0..blocks {
                let next = if index + 1 < blocks { index + 2 } else { 0 };
                // SAFETY: a fresh page of our own.
                unsafe { page_block(pfn, class, index).cast::<u32>().write(next) };
            }
            meta(pfn as usize).info.store(pack(class, 0, 1), Ordering::Relaxed);
            link(pfn, &mut partial);
        }
        let block = take_from(*partial, class, &mut partial);
        // SAFETY: a free block, now ours.
        unsafe { block.cast::<*mut u8>().write(*head) };
        *head = block;
        *len += 1;
    }
    drop(partial);
    charge(((*len - before) * size) as i64);
    true
}

/// Gives a batch of this CPU's blocks back to their pages.
#[cold]
fn drain(class: usize, head: &mut *mut u8, len: &mut usize) {
    let size = CLASSES[class] as usize;
    let mut partial = PARTIAL[class].lock();
    for _ in 0..BATCH {
        let block = *head;
        // SAFETY: blocks of the list are free; the first word links them.
        *head = unsafe { block.cast::<*mut u8>().read() };
        *len -= 1;
        let phys = linear_to_phys(block).0;
        let pfn = (phys >> PAGE_SHIFT) as u32;
        let meta = meta(pfn as usize);
        let info = meta.info.load(Ordering::Relaxed);
        let (out, free) = (info >> 12 & 0xfff, info & 0xfff);
        let index = (phys as usize & (PAGE_SIZE - 1)) / size;
        // SAFETY: the block is free and ours to link.
        unsafe { block.cast::<u32>().write(free) };
        meta.info.store(pack(class, out - 1, index as u32 + 1), Ordering::Relaxed);
        if free == 0 {
            link(pfn, &mut partial);
        }
        if out == 1 {
            unlink(pfn, &mut partial);
            // SAFETY: a page of `refill`, whose blocks are all back.
            unsafe { frame::release_raw(phys & !(PAGE_SIZE as u64 - 1), Use::Kernel) };
            HELD.fetch_sub(PAGE_SIZE as i64, Ordering::Relaxed);
        }
    }
    drop(partial);
    charge(-((BATCH * size) as i64));
}

/// Tells the kernel that the heap has given or taken so many bytes on this CPU, in batches.
fn charge(bytes: i64) {
    if let Some(hooks) = crate::trap::try_hooks() {
        hooks.heap_charged(bytes, frame::pressure());
    }
}

/// Memory has become scarce, or is no longer.
pub(crate) fn note_pressure(scarce: bool) {
    base::heap::set_scarce(scarce);
}

struct KernelHeap;

#[inline(always)]
fn class_of(layout: Layout) -> Option<usize> {
    // Blocks of a power-of-two class are aligned to their size (at most a page); the others to 16.
    let size = if layout.align() > 16 { layout.size().max(layout.align()).next_power_of_two() } else { layout.size() };
    (size <= 2048).then(|| CLASS_OF[size.div_ceil(16)] as usize)
}

fn order_of(layout: Layout) -> u32 {
    let pages = layout.size().max(layout.align()).div_ceil(PAGE_SIZE);
    pages.next_power_of_two().trailing_zeros()
}

// SAFETY: blocks are disjoint, aligned as asked (see `class_of`; runs of frames are aligned to their size) and stay theirs
// until dealloc.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _irq = IrqGuard::new();
        let local = LOCAL.get();
        if local.bootstrap.load(Ordering::Relaxed) {
            // SAFETY: size is not zero by GlobalAlloc's contract.
            return unsafe { BOOTSTRAP.lock().0.allocate(layout) }.map_or(null_mut(), NonNull::as_ptr);
        }
        let Some(class) = class_of(layout) else { return alloc_large(layout) };
        // SAFETY: this CPU's lists, IRQs masked.
        let (head, len) = unsafe { (&mut (*local.heads.get())[class], &mut (*local.lens.get())[class]) };
        if head.is_null() && !refill(class, head, len) {
            return null_mut();
        }
        let block = *head;
        // SAFETY: blocks of the list are free; the first word links them.
        *head = unsafe { block.cast::<*mut u8>().read() };
        *len -= 1;
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _irq = IrqGuard::new();
        let address = block as u64;
        if address >= BOOTSTRAP_START.load(Ordering::Relaxed) && address < BOOTSTRAP_END.load(Ordering::Relaxed) {
            // SAFETY: it came from the bootstrap region with this layout.
            return unsafe { BOOTSTRAP.lock().0.deallocate(block, layout) };
        }
        let Some(class) = class_of(layout) else { return free_large(block, layout) };
        let local = LOCAL.get();
        // SAFETY: this CPU's lists, IRQs masked.
        let (head, len) = unsafe { (&mut (*local.heads.get())[class], &mut (*local.lens.get())[class]) };
        // SAFETY: the block is the caller's to give up and at least 16 bytes long.
        unsafe { block.cast::<*mut u8>().write(*head) };
        *head = block;
        *len += 1;
        if *len > LIMIT {
            drain(class, head, len);
        }
    }
}

fn count_large(bytes: i64) {
    USED.fetch_add(bytes, Ordering::Relaxed);
    HELD.fetch_add(bytes, Ordering::Relaxed);
    charge(bytes);
}

#[cold]
fn alloc_large(layout: Layout) -> *mut u8 {
    let order = order_of(layout);
    if order == 0 {
        let Ok(phys) = frame::alloc_raw(Use::Kernel) else { return null_mut() };
        count_large(PAGE_SIZE as i64);
        return linear(PhysAddr(phys));
    }
    let pages = layout.size().div_ceil(PAGE_SIZE);
    // One block does not take much of the reserve.
    if pages > (frame::reserve() / 8).max(16) && !frame::has_room(pages) {
        return null_mut();
    }
    if let Ok(phys) = frame::alloc_run(order, Use::Kernel) {
        count_large((PAGE_SIZE as i64) << order);
        return linear(PhysAddr(phys));
    }
    if layout.align() > PAGE_SIZE {
        return null_mut();
    }
    match vmap::alloc(pages) {
        Ok(block) => {
            count_large((pages * PAGE_SIZE) as i64);
            block
        }
        Err(_) => null_mut(),
    }
}

#[cold]
fn free_large(block: *mut u8, layout: Layout) {
    if vmap::contains(block as u64) {
        let pages = layout.size().div_ceil(PAGE_SIZE);
        // SAFETY: from `alloc_large` with the same layout, and the caller's to give up.
        unsafe { vmap::free(block, pages) };
        return count_large(-((pages * PAGE_SIZE) as i64));
    }
    let order = order_of(layout);
    count_large(-((PAGE_SIZE as i64) << order));
    let phys = linear_to_phys(block).0;
    // SAFETY: from `alloc_large` with the same layout, and the caller's to give up.
    unsafe {
        if order == 0 {
            frame::release_raw(phys, Use::Kernel);
        } else {
            frame::free_run(phys, order, Use::Kernel);
        }
    }
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

/// Bytes handed out (large blocks exactly; small ones as their pages) and bytes held by the heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapStats {
    pub used_bytes: usize,
    pub held_bytes: usize,
}

pub fn stats() -> HeapStats {
    HeapStats {
        used_bytes: USED.load(Ordering::Relaxed).max(0) as usize,
        held_bytes: HELD.load(Ordering::Relaxed).max(0) as usize,
    }
}
