//! Tasks (threads) and processes: what they are, how they begin, how they end.
//!
//! [`Task`] is one thread, [`Process`] the thread group. Each subsystem keeps its own part of a task in a struct of its own
//! (`task.sched`, `task.signal`, `task.files` ...), with its own locks; this module only holds them together.
//!
//! [`task`], [`process`], [`life`]: the objects · [`tree`]: numbers and parentage · [`run`]: a user thread's main loop ·
//! [`clone`], [`exec`], [`exit`], [`wait`]: its life · [`user`]: what a user's processes are counted for together · [`kernel`]: threads without user memory, pid 1's beginning.

pub mod clone;
pub mod credentials;
pub mod exec;
pub mod exit;
pub mod kernel;
pub mod life;
pub mod process;
pub mod random;
pub mod run;
pub mod syscall;
pub mod task;
pub mod tree;
pub mod user;
pub mod wait;

pub use credentials::Credentials;
pub use kernel::{new_kernel_task, spawn_kernel_thread, start_init_task};
pub use process::Process;
pub use run::user_copy_fault;
pub use task::{Task, current, current_arc};
pub use tree::{all_processes, all_processes_if_unlocked, find_process, find_task, process_group};

/// Whether the calling thread may look into `target` (procfs, process_vm_readv, pidfd_getfd): the same user with no more
/// capabilities, or CAP_SYS_PTRACE.
pub fn may_inspect(target: &Process) -> bool {
    use core::sync::atomic::Ordering;
    if target.pid == current().process.pid {
        return true;
    }
    let (own, other) = (current().creds(), target.creds());
    if own.has_cap(credentials::cap::SYS_PTRACE) {
        return true;
    }
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid);
    same && target.life.dumpable.load(Ordering::Relaxed) == 1
}
