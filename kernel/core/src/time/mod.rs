//! The clock and the kernel's timers. Timers of processes are in [`crate::process::timers`].

pub mod timer;

use crate::prelude::*;
use core::sync::atomic::{AtomicI64, Ordering};
use spin::Once;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct timespec` of 64-bit Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

/// `struct timeval` of 64-bit Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

pub const NSEC_PER_SEC: u64 = 1_000_000_000;
/// USER_HZ: what times(2) and the auxiliary vector count in.
pub const CLOCK_TICKS_PER_SECOND: u64 = 100;

impl Timespec {
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, nsec: (ns % NSEC_PER_SEC) as i64 }
    }
    /// A non-negative, normalised time in ns, saturating; EINVAL otherwise.
    pub fn to_ns(self) -> Result<u64, Errno> {
        if self.sec < 0 || !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.nsec as u64))
    }
}

impl Timeval {
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, usec: (ns % NSEC_PER_SEC / 1000) as i64 }
    }
    pub fn to_ns(self) -> Result<u64, Errno> {
        if self.sec < 0 || !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.usec as u64 * 1000))
    }
}

/// CLOCK_MONOTONIC in nanoseconds since boot: what every internal deadline is measured in.
#[inline]
pub fn now_ns() -> u64 {
    hal::time::now_ns()
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC, in ns.
static REALTIME_OFFSET: AtomicI64 = AtomicI64::new(0);

/// Who hears that CLOCK_REALTIME was set.
static LISTENERS: Once<&'static [fn()]> = Once::new();

/// Sets CLOCK_REALTIME at boot: `rtc` is what a real-time clock says, in seconds since 1970; a machine without one begins at the second
/// that `clock=` names, or in 1970. `listeners` are called whenever the clock is set, beginning now.
pub fn init(rtc: Option<u64>, listeners: &'static [fn()]) {
    LISTENERS.call_once(|| listeners);
    let named = || crate::command_line::option("clock").and_then(|seconds| seconds.parse().ok());
    let seconds = rtc.or_else(named).unwrap_or(0);
    set_realtime_ns(seconds.saturating_mul(NSEC_PER_SEC));
}

/// CLOCK_REALTIME in nanoseconds since 1970.
pub fn realtime_ns() -> u64 {
    now_ns().wrapping_add_signed(REALTIME_OFFSET.load(Ordering::Relaxed))
}

/// Sets CLOCK_REALTIME (clock_settime, settimeofday) and tells who listens.
pub fn set_realtime_ns(ns: u64) {
    REALTIME_OFFSET.store((ns as i64).wrapping_sub(now_ns() as i64), Ordering::Relaxed);
    for listener in LISTENERS.get().into_iter().copied().flatten() {
        listener();
    }
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC now, in ns (the vDSO's data, absolute real-time deadlines).
pub fn realtime_offset_ns() -> i64 {
    REALTIME_OFFSET.load(Ordering::Relaxed)
}

/// The monotonic instant of a CLOCK_REALTIME instant.
pub fn monotonic_of_realtime(realtime_ns: u64) -> u64 {
    realtime_ns.saturating_add_signed(realtime_offset_ns().saturating_neg())
}

/// File timestamps: CLOCK_REALTIME.
pub fn file_time() -> Timespec {
    Timespec::from_ns(realtime_ns())
}

pub use timer::KernelTimer;

/// The timer interrupt.
pub fn handle_timer_irq() {
    timer::handle_irq();
}
