//! Scheduling calls: sched_setscheduler(2) and its family, sched_setaffinity(2), sched_yield(2), getcpu(2), nice levels,
//! I/O priorities. What each checks, and in which order, is Linux's.

use crate::prelude::*;
use crate::sched::{Remembered, change, policy};
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use crate::task::{Credentials, all_processes, current_arc, find_process, find_task, process_group};
use crate::time::Timespec;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const RESET_ON_FORK: u32 = 0x4000_0000;
const DEADLINE: u32 = 6;
const MAX_PRIORITY: u32 = 99;

/// The thread `pid` names, the caller for 0: ESRCH.
fn target(pid: i32) -> Result<Arc<Task>, Errno> {
    match u32::try_from(pid) {
        Ok(0) => Ok(current_arc()),
        Ok(tid) => find_task(tid).ok_or(Errno::ESRCH),
        Err(_) => Err(Errno::ESRCH),
    }
}

/// As [`target`], for the calls that refuse a negative number first: EINVAL, ESRCH.
fn positive_target(pid: i32) -> Result<Arc<Task>, Errno> {
    if pid < 0 { Err(Errno::EINVAL) } else { target(pid) }
}

/// How the thread `pid` names is scheduled, or was when it became a zombie: EINVAL for a negative number, ESRCH.
fn state_of(pid: i32) -> Result<Remembered, Errno> {
    match positive_target(pid) {
        Ok(task) => Ok(task.sched.remember()),
        Err(Errno::ESRCH) => Ok(*zombie(pid)?.life.last_sched.lock()),
        Err(errno) => Err(errno),
    }
}

/// A process all of whose threads, or the first, are gone: ESRCH.
fn zombie(pid: i32) -> Result<Arc<Process>, Errno> {
    u32::try_from(pid).ok().and_then(find_process).ok_or(Errno::ESRCH)
}

/// Whether the caller's effective user owns the thread.
fn owns(own: &Credentials, task: &Task) -> bool {
    let other = task.creds();
    own.euid == other.euid || own.euid == other.uid
}

/// RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20).
fn can_nice(own: &Credentials, task: &Task, nice: i32) -> bool {
    own.has_cap(cap::SYS_NICE) || (20 - nice) as u64 <= task.process.limit(rlimit::NICE)
}

fn is_realtime(policy: u32) -> bool {
    policy == u32::from(policy::FIFO) || policy == u32::from(policy::RR)
}

/// What sched_setscheduler, sched_setparam and sched_setattr ask for.
struct Request {
    /// `None` keeps the thread's policy.
    policy: Option<u32>,
    priority: u32,
    nice: Option<i32>,
    reset_on_fork: bool,
}

fn set_scheduler(task: &Arc<Task>, request: &Request) -> Result<(), Errno> {
    let sched = &task.sched;
    let old_policy = u32::from(sched.policy());
    let was_reset = sched.reset_on_fork.load(Ordering::Relaxed) != 0;
    let (policy, reset) = match request.policy {
        Some(policy) => (policy, request.reset_on_fork),
        None => (old_policy, was_reset),
    };
    // 4 was never a policy; deadline scheduling is not offered.
    if policy > 5 || policy == 4 {
        return Err(Errno::EINVAL);
    }
    if request.priority > MAX_PRIORITY || is_realtime(policy) != (request.priority != 0) {
        return Err(Errno::EINVAL);
    }
    let own = current().creds();
    if !own.has_cap(cap::SYS_NICE) {
        if is_realtime(policy) {
            let limit = task.process.limit(rlimit::RTPRIO);
            if policy != old_policy && limit == 0
                || request.priority > u32::from(sched.rt_priority()) && u64::from(request.priority) > limit
            {
                return Err(Errno::EPERM);
            }
        } else if request.nice.is_some_and(|nice| nice < sched.nice() && !can_nice(&own, task, nice)) {
            return Err(Errno::EPERM);
        }
        let leaves_idle = old_policy == u32::from(policy::IDLE) && policy != old_policy;
        if leaves_idle && !can_nice(&own, task, sched.nice()) || !owns(&own, task) || was_reset && !reset {
            return Err(Errno::EPERM);
        }
    }
    sched.policy.store(policy as u8, Ordering::Relaxed);
    sched.rt_priority.store(request.priority as u8, Ordering::Relaxed);
    sched.reset_on_fork.store(u8::from(reset), Ordering::Relaxed);
    if let Some(nice) = request.nice.filter(|_| !is_realtime(policy)) {
        sched.nice.store(nice, Ordering::Relaxed);
    }
    change::requeue(task);
    crate::ipc::futex::priority_changed(task);
    Ok(())
}

