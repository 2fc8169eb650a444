//! RLIMIT_SIGPENDING: what the processes of one real user have queued of signals, and prepared for POSIX timers.
//!
//! A [`Slot`] is one place of that. An ordinary signal's goes with its entry in the queue; a POSIX timer has one as long as there
//! is the timer or its signal.

use crate::prelude::*;
use crate::task::user::User;
use core::sync::atomic::Ordering;

/// A place in a user's queue, which its drop frees.
pub struct Slot(Arc<User>);

impl Slot {
    /// Takes a place, unless that makes more than `limit`.
    pub fn take(user: Arc<User>, limit: Option<u64>) -> Option<Self> {
        let count = user.signals.fetch_add(1, Ordering::Relaxed) + 1;
        // Dropping it gives the place back.
        let slot = Self(user);
        limit.is_none_or(|limit| count <= limit).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.signals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a signal in a queue holds: a place of its own, or its POSIX timer's.
pub enum Held {
    Own(Slot),
    Timer(Arc<Slot>),
}
