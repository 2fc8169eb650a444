//! Parking and unparking: see the state diagram in `sched`.

use super::{DEAD, NOTIFIED, PARKED, PARKING, RUNNABLE, switch};
use crate::prelude::*;
use crate::sync::{Deadline, WaitReason, WaitRecord, might_sleep};
use core::sync::atomic::Ordering;

/// Announces that the calling thread will park: from here on an `unpark` is not lost.
#[inline]
pub fn prepare_park() {
    current().sched.state.store(PARKING, Ordering::SeqCst);
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Takes the announcement back.
#[inline]
pub fn cancel_park() {
    current().sched.state.store(RUNNABLE, Ordering::Release);
}

/// Sleeps until `unpark`; returns at once if one came since `prepare_park`. `deadline` is only noted: waking by then is the
/// caller's affair.
#[track_caller]
pub fn park(reason: WaitReason, mode: WaitMode, deadline: Deadline) {
    might_sleep();
    let task = current();
    let now = hal::time::now_ns();
    *task.sched.wait.lock() = Some(WaitRecord { reason, since_ns: now, mode, deadline });
    if deadline.is_none() {
        crate::debug::deadlock::note_park(mode, now);
    }
    switch::park_current();
    *task.sched.wait.lock() = None;
    task.sched.last_call.store(hal::time::ticks_relaxed(), Ordering::Relaxed);
}

pub(super) fn unpark(task: &Arc<Task>) -> bool {
    let state = &task.sched.state;
    let mut seen = state.load(Ordering::SeqCst);
    loop {
        let next = match seen {
            PARKING => NOTIFIED,
            PARKED => RUNNABLE,
            RUNNABLE | NOTIFIED | DEAD => return false,
            _ => return false,
        };
        match state.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(PARKED) => {
                switch::enqueue_woken(task.clone());
                return true;
            }
            Ok(_) => return false,
            Err(now) => seen = now,
        }
    }
}
