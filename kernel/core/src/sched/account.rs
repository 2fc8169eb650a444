//! CPU time: each user/kernel boundary and each switch charges the time since the last one. Counter ticks, no conversion.

use crate::prelude::*;
use core::sync::atomic::Ordering;

/// Answers the counter's value.
#[inline(always)]
fn charge(task: &Task, user: bool) -> u64 {
    let now = hal::time::ticks_relaxed();
    let sched = &task.sched;
    let elapsed = now.wrapping_sub(sched.boundary.load(Ordering::Relaxed));
    sched.boundary.store(now, Ordering::Relaxed);
    // Only the running CPU writes these; readers see whole words.
    let counter = if user { &sched.user_ticks } else { &sched.system_ticks };
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(elapsed), Ordering::Relaxed);
    now
}

/// Call right after `run_user` returned. Answers the counter's value.
#[inline(always)]
pub fn enter_kernel(task: &Task) -> u64 {
    charge(task, true)
}

/// Call right before `run_user`.
#[inline(always)]
pub fn enter_user(task: &Task) {
    charge(task, false);
}

/// The running task leaves the CPU (it is in the kernel).
pub(super) fn leave(task: &Task) {
    charge(task, false);
}

/// A task comes onto the CPU.
pub(super) fn arrive(task: &Task) {
    task.sched.boundary.store(hal::time::ticks_relaxed(), Ordering::Relaxed);
}

/// User and system time in ns, up to this instant for a task that runs.
pub(super) fn times(task: &Task) -> (u64, u64) {
    let sched = &task.sched;
    let read = || {
        let boundary = sched.boundary.load(Ordering::Acquire);
        (boundary, sched.user_ticks.load(Ordering::Acquire), sched.system_ticks.load(Ordering::Acquire))
    };
    // The CPU that runs it writes all three in a row: twice the same is no half of that.
    let mut seen = read();
    loop {
        let again = read();
        if again == seen {
            break;
        }
        seen = again;
    }
    let (boundary, mut user, mut system) = seen;
    if core::ptr::eq(task, current()) {
        system = system.wrapping_add(hal::time::ticks_relaxed().wrapping_sub(boundary));
    } else if task.thread.is_on_cpu() {
        let running = hal::time::ticks_relaxed().saturating_sub(boundary);
        let counter = if task.syscall_nr.load(Ordering::Relaxed) == 0 { &mut user } else { &mut system };
        *counter = counter.wrapping_add(running);
    }
    (hal::time::ticks_to_ns(user), hal::time::ticks_to_ns(system))
}
