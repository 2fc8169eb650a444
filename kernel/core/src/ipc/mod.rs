//! System V IPC, POSIX message queues, futexes.

pub mod futex;
pub mod mq;
pub mod msg;
pub mod sem;
pub mod shm;
pub mod sysv;

use crate::prelude::*;
use crate::process::clone::flag;
use core::sync::atomic::AtomicBool;

/// A thread's IPC state: System V semaphore adjustments (shared with CLONE_SYSVSEM), whether it has made shared memory, and what
/// became of its waits. A thread waits for one thing at a time, so that who ends its wait leaves the result here.
pub struct TaskIpc {
    undo: SpinLock<Option<Arc<sem::UndoList>>>,
    semop: sem::Ended,
    msg: msg::Ended,
    futex: futex::Place,
    /// Shared memory segments came from it.
    has_made_segments: AtomicBool,
}

impl TaskIpc {
    pub fn new() -> Self {
        Self::with(None)
    }
    /// A new thread's: shared with CLONE_SYSVSEM, else none.
    pub fn fork(&self, clone_flags: u64) -> Self {
        let shared = (clone_flags & flag::SYSVSEM != 0).then(|| sem::share_undo_list(self));
        Self::with(shared)
    }
    const fn with(undo: Option<Arc<sem::UndoList>>) -> Self {
        Self {
            undo: SpinLock::new(undo),
            semop: sem::Ended::new(),
            msg: msg::Ended::new(),
            futex: futex::Place::new(),
            has_made_segments: AtomicBool::new(false),
        }
    }
}

impl Default for TaskIpc {
    fn default() -> Self {
        Self::new()
    }
}

/// Which semaphore adjustments the thread has: the same number when they are shared, 0 when there are none.
pub fn undo_identity(task: &Task) -> usize {
    task.ipc.undo.lock().as_ref().map_or(0, |list| Arc::as_ptr(list).addr())
}

/// unshare(CLONE_SYSVSEM): as if the thread ended, for its adjustments; it begins new ones.
pub fn unshare_undo(task: &Task) {
    sem::on_exit(task);
}

/// The calling thread is ending: System V semaphore adjustments are undone by the last thread that shares them, and its shared
/// memory loses its maker.
pub fn on_exit(task: &Task) {
    sem::on_exit(task);
    shm::on_exit(task);
}
