//! Signal calls: sigaction(2), sigprocmask(2), kill(2) and their kin.

use crate::file::signalfd;
use crate::prelude::*;
use crate::process::signal::deliver::take;
use crate::process::signal::state::{Action, AltStack, SIG_IGN, UNBLOCKABLE, refresh, sa};
use crate::process::signal::{frame, may_signal, try_send_to_process, try_send_to_task};
use crate::sync::{Park, WaitError, WaitKind, WaitReason};
use crate::task::siginfo::{SIGKILL, SIGSEGV, SIGSTOP, SigInfo};
use crate::task::{find_process, find_task, tree};
use crate::time::Timespec;
use crate::vfs::{OpenFlags, table};
use core::sync::atomic::Ordering;
use hal::trap::UserContext;

const SIGSET_BYTES: usize = 8;

fn check_size(size: usize) -> Result<(), Errno> {
    if size == SIGSET_BYTES { Ok(()) } else { Err(Errno::EINVAL) }
}

fn signal_number(sig: i32, zero: bool) -> Result<u32, Errno> {
    let low = i32::from(!zero);
    if (low..=64).contains(&sig) { Ok(sig as u32) } else { Err(Errno::EINVAL) }
}

pub fn sys_restart_syscall() -> SysResult {
    let restart = current().signal.restart.lock().take();
    match restart {
        Some(restart) => restart(),
        None => Err(Errno::EINTR),
    }
}

fn from_user(signal: u32, code: i32) -> SigInfo {
    let own = current();
    SigInfo::user(signal, code, own.process.pid, own.credentials.with(|own| own.uid), 0)
}

/// Sends to a process the caller may signal: EPERM, EAGAIN.
pub fn kill_one(process: &Arc<Process>, signal: u32, info: SigInfo) -> Result<(), Errno> {
    may_signal(process, signal)?;
    if signal == 0 { Ok(()) } else { try_send_to_process(process, info) }
}

/// Sends to all that `each` calls its argument with: succeeds when one could be sent; EPERM when all were refused, ESRCH when there was none.
fn kill_many(each: impl FnOnce(&mut dyn FnMut(Arc<Process>)), signal: u32) -> SysResult {
    let mut result = Err(Errno::ESRCH);
    each(&mut |process| match kill_one(&process, signal, from_user(signal, 0)) {
        Ok(()) => result = Ok(0),
        Err(errno) if result.is_err() => result = Err(errno),
        Err(_) => {}
    });
    result
}

fn kill_group(pgid: u32, signal: u32) -> SysResult {
    kill_many(|kill| tree::for_each_in_group(pgid, kill), signal)
}

/// The process of that number, or of the thread of that number.
fn process_named(pid: u32) -> Option<Arc<Process>> {
    find_process(pid).or_else(|| find_task(pid).map(|task| task.process.clone()))
}

pub fn sys_kill(pid: i32, sig: i32) -> SysResult {
    let signal = signal_number(sig, true)?;
    match pid {
        0 => kill_group(current().process.pgid(), signal),
        // All but pid 1 and the caller's own.
        -1 => {
            let own = current().process.pid;
            let is_meant = |process: &Process| process.pid > 1 && process.pid != own;
            kill_many(
                |kill| {
                    tree::for_each_process(|process| {
                        if is_meant(&process) {
                            kill(process);
                        }
                    })
                },
                signal,
            )
        }
        i32::MIN => Err(Errno::ESRCH),
        group if group < 0 => kill_group(group.unsigned_abs(), signal),
        pid if pid as u32 == current().process.pid => {
            kill_one(&current().process, signal, from_user(signal, 0))?;
            Ok(0)
        }
        pid => {
            kill_one(&process_named(pid as u32).ok_or(Errno::ESRCH)?, signal, from_user(signal, 0))?;
            Ok(0)
        }
    }
}

const SI_TKILL: i32 = -6;

fn thread_kill(tgid: Option<i32>, tid: i32, sig: i32, info: Option<SigInfo>) -> SysResult {
    if tid <= 0 || tgid.is_some_and(|tgid| tgid <= 0) {
        return Err(Errno::EINVAL);
    }
    let signal = signal_number(sig, true)?;
    let task = find_task(tid as u32).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| tgid as u32 != task.process.pid) {
        return Err(Errno::ESRCH);
    }
    may_signal(&task.process, signal)?;
    let info = info.unwrap_or_else(|| from_user(signal, SI_TKILL));
    if signal != 0 {
        try_send_to_task(&task, info)?;
    }
    Ok(0)
}

pub fn sys_tkill(tid: i32, sig: i32) -> SysResult {
    thread_kill(None, tid, sig, None)
}

pub fn sys_tgkill(tgid: i32, tid: i32, sig: i32) -> SysResult {
    thread_kill(Some(tgid), tid, sig, None)
}

/// The information of a queued signal: only to itself may a process speak as the kernel or kill(2).
fn queued_info(info: UserAddr, sig: i32, to_itself: bool) -> Result<SigInfo, Errno> {
    let mut given = UserPtr::<SigInfo>::new(info).read()?;
    given.signo = sig;
    if (given.code >= 0 || given.code == SI_TKILL) && !to_itself {
        return Err(Errno::EPERM);
    }
    Ok(given)
}

pub fn sys_rt_sigqueueinfo(pid: i32, sig: i32, info: UserAddr) -> SysResult {
    let own = &current().process;
    let info = queued_info(info, sig, pid >= 0 && pid as u32 == own.pid)?;
    let signal = signal_number(sig, true)?;
    let process = u32::try_from(pid).ok().and_then(process_named).ok_or(Errno::ESRCH)?;
    kill_one(&process, signal, info)?;
    Ok(0)
}

