//! Reference-counted 4 KiB page frames: the only handle on physical memory the kernel proper has.
//!
//! A [`Frame`] may be mapped into user programs on other CPUs while the kernel reads or writes it, so its bytes are never
//! a Rust reference: they are copied in and out.
//!
//! Allocation has three layers: a magazine per CPU (no lock but masked IRQs), a global stack of single frames linked through
//! their own metadata, and `buddy_system_allocator` for runs of frames. Buddy keeps its free lists in B-trees, which need the
//! heap: while its lock is held, the heap serves this CPU from a small region of its own (`heap::bootstrap`).

use crate::OutOfMemory;
use crate::boot::tree::Plan;
use crate::cpu::{IrqGuard, PerCpu};
use crate::layout::linear;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, UserAddr};
use buddy_system_allocator::FrameAllocator;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use spin::Mutex;

unsafe extern "C" {
    fn page_zero_asm(dst: *mut u8);
    /// memcpy and memset under names that the compiler knows nothing of: for memory that user code or a device may change meanwhile,
    /// which the copies the language knows may not touch. Such a copy may tear, no more.
    fn copy_shared_asm(dst: *mut u8, src: *const u8, len: usize);
    fn fill_shared_asm(dst: *mut u8, byte: u32, len: usize);
}

/// What a frame is used for (statistics).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    User,
    Kernel,
    PageTable,
}

/// Metadata of one frame.
#[repr(C)]
pub(crate) struct Meta {
    /// References; 0 is free.
    pub refs: AtomicU32,
    /// Free: next frame of the global stack. Heap pages: list links (heap.rs).
    pub next: AtomicU32,
    pub prev: AtomicU32,
    /// Heap pages: what heap.rs keeps of them. Large heap blocks: their order.
    pub info: AtomicU32,
}

static META: AtomicPtr<Meta> = AtomicPtr::new(core::ptr::null_mut());
static FIRST: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);
static KERNEL: AtomicI64 = AtomicI64::new(0);
static TABLES: AtomicI64 = AtomicI64::new(0);
static ZERO_PAGE: AtomicU64 = AtomicU64::new(0);

pub(crate) const NONE: u32 = u32::MAX;

/// Metadata of frame number `pfn`; panics for a frame that is not RAM.
#[inline(always)]
pub(crate) fn meta(pfn: usize) -> &'static Meta {
    let index = pfn.wrapping_sub(FIRST.load(Ordering::Relaxed));
    assert!(index < COUNT.load(Ordering::Relaxed), "not a RAM frame");
    // SAFETY: the table has COUNT entries, zeroed at boot, never freed.
    unsafe { &*META.load(Ordering::Relaxed).add(index) }
}

const MAGAZINE: usize = 64;
const BATCH: usize = 32;

struct Magazine {
    frames: UnsafeCell<[u32; MAGAZINE]>,
    /// Others read it, for statistics.
    len: AtomicUsize,
}

// SAFETY: `frames` is touched only by its own CPU with IRQs masked.
unsafe impl Sync for Magazine {}

static MAGAZINES: PerCpu<Magazine> = PerCpu::new(
    [const { Magazine { frames: UnsafeCell::new([0; MAGAZINE]), len: AtomicUsize::new(0) } }; crate::cpu::MAX_CPUS],
);

struct Pool {
    /// Top of the stack of single frames, linked through `Meta::next`.
    top: u32,
    singles: usize,
    buddy: FrameAllocator<32>,
    buddy_free: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { top: NONE, singles: 0, buddy: FrameAllocator::new(), buddy_free: 0 });

/// How little memory is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pressure {
    None,
    /// The kernel makes no more objects for programs: what is left is for their pages, and for the kernel.
    Objects,
    /// Only the kernel's reserve is left, for what must not fail.
    Pages,
}

static PRESSURE: AtomicU8 = AtomicU8::new(Pressure::None as u8);
/// Free frames below which there is [`Pressure::Pages`]; half as many again for [`Pressure::Objects`].
static RESERVE: AtomicUsize = AtomicUsize::new(0);

