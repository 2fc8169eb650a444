//! Clocks and sleeps: clock_gettime(2), clock_settime(2), nanosleep(2), gettimeofday(2), adjtimex(2).

use crate::prelude::*;
use crate::process::timers::{clock, cpu_sleep};
use crate::sync::{Park, WaitError, WaitKind, WaitReason};
use crate::task::credentials::cap;
use crate::time::{NSEC_PER_SEC, Timespec, Timeval};

const TIMER_ABSTIME: u32 = 1;

/// Sleeps until `deadline`; a relative sleep that a signal interrupts writes what is left to `remaining` and restarts where
/// it was.
fn sleep(deadline: u64, remaining: Option<UserPtr<Timespec>>) -> SysResult {
    match Park::park_until::<()>(WaitMode::Interruptible, Some(deadline), WaitReason::new(WaitKind::Nanosleep), || None)
    {
        Ok(()) | Err(WaitError::TimedOut) => Ok(0),
        Err(WaitError::Interrupted) => match remaining {
            // Absolute sleeps are restarted as they are: the deadline has not moved.
            None => Err(Errno::ERESTARTNOHAND),
            Some(remaining) => {
                let left = deadline.saturating_sub(crate::time::now_ns());
                remaining.write_opt(&Timespec::from_ns(left))?;
                Err(crate::process::signal::set_restart(Box::new(move || sleep(deadline, Some(remaining)))))
            }
        },
    }
}

pub fn sys_nanosleep(req: UserAddr, rem: UserAddr) -> SysResult {
    let request = UserPtr::<Timespec>::new(req).read()?.to_ns()?;
    sleep(crate::time::now_ns().saturating_add(request), Some(UserPtr::new(rem)))
}

pub fn sys_clock_nanosleep(clockid: i32, flags: u32, req: UserAddr, rem: UserAddr) -> SysResult {
    let on_cpu_time = cpu_sleep::is_cpu_clock(clockid);
    if !on_cpu_time {
        clock::deadline(clockid, 0, false)?;
    }
    let request = UserPtr::<Timespec>::new(req).read()?.to_ns()?;
    let absolute = flags & TIMER_ABSTIME != 0;
    if on_cpu_time {
        return cpu_sleep::nanosleep(clockid, absolute, request, UserPtr::new(rem));
    }
    let deadline = clock::deadline(clockid, request, absolute)?;
    sleep(deadline, (!absolute).then(|| UserPtr::new(rem)))
}

pub fn sys_clock_gettime(clockid: i32, tp: UserAddr) -> SysResult {
    UserPtr::new(tp).write(&Timespec::from_ns(clock::read(clockid)?))?;
    Ok(0)
}

pub fn sys_clock_getres(clockid: i32, res: UserAddr) -> SysResult {
    let resolution = Timespec::from_ns(clock::resolution_ns(clockid)?);
    UserPtr::new(res).write_opt(&resolution)?;
    Ok(0)
}

fn may_set_time() -> Result<(), Errno> {
    if current().creds().has_cap(cap::SYS_TIME) { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn sys_clock_settime(clockid: i32, tp: UserAddr) -> SysResult {
    clock::read(clockid)?;
    if clockid != clock::REALTIME {
        return Err(Errno::EINVAL);
    }
    let time = UserPtr::<Timespec>::new(tp).read()?;
    let ns = time.to_ns()?;
    if time.sec as u64 >= clock::MAX_SECONDS {
        return Err(Errno::EINVAL);
    }
    may_set_time()?;
    crate::time::set_realtime_ns(ns);
    Ok(0)
}

pub fn sys_gettimeofday(tv: UserAddr, tz: UserAddr) -> SysResult {
    UserPtr::new(tv).write_opt(&Timeval::from_ns(crate::time::realtime_ns()))?;
    UserPtr::new(tz).write_opt(&[0i32; 2])?;
    Ok(0)
}

pub fn sys_settimeofday(tv: UserAddr, tz: UserAddr) -> SysResult {
    let time = match UserPtr::<Timeval>::new(tv).non_null() {
        Some(pointer) => Some(pointer.read()?.to_ns()?),
        None => None,
    };
    may_set_time()?;
    if let Some(pointer) = UserPtr::<[i32; 2]>::new(tz).non_null() {
        let [minutes_west, _] = pointer.read()?;
        if !(-15 * 60..=15 * 60).contains(&minutes_west) {
            return Err(Errno::EINVAL);
        }
    }
    if let Some(ns) = time {
        if ns / NSEC_PER_SEC >= clock::MAX_SECONDS {
            return Err(Errno::EINVAL);
        }
        crate::time::set_realtime_ns(ns);
    }
    Ok(0)
}

/// adjtimex(2) of a clock: EINVAL for one there is not, EOPNOTSUPP for one that cannot be adjusted.
pub fn sys_clock_adjtime(clock: i32, buf: UserAddr) -> SysResult {
    const CLOCK_REALTIME: i32 = 0;
    UserPtr::<[u64; 26]>::new(buf).read()?;
    if clock == CLOCK_REALTIME {
        return sys_adjtimex(buf);
    }
    crate::process::timers::clock::read(clock)?;
    Err(Errno::EOPNOTSUPP)
}

/// Reads the clock's state (the kernel disciplines nothing): a query works, adjustments need CAP_SYS_TIME and are refused
/// as unsupported.
pub fn sys_adjtimex(buf: UserAddr) -> SysResult {
    const TIME_ERROR: usize = 5;
    const STA_UNSYNC: i32 = 0x40;
    /// How much of adjtime(3)'s adjustment is left: none.
    const ADJ_OFFSET_SS_READ: u32 = 0xa001;
    let pointer = UserPtr::<[u64; 26]>::new(buf);
    let mut timex = pointer.read()?;
    if timex[0] as u32 != 0 && timex[0] as u32 != ADJ_OFFSET_SS_READ {
        may_set_time()?;
        return Err(Errno::EOPNOTSUPP);
    }
    timex = [0; 26];
    timex[5] = STA_UNSYNC as u64; // status
    let now = crate::time::realtime_ns();
    timex[9] = now / NSEC_PER_SEC; // time.tv_sec
    timex[10] = now % NSEC_PER_SEC / 1000;
    timex[11] = 10_000; // tick
    pointer.write(&timex)?;
    Ok(TIME_ERROR)
}