pub fn sys_rt_tgsigqueueinfo(tgid: i32, tid: i32, sig: i32, info: UserAddr) -> SysResult {
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let own = &current().process;
    let info = queued_info(info, sig, tgid as u32 == own.pid)?;
    thread_kill(Some(tgid), tid, sig, Some(info))
}

pub fn sys_sigaltstack(context: &mut UserContext, ss: UserAddr, old_ss: UserAddr) -> SysResult {
    let mut old = *current().signal.alt_stack.lock();
    old.flags = frame::stack_flags(&old, context.sp);
    if !ss.is_null() {
        frame::set_alt_stack(&UserPtr::<AltStack>::new(ss).read()?, context.sp)?;
    }
    UserPtr::new(old_ss).write_opt(&old)?;
    Ok(0)
}

pub fn sys_rt_sigsuspend(mask: UserAddr, sigsetsize: usize) -> SysResult {
    check_size(sigsetsize)?;
    let mask = UserPtr::<u64>::new(mask).read()?;
    crate::process::signal::set_temporary_mask(crate::task::siginfo::SigSet(mask));
    let _ = Park::park_until::<()>(WaitMode::Interruptible, None, WaitReason::on(WaitKind::Sigsuspend, !mask), || None);
    crate::process::signal::end_temporary_mask(true);
    Err(Errno::ERESTARTNOHAND)
}

pub fn sys_rt_sigaction(sig: i32, act: UserAddr, oldact: UserAddr, sigsetsize: usize) -> SysResult {
    check_size(sigsetsize)?;
    let new = match UserPtr::<Action>::new(act).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    let signal = signal_number(sig, false)?;
    if new.is_some() && matches!(signal, SIGKILL | SIGSTOP) {
        return Err(Errno::EINVAL);
    }
    let process = &current().process;
    let old = match new {
        Some(mut action) => {
            action.mask &= !UNBLOCKABLE;
            action.flags &= sa::KNOWN;
            let old = process.signal.set_action(signal, action);
            if action.handler == SIG_IGN || action.handler == 0 && matches!(signal, 17 | 18 | 23 | 28) {
                // What is ignored from now on is not pending either.
                let set = crate::process::signal::state::bit(signal);
                process.signal.pending.discard(set);
                let threads = process.threads.lock().to_vec();
                for task in &threads {
                    task.signal.pending.discard(set);
                }
            }
            old
        }
        None => process.signal.action(signal),
    };
    UserPtr::new(oldact).write_opt(&old)?;
    Ok(0)
}

pub fn sys_rt_sigprocmask(how: i32, set: UserAddr, oldset: UserAddr, sigsetsize: usize) -> SysResult {
    check_size(sigsetsize)?;
    let task = current();
    let old = task.signal.mask();
    if let Some(pointer) = UserPtr::<u64>::new(set).non_null() {
        let set = pointer.read()?;
        let new = match how {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        task.signal.set_mask(new);
        // Nothing new can come through a mask that only grew.
        if old & !new != 0 || task.has_signal() {
            refresh(task);
        }
    }
    UserPtr::new(oldset).write_opt(&old)?;
    Ok(0)
}

pub fn sys_rt_sigpending(set: UserAddr, sigsetsize: usize) -> SysResult {
    if sigsetsize > SIGSET_BYTES {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let pending = task.signal.pending.set() | task.process.signal.pending.set();
    let bytes = (pending & task.signal.mask()).to_le_bytes();
    UserPtr::new(set).write_slice(&bytes[..sigsetsize])?;
    Ok(0)
}

pub fn sys_rt_sigtimedwait(set: UserAddr, info: UserAddr, timeout: UserAddr, sigsetsize: usize) -> SysResult {
    check_size(sigsetsize)?;
    let set = UserPtr::<u64>::new(set).read()? & !UNBLOCKABLE;
    let deadline = match UserPtr::<Timespec>::new(timeout).non_null() {
        Some(pointer) => Some(crate::time::now_ns().saturating_add(pointer.read()?.to_ns()?)),
        None => None,
    };
    let task = current();
    task.signal.wait_set.store(set, Ordering::Release);
    let result = match take(set) {
        Some(found) => Ok(found),
        None => {
            Park::park_until(WaitMode::Interruptible, deadline, WaitReason::on(WaitKind::Sigtimedwait, set), || {
                take(set)
            })
        }
    };
    task.signal.wait_set.store(0, Ordering::Release);
    refresh(task);
    match result {
        Ok(found) => {
            UserPtr::new(info).write_opt(&found.to_user())?;
            Ok(found.signo as usize)
        }
        Err(WaitError::TimedOut) => Err(Errno::EAGAIN),
        Err(WaitError::Interrupted) => Err(Errno::EINTR),
    }
}

pub fn sys_rt_sigreturn(context: &mut UserContext) -> SysResult {
    match frame::pop(context) {
        Ok(()) => {}
        Err(_) => crate::process::signal::force_fault(SigInfo::kernel(SIGSEGV)),
    }
    // x0 is the interrupted code's own.
    Ok(context.x[0] as usize)
}

pub fn sys_signalfd4(fd: i32, mask: UserAddr, sizemask: usize, flags: u32) -> SysResult {
    let flags = OpenFlags::from_bits_retain(flags);
    if sizemask != 8 || !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let set = UserPtr::<u64>::new(mask).read()? & !UNBLOCKABLE;
    if fd == -1 {
        let file = signalfd::create(set, flags.contains(OpenFlags::NONBLOCK));
        return table::install(file, flags.contains(OpenFlags::CLOEXEC));
    }
    signalfd::change(&*table::file(fd)?, set)?;
    Ok(fd as usize)
}
