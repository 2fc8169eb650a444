//! POSIX timers: timer_create(2) and its family.
//!
//! A timer has at most one signal on its way. When it is due the signal is sent; when a thread takes the signal,
//! [`signal_taken`] moves the timer on and tells how many expiries were missed meanwhile. A timer without a signal
//! (SIGEV_NONE) is only ever read.

use super::alarm::{Alarm, Source, expiry_on};
use super::clock;
use crate::prelude::*;
use crate::process::signal;
use crate::process::signal::slot::Slot;
use crate::task::credentials::cap;
use crate::task::siginfo;
use crate::task::siginfo::{SIGALRM, SigInfo};
use crate::task::{current_arc, find_process, find_task};
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicI32, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
/// The highest overrun count (DELAYTIMER_MAX).
const MAX_OVERRUN: u64 = i32::MAX as u64;

/// `struct sigevent`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [i32; 11],
}

struct PosixTimer {
    clock: i32,
    /// CPU-time clocks.
    cpu_source: Option<Source>,
    alarm: Arc<Alarm>,
    /// Missed expiries of the signal taken last.
    overrun: AtomicI32,
}

/// The POSIX timers of a process, by number.
pub struct PosixTimers {
    timers: SpinLock<(BTreeMap<i32, Arc<PosixTimer>>, i32)>,
}

impl PosixTimers {
    pub const fn new() -> Self {
        Self { timers: SpinLock::new((BTreeMap::new(), 0)) }
    }
    pub fn clear(&self) {
        let all = core::mem::take(&mut self.timers.lock().0);
        drop(all);
    }
    pub fn is_any_armed(&self) -> bool {
        self.timers.lock().0.values().any(|timer| timer.alarm.is_armed())
    }
    fn get(&self, id: i32) -> Result<Arc<PosixTimer>, Errno> {
        self.timers.lock().0.get(&id).cloned().ok_or(Errno::EINVAL)
    }
    /// Numbers rise and are used again only after a wrap.
    fn reserve(&self) -> i32 {
        let mut timers = self.timers.lock();
        loop {
            let id = timers.1;
            timers.1 = id.checked_add(1).unwrap_or(0);
            if !timers.0.contains_key(&id) {
                return id;
            }
        }
    }
}

/// A thread takes a signal: if it is a timer's, that timer goes on, and the signal tells how many expiries were missed. Not
/// for interrupt context.
#[inline]
pub fn signal_taken(info: &mut SigInfo) {
    if info.code == siginfo::SI_TIMER {
        go_on(info);
    }
}

fn go_on(info: &mut SigInfo) {
    // A program may have forged the number: a timer that is not due does not move.
    let Ok(timer) = current().process.timers.posix.get(info.fields[0] as u32 as i32) else { return };
    let passed = timer.alarm.forward(0);
    if passed != 0 {
        let overrun = (passed - 1).min(MAX_OVERRUN);
        timer.overrun.store(overrun as i32, Ordering::Relaxed);
        info.fields[0] = info.fields[0] & 0xffff_ffff | overrun << 32;
    }
}

/// How soon an alarm whose signal is ignored is looked at again, in ns.
const IGNORED_PAUSE_NS: u64 = 1_000_000;

/// Who gets the signal.
enum Receiver {
    Nobody,
    Process(Weak<Process>),
    Thread(Weak<Task>),
}

