//! Running out of memory: who is refused, the reserve, reclaim; the last resort is [`set_killer`]'s.
//!
//! What is free goes to three kinds of takers (hal's [`Pressure`]). Objects that the kernel makes for programs are refused first:
//! `base::heap` asks [`judge`], the call fails with ENOMEM, and before it returns it is made again as long as that gave memory
//! back ([`try_again`]). Programs' pages come next: their allocation leaves the reserve untouched, unwinds to where no lock is held
//! and calls [`make_room`]. The reserve is for what must not fail; a thread whose call has used some of it waits on its way out
//! of the kernel until there is room ([`recover`]), so that no program eats it up with one call after the other.

use super::object::{self, writeback};
use crate::prelude::*;
use crate::sync::WaitKind;
use crate::task::credentials::cap;
use crate::task::task::{CURRENT, attention};
use core::sync::atomic::{AtomicU64, Ordering};
use hal::OutOfMemory;
use hal::frame::{Frame, Pressure};
use spin::Once;

/// Sees to it that a process ends, at the monotonic time in ns; false when there is none to end. Whom it chooses is no affair of memory.
static KILLER: Once<fn(u64) -> bool> = Once::new();

/// Registers who kills when nothing else can be had back.
pub fn set_killer(killer: fn(now_ns: u64) -> bool) {
    KILLER.call_once(|| killer);
}

#[inline]
fn check_reserve() -> Result<(), OutOfMemory> {
    if hal::frame::pressure() < Pressure::Pages { Ok(()) } else { check_reserve_again() }
}

#[cold]
fn check_reserve_again() -> Result<(), OutOfMemory> {
    if hal::frame::look_at_pressure() < Pressure::Pages { Ok(()) } else { Err(OutOfMemory) }
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

/// `base::heap`'s judge: refuses objects while memory is scarce, but to those who are on their way out and will free some.
pub fn judge(bytes: usize, faults: bool) -> bool {
    if !CURRENT.is_set() {
        return true;
    }
    let task = current();
    if task.is_dying() {
        return true;
    }
    if faults && super::failslab::should_fail(task, bytes) {
        return false;
    }
    // Administrators get what ordinary users leave, so that they can put the machine in order (Linux: vm.admin_reserve_kbytes).
    let is_admin = task.credentials.with(|credentials| credentials.has_cap(cap::SYS_ADMIN));
    let most = if is_admin { Pressure::Objects } else { Pressure::None };
    let admitted = (hal::frame::pressure() <= most || hal::frame::look_at_pressure() <= most)
        && hal::frame::has_room(bytes.div_ceil(PAGE_SIZE));
    if !admitted {
        task.set_attention(attention::REFUSED);
    }
    admitted
}

/// `hal::trap::Hooks::heap_charged`.
pub fn charge(bytes: i64, pressure: Pressure) {
    if !CURRENT.is_set() {
        return;
    }
    let task = current();
    task.process.kernel_bytes.fetch_add(bytes, Ordering::Relaxed);
    if bytes > 0 && pressure == Pressure::Pages {
        task.set_attention(attention::RESERVE);
    }
}

/// After a call that was refused memory, with no lock held: whether it is worth to be made once more.
pub fn try_again() -> bool {
    current().clear_attention(attention::REFUSED);
    !current().is_dying() && reclaim() > 0
}

/// On the way out of the kernel, with no lock held: waits until the reserve is whole again.
pub fn recover() {
    current().clear_attention(attention::REFUSED | attention::RESERVE);
    while hal::frame::look_at_pressure() == Pressure::Pages && make_room() {}
}

/// Pages that a reclaim goes for.
const RECLAIM_PAGES: usize = 64;

/// Takes page-cache pages back, clean and unused ones first; answers how many. No lock that a fault may wait for is held.
fn reclaim() -> usize {
    match object::reclaim(RECLAIM_PAGES, false) {
        0 => object::reclaim(RECLAIM_PAGES, true),
        taken => taken,
    }
}

/// Makes room by pages of files alone: for who holds an inode's lock, but no address space. False: there is none to be had.
pub fn reclaim_cache() -> bool {
    reclaim() > 0 || writeback::make_clean() && reclaim() > 0
}

/// Whether only the kernel's reserve is left.
pub fn is_tight() -> bool {
    hal::frame::pressure() == Pressure::Pages
}

/// For calls that cost the kernel memory of its own (fork, large buffers): ENOMEM rather than eating the reserve.
pub fn check_kernel_room() -> Result<(), Errno> {
    Ok(admit(PAGE_SIZE)?)
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
    if reclaim_cache() {
        return true;
    }
    let now = crate::time::now_ns();
    if !KILLER.get().is_some_and(|kill| kill(now)) {
        return false;
    }
    let queue = WaitQueue::new();
    let _ = queue.wait_until::<()>(
        WaitMode::Killable,
        Some(now + 5_000_000),
        crate::sync::WaitReason::new(WaitKind::Oom),
        || None,
    );
    !current().is_dying()
}
