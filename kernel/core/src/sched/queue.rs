//! What a run queue ([`base::run_queue`]) asks of a task.

use super::policy;
use crate::prelude::*;
use base::run_queue::Runnable;
pub use base::run_queue::{RR_SLICE_NS, SLICE_NS, weight};
use core::sync::atomic::Ordering;

pub type RunQueue = base::run_queue::RunQueue<Task>;

impl Runnable for Task {
    #[inline]
    fn realtime_priority(&self) -> u8 {
        self.sched.effective_rt()
    }
    #[inline]
    fn is_idle_class(&self) -> bool {
        self.sched.policy() == policy::IDLE
    }
    #[inline]
    fn vruntime(&self) -> u64 {
        self.sched.vruntime.load(Ordering::Relaxed)
    }
    #[inline]
    fn set_vruntime(&self, vruntime: u64) {
        self.sched.vruntime.store(vruntime, Ordering::Relaxed);
    }
    /// Not while the other CPU is still on the task's stack.
    #[inline]
    fn is_movable_to(&self, cpu: usize) -> bool {
        self.sched.may_run_on(cpu) && !self.thread.is_on_cpu()
    }
}