/// How little memory is left, to within what the CPUs hold in their magazines.
#[inline(always)]
pub fn pressure() -> Pressure {
    match PRESSURE.load(Ordering::Relaxed) {
        0 => Pressure::None,
        1 => Pressure::Objects,
        _ => Pressure::Pages,
    }
}

/// Frames that only the kernel itself may use: 1/64 of memory, 128 to 4096 frames.
pub fn reserve() -> usize {
    RESERVE.load(Ordering::Relaxed)
}

/// Looks again, with the calling CPU's magazine counted: it may have filled up since the last look.
pub fn look_at_pressure() -> Pressure {
    let _irq = IrqGuard::new();
    let own = MAGAZINES.get().len.load(Ordering::Relaxed);
    let mut pool = POOL.lock();
    pool.note_pressure(own);
    pressure()
}

/// Whether `nr_pages` can be had and leave the reserve alone.
pub fn has_room(nr_pages: usize) -> bool {
    let _irq = IrqGuard::new();
    let pool = POOL.lock();
    pool.buddy_free + pool.singles >= nr_pages + reserve()
}

impl Pool {
    /// After a change of what is free; `more` frames beyond the pool's count too.
    fn note_pressure(&mut self, more: usize) {
        let free = self.buddy_free + self.singles + more;
        let reserve = reserve();
        let now = match free {
            free if free >= reserve + reserve / 2 => Pressure::None,
            free if free >= reserve => Pressure::Objects,
            _ => Pressure::Pages,
        } as u8;
        if PRESSURE.load(Ordering::Relaxed) != now {
            PRESSURE.store(now, Ordering::Relaxed);
            crate::heap::note_pressure(now != 0);
        }
    }
    fn push(&mut self, pfn: u32) {
        meta(pfn as usize).next.store(self.top, Ordering::Relaxed);
        self.top = pfn;
        self.singles += 1;
    }
    fn pop(&mut self) -> Option<u32> {
        if self.top == NONE {
            return None;
        }
        let pfn = self.top;
        self.top = meta(pfn as usize).next.load(Ordering::Relaxed);
        self.singles -= 1;
        Some(pfn)
    }
    fn buddy_alloc(&mut self, count: usize) -> Option<usize> {
        let _heap = crate::heap::BootstrapScope::enter();
        let start = self.buddy.alloc(count)?;
        self.buddy_free -= count.next_power_of_two();
        Some(start)
    }
    fn buddy_free(&mut self, start: usize, count: usize) {
        let _heap = crate::heap::BootstrapScope::enter();
        self.buddy.dealloc(start, count);
        self.buddy_free += count.next_power_of_two();
    }
    /// Hands every single frame back to buddy, so that runs can form again.
    fn coalesce(&mut self) {
        while let Some(pfn) = self.pop() {
            self.buddy_free(pfn as usize, 1);
        }
    }
}

pub(crate) fn init(plan: &Plan) {
    let (mut low, mut high) = (u64::MAX, 0);
    for range in plan.memory.iter() {
        low = low.min(range.start);
        high = high.max(range.end);
    }
    let first = (low >> PAGE_SHIFT) as usize;
    let count = (high >> PAGE_SHIFT) as usize - first;
    let table = plan.carve(count * size_of::<Meta>());
    let mut page = table.start;
    while page < table.end {
        // SAFETY: carved for the table, on the one CPU that runs.
        unsafe { zero_page_at(linear(PhysAddr(page))) };
        page += PAGE_SIZE as u64;
    }
    META.store(linear(PhysAddr(table.start)).cast(), Ordering::Relaxed);
    FIRST.store(first, Ordering::Relaxed);
    COUNT.store(count, Ordering::Relaxed);
    for range in plan.remaining().iter() {
        add_range(range);
    }
    match alloc_raw_zeroed(Use::Kernel) {
        Ok(phys) => ZERO_PAGE.store(phys, Ordering::Relaxed),
        Err(OutOfMemory) => panic!("no memory"),
    }
}