pub fn sys_sched_setparam(pid: i32, param: UserAddr) -> SysResult {
    if param.is_null() || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = UserPtr::<u32>::new(param).read()?;
    set_scheduler(&target(pid)?, &Request { policy: None, priority, nice: None, reset_on_fork: false })?;
    Ok(0)
}

pub fn sys_sched_setscheduler(pid: i32, policy: i32, param: UserAddr) -> SysResult {
    if policy < 0 || param.is_null() || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = UserPtr::<u32>::new(param).read()?;
    let policy = policy as u32;
    let request = Request {
        policy: Some(policy & !RESET_ON_FORK),
        priority,
        nice: None,
        reset_on_fork: policy & RESET_ON_FORK != 0,
    };
    set_scheduler(&target(pid)?, &request)?;
    Ok(0)
}

pub fn sys_sched_getscheduler(pid: i32) -> SysResult {
    let state = state_of(pid)?;
    Ok((u32::from(state.policy) | if state.reset_on_fork { RESET_ON_FORK } else { 0 }) as usize)
}

pub fn sys_sched_getparam(pid: i32, param: UserAddr) -> SysResult {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    UserPtr::<u32>::new(param).write(&u32::from(state_of(pid)?.rt_priority))?;
    Ok(0)
}

/// Bytes of the kernel's CPU mask: what sched_getaffinity answers.
const MASK_BYTES: usize = 8;

