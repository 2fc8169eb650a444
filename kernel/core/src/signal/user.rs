//! RLIMIT_SIGPENDING: what the processes of one real user have queued of signals, and prepared for POSIX timers.
//!
//! A [`Slot`] is one place of that. An ordinary signal's goes with its entry in the queue; a POSIX timer has one as long as there
//! is the timer or its signal. Locks: `USERS` alone.

use crate::prelude::*;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};

/// How many places a user has taken.
pub struct UserQueue(AtomicU64);

static USERS: IrqSpinLock<BTreeMap<u32, Weak<UserQueue>>> = IrqSpinLock::new(BTreeMap::new());

impl UserQueue {
    /// The one of `uid`, shared by all its processes.
    pub fn of(uid: u32) -> Arc<Self> {
        let mut users = USERS.lock();
        if let Some(queue) = users.get(&uid).and_then(Weak::upgrade) {
            return queue;
        }
        // Those of users that have gone go with them.
        users.retain(|_, queue| queue.strong_count() != 0);
        let queue = Arc::new(Self(AtomicU64::new(0)));
        users.insert(uid, Arc::downgrade(&queue));
        queue
    }
    pub fn len(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// Takes a place, unless that makes more than `limit`.
    pub fn slot(self: &Arc<Self>, limit: Option<u64>) -> Option<Slot> {
        let slot = Slot(self.clone());
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        // Dropping it gives the place back.
        limit.is_none_or(|limit| count <= limit).then_some(slot)
    }
}

/// A place in a user's queue, which its drop frees.
pub struct Slot(Arc<UserQueue>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a signal in a queue holds: a place of its own, or its POSIX timer's.
pub enum Held {
    Own(Slot),
    Timer(Arc<Slot>),
}