/// Gives whole frames of RAM to the allocator (boot, initrd).
pub(crate) fn add_range(range: Range<u64>) {
    let (start, end) = ((range.start >> PAGE_SHIFT) as usize, (range.end >> PAGE_SHIFT) as usize);
    if start >= end {
        return;
    }
    let _irq = IrqGuard::new();
    let mut pool = POOL.lock();
    let _heap = crate::heap::BootstrapScope::enter();
    pool.buddy.add_frame(start, end);
    pool.buddy_free += end - start;
    let total = TOTAL.fetch_add(end - start, Ordering::Relaxed) + (end - start);
    RESERVE.store((total / 64).clamp(128, 4096), Ordering::Relaxed);
    pool.note_pressure(0);
}

#[cold]
fn refill(frames: &mut [u32; MAGAZINE]) -> usize {
    let mut pool = POOL.lock();
    let mut len = 0;
    while len < BATCH {
        match pool.pop() {
            Some(pfn) => {
                frames[len] = pfn;
                len += 1;
            }
            None => break,
        }
    }
    if len == 0 {
        // A run at once costs one tree operation instead of thirty-two.
        let mut want = BATCH;
        while want > 0 {
            if let Some(start) = pool.buddy_alloc(want) {
                for index in (0..want).rev() {
                    frames[len] = (start + index) as u32;
                    len += 1;
                }
                break;
            }
            want /= 2;
        }
    }
    pool.note_pressure(0);
    len
}

#[cold]
fn spill(frames: &mut [u32; MAGAZINE]) {
    let mut pool = POOL.lock();
    for &pfn in &frames[..BATCH] {
        pool.push(pfn);
    }
    pool.note_pressure(0);
    frames.copy_within(BATCH.., 0);
}

fn count(what: Use, frames: i64) {
    match what {
        Use::User => {}
        Use::Kernel => {
            KERNEL.fetch_add(frames, Ordering::Relaxed);
        }
        Use::PageTable => {
            TABLES.fetch_add(frames, Ordering::Relaxed);
        }
    }
}

/// One frame with a reference count of one, content unspecified.
#[inline]
pub(crate) fn alloc_raw(what: Use) -> Result<u64, OutOfMemory> {
    let _irq = IrqGuard::new();
    let magazine = MAGAZINES.get();
    // SAFETY: this CPU's magazine, IRQs masked: nobody else touches it until the guard drops.
    let frames = unsafe { &mut *magazine.frames.get() };
    let mut len = magazine.len.load(Ordering::Relaxed);
    if len == 0 {
        len = refill(frames);
        if len == 0 {
            return Err(OutOfMemory);
        }
    }
    len -= 1;
    magazine.len.store(len, Ordering::Relaxed);
    let pfn = frames[len];
    let old = meta(pfn as usize).refs.swap(1, Ordering::Relaxed);
    assert!(old == 0, "frame handed out twice");
    count(what, 1);
    Ok(u64::from(pfn) << PAGE_SHIFT)
}

pub(crate) fn alloc_raw_zeroed(what: Use) -> Result<u64, OutOfMemory> {
    let phys = alloc_raw(what)?;
    // SAFETY: just allocated: nobody else has it.
    unsafe { zero_page_at(linear(PhysAddr(phys))) };
    Ok(phys)
}

/// Returns a frame whose count has reached zero.
///
/// # Safety
/// The caller had the last reference, and nothing uses the frame any more: no mapping, no TLB, no device.
pub(crate) unsafe fn free_raw(phys: u64, what: Use) {
    let _irq = IrqGuard::new();
    let pfn = (phys >> PAGE_SHIFT) as u32;
    count(what, -1);
    let magazine = MAGAZINES.get();
    // SAFETY: as in `alloc_raw`.
    let frames = unsafe { &mut *magazine.frames.get() };
    let mut len = magazine.len.load(Ordering::Relaxed);
    if len == MAGAZINE {
        spill(frames);
        len -= BATCH;
    }
    frames[len] = pfn;
    magazine.len.store(len + 1, Ordering::Relaxed);
}