pub fn sys_sched_setaffinity(pid: i32, len: usize, mask: UserAddr) -> SysResult {
    // Any size is taken; what lies beyond the kernel's own mask names no CPU.
    let mut bytes = [0u8; MASK_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate().take(len) {
        *byte = UserPtr::<u8>::new(mask).at(at)?.read()?;
    }
    let task = target(pid)?;
    let own = current().creds();
    if !owns(&own, &task) && !own.has_cap(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let wanted = u64::from_le_bytes(bytes) & crate::sched::online_mask();
    if wanted == 0 {
        return Err(Errno::EINVAL);
    }
    change::set_affinity(&task, wanted);
    Ok(0)
}

pub fn sys_sched_getaffinity(pid: i32, len: usize, mask: UserAddr) -> SysResult {
    if len.saturating_mul(8) < hal::cpu::online() || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let state = if pid < 0 { Err(Errno::ESRCH) } else { state_of(pid) };
    let allowed = state?.affinity & crate::sched::online_mask();
    UserPtr::<u64>::new(mask).write(&allowed)?;
    Ok(MASK_BYTES)
}

pub fn sys_sched_yield() -> SysResult {
    // Who gives up the CPU still computes (see `Task::computing_ns`).
    current().syscall_nr.store(0, Ordering::Relaxed);
    crate::sched::yield_now();
    Ok(0)
}

pub fn sys_sched_get_priority_max(policy: i32) -> SysResult {
    match policy as u32 {
        policy if is_realtime(policy) => Ok(MAX_PRIORITY as usize),
        0 | 3 | 5 | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_sched_get_priority_min(policy: i32) -> SysResult {
    match policy as u32 {
        policy if is_realtime(policy) => Ok(1),
        0 | 3 | 5 | DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_sched_rr_get_interval(pid: i32, interval: UserAddr) -> SysResult {
    let slice = match state_of(pid)?.policy {
        policy::FIFO => 0,
        policy::RR => crate::sched::queue::RR_SLICE_NS,
        _ => crate::sched::queue::SLICE_NS,
    };
    UserPtr::new(interval).write(&Timespec::from_ns(slice))?;
    Ok(0)
}

/// Runs `f` on every thread that (which, who) of setpriority(2) and ioprio_set(2) names; `None` for a user that has none.
fn for_each_named(kind: Named, who: i32, mut f: impl FnMut(&Arc<Task>)) {
    let each_thread = |processes: Vec<Arc<Process>>, f: &mut dyn FnMut(&Arc<Task>)| {
        for process in processes {
            let threads = process.threads.lock().to_vec();
            threads.iter().for_each(&mut *f);
        }
    };
    match kind {
        Named::Thread => {
            if let Ok(task) = target(who) {
                f(&task);
            }
        }
        Named::Group => {
            let pgid = if who == 0 { current().process.pgid() } else { who as u32 };
            each_thread(process_group(pgid), &mut f);
        }
        Named::User => {
            let uid = if who == 0 { current().creds().uid } else { who as u32 };
            each_thread(all_processes(), &mut |task| {
                if task.creds().uid == uid {
                    f(task);
                }
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Named {
    Thread,
    Group,
    User,
}

fn priority_kind(which: i32) -> Result<Named, Errno> {
    match which {
        0 => Ok(Named::Thread),
        1 => Ok(Named::Group),
        2 => Ok(Named::User),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_setpriority(which: i32, who: i32, prio: i32) -> SysResult {
    let kind = priority_kind(which)?;
    let nice = prio.clamp(-20, 19);
    let own = current().creds();
    let mut result = Err(Errno::ESRCH);
    for_each_named(kind, who, |task| {
        let other = task.creds();
        if other.uid != own.euid && other.euid != own.euid && !own.has_cap(cap::SYS_NICE) {
            result = Err(Errno::EPERM);
        } else if nice < task.sched.nice() && !can_nice(&own, task, nice) {
            result = Err(Errno::EACCES);
        } else {
            if result == Err(Errno::ESRCH) {
                result = Ok(0);
            }
            task.sched.nice.store(nice, Ordering::Relaxed);
            change::requeue(task);
        }
    });
    if result == Err(Errno::ESRCH)
        && let (Named::Thread, Ok(process)) = (kind, zombie(who))
    {
        let other = process.creds();
        if other.uid != own.euid && other.euid != own.euid && !own.has_cap(cap::SYS_NICE) {
            return Err(Errno::EPERM);
        }
        let mut state = process.life.last_sched.lock();
        let limit = process.limit(rlimit::NICE);
        if nice < state.nice && !own.has_cap(cap::SYS_NICE) && (20 - nice) as u64 > limit {
            return Err(Errno::EACCES);
        }
        state.nice = nice;
        return Ok(0);
    }
    result
}

/// Answers 20 - nice, so that no answer looks like an error.
pub fn sys_getpriority(which: i32, who: i32) -> SysResult {
    let kind = priority_kind(which)?;
    let mut best = None;
    for_each_named(kind, who, |task| best = best.max(Some((20 - task.sched.nice()) as usize)));
    if let (None, Named::Thread, Ok(process)) = (best, kind, zombie(who)) {
        best = Some((20 - process.life.last_sched.lock().nice) as usize);
    }
    best.ok_or(Errno::ESRCH)
}

pub fn sys_getcpu(cpu: UserAddr, node: UserAddr, _cache: UserAddr) -> SysResult {
    UserPtr::<u32>::new(cpu).write_opt(&(hal::cpu::id() as u32))?;
    UserPtr::<u32>::new(node).write_opt(&0)?;
    Ok(0)
}

/// `struct sched_attr`, with the utilisation clamps of its second version.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, Default)]
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

const ATTR_BYTES: u32 = size_of::<SchedAttr>() as u32;
const ATTR_BYTES_FIRST: u32 = 48;

mod attr_flag {
    pub const RESET_ON_FORK: u64 = 1;
    pub const KEEP_POLICY: u64 = 8;
    pub const KEEP_PARAMS: u64 = 0x10;
    pub const UTIL_CLAMP: u64 = 0x60;
    pub const ALL: u64 = 0x7f;
}

/// Copies in a structure of the size it says of itself: E2BIG for a size out of bounds or for set bytes beyond what the
/// kernel knows, and then the structure tells the size the kernel knows.
fn read_attr(addr: UserAddr) -> Result<SchedAttr, Errno> {
    let size_field = UserPtr::<u32>::new(addr);
    let too_big = || match size_field.write(&ATTR_BYTES) {
        Ok(()) => Errno::E2BIG,
        Err(errno) => errno,
    };
    let size = match size_field.read()? {
        0 => ATTR_BYTES_FIRST,
        size => size,
    };
    if size < ATTR_BYTES_FIRST || size as usize > PAGE_SIZE {
        return Err(too_big());
    }
    let bytes = UserPtr::<u8>::new(addr).read_vec(size as usize)?;
    let known = bytes.len().min(ATTR_BYTES as usize);
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(too_big());
    }
    let mut attr = SchedAttr::default();
    attr.as_mut_bytes()[..known].copy_from_slice(&bytes[..known]);
    if attr.flags & attr_flag::UTIL_CLAMP != 0 && size < ATTR_BYTES {
        return Err(Errno::EINVAL);
    }
    attr.nice = attr.nice.clamp(-20, 19);
    Ok(attr)
}

pub fn sys_sched_setattr(pid: i32, attr: UserAddr, flags: u32) -> SysResult {
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mut attr = read_attr(attr)?;
    if (attr.policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let task = target(pid)?;
    if attr.flags & attr_flag::KEEP_PARAMS != 0 {
        attr.priority = u32::from(task.sched.rt_priority());
        attr.nice = task.sched.nice();
    }
    if attr.flags & !attr_flag::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if attr.flags & attr_flag::UTIL_CLAMP != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let keeps = attr.flags & attr_flag::KEEP_POLICY != 0;
    let request = Request {
        policy: (!keeps).then_some(attr.policy),
        priority: attr.priority,
        nice: Some(attr.nice),
        reset_on_fork: attr.flags & attr_flag::RESET_ON_FORK != 0,
    };
    set_scheduler(&task, &request)?;
    Ok(0)
}

pub fn sys_sched_getattr(pid: i32, attr: UserAddr, size: u32, flags: u32) -> SysResult {
    if attr.is_null() || pid < 0 || size as usize > PAGE_SIZE || size < ATTR_BYTES_FIRST || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let state = state_of(pid)?;
    let answer = SchedAttr {
        size: size.min(ATTR_BYTES),
        policy: u32::from(state.policy),
        flags: if state.reset_on_fork { attr_flag::RESET_ON_FORK } else { 0 },
        nice: if is_realtime(u32::from(state.policy)) { 0 } else { state.nice },
        priority: u32::from(state.rt_priority),
        ..SchedAttr::default()
    };
    UserPtr::<u8>::new(attr).write_slice(&answer.as_bytes()[..answer.size as usize])?;
    Ok(0)
}

/// Classes of ioprio_set(2): none, real-time, best effort, idle.
fn check_io_priority(value: i32) -> Result<(), Errno> {
    let (class, level) = (value >> 13, value & 7);
    match class {
        1 => {
            let own = current().creds();
            if own.has_cap(cap::SYS_ADMIN) || own.has_cap(cap::SYS_NICE) { Ok(()) } else { Err(Errno::EPERM) }
        }
        2 | 3 => Ok(()),
        0 if level == 0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn io_priority_kind(which: i32) -> Result<Named, Errno> {
    match which {
        1 => Ok(Named::Thread),
        2 => Ok(Named::Group),
        3 => Ok(Named::User),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_ioprio_set(which: i32, who: i32, prio: i32) -> SysResult {
    check_io_priority(prio)?;
    let kind = io_priority_kind(which)?;
    let own = current().creds();
    let mut result = Err(Errno::ESRCH);
    for_each_named(kind, who, |task| {
        let other = task.creds();
        if other.uid != own.euid && other.uid != own.uid && !own.has_cap(cap::SYS_NICE) {
            result = Err(Errno::EPERM);
        } else {
            task.sched.io_priority.store(prio as u32, Ordering::Relaxed);
            if result == Err(Errno::ESRCH) {
                result = Ok(0);
            }
        }
    });
    result
}

/// Answers the most urgent of the threads named; a thread without one of its own counts as best effort's middle when there
/// are several.
pub fn sys_ioprio_get(which: i32, who: i32) -> SysResult {
    let kind = io_priority_kind(which)?;
    let mut best: Option<u32> = None;
    for_each_named(kind, who, |task| {
        let own = task.sched.io_priority.load(Ordering::Relaxed);
        let urgency = |value: u32| if value >> 13 == 0 { 2 << 13 | 4 } else { value };
        best = Some(match best {
            Some(other) if urgency(other) <= urgency(own) => other,
            _ => own,
        });
    });
    best.map(|value| value as usize).ok_or(Errno::ESRCH)
}
