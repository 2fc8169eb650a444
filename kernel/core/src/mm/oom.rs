//! Running out of memory: the reserve and reclaim; the last resort is [`set_killer`]'s.
//!
//! Programs' pages come from here and leave a reserve of frames untouched, so that the kernel's own small allocations go on
//! while memory is made. A failed page allocation unwinds to where no lock is held and calls [`make_room`].

use super::MemObject;
use crate::prelude::*;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hal::OutOfMemory;
use hal::frame::Frame;
use spin::Once;

/// Frames only the kernel itself may use: 1/64 of memory, 128 to 4096 frames.
fn reserve() -> usize {
    match RESERVE.load(Ordering::Relaxed) {
        0 => {
            let reserve = (hal::frame::stats().total / 64).clamp(128, 4096);
            RESERVE.store(reserve as u64, Ordering::Relaxed);
            reserve
        }
        reserve => reserve as usize,
    }
}

static RESERVE: AtomicU64 = AtomicU64::new(0);
/// Allocations since the last look at the free count: looking every time would cost more than the page.
static SINCE_CHECK: hal::cpu::PerCpu<AtomicU32> =
    hal::cpu::PerCpu::new([const { AtomicU32::new(0) }; hal::cpu::MAX_CPUS]);
/// Sees to it that a process ends, at the monotonic time in ns; false when there is none to end. Whom it chooses is no affair of memory.
static KILLER: Once<fn(u64) -> bool> = Once::new();

/// Registers who kills when nothing else can be had back.
pub fn set_killer(killer: fn(now_ns: u64) -> bool) {
    KILLER.call_once(|| killer);
}

#[inline]
fn check_reserve() -> Result<(), OutOfMemory> {
    let counter = SINCE_CHECK.get();
    let n = counter.load(Ordering::Relaxed);
    if n > 0 {
        counter.store(n - 1, Ordering::Relaxed);
        return Ok(());
    }
    check_reserve_slowly(counter)
}

#[cold]
fn check_reserve_slowly(counter: &AtomicU32) -> Result<(), OutOfMemory> {
    let spare = hal::frame::stats().free.saturating_sub(reserve());
    if spare == 0 {
        return Err(OutOfMemory);
    }
    counter.store((spare / (2 * hal::cpu::MAX_CPUS)).min(64) as u32, Ordering::Relaxed);
    Ok(())
}

/// A zeroed page for a program; leaves the reserve alone.
#[inline]
pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
    check_reserve()?;
    Frame::alloc_zeroed()
}

/// A page of unspecified content, to be overwritten.
#[inline]
pub fn alloc_uninit() -> Result<Frame, OutOfMemory> {
    check_reserve()?;
    Frame::alloc_uninit()
}

/// Objects with a backing: their clean pages can be had back.
static CACHES: SpinLock<Vec<Weak<MemObject>>> = SpinLock::new(Vec::new());

/// Makes the clean pages of `object` available to [`reclaim`].
pub fn register_cache(object: &Arc<MemObject>) {
    let mut caches = CACHES.lock();
    if caches.len() == caches.capacity() {
        caches.retain(|object| object.strong_count() > 0);
    }
    caches.push(Arc::downgrade(object));
}

/// Drops clean, unmapped page-cache pages; answers how many.
fn reclaim() -> usize {
    let objects: Vec<Arc<MemObject>> = CACHES.lock().iter().filter_map(Weak::upgrade).collect();
    objects.iter().map(|object| object.drop_clean()).sum()
}

/// Whether only the kernel's reserve is left.
pub fn is_tight() -> bool {
    hal::frame::stats().free <= reserve()
}

/// For calls that cost the kernel memory of its own (fork, large buffers): ENOMEM rather than eating the reserve.
pub fn check_kernel_room() -> Result<(), Errno> {
    if is_tight() && (reclaim() == 0 || is_tight()) { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// Frames of the machine.
pub fn total_pages() -> u64 {
    match TOTAL.load(Ordering::Relaxed) {
        0 => {
            let total = hal::frame::stats().total as u64;
            TOTAL.store(total, Ordering::Relaxed);
            total
        }
        total => total,
    }
}

static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Called with no lock held when a page allocation failed. True: try again. False: the caller is to die, or memory cannot be
/// had.
pub fn make_room() -> bool {
    if current().is_dying() {
        return false;
    }
    if reclaim() > 0 {
        return true;
    }
    let now = crate::time::now_ns();
    if !KILLER.get().is_some_and(|kill| kill(now)) {
        return false;
    }
    let queue = WaitQueue::new();
    let _ =
        queue.wait_until::<()>(WaitMode::Killable, Some(now + 5_000_000), crate::sync::WaitReason::new("oom"), || None);
    !current().is_dying()
}
