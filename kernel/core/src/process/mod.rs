//! Tasks (threads) and processes: what they are, how they begin, how they end.
//!
//! [`Task`] is one thread, [`Process`] the thread group. Each subsystem keeps its own part of a task in a struct of its own
//! (`task.sched`, `task.signal`, `task.files` ...), with its own locks; this module only holds them together.

pub mod credentials;
pub mod syscall;
pub mod life;
pub mod process;
pub mod random;
pub mod task;

pub use credentials::Credentials;
pub use process::Process;
pub use task::{Task, current, current_arc};

use crate::prelude::*;

/// The living or zombie process `pid`.
pub fn find_process(_pid: u32) -> Option<Arc<Process>> {
    todo!()
}

/// The thread `tid`.
pub fn find_task(_tid: u32) -> Option<Arc<Task>> {
    todo!()
}

/// A snapshot of all processes, by pid (procfs, kill(-1), panic report).
pub fn all_processes() -> Vec<Arc<Process>> {
    todo!()
}

/// A snapshot of the processes of group `pgid`.
pub fn process_group(_pgid: u32) -> Vec<Arc<Process>> {
    todo!()
}

/// Whether the calling thread may act on `target` as kill(2) demands is in `signal`; for ptrace-like reads (procfs, process_vm,
/// pidfd_getfd) this is the check.
pub fn may_inspect(_target: &Process) -> bool {
    todo!()
}

/// Starts a kernel thread that runs `body` with IRQs enabled; it ends when `body` returns.
pub fn spawn_kernel_thread(_name: &str, _body: fn()) -> Arc<Task> {
    todo!()
}

/// Creates pid 1 from the program at `path`. ENOENT, ENOEXEC, EACCES...
pub fn spawn_init(_path: &str, _args: &[&str], _env: &[&str]) -> Result<Arc<Process>, Errno> {
    todo!()
}

/// A task without user memory: idle tasks (tid 0) and, through `spawn_kernel_thread`, kernel threads.
pub fn new_kernel_task(_name: &str, _thread: hal::context::KernelThread) -> Arc<Task> {
    todo!()
}

/// `hal::trap::Hooks::user_copy_fault`: resolves a fault in the calling thread's memory.
pub fn user_copy_fault(_addr: UserAddr, _access: hal::trap::Access) -> bool {
    todo!()
}
