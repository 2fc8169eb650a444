//! Changing a task's class, priority or affinity while it runs, waits or sleeps.

use super::switch;
use crate::prelude::*;
use core::sync::atomic::Ordering;

pub(crate) use switch::requeue;

/// Restricts `task` to the CPUs of `mask` (not empty); a task that runs elsewhere moves at once.
pub(crate) fn set_affinity(task: &Arc<Task>, mask: u64) {
    task.sched.affinity.store(mask, Ordering::SeqCst);
    if core::ptr::eq(&**task, current()) {
        if mask >> hal::cpu::id() & 1 == 0 {
            super::yield_now();
        }
    } else {
        requeue(task);
    }
}
