//! An alarm: an expiry and an interval on any clock, and what happens when it is due. Interval timers, POSIX timers and
//! timerfds are alarms with different ends.
//!
//! Clocks that run like CLOCK_MONOTONIC become one kernel timer. An alarm on CLOCK_REALTIME is armed anew when that clock is
//! set. A CPU-time clock runs no faster than its process has CPUs: the alarm looks at the earliest instant at which the clock
//! can have got there, and again if it has not.
//!
//! An alarm that is due does nothing more until `forward` moves it on, so a short interval costs no more than its reader.
//! Lock order: `setting`, then the kernel timer's locks. `on_expiry` runs in interrupt context with no lock held.

use crate::prelude::*;
use crate::time::{KernelTimer, now_ns, realtime_ns};
use core::sync::atomic::Ordering;

/// The clock an alarm runs by.
#[derive(Clone)]
pub enum Source {
    Monotonic,
    Realtime,
    /// User and system time of a process.
    ProcessCpu(Weak<Process>),
    /// User time of a process.
    ProcessUser(Weak<Process>),
    ThreadCpu(Weak<Task>),
}

/// How long a look at a CPU-time clock is put off at least, in ns.
const CPU_POLL_NS: u64 = 1_000_000;

/// User and system time of a process and how many threads add to it; `None` while its thread list is being changed. For
/// interrupt context.
fn try_process_times(process: &Process) -> Option<(u64, u64, u64)> {
    let threads = process.threads.try_lock()?;
    let mut user = process.life.dead_user_ns.load(Ordering::Relaxed);
    let mut system = process.life.dead_system_ns.load(Ordering::Relaxed);
    for task in threads.iter() {
        let (one_user, one_system) = task.cpu_times();
        user += one_user;
        system += one_system;
    }
    Some((user, system, threads.len() as u64))
}

impl Source {
    /// The clock's time in ns; `None` when it cannot be told at this instant, or no longer runs.
    fn read(&self) -> Option<u64> {
        self.read_with_rate().map(|(now, _)| now)
    }

    /// The clock's time and how many times as fast as real time it may run.
    fn read_with_rate(&self) -> Option<(u64, u64)> {
        let cpus = hal::cpu::online() as u64;
        match self {
            Source::Monotonic => Some((now_ns(), 1)),
            Source::Realtime => Some((realtime_ns(), 1)),
            Source::ProcessCpu(process) => {
                let (user, system, threads) = try_process_times(&*process.upgrade()?)?;
                Some((user + system, threads.clamp(1, cpus)))
            }
            Source::ProcessUser(process) => {
                let (user, _, threads) = try_process_times(&*process.upgrade()?)?;
                Some((user, threads.clamp(1, cpus)))
            }
            Source::ThreadCpu(task) => {
                let (user, system) = task.upgrade()?.cpu_times();
                Some((user + system, 1))
            }
        }
    }

    /// The monotonic instant at which to look whether the clock has reached `expiry`.
    fn instant(&self, expiry: u64) -> u64 {
        match self {
            Source::Monotonic => expiry,
            Source::Realtime => crate::time::monotonic_of_realtime(expiry),
            _ => match self.read_with_rate() {
                Some((now, rate)) => now_ns().saturating_add((expiry.saturating_sub(now) / rate).max(CPU_POLL_NS)),
                None => now_ns().saturating_add(CPU_POLL_NS),
            },
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Source::Monotonic | Source::Realtime => false,
            Source::ProcessCpu(process) | Source::ProcessUser(process) => process.strong_count() == 0,
            Source::ThreadCpu(task) => task.strong_count() == 0,
        }
    }
}

struct Setting {
    source: Source,
    /// On `source`, in ns; `None` is disarmed.
    expiry: Option<u64>,
    /// 0 is once.
    interval: u64,
    /// Due, and not yet moved on.
    due: bool,
}

/// See the module page.
pub struct Alarm {
    setting: IrqSpinLock<Setting>,
    timer: Arc<KernelTimer>,
    on_expiry: Box<dyn Fn(&Alarm) + Send + Sync>,
}

/// Alarms on CLOCK_REALTIME, to be armed anew when it is set. Dead ones are swept out when one is added.
static REALTIME_ALARMS: SpinLock<Vec<Weak<Alarm>>> = SpinLock::new(Vec::new());

