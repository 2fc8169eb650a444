//! Clocks, timers, sleeping; the vDSO's data.

pub mod timerfd;
pub mod syscall;
pub mod timers;

use crate::prelude::*;
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

/// CLOCK_REALTIME in nanoseconds since 1970.
pub fn realtime_ns() -> u64 {
    todo!()
}

/// File timestamps: CLOCK_REALTIME.
pub fn file_time() -> Timespec {
    Timespec::from_ns(realtime_ns())
}

/// A process's POSIX timers and interval timers.
pub struct ProcessTimers {}

/// A one-shot kernel timer: `callback(argument)` runs in IRQ context on some CPU at the deadline.
pub struct KernelTimer {}

impl KernelTimer {
    pub fn new(_callback: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        todo!()
    }
    /// Arms (or re-arms) for an absolute monotonic deadline in ns.
    pub fn arm(self: &Arc<Self>, _deadline_ns: u64) {
        todo!()
    }
    /// Disarms; the callback may still be running on another CPU.
    pub fn cancel(&self) {
        todo!()
    }
}

/// The timer interrupt.
pub fn handle_timer_irq() {
    todo!()
}
