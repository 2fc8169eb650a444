//! System V IPC, POSIX message queues, futexes.

pub mod futex;
pub mod mq;
pub mod msg;
pub mod sem;
pub mod shm;
pub mod sysv;

/// A thread's IPC state: System V semaphore adjustments (shared with CLONE_SYSVSEM). Owned by this module.
pub struct TaskIpc {}

impl TaskIpc {
    pub fn new() -> Self {
        Self {}
    }
    pub fn fork(_parent: &Self, _clone_flags: u64) -> Self {
        Self {}
    }
}

/// The calling thread is ending: System V semaphore adjustments are undone by the last thread that shares them.
pub fn on_exit(_task: &crate::prelude::Task) {}
