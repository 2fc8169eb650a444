//! Parking and unparking: see the state diagram in `sched`.

use super::{NOTIFIED, PARKED, PARKING, RUNNABLE, switch};
use crate::prelude::*;
use crate::sync::{Deadline, WaitMode, WaitReason, WaitRecord};
use core::sync::atomic::{AtomicBool, Ordering, fence};
use hal::cpu::IrqGuard;
use spin::Once;

/// Announces that the calling thread, `task`, will park: an `unpark` by who has seen the announcement is not lost. Whoever finds
/// the task by a lock that it takes after this has seen it; all others need the fence of [`prepare_park`].
#[inline]
pub fn announce_park(task: &Task) {
    task.sched.state.store(PARKING, Ordering::Relaxed);
}

/// As [`announce_park`], and a full fence: what the caller looks at next is what wakers that have not seen the announcement left.
#[inline]
pub fn prepare_park(task: &Task) {
    announce_park(task);
    fence(Ordering::SeqCst);
}

/// Takes the announcement back.
#[inline]
pub fn cancel_park(task: &Task) {
    task.sched.state.store(RUNNABLE, Ordering::Release);
}

/// Whether nobody waits to hear of the next park without a time limit.
pub(crate) static ENDLESS_PARK_HEARD: AtomicBool = AtomicBool::new(false);
static ENDLESS_PARK_LISTENER: Once<fn(u64)> = Once::new();

/// Has `listener` called, with the monotonic time in ns, when a thread parks without a time limit and not uninterruptibly while
/// [`ENDLESS_PARK_HEARD`] is false. IRQs are masked then.
pub fn set_endless_park_listener(listener: fn(now_ns: u64)) {
    ENDLESS_PARK_LISTENER.call_once(|| listener);
}

#[inline]
fn note_endless_park(mode: WaitMode, now: u64) {
    if !ENDLESS_PARK_HEARD.load(Ordering::Relaxed) && mode != WaitMode::Uninterruptible {
        tell_listener(now);
    }
}

#[cold]
fn tell_listener(now: u64) {
    if let Some(listener) = ENDLESS_PARK_LISTENER.get() {
        listener(now);
    }
}

/// Sleeps until `unpark`; returns at once if one came since the announcement, or if the calling thread, `task`, slept since then.
/// `deadline` is only noted: waking by then is the caller's affair, as is that it may sleep.
pub fn park(task: &'static Task, reason: &WaitReason, mode: WaitMode, deadline: Deadline) {
    // One reading of the counter for the record, the accounts and the run queue.
    let ticks = hal::time::ticks();
    let now = hal::time::ticks_to_ns(ticks);
    let irq = IrqGuard::new();
    // Left as it is after the wake: it says something only while the state is PARKED.
    *task.sched.wait.leaf(&irq) = Some(WaitRecord { reason: *reason, since_ns: now, mode, deadline });
    if deadline.is_none() {
        note_endless_park(mode, now);
    }
    // A sleep is no computing, also not while the woken thread waits for its turn.
    task.sched.last_call.store(u64::MAX, Ordering::Relaxed);
    switch::park_current(task, ticks, &irq);
    drop(irq);
    task.sched.last_call.store(hal::time::ticks_relaxed(), Ordering::Relaxed);
}

/// See `Task::unpark`.
#[inline]
pub(super) fn unpark(task: &Arc<Task>) -> bool {
    let parked = notify(task);
    if parked {
        switch::enqueue_woken(task.clone());
    }
    parked
}

/// As [`unpark`], giving the caller's reference to the run queue.
#[inline]
pub(crate) fn unpark_owned(task: Arc<Task>) -> bool {
    let parked = notify(&task);
    if parked {
        switch::enqueue_woken(task);
    }
    parked
}

/// Makes the task runnable; answers whether it was parked, so that the caller must queue it.
#[inline]
fn notify(task: &Task) -> bool {
    // Against the fence of `prepare_park`: either the sleeper sees what was changed for it, or its announcement is seen here.
    fence(Ordering::SeqCst);
    let state = &task.sched.state;
    let mut seen = state.load(Ordering::Relaxed);
    loop {
        let next = match seen {
            PARKING => NOTIFIED,
            PARKED => RUNNABLE,
            // Runnable, notified already, or dead.
            _ => return false,
        };
        match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(before) => return before == PARKED,
            Err(now) => seen = now,
        }
    }
}