/// Frees a frame that was never shared (tables, heap pages).
///
/// # Safety
/// It came from [`alloc_raw`], and nothing uses it any more, as for [`free_raw`].
pub(crate) unsafe fn release_raw(phys: u64, what: Use) {
    let old = meta((phys >> PAGE_SHIFT) as usize).refs.swap(0, Ordering::Relaxed);
    assert!(old == 1, "freeing a frame that is free or shared");
    // SAFETY: the caller's promise.
    unsafe { free_raw(phys, what) };
}

/// A run of `1 << order` frames, contiguous and aligned to its size; every frame has one reference.
pub(crate) fn alloc_run(order: u32, what: Use) -> Result<u64, OutOfMemory> {
    let _irq = IrqGuard::new();
    let mut pool = POOL.lock();
    let nr = 1usize << order;
    let start = match pool.buddy_alloc(nr) {
        Some(start) => start,
        None => {
            pool.coalesce();
            pool.buddy_alloc(nr).ok_or(OutOfMemory)?
        }
    };
    pool.note_pressure(0);
    drop(pool);
    for pfn in start..start + nr {
        let old = meta(pfn).refs.swap(1, Ordering::Relaxed);
        assert!(old == 0, "frame handed out twice");
    }
    count(what, nr as i64);
    Ok((start as u64) << PAGE_SHIFT)
}

/// # Safety
/// It came from [`alloc_run`] with this order, and nothing uses it any more.
pub(crate) unsafe fn free_run(phys: u64, order: u32, what: Use) {
    let start = (phys >> PAGE_SHIFT) as usize;
    let nr = 1usize << order;
    for pfn in start..start + nr {
        let old = meta(pfn).refs.swap(0, Ordering::Relaxed);
        assert!(old == 1, "freeing a frame that is free or shared");
    }
    count(what, -(nr as i64));
    let _irq = IrqGuard::new();
    let mut pool = POOL.lock();
    pool.buddy_free(start, nr);
    pool.note_pressure(0);
}

/// Zeroes the page at a linear-map address.
///
/// # Safety
/// The frame is the caller's, or one that others know to be changing, and in the linear map.
pub(crate) unsafe fn zero_page_at(page: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { page_zero_asm(page) }
}

/// A counted reference to one page frame: `clone` counts up, `drop` counts down and frees at zero.
#[repr(transparent)]
pub struct Frame {
    phys: u64,
}

