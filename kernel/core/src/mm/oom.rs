//! Running out of memory: the reserve, reclaim, and the OOM killer.
//!
//! Programs' pages come from here and leave a reserve of frames untouched, so that the kernel's own small allocations go on
//! while memory is made. A failed page allocation unwinds to where no lock is held and calls [`make_room`].

use super::MemObject;
use crate::prelude::*;
use crate::process::signal;
use crate::task::siginfo::{SIGKILL, SigInfo};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hal::OutOfMemory;
use hal::frame::Frame;

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
/// Pid of the last victim, and when it was chosen (monotonic ns).
static VICTIM: SpinLock<Option<(u32, u64)>> = SpinLock::new(None);
/// Victims so far (/proc/vmstat oom_kill).
pub static KILLS: AtomicU32 = AtomicU32::new(0);

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
    let chosen = *VICTIM.lock();
    // A victim needs time to unwind; meanwhile the others wait.
    let busy = chosen.is_some_and(|(pid, since)| {
        now.saturating_sub(since) < 2_000_000_000
            && crate::task::find_process(pid).is_some_and(|process| process.any_thread().is_some())
    });
    if !busy && !choose_victim(now) {
        return false;
    }
    let queue = WaitQueue::new();
    let _ =
        queue.wait_until::<()>(WaitMode::Killable, Some(now + 5_000_000), crate::sync::WaitReason::new("oom"), || None);
    !current().is_dying()
}

/// Kills the process with the highest score: resident pages plus `oom_score_adj` thousandths of memory. Pid 1 comes last,
/// and only if nothing else has memory.
fn choose_victim(now: u64) -> bool {
    let total = hal::frame::stats().total as i64;
    let mut best: Option<(i64, u64, Arc<Process>)> = None;
    for process in crate::task::all_processes() {
        let adjust = i64::from(process.oom_score_adj.load(Ordering::Relaxed));
        let Some(space) = process.any_thread().and_then(|task| task.mm.get()) else { continue };
        if adjust <= -1000 {
            continue;
        }
        let resident = space.resident_pages_hint();
        let mut score = resident as i64 + adjust * total / 1000;
        if process.pid == 1 {
            score = i64::MIN + 1;
        }
        if best.as_ref().is_none_or(|(top, ..)| score > *top) {
            best = Some((score, resident, process));
        }
    }
    let Some((_, resident, victim)) = best else { return false };
    let stats = hal::frame::stats();
    let name = victim.any_thread().map(|task| task.comm()).unwrap_or_default();
    crate::error!(
        "out of memory: {} free of {} pages; killed process {} ({}), resident {} KiB, oom_score_adj {}, for {} ({})",
        stats.free,
        stats.total,
        victim.pid,
        name,
        resident * 4,
        victim.oom_score_adj.load(Ordering::Relaxed),
        current().process.pid,
        current().comm()
    );
    *VICTIM.lock() = Some((victim.pid, now));
    KILLS.fetch_add(1, Ordering::Relaxed);
    signal::send_to_process(&victim, SigInfo::kernel(SIGKILL));
    true
}
