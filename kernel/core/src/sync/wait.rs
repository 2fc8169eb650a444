//! The one blocking primitive.
//!
//! `queue.wait_until(mode, deadline, reason, || try_it())` loops {enqueue, try, check signal, check deadline, park}. The
//! closure takes its own lock and computes the result, so a wake is only a hint to look again.
//!
//! Memory order: a waiter enqueues (queue lock) before it tries; a waker changes the object before it looks at the queue
//! (queue lock, or a fence and the length word when the queue looks empty): one of the two sees the other.
//! A waiter that leaves by signal or time-out after a `wake_one` had chosen it passes that wake on.

use crate::prelude::*;

/// Absolute CLOCK_MONOTONIC time in nanoseconds since boot; `None` waits for ever.
pub type Deadline = Option<u64>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    /// Any unblocked signal ends the wait.
    Interruptible,
    /// Only a fatal signal does.
    Killable,
    /// Nothing does; for bounded waits only.
    Uninterruptible,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitError {
    Interrupted,
    TimedOut,
}

/// Interrupted becomes ERESTARTSYS (restart unless the handler says otherwise); calls that never restart map it themselves.
impl From<WaitError> for Errno {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Errno::ERESTARTSYS,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        }
    }
}

/// What a thread waits for: /proc/PID/wait, `wchan`, the deadlock detector and panic reports read this record.
#[derive(Clone, Copy, Debug)]
pub struct WaitReason {
    /// "pipe_read", "futex", "mutex", "msgrcv", ... (also /proc/PID/wchan)
    pub kind: &'static str,
    /// Which object: an id, inode number or address, as the kind says; 0 when there is none.
    pub object: u64,
    /// Tid of the thread that holds what is waited for; 0 when unknown.
    pub owner: u32,
}

impl WaitReason {
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, object: 0, owner: 0 }
    }
    pub const fn on(kind: &'static str, object: u64) -> Self {
        Self { kind, object, owner: 0 }
    }
    pub const fn held_by(kind: &'static str, object: u64, owner: u32) -> Self {
        Self { kind, object, owner }
    }
}

/// Threads that wait for one condition.
pub struct WaitQueue {
    _todo: (),
}

impl WaitQueue {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self { _todo: () }
    }

    /// Sleeps until `attempt` answers `Some`. See the module page.
    #[track_caller]
    pub fn wait_until<R>(
        &self,
        _mode: WaitMode,
        _deadline: Deadline,
        _reason: WaitReason,
        _attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        todo!()
    }

    /// For bounded waits (locks) that nothing may interrupt.
    #[track_caller]
    pub fn wait_uninterruptible<R>(&self, kind: &'static str, attempt: impl FnMut() -> Option<R>) -> R {
        match self.wait_until(WaitMode::Uninterruptible, None, WaitReason::new(kind), attempt) {
            Ok(result) => result,
            Err(_) => unreachable!("no signal and no deadline"),
        }
    }

    /// Wakes the longest waiter; answers whether there was one. Callable in IRQ context.
    pub fn wake_one(&self) -> bool {
        todo!()
    }
    /// Wakes up to `count` waiters; answers how many.
    pub fn wake_many(&self, _count: usize) -> usize {
        todo!()
    }
    pub fn wake_all(&self) -> usize {
        todo!()
    }
    /// No waiter at this instant (a hint; see the module page for when it may be relied on).
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}

/// Parking without a queue, for hand-over designs (futex, semaphores): the waker completes the operation, stores the result
/// where the sleeper looks, and calls `task.unpark()`.
pub struct Park;

impl Park {
    /// Parks the calling thread until `done` answers `Some`, a signal (by mode) or the deadline. Every `unpark` makes it
    /// look again. The caller undoes its registration on `Err` and must then look once more whether it was completed.
    #[track_caller]
    pub fn park_until<R>(
        _mode: WaitMode,
        _deadline: Deadline,
        _reason: WaitReason,
        _done: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        todo!()
    }
}