impl Frame {
    /// A frame whose content is unspecified (old data!): for callers that overwrite all of it.
    #[inline]
    pub fn alloc_uninit() -> Result<Frame, OutOfMemory> {
        Ok(Frame { phys: alloc_raw(Use::User)? })
    }
    #[inline]
    pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
        Ok(Frame { phys: alloc_raw_zeroed(Use::User)? })
    }
    /// The shared frame of zeroes; never write it.
    pub fn zero_page() -> Frame {
        let frame = core::mem::ManuallyDrop::new(Frame { phys: ZERO_PAGE.load(Ordering::Relaxed) });
        Frame::clone(&frame)
    }
    /// Takes over the reference that `into_phys` gave up.
    ///
    /// # Safety
    /// Each reference is taken over once; for a look at a frame that something else keeps, the result is not dropped.
    pub(crate) unsafe fn from_phys(phys: u64) -> Frame {
        Frame { phys }
    }
    /// Gives up the handle but not the reference (a page-table entry holds it now).
    pub(crate) fn into_phys(self) -> u64 {
        let phys = self.phys;
        core::mem::forget(self);
        phys
    }
    #[inline]
    fn meta(&self) -> &'static Meta {
        meta((self.phys >> PAGE_SHIFT) as usize)
    }
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(self.phys)
    }
    /// How many references there are, page-table entries included.
    #[inline]
    pub fn ref_count(&self) -> u32 {
        self.meta().refs.load(Ordering::Acquire)
    }
    pub fn is_zero_page(&self) -> bool {
        self.phys == ZERO_PAGE.load(Ordering::Relaxed)
    }
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= PAGE_SIZE && len <= PAGE_SIZE - offset, "beyond the page");
        // SAFETY: inside the frame by the check above, which is RAM (`meta`) and so in the linear map.
        unsafe { linear(PhysAddr(self.phys)).add(offset) }
    }
    /// Copies out `dst.len()` bytes at `offset`; panics beyond the page.
    pub fn read(&self, offset: usize, dst: &mut [u8]) {
        let from = self.at(offset, dst.len());
        // SAFETY: `len` bytes of the frame by `at`, and an exclusive slice, which is not in the frame: frames are never references.
        unsafe { copy_shared_asm(dst.as_mut_ptr(), from, dst.len()) }
    }
    /// Copies `src` in at `offset`; panics beyond the page.
    pub fn write(&self, offset: usize, src: &[u8]) {
        let to = self.at(offset, src.len());
        // SAFETY: as in `read`.
        unsafe { copy_shared_asm(to, src.as_ptr(), src.len()) }
    }
    /// Zeroes `len` bytes at `offset`.
    pub fn zero(&self, offset: usize, len: usize) {
        let to = self.at(offset, len);
        // SAFETY: `len` bytes of the frame by `at`.
        unsafe {
            if len == PAGE_SIZE {
                zero_page_at(to);
            } else {
                fill_shared_asm(to, 0, len);
            }
        }
    }
    /// Whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        let mut bytes = [0; 256];
        (0..PAGE_SIZE).step_by(bytes.len()).all(|at| {
            self.read(at, &mut bytes);
            bytes.iter().all(|byte| *byte == 0)
        })
    }
    /// Copies the whole page from `other`.
    pub fn copy_from(&self, other: &Frame) {
        let (to, from) = (self.at(0, PAGE_SIZE), other.at(0, PAGE_SIZE));
        // SAFETY: two whole frames, distinct or equal, in the linear map.
        unsafe { crate::user::copy_page(to, from) }
    }
    /// Copies `len` bytes from user memory to `offset`; faults are resolved. Returns how many bytes were copied before an
    /// unresolvable fault.
    pub fn write_from_user(&self, offset: usize, src: UserAddr, len: usize) -> usize {
        let to = self.at(offset, len);
        // SAFETY: `to` is valid for `len` bytes and no Rust reference to them exists.
        unsafe { crate::user::copy_in_raw(to, src, len) }
    }
    /// Copies `len` bytes at `offset` to user memory, as above.
    pub fn read_to_user(&self, offset: usize, dst: UserAddr, len: usize) -> usize {
        let from = self.at(offset, len);
        // SAFETY: as above.
        unsafe { crate::user::copy_out_raw(dst, from, len) }
    }
    /// Makes instructions written to the page visible to fetches on all CPUs.
    pub fn sync_instruction_cache(&self) {
        crate::cache::sync_instruction_cache(self.at(0, PAGE_SIZE), PAGE_SIZE);
    }
}

impl Clone for Frame {
    #[inline]
    fn clone(&self) -> Self {
        let old = self.meta().refs.fetch_add(1, Ordering::Relaxed);
        assert!(old != 0 && old < u32::MAX / 2, "frame reference count");
        Self { phys: self.phys }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if self.meta().refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: the last reference; mappings hold one each, and give it up only after the TLBs have forgotten them (`TlbGather`).
            unsafe { free_raw(self.phys, Use::User) };
        }
    }
}

/// Frames in use and free.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameStats {
    pub total: usize,
    pub free: usize,
    /// Held by the kernel heap and kernel stacks.
    pub kernel: usize,
    /// Held by page tables.
    pub page_tables: usize,
}

pub fn stats() -> FrameStats {
    let cached: usize = (0..crate::cpu::MAX_CPUS).map(|cpu| MAGAZINES.on(cpu).len.load(Ordering::Relaxed)).sum();
    let _irq = IrqGuard::new();
    let pool = POOL.lock();
    FrameStats {
        total: TOTAL.load(Ordering::Relaxed),
        free: pool.buddy_free + pool.singles + cached,
        kernel: KERNEL.load(Ordering::Relaxed).max(0) as usize,
        page_tables: TABLES.load(Ordering::Relaxed).max(0) as usize,
    }
}
