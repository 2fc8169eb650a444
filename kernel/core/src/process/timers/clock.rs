//! Clock identifiers: which clock a number means and what it reads.

use crate::prelude::*;
use crate::time::NSEC_PER_SEC;

pub const REALTIME: i32 = 0;
pub const MONOTONIC: i32 = 1;
pub const PROCESS_CPUTIME: i32 = 2;
pub const THREAD_CPUTIME: i32 = 3;
pub const MONOTONIC_RAW: i32 = 4;
pub const REALTIME_COARSE: i32 = 5;
pub const MONOTONIC_COARSE: i32 = 6;
pub const BOOTTIME: i32 = 7;
pub const REALTIME_ALARM: i32 = 8;
pub const BOOTTIME_ALARM: i32 = 9;
pub const TAI: i32 = 11;

/// The coarse clocks' step in ns (a 250 Hz tick's).
pub const COARSE_NS: u64 = 4_000_000;

/// The CPU time of a process in ns: all its threads, the dead ones included.
pub fn process_cpu_ns(process: &Process) -> u64 {
    let (user, system) = process.cpu_times();
    user + system
}

/// Reads a clock: EINVAL for a number that is none.
pub fn read(clock: i32) -> Result<u64, Errno> {
    Ok(match clock {
        REALTIME | TAI | REALTIME_ALARM => crate::time::realtime_ns(),
        MONOTONIC | MONOTONIC_RAW | BOOTTIME | BOOTTIME_ALARM => crate::time::now_ns(),
        REALTIME_COARSE => {
            let now = crate::time::now_ns();
            (now - now % COARSE_NS).wrapping_add_signed(crate::time::realtime_offset_ns())
        }
        MONOTONIC_COARSE => {
            let now = crate::time::now_ns();
            now - now % COARSE_NS
        }
        PROCESS_CPUTIME => process_cpu_ns(&current().process),
        THREAD_CPUTIME => {
            let (user, system) = current().cpu_times();
            user + system
        }
        // Dynamic CPU clocks: ~pid << 3 | per-thread (4) | kind.
        id if id < 0 => {
            let pid = !(id >> 3);
            let per_thread = id & 4 != 0;
            if id & 3 == 3 || pid < 0 {
                return Err(Errno::EINVAL);
            }
            if per_thread {
                let task = if pid == 0 {
                    crate::task::current_arc()
                } else {
                    crate::task::find_task(pid as u32).ok_or(Errno::EINVAL)?
                };
                if task.process.pid != current().process.pid {
                    return Err(Errno::EINVAL);
                }
                let (user, system) = task.cpu_times();
                user + system
            } else if pid == 0 {
                process_cpu_ns(&current().process)
            } else {
                process_cpu_ns(&*crate::task::find_process(pid as u32).ok_or(Errno::EINVAL)?)
            }
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// A clock's resolution in ns.
pub fn resolution_ns(clock: i32) -> Result<u64, Errno> {
    match clock {
        REALTIME_COARSE | MONOTONIC_COARSE => Ok(COARSE_NS),
        _ => read(clock).map(|_| 1),
    }
}

/// The monotonic deadline of an absolute or relative time on a clock that sleeps can use: EINVAL, or EOPNOTSUPP for the
/// coarse and raw clocks.
pub fn deadline(clock: i32, ns: u64, absolute: bool) -> Result<u64, Errno> {
    match clock {
        REALTIME | TAI if absolute => Ok(crate::time::monotonic_of_realtime(ns)),
        REALTIME | TAI | MONOTONIC | BOOTTIME => {
            Ok(if absolute { ns } else { crate::time::now_ns().saturating_add(ns) })
        }
        MONOTONIC_RAW | REALTIME_COARSE | MONOTONIC_COARSE | THREAD_CPUTIME => Err(Errno::EOPNOTSUPP),
        REALTIME_ALARM | BOOTTIME_ALARM => {
            if !current().creds().has_cap(crate::task::credentials::cap::WAKE_ALARM) {
                return Err(Errno::EPERM);
            }
            let base = if clock == REALTIME_ALARM { REALTIME } else { BOOTTIME };
            deadline(base, ns, absolute)
        }
        // A device's clock (see clock_getcpuclockid(3) for the numbers' form).
        id if id < 0 => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// The largest number of seconds a clock may be set to.
pub const MAX_SECONDS: u64 = i64::MAX as u64 / NSEC_PER_SEC;
