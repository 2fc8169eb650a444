//! CPU time, in counter ticks without conversion.
//!
//! `user_ticks` is the time spent in user mode, less the counter's value while the thread is there: each way over the boundary is one
//! addition, and a negative value says that user code runs. `cpu_ticks` is all time on a CPU up to the counter value `charged`.

use crate::prelude::*;
use core::sync::atomic::Ordering;

/// Call right after `run_user` returned. Answers the counter's value.
#[inline(always)]
pub fn enter_kernel(task: &Task) -> u64 {
    let now = hal::time::ticks_relaxed();
    // Only the running CPU writes this and the others; readers see whole words.
    let user = &task.sched.user_ticks;
    user.store(user.load(Ordering::Relaxed).wrapping_add(now), Ordering::Relaxed);
    now
}

/// Call right before `run_user`.
#[inline(always)]
pub fn enter_user(task: &Task) {
    let user = &task.sched.user_ticks;
    user.store(user.load(Ordering::Relaxed).wrapping_sub(hal::time::ticks_relaxed()), Ordering::Relaxed);
}

/// The running task leaves the CPU (it is in the kernel) at counter value `now`.
#[inline]
pub(super) fn leave(task: &Task, now: u64) {
    let sched = &task.sched;
    let elapsed = now.wrapping_sub(sched.charged.load(Ordering::Relaxed));
    sched.charged.store(now, Ordering::Relaxed);
    sched.cpu_ticks.store(sched.cpu_ticks.load(Ordering::Relaxed).wrapping_add(elapsed), Ordering::Relaxed);
}

/// A task comes onto the CPU at counter value `now`.
#[inline]
pub(super) fn arrive(task: &Task, now: u64) {
    task.sched.charged.store(now, Ordering::Relaxed);
}

/// User and system time in ns, up to this instant for a task that runs.
pub(super) fn times(task: &Task) -> (u64, u64) {
    let sched = &task.sched;
    let read = || {
        let charged = sched.charged.load(Ordering::Acquire);
        (charged, sched.user_ticks.load(Ordering::Acquire), sched.cpu_ticks.load(Ordering::Acquire))
    };
    // The CPU that runs it writes the first and the last in a row: twice the same is no half of that.
    let mut seen = read();
    loop {
        let again = read();
        if again == seen {
            break;
        }
        seen = again;
    }
    let (charged, mut user, mut total) = seen;
    let now = hal::time::ticks();
    if (user as i64) < 0 {
        user = user.wrapping_add(now);
    }
    if core::ptr::eq(task, current()) || task.thread.is_on_cpu() {
        total = total.wrapping_add(now.saturating_sub(charged));
    }
    let system = total.saturating_sub(user);
    (hal::time::ticks_to_ns(user), hal::time::ticks_to_ns(system))
}
