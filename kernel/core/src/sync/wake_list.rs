//! Threads to wake once the locks are dropped.

use crate::prelude::*;
use crate::sched;

/// Threads whose waits a call has ended. Nearly always there is one, for which nothing is allocated.
#[derive(Default)]
pub struct WakeList {
    first: Option<Arc<Task>>,
    others: Vec<Arc<Task>>,
}

impl WakeList {
    pub const fn new() -> Self {
        Self { first: None, others: Vec::new() }
    }
    #[inline]
    pub fn push(&mut self, task: Arc<Task>) {
        if self.first.is_none() {
            self.first = Some(task);
        } else {
            self.others.push(task);
        }
    }
    /// Wakes them in the order they came in, giving the references to the run queues.
    #[inline(always)]
    pub fn wake(self) {
        let Some(first) = self.first else { return };
        sched::unpark_owned(first);
        for task in self.others {
            sched::unpark_owned(task);
        }
    }
}
