//! timerfd_create(2): an alarm that is a file.

use crate::prelude::*;
use crate::process::timers::alarm::{Alarm, Itimerspec, expiry_on};
use crate::process::timers::clock;
use crate::sync::{WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::vfs::{FileOps, OpenFile, OpenFlags, PollEvents, PollSet, PollTable, SeekFrom};
use core::any::Any;

struct State {
    /// Expiries not read yet.
    ticks: u64,
    /// As given to timerfd_settime.
    flags: u32,
    /// TFD_TIMER_CANCEL_ON_SET of an absolute time on CLOCK_REALTIME.
    is_cancellable: bool,
    /// The clock was set when it was so, and nobody has been told.
    clock_was_set: bool,
}

impl State {
    /// Whether ECANCELED is to be said now; it is said once.
    fn take_cancelled(&mut self) -> bool {
        self.is_cancellable && core::mem::take(&mut self.clock_was_set)
    }
}

pub struct TimerFd {
    clock: i32,
    state: IrqSpinLock<State>,
    alarm: Arc<Alarm>,
    readers: WaitQueue,
    poll_set: PollSet,
}

pub const ABSTIME: u32 = 1;
pub const CANCEL_ON_SET: u32 = 2;

/// Timers to cancel when CLOCK_REALTIME is set. Dead ones are swept out when one is added.
static CANCELLABLE: SpinLock<Vec<Weak<TimerFd>>> = SpinLock::new(Vec::new());

impl TimerFd {
    fn new(clock: i32) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let weak = weak.clone();
            Self {
                clock,
                state: IrqSpinLock::new(State { ticks: 0, flags: 0, is_cancellable: false, clock_was_set: false }),
                alarm: Alarm::new(Box::new(move |_| {
                    if let Some(timer) = weak.upgrade() {
                        timer.state.lock().ticks += 1;
                        timer.tell();
                    }
                })),
                readers: WaitQueue::new(),
                poll_set: PollSet::new(),
            }
        })
    }

    fn tell(&self) {
        self.readers.wake_one();
        self.poll_set.notify(PollEvents::IN | PollEvents::RDNORM);
    }

    /// Moves a due alarm on and counts the expiries nobody saw; the first was counted when it came.
    fn catch_up(&self) {
        let passed = self.alarm.forward(0);
        if passed > 1 {
            self.state.lock().ticks += passed - 1;
        }
    }

    fn is_readable(&self) -> bool {
        self.state.lock().ticks != 0
    }

    /// Takes the count into `dst`: `Ok(false)` when there is none.
    fn try_read(&self, dst: &mut UserWriter<'_>) -> Result<bool, Errno> {
        loop {
            self.catch_up();
            let mut state = self.state.lock();
            if state.take_cancelled() {
                state.ticks = 0;
                return Err(Errno::ECANCELED);
            }
            if state.ticks == 0 {
                return Ok(false);
            }
            if dst.write_nofault(&state.ticks.to_ne_bytes()) == Ok(8) {
                state.ticks = 0;
                return Ok(true);
            }
            drop(state);
            dst.fault_in(8)?;
            if dst.remaining() < 8 {
                return Err(Errno::EFAULT);
            }
        }
    }
}

impl FileOps for TimerFd {
    fn can_signal(&self) -> bool {
        false
    }
    fn seek(&self, _file: &OpenFile, _current: u64, _from: SeekFrom) -> Result<u64, Errno> {
        Ok(0)
    }
    fn read(&self, file: &OpenFile, _offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        while !self.try_read(dst)? {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let reason = WaitReason::on(WaitKind::TimerfdRead, file.id);
            self.readers.wait_until(WaitMode::Interruptible, None, reason, || self.is_readable().then_some(()))?;
        }
        Ok(8)
    }

    fn poll(&self, _file: &OpenFile, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(table) = table {
            table.register(&self.poll_set);
        }
        if self.is_readable() { PollEvents::IN | PollEvents::RDNORM } else { PollEvents::empty() }
    }

