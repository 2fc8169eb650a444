//! epoll_create1(2), epoll_ctl(2), epoll_pwait(2), epoll_pwait2(2).

use super::poll::{Timeout, with_mask};
use crate::file::epoll::{EPOLLET, EPOLLEXCLUSIVE, EPOLLWAKEUP, Epoll, EpollEvent, EpollFile, can_watch};
use crate::prelude::*;
use crate::time::Timespec;
use crate::vfs::table::{file, install};
use crate::vfs::{OpenFlags, PollEvents};

const EPOLL_CTL_ADD: i32 = 1;
const EPOLL_CTL_DEL: i32 = 2;
const EPOLL_CTL_MOD: i32 = 3;
/// What may go with EPOLLEXCLUSIVE.
const EXCLUSIVE_OK: u32 = PollEvents::IN.bits()
    | PollEvents::OUT.bits()
    | PollEvents::ERR.bits()
    | PollEvents::HUP.bits()
    | EPOLLWAKEUP
    | EPOLLET
    | EPOLLEXCLUSIVE;

pub fn sys_epoll_create1(flags: u32) -> SysResult {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    install(Epoll::create(OpenFlags::empty()), flags != 0)
}

pub fn sys_epoll_ctl(epfd: i32, op: i32, fd: i32, event: UserAddr) -> SysResult {
    let event = match op {
        EPOLL_CTL_DEL => EpollEvent { events: 0, pad: 0, data: 0 },
        _ => UserPtr::<EpollEvent>::new(event).read()?,
    };
    let epoll_file = file(epfd)?;
    let target = file(fd)?;
    if !can_watch(&target) {
        return Err(Errno::EPERM);
    }
    let epoll = epoll_file.downcast::<EpollFile>().ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&epoll_file, &target) {
        return Err(Errno::EINVAL);
    }
    if op != EPOLL_CTL_DEL && event.events & EPOLLEXCLUSIVE != 0 {
        let is_epoll = target.downcast::<EpollFile>().is_some();
        if op == EPOLL_CTL_MOD || (op == EPOLL_CTL_ADD && (is_epoll || event.events & !EXCLUSIVE_OK != 0)) {
            return Err(Errno::EINVAL);
        }
    }
    match op {
        EPOLL_CTL_ADD => epoll.0.add(&target, fd, event)?,
        EPOLL_CTL_DEL => epoll.0.delete(&target, fd)?,
        EPOLL_CTL_MOD => epoll.0.modify(&target, fd, event)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

#[inline(always)]
fn wait(epfd: i32, events: UserAddr, maxevents: i32, timeout: Timeout) -> SysResult {
    let max = usize::try_from(maxevents).map_err(|_| Errno::EINVAL)?;
    if max == 0 || max > i32::MAX as usize / size_of::<EpollEvent>() {
        return Err(Errno::EINVAL);
    }
    let events = hal::user::accessible(events);
    if !events.range_ok(max * size_of::<EpollEvent>()) {
        return Err(Errno::EFAULT);
    }
    let epoll_file = file(epfd)?;
    let epoll = epoll_file.ops.as_epoll().ok_or(Errno::EINVAL)?;
    epoll.0.wait(UserPtr::new(events), max, timeout.deadline, timeout.is_zero)
}

pub fn sys_epoll_pwait(
    epfd: i32,
    events: UserAddr,
    maxevents: i32,
    timeout: i32,
    sigmask: UserAddr,
    sigsetsize: usize,
) -> SysResult {
    let timeout = match u64::try_from(timeout) {
        Ok(ms) => Timeout::after_ns(ms * 1_000_000),
        Err(_) => Timeout::NEVER,
    };
    if sigmask.is_null() {
        return wait(epfd, events, maxevents, timeout);
    }
    with_mask(sigmask, sigsetsize, || wait(epfd, events, maxevents, timeout))
}

pub fn sys_epoll_pwait2(
    epfd: i32,
    events: UserAddr,
    maxevents: i32,
    timeout: UserAddr,
    sigmask: UserAddr,
    sigsetsize: usize,
) -> SysResult {
    let timeout = Timeout::read(UserPtr::<Timespec>::new(timeout))?;
    with_mask(sigmask, sigsetsize, || wait(epfd, events, maxevents, timeout))
}
