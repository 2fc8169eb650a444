//! A process's own timers: the interval timers of setitimer(2), and its POSIX timers (see `posix`).

use super::alarm::{Alarm, Source};
use super::posix::PosixTimers;
use crate::prelude::*;
use crate::process::signal;
use crate::task::process::{Rlimit, rlimit};
use crate::task::siginfo::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU, SigInfo};
use crate::time::now_ns;
use core::sync::atomic::{AtomicU64, Ordering};

const NR_ITIMERS: usize = 3;
const REAL: usize = 0;
const VIRTUAL: usize = 1;

/// The shortest pause between two signals of one interval timer, in ns: a shorter interval would be all interrupts.
const MIN_INTERVAL_NS: u64 = 50_000;

/// A process's POSIX timers and interval timers.
pub struct ProcessTimers {
    /// REAL, VIRTUAL, PROF; made at their first use.
    interval: SpinLock<[Option<Arc<Alarm>>; NR_ITIMERS]>,
    pub(crate) posix: PosixTimers,
    /// Watches RLIMIT_CPU; made when there is such a limit.
    cpu_limit: SpinLock<Option<Arc<Alarm>>>,
    /// CPU time at which the process is killed, in ns: RLIMIT_CPU's hard limit.
    cpu_kill_ns: AtomicU64,
}

impl ProcessTimers {
    pub fn new() -> Self {
        Self {
            interval: SpinLock::new([const { None }; NR_ITIMERS]),
            posix: PosixTimers::new(),
            cpu_limit: SpinLock::new(None),
            cpu_kill_ns: AtomicU64::new(u64::MAX),
        }
    }
    /// Whether a timer will send the process a signal.
    pub fn is_any_armed(&self) -> bool {
        self.interval.lock().iter().flatten().any(|alarm| alarm.is_armed()) || self.posix.is_any_armed()
    }
    /// The process ends: all timers are disarmed.
    pub fn clear(&self) {
        let alarms = core::mem::take(&mut *self.interval.lock());
        drop(alarms);
        let limit = self.cpu_limit.lock().take();
        drop(limit);
        self.posix.clear();
    }
    /// execve: POSIX timers are deleted, interval timers go on.
    pub fn on_exec(&self) {
        self.posix.clear();
    }
}

/// Watches over RLIMIT_CPU of `process`: SIGXCPU each second from the soft limit on, SIGKILL at the hard one.
pub fn set_cpu_limit(process: &Arc<Process>, limit: Rlimit) {
    const SECOND_NS: u64 = 1_000_000_000;
    let timers = &process.timers;
    let kill_ns = limit.max.saturating_mul(SECOND_NS);
    timers.cpu_kill_ns.store(kill_ns, Ordering::Relaxed);
    // As on Linux, 0 means at once, which is a second.
    let expiry = (limit.current != rlimit::INFINITY).then(|| limit.current.max(1).saturating_mul(SECOND_NS));
    if expiry.is_none() && timers.cpu_limit.lock().is_none() {
        return;
    }
    let owner = Arc::downgrade(process);
    let new = Alarm::new(Box::new(move |alarm| {
        if let Some(process) = owner.upgrade() {
            alarm.forward(MIN_INTERVAL_NS);
            let (user, system) = process.cpu_times();
            let is_last = user + system >= process.timers.cpu_kill_ns.load(Ordering::Relaxed);
            signal::send_to_process(&process, SigInfo::kernel(if is_last { SIGKILL } else { SIGXCPU }));
        }
    }));
    let alarm = timers.cpu_limit.lock().get_or_insert(new).clone();
    alarm.set(Source::ProcessCpu(Arc::downgrade(process)), expiry, SECOND_NS);
}

impl Default for ProcessTimers {
    fn default() -> Self {
        Self::new()
    }
}

fn which_timer(which: i32) -> Result<usize, Errno> {
    usize::try_from(which).ok().filter(|which| *which < NR_ITIMERS).ok_or(Errno::EINVAL)
}

/// The alarm of interval timer `which` of the calling process.
fn alarm(which: usize) -> Arc<Alarm> {
    let process = &current().process;
    if let Some(alarm) = &process.timers.interval.lock()[which] {
        return alarm.clone();
    }
    let signal = [SIGALRM, SIGVTALRM, SIGPROF][which];
    let owner = Arc::downgrade(process);
    let new = Alarm::new(Box::new(move |alarm| {
        if let Some(process) = owner.upgrade() {
            alarm.forward(MIN_INTERVAL_NS);
            signal::send_to_process(&process, SigInfo::kernel(signal));
        }
    }));
    process.timers.interval.lock()[which].get_or_insert(new).clone()
}

fn source(which: usize) -> Source {
    let process = Arc::downgrade(&current().process);
    match which {
        REAL => Source::Monotonic,
        VIRTUAL => Source::ProcessUser(process),
        _ => Source::ProcessCpu(process),
    }
}

/// Time left and interval of interval timer `which` of the calling process, in ns: EINVAL.
pub fn get(which: i32) -> Result<(u64, u64), Errno> {
    let which = which_timer(which)?;
    Ok(match &current().process.timers.interval.lock()[which] {
        Some(alarm) => alarm.get(),
        None => (0, 0),
    })
}

/// Arms interval timer `which` for `first` from now on, then every `interval` (ns; a `first` of 0 disarms). Answers time left and interval
/// of before: EINVAL.
pub fn set(which: i32, first: u64, interval: u64) -> Result<(u64, u64), Errno> {
    let which = which_timer(which)?;
    let base = match which {
        REAL => now_ns(),
        _ => {
            let (user, system) = current().process.cpu_times();
            if which == VIRTUAL { user } else { user + system }
        }
    };
    let expiry = (first != 0).then(|| base.saturating_add(first));
    Ok(alarm(which).set(source(which), expiry, if first == 0 { 0 } else { interval }))
}
