//! Scheduling: per-CPU run queues, park and unpark, idle, migration.
//!
//! A task is Running on one CPU, Runnable in one queue, Parked, or Dead. Parking is two steps so that no wake is lost: the
//! thread announces `prepare_park`, looks at its condition once more, then `park`s; an `unpark` in between makes `park` return
//! at once.

pub mod syscall;

use crate::prelude::*;
use crate::sync::WaitReason;

/// A task's scheduling state: class, priority, virtual runtime, affinity, wait record, CPU time. Owned by this module.
pub struct TaskSched {}

impl Task {
    /// Makes the task look at its condition again: Parked becomes Runnable (on its last CPU, or an idle one it may use); a
    /// thread about to park will not. Callable in IRQ context. Answers whether it was parked.
    pub fn unpark(self: &Arc<Self>) -> bool {
        todo!()
    }

    /// What the task waits for, if it is parked, and since when (monotonic ns).
    pub fn wait_reason(&self) -> Option<(WaitReason, u64)> {
        todo!()
    }

    /// The letter of /proc/PID/stat: R running or runnable, S interruptible, D uninterruptible, T stopped, Z zombie, X dead.
    pub fn state_letter(&self) -> char {
        todo!()
    }

    /// User and system time in nanoseconds.
    pub fn cpu_times(&self) -> (u64, u64) {
        todo!()
    }
}

/// Gives up the CPU to another runnable task, if there is one.
pub fn yield_now() {
    todo!()
}

/// Yields when the scheduler wants the CPU; for long loops in the kernel.
pub fn cond_resched() {
    todo!()
}

/// Whether the calling CPU should switch before returning to user mode.
#[inline]
pub fn need_resched() -> bool {
    todo!()
}

/// Puts a new task into a run queue for the first time.
pub fn start(_task: Arc<Task>) {
    todo!()
}

/// Ends the calling thread for good: the last switch. The scheduler drops its reference from another stack.
pub fn exit_current() -> ! {
    todo!()
}

/// Turns the boot context of the calling CPU into its idle thread and never returns; runs tasks when there are any.
pub fn run_idle() -> ! {
    todo!()
}

/// Reschedule IPI and timer tick, in IRQ context.
pub fn handle_reschedule_ipi() {
    todo!()
}
