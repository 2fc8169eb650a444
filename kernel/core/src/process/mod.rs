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

use crate::mm::AddressSpace;
use crate::prelude::*;
use crate::task::credentials;
use core::sync::atomic::Ordering;

/// Whether the calling thread may look into `target` (procfs, process_vm_readv, pidfd_getfd): its own process; the same user with
/// no more capabilities, where the process may be dumped; or CAP_SYS_PTRACE.
pub fn may_inspect(target: &Process) -> bool {
    if target.pid == current().process.pid {
        return true;
    }
    let (own, other) = (current().creds(), target.creds());
    if own.has_cap(credentials::cap::SYS_PTRACE) {
        return true;
    }
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid);
    same && target.life.dumpable.load(Ordering::Relaxed) == 1 && other.cap_permitted & !own.cap_permitted == 0
}

/// The address space of `task`, if the caller may look into it: EPERM; ESRCH when it has none. An execve at the same time shuts the
/// door (the process may not be dumped) before it changes the credentials, and opens it after the new space is in place: what
/// was allowed for one space is never used on another.
pub fn space_to_inspect(task: &Task) -> Result<Arc<AddressSpace>, Errno> {
    loop {
        let space = task.mm.get().ok_or(Errno::ESRCH)?;
        if !may_inspect(&task.process) {
            return Err(Errno::EPERM);
        }
        if task.mm.with(|now| now.is_some_and(|now| Arc::ptr_eq(now, &space))) {
            return Ok(space);
        }
    }
}
