//! How threads and processes ([`crate::task`]) begin, act and end.
//!
//! [`clone`], [`exec`], [`exit`], [`wait`]: their life · [`hooks`]: who hears of it · [`pidfd`] · [`oom`]: whom the lack of memory kills · [`signal`] · [`timers`] · [`kernel`]: threads without user memory, pid 1's
//! beginning.

pub mod clone;
pub mod exec;
pub mod exit;
pub mod hooks;
pub mod kernel;
pub mod oom;
pub mod pidfd;
pub mod privilege;
pub mod signal;
pub mod timers;
pub mod wait;

pub use kernel::{new_idle_task, spawn_kernel_thread, start_init_task};

use crate::task::{Process, credentials, current};

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
