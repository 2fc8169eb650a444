//! Timers: timer_create(2) and its family, setitimer(2), timerfd_create(2).

use crate::file::timerfd;
use crate::prelude::*;
use crate::process::timers::alarm::Itimerspec;
use crate::process::timers::posix::{self, Sigevent};
use crate::process::timers::timers;
use crate::time::Timeval;
use crate::vfs::OpenFlags;
use crate::vfs::table::{file, install};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const ABSTIME: u32 = 1;

pub fn sys_timer_create(clockid: i32, sevp: UserAddr, timerid: UserAddr) -> SysResult {
    let event = match UserPtr::<Sigevent>::new(sevp).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    posix::create(clockid, event, |id| UserPtr::<i32>::new(timerid).write(&id))?;
    Ok(0)
}

pub fn sys_timer_gettime(timerid: i32, value: UserAddr) -> SysResult {
    UserPtr::new(value).write(&Itimerspec::from_ns(posix::get(timerid)?))?;
    Ok(0)
}

pub fn sys_timer_getoverrun(timerid: i32) -> SysResult {
    Ok(posix::overrun(timerid)? as usize)
}

pub fn sys_timer_settime(timerid: i32, flags: u32, new: UserAddr, old: UserAddr) -> SysResult {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let (value, interval) = UserPtr::<Itimerspec>::new(new).read()?.to_ns()?;
    let before = posix::set(timerid, flags & ABSTIME != 0, value, interval)?;
    UserPtr::new(old).write_opt(&Itimerspec::from_ns(before))?;
    Ok(0)
}

pub fn sys_timer_delete(timerid: i32) -> SysResult {
    posix::delete(timerid)?;
    Ok(0)
}

/// `struct itimerval`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Itimerval {
    interval: Timeval,
    value: Timeval,
}

impl Itimerval {
    fn from_ns((value, interval): (u64, u64)) -> Self {
        // An armed timer never says 0.
        let value = if value == 0 { 0 } else { value.max(1000) };
        Self { interval: Timeval::from_ns(interval), value: Timeval::from_ns(value) }
    }
}

pub fn sys_getitimer(which: i32, value: UserAddr) -> SysResult {
    UserPtr::new(value).write(&Itimerval::from_ns(timers::get(which)?))?;
    Ok(0)
}

pub fn sys_setitimer(which: i32, value: UserAddr, ovalue: UserAddr) -> SysResult {
    // No new value means disarm, as Linux has always taken it.
    let request = match UserPtr::<Itimerval>::new(value).non_null() {
        Some(pointer) => pointer.read()?,
        None => Itimerval::default(),
    };
    let (first, interval) = (request.value.to_ns()?, request.interval.to_ns()?);
    let old = timers::set(which, first, interval)?;
    UserPtr::new(ovalue).write_opt(&Itimerval::from_ns(old))?;
    Ok(0)
}

pub fn sys_timerfd_create(clockid: i32, flags: u32) -> SysResult {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    install(timerfd::create(clockid, flags.contains(OpenFlags::NONBLOCK))?, flags.contains(OpenFlags::CLOEXEC))
}

pub fn sys_timerfd_settime(fd: i32, flags: u32, new: UserAddr, old: UserAddr) -> SysResult {
    let (value, interval) = UserPtr::<Itimerspec>::new(new).read()?.to_ns()?;
    if flags & !(timerfd::ABSTIME | timerfd::CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let before = timerfd::set(&*file(fd)?, flags, value, interval)?;
    UserPtr::new(old).write_opt(&Itimerspec::from_ns(before))?;
    Ok(0)
}

pub fn sys_timerfd_gettime(fd: i32, cur: UserAddr) -> SysResult {
    UserPtr::new(cur).write(&Itimerspec::from_ns(timerfd::get(&*file(fd)?)?))?;
    Ok(0)
}
