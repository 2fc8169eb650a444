//! clock_nanosleep(2) on CPU-time clocks: an [`Alarm`] on the clock wakes the sleeper.

use super::alarm::{Alarm, Source};
use super::{clock, posix};
use crate::prelude::*;
use crate::sync::{WaitError, WaitKind, WaitReason};
use crate::time::Timespec;
use core::sync::atomic::{AtomicBool, Ordering};

struct Sleeper {
    done: AtomicBool,
    queue: WaitQueue,
}

/// Sleeps until `source`, which is clock `clockid`, shows `expiry` ns.
fn sleep(clockid: i32, source: Source, expiry: u64, remaining: Option<UserPtr<Timespec>>) -> SysResult {
    let sleeper = Arc::new(Sleeper { done: AtomicBool::new(false), queue: WaitQueue::new() });
    let woken = sleeper.clone();
    let alarm = Alarm::new(Box::new(move |_| {
        woken.done.store(true, Ordering::Release);
        woken.queue.wake_all();
    }));
    alarm.set(source.clone(), Some(expiry), 0);
    let done = || sleeper.done.load(Ordering::Acquire).then_some(());
    match sleeper.queue.wait_until(WaitMode::Interruptible, None, WaitReason::new(WaitKind::CpuNanosleep), done) {
        Ok(()) => Ok(0),
        Err(WaitError::TimedOut | WaitError::Interrupted) => match remaining {
            None => Err(Errno::ERESTARTNOHAND),
            Some(remaining) => {
                // A clock that has gone with its process has nothing left to run.
                let left = expiry.saturating_sub(clock::read(clockid).unwrap_or(expiry));
                remaining.write_opt(&Timespec::from_ns(left))?;
                let again = move || sleep(clockid, source.clone(), expiry, Some(remaining));
                Err(crate::process::signal::set_restart(Box::new(again)))
            }
        },
    }
}

/// Whether `clockid` is a CPU-time clock that can be slept on; a thread's clock by its fixed name cannot.
pub fn is_cpu_clock(clockid: i32) -> bool {
    const KIND: i32 = 7;
    const DEVICE_CLOCK: i32 = 3;
    clockid == clock::PROCESS_CPUTIME || clockid < 0 && clockid & KIND != DEVICE_CLOCK
}

/// `request` ns on CPU-time clock `clockid`: EINVAL for the caller's own thread clock, which would never get there, and for
/// clocks of nobody.
pub fn nanosleep(clockid: i32, absolute: bool, request: u64, remaining: UserPtr<Timespec>) -> SysResult {
    const PER_THREAD: i32 = 4;
    let id = !(clockid >> 3) as u32;
    if clockid < 0 && clockid & PER_THREAD != 0 && (id == 0 || id == current().tid()) {
        return Err(Errno::EINVAL);
    }
    let source = posix::cpu_source(clockid)?.ok_or(Errno::EINVAL)?;
    let expiry = if absolute { request } else { clock::read(clockid)?.saturating_add(request) };
    sleep(clockid, source, expiry, (!absolute).then_some(remaining))
}
