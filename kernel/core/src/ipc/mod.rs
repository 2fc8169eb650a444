//! System V IPC, POSIX message queues, futexes.

pub mod futex;
pub mod mq;
pub mod msg;
pub mod sem;
pub mod shm;
pub mod sysv;

/// A thread's IPC state: System V semaphore adjustments (shared with CLONE_SYSVSEM). Owned by this module.
pub struct TaskIpc {}
