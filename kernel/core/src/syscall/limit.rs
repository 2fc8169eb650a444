//! Resource limits: getrlimit(2), setrlimit(2), prlimit(2).

use crate::mm::aslr;
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::find_process;
use crate::task::process::{Rlimit, rlimit};
use core::sync::atomic::Ordering;

/// The most descriptors a process may be allowed (fs.nr_open).
const NR_OPEN: u64 = 1 << 20;

fn target(pid: i32) -> Result<Arc<Process>, Errno> {
    if pid == 0 {
        return Ok(current().process.clone());
    }
    let process = u32::try_from(pid).ok().and_then(find_process).ok_or(Errno::ESRCH)?;
    let (own, other) = (current().creds(), process.creds());
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|gid| *gid == own.gid);
    if same || own.has_cap(cap::SYS_RESOURCE) { Ok(process) } else { Err(Errno::EPERM) }
}

fn set(process: &Arc<Process>, resource: usize, new: Rlimit) -> Result<(), Errno> {
    if new.current > new.max {
        return Err(Errno::EINVAL);
    }
    if resource == rlimit::NOFILE && new.max > NR_OPEN {
        return Err(Errno::EPERM);
    }
    let mut limits = process.limits.lock();
    if new.max > limits[resource].max && !current().creds().has_cap(cap::SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    limits[resource] = new;
    let copy = *limits;
    drop(limits);
    if resource == rlimit::SIGPENDING {
        process.signal.set_limit(new.current);
    }
    if resource == rlimit::CPU {
        crate::process::timers::timers::set_cpu_limit(process, new);
    }
    if matches!(resource, rlimit::AS | rlimit::DATA | rlimit::STACK | rlimit::MEMLOCK)
        && let Some(task) = process.any_thread()
        && let Some(space) = task.mm.get()
    {
        space.set_limits(&copy, aslr::is_wanted(task.personality.load(Ordering::Relaxed)));
    }
    Ok(())
}

pub fn sys_prlimit64(pid: i32, resource: u32, new: UserAddr, old: UserAddr) -> SysResult {
    let resource = resource as usize;
    if resource >= rlimit::COUNT {
        return Err(Errno::EINVAL);
    }
    let wanted = match UserPtr::<[u64; 2]>::new(new).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    let process = target(pid)?;
    let before = process.limits.lock()[resource];
    if let Some([current, max]) = wanted {
        set(&process, resource, Rlimit { current, max })?;
    }
    UserPtr::new(old).write_opt(&[before.current, before.max])?;
    Ok(0)
}

pub fn sys_getrlimit(resource: u32, rlim: UserAddr) -> SysResult {
    if rlim.is_null() {
        return Err(Errno::EFAULT);
    }
    sys_prlimit64(0, resource, UserAddr::NULL, rlim)
}

pub fn sys_setrlimit(resource: u32, rlim: UserAddr) -> SysResult {
    if rlim.is_null() {
        return Err(Errno::EFAULT);
    }
    sys_prlimit64(0, resource, rlim, UserAddr::NULL)
}