    /// TFD_IOC_SET_TICKS: EINVAL for none, ECANCELED.
    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> SysResult {
        const TFD_IOC_SET_TICKS: u32 = 0x4008_5400;
        if command != TFD_IOC_SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let ticks = UserPtr::<u64>::new(UserAddr(argument)).read()?;
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if state.take_cancelled() {
            return Err(Errno::ECANCELED);
        }
        state.ticks = ticks;
        drop(state);
        self.tell();
        Ok(0)
    }

    fn anonymous_name(&self) -> Option<String> {
        Some(String::from("anon_inode:[timerfd]"))
    }

    fn fdinfo(&self, _file: &OpenFile) -> String {
        let now = Itimerspec::from_ns(self.alarm.get());
        let state = self.state.lock();
        alloc::format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.clock,
            state.ticks,
            state.flags,
            now.value.sec,
            now.value.nsec,
            now.interval.sec,
            now.interval.nsec
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn check_alarm_privilege(clock: i32) -> Result<(), Errno> {
    let wakes = matches!(clock, clock::REALTIME_ALARM | clock::BOOTTIME_ALARM);
    if wakes && !current().creds().has_cap(cap::WAKE_ALARM) { Err(Errno::EPERM) } else { Ok(()) }
}

/// timerfd_create(2): a timer on `clock`. EINVAL, EPERM.
pub fn create(clock: i32, nonblocking: bool) -> Result<Arc<OpenFile>, Errno> {
    let known = matches!(
        clock,
        clock::MONOTONIC | clock::REALTIME | clock::REALTIME_ALARM | clock::BOOTTIME | clock::BOOTTIME_ALARM
    );
    if !known {
        return Err(Errno::EINVAL);
    }
    check_alarm_privilege(clock)?;
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    Ok(OpenFile::anonymous(TimerFd::new(clock), flags))
}

/// The timer behind `file`: EINVAL for another kind of file.
fn timer_of(file: &OpenFile) -> Result<Arc<TimerFd>, Errno> {
    let ops: Arc<dyn FileOps> = file.ops.clone();
    let any: Arc<dyn Any + Send + Sync> = ops;
    any.downcast::<TimerFd>().map_err(|_| Errno::EINVAL)
}

/// timerfd_settime(2), `value` and `interval` in ns, `flags` of TFD_TIMER_*: answers time left and interval of before. EINVAL, EPERM,
/// ECANCELED (the timer is set all the same).
pub fn set(file: &OpenFile, flags: u32, value: u64, interval: u64) -> Result<(u64, u64), Errno> {
    let timer = timer_of(file)?;
    check_alarm_privilege(timer.clock)?;
    let absolute = flags & ABSTIME != 0;
    let realtime = matches!(timer.clock, clock::REALTIME | clock::REALTIME_ALARM);
    let mut cancellable = CANCELLABLE.lock();
    cancellable.retain(|other| other.strong_count() > 0 && !core::ptr::eq(other.as_ptr(), &*timer));
    let is_cancellable = realtime && absolute && flags & CANCEL_ON_SET != 0;
    if is_cancellable {
        cancellable.push(Arc::downgrade(&timer));
    }
    drop(cancellable);
    timer.catch_up();
    let mut state = timer.state.lock();
    (state.ticks, state.flags, state.is_cancellable) = (0, flags, is_cancellable);
    // What nobody has read yet is told here; the timer is set all the same.
    let was_cancelled = value != 0 && state.take_cancelled();
    drop(state);
    let (source, expiry) = expiry_on(timer.clock, value, absolute);
    let before = timer.alarm.set(source, expiry, interval);
    if was_cancelled { Err(Errno::ECANCELED) } else { Ok(before) }
}

/// Time left and interval, in ns: EINVAL for another kind of file.
pub fn get(file: &OpenFile) -> Result<(u64, u64), Errno> {
    let timer = timer_of(file)?;
    timer.catch_up();
    Ok(timer.alarm.get())
}

/// CLOCK_REALTIME was set: cancels timers that asked for it (TFD_TIMER_CANCEL_ON_SET).
pub fn clock_was_set() {
    let timers: Vec<_> = CANCELLABLE.lock().iter().filter_map(Weak::upgrade).collect();
    for timer in timers {
        let mut state = timer.state.lock();
        state.clock_was_set = true;
        state.ticks += 1;
        drop(state);
        timer.tell();
    }
}