impl Alarm {
    /// A disarmed alarm. `on_expiry` runs in interrupt context.
    pub fn new(on_expiry: Box<dyn Fn(&Alarm) + Send + Sync>) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let weak = weak.clone();
            Self {
                setting: IrqSpinLock::new(Setting { source: Source::Monotonic, expiry: None, interval: 0, due: false }),
                timer: KernelTimer::new(Box::new(move || {
                    if let Some(alarm) = weak.upgrade() {
                        alarm.look();
                    }
                })),
                on_expiry,
            }
        })
    }

    /// The kernel timer fired: due now, or not yet (CPU clocks, a clock that was set back).
    fn look(&self) {
        let mut setting = self.setting.lock();
        let Some(expiry) = setting.expiry.filter(|_| !setting.due) else { return };
        if setting.source.read().is_none_or(|now| now < expiry) {
            if !setting.source.is_gone() {
                self.timer.arm(setting.source.instant(expiry));
            }
            return;
        }
        setting.due = true;
        drop(setting);
        (self.on_expiry)(self);
    }

    /// Sets the expiry (`None` disarms) and the interval, both in ns on `source`; answers what [`Alarm::get`] would have.
    pub fn set(self: &Arc<Self>, source: Source, expiry: Option<u64>, interval: u64) -> (u64, u64) {
        if matches!(source, Source::Realtime) && expiry.is_some() {
            let mut alarms = REALTIME_ALARMS.lock();
            alarms.retain(|other| other.strong_count() > 0 && !core::ptr::eq(other.as_ptr(), &**self));
            alarms.push(Arc::downgrade(self));
        }
        let mut setting = self.setting.lock();
        let old = setting.remaining();
        match expiry {
            Some(expiry) => self.timer.arm(source.instant(expiry)),
            None => self.timer.cancel(),
        }
        *setting = Setting { source, expiry, interval, due: false };
        old
    }

    /// What is left until the next expiry (0: disarmed, or due with no interval) and the interval, in ns.
    pub fn get(&self) -> (u64, u64) {
        self.setting.lock().remaining()
    }

    pub fn is_armed(&self) -> bool {
        self.setting.lock().expiry.is_some()
    }

    /// Whether the alarm is due and was not moved on.
    pub fn is_due(&self) -> bool {
        self.setting.lock().due
    }

    /// Moves a due alarm on past now: by whole intervals, or to disarmed. Answers how many expiries that were (0: not due).
    /// `at_least_ns`: the next look is no earlier than that from now.
    pub fn forward(&self, at_least_ns: u64) -> u64 {
        let mut setting = self.setting.lock();
        let Some(expiry) = setting.expiry.filter(|_| setting.due) else { return 0 };
        setting.due = false;
        if setting.interval == 0 {
            setting.expiry = None;
            return 1;
        }
        let now = setting.source.read().unwrap_or(expiry);
        let passed = now.saturating_sub(expiry) / setting.interval + 1;
        let next = expiry.saturating_add(passed.saturating_mul(setting.interval));
        setting.expiry = Some(next);
        self.timer.arm(setting.source.instant(next).max(now_ns().saturating_add(at_least_ns)));
        passed
    }

    fn clock_was_set(&self) {
        let setting = self.setting.lock();
        if let (Source::Realtime, Some(expiry), false) = (&setting.source, setting.expiry, setting.due) {
            self.timer.arm(setting.source.instant(expiry));
        }
    }
}

impl Setting {
    fn remaining(&self) -> (u64, u64) {
        let Some(expiry) = self.expiry else { return (0, self.interval) };
        let now = self.source.read().unwrap_or(0);
        let left = match expiry.checked_sub(now).filter(|left| *left > 0) {
            Some(left) => left,
            // Due, and its end has not yet moved it on: what it will say then.
            None if self.interval != 0 => self.interval - (now - expiry) % self.interval,
            None if self.due => 0,
            // About to be due: never "disarmed".
            None => 1,
        };
        (left, self.interval)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.timer.cancel();
    }
}

/// CLOCK_REALTIME was set: alarms on it are due at another instant.
pub(crate) fn clock_was_set() {
    let alarms: Vec<_> = REALTIME_ALARMS.lock().iter().filter_map(Weak::upgrade).collect();
    for alarm in alarms {
        alarm.clock_was_set();
    }
}

/// `struct itimerspec`.
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Itimerspec {
    pub interval: crate::time::Timespec,
    pub value: crate::time::Timespec,
}

impl Itimerspec {
    pub fn from_ns((value, interval): (u64, u64)) -> Self {
        Self { interval: crate::time::Timespec::from_ns(interval), value: crate::time::Timespec::from_ns(value) }
    }
    /// Value and interval in ns: EINVAL.
    pub fn to_ns(self) -> Result<(u64, u64), Errno> {
        Ok((self.value.to_ns()?, self.interval.to_ns()?))
    }
}

/// The source and expiry of a `timer_settime`-like request on `clock` (REALTIME, MONOTONIC and their kin): a relative time
/// on CLOCK_REALTIME does not move when the clock is set. `None` when `value` is 0: disarm.
pub(crate) fn expiry_on(clock: i32, value: u64, absolute: bool) -> (Source, Option<u64>) {
    use super::clock::{REALTIME, REALTIME_ALARM, TAI};
    let realtime = matches!(clock, REALTIME | REALTIME_ALARM | TAI);
    let (source, expiry) = match absolute {
        true if realtime => (Source::Realtime, value),
        true => (Source::Monotonic, value),
        false => (Source::Monotonic, now_ns().saturating_add(value)),
    };
    (source, (value != 0).then_some(expiry))
}