fn receiver(event: &Sigevent) -> Result<Receiver, Errno> {
    let signal_ok = (1..=64).contains(&event.signo);
    match event.notify {
        SIGEV_NONE => Ok(Receiver::Nobody),
        SIGEV_SIGNAL | SIGEV_THREAD if signal_ok => Ok(Receiver::Process(Arc::downgrade(&current().process))),
        SIGEV_THREAD_ID if signal_ok => {
            let task = u32::try_from(event.tid).ok().and_then(find_task).ok_or(Errno::EINVAL)?;
            if task.process.pid != current().process.pid {
                return Err(Errno::EINVAL);
            }
            Ok(Receiver::Thread(Arc::downgrade(&task)))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The source of a CPU-time clock, `None` for the others: EINVAL, EOPNOTSUPP for clocks that have no timers.
pub(crate) fn cpu_source(clockid: i32) -> Result<Option<Source>, Errno> {
    let own = &current().process;
    match clockid {
        clock::REALTIME | clock::MONOTONIC | clock::BOOTTIME | clock::TAI => Ok(None),
        clock::REALTIME_ALARM | clock::BOOTTIME_ALARM => {
            if current().creds().has_cap(cap::WAKE_ALARM) {
                Ok(None)
            } else {
                Err(Errno::EPERM)
            }
        }
        clock::PROCESS_CPUTIME => Ok(Some(Source::ProcessCpu(Arc::downgrade(own)))),
        clock::THREAD_CPUTIME => Ok(Some(Source::ThreadCpu(Arc::downgrade(&current_arc())))),
        clock::MONOTONIC_RAW | clock::REALTIME_COARSE | clock::MONOTONIC_COARSE => Err(Errno::EOPNOTSUPP),
        id if id < 0 => {
            clock::read(id)?;
            let pid = !(id >> 3) as u32;
            let per_thread = id & 4 != 0;
            if per_thread {
                let task = if pid == 0 { current_arc() } else { find_task(pid).ok_or(Errno::EINVAL)? };
                Ok(Some(Source::ThreadCpu(Arc::downgrade(&task))))
            } else {
                let process = if pid == 0 { own.clone() } else { find_process(pid).ok_or(Errno::EINVAL)? };
                Ok(Some(Source::ProcessCpu(Arc::downgrade(&process))))
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// timer_create(2): a timer on `clock` that does what `event` says (SIGALRM, with its number, when nothing is said). `tell` hands its
/// number on; the timer is there only if that succeeds. EINVAL, EAGAIN, EPERM, EOPNOTSUPP.
pub fn create(clock: i32, event: Option<Sigevent>, tell: impl FnOnce(i32) -> Result<(), Errno>) -> Result<(), Errno> {
    let cpu_source = cpu_source(clock)?;
    let timers = &current().process.timers.posix;
    let queue = &current().process.signal;
    let slot = Arc::new(Slot::take(queue.user(), Some(queue.limit())).ok_or(Errno::EAGAIN)?);
    let id = timers.reserve();
    let event = event.unwrap_or(Sigevent {
        value: id as u64,
        signo: SIGALRM as i32,
        notify: SIGEV_SIGNAL,
        tid: 0,
        pad: [0; 11],
    });
    let receiver = receiver(&event)?;
    let on_expiry = move |alarm: &Alarm| {
        let info = SigInfo::timer(event.signo as u32, id, 0, event.value);
        let is_on_its_way = match &receiver {
            Receiver::Nobody => false,
            Receiver::Process(process) => {
                process.upgrade().is_some_and(|process| signal::send_timer(&process, None, info, &slot))
            }
            Receiver::Thread(task) => {
                task.upgrade().is_some_and(|task| signal::send_timer(&task.process, Some(&task), info, &slot))
            }
        };
        if !is_on_its_way {
            alarm.forward(IGNORED_PAUSE_NS);
        }
    };
    tell(id)?;
    let timer = PosixTimer { clock, cpu_source, alarm: Alarm::new(Box::new(on_expiry)), overrun: AtomicI32::new(0) };
    timers.timers.lock().0.insert(id, Arc::new(timer));
    Ok(())
}

/// Time left and interval of a timer of the calling process, in ns: EINVAL.
pub fn get(id: i32) -> Result<(u64, u64), Errno> {
    Ok(current().process.timers.posix.get(id)?.alarm.get())
}

/// Missed expiries of the signal taken last: EINVAL.
pub fn overrun(id: i32) -> Result<i32, Errno> {
    Ok(current().process.timers.posix.get(id)?.overrun.load(Ordering::Relaxed))
}

/// Arms a timer for `value`, a time of its clock or from now on, and every `interval` from then on (ns; a `value` of 0 disarms).
/// Answers time left and interval of before: EINVAL.
pub fn set(id: i32, absolute: bool, value: u64, interval: u64) -> Result<(u64, u64), Errno> {
    let timer = current().process.timers.posix.get(id)?;
    let (source, expiry) = match &timer.cpu_source {
        None => expiry_on(timer.clock, value, absolute),
        Some(source) => {
            let base = if absolute { 0 } else { clock::read(timer.clock)? };
            (source.clone(), (value != 0).then(|| base.saturating_add(value)))
        }
    };
    timer.overrun.store(0, Ordering::Relaxed);
    Ok(timer.alarm.set(source, expiry, interval))
}

/// EINVAL.
pub fn delete(id: i32) -> Result<(), Errno> {
    let timer = current().process.timers.posix.timers.lock().0.remove(&id);
    timer.map(drop).ok_or(Errno::EINVAL)
}
