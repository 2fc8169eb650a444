//! timerfd_create(2) as time passes, and as the clock is set.

use super::*;

fn timerfd(clock: i32, flags: i32) -> i32 {
    // SAFETY: plain call.
    let fd = unsafe { libc::timerfd_create(clock, flags) };
    assert!(fd >= 0, "errno {}", errno());
    fd
}

fn arm(fd: i32, flags: i32, value: i64, interval: i64) {
    let new = libc::itimerspec { it_interval: ts(interval), it_value: ts(value) };
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::timerfd_settime(fd, flags, &new, null_mut()) }, 0, "errno {}", errno());
}

fn read_ticks(fd: i32) -> i64 {
    let mut ticks = 0u64;
    // SAFETY: reads into a local.
    match unsafe { libc::read(fd, (&raw mut ticks).cast(), 8) } {
        8 => ticks as i64,
        failed => failed as i64,
    }
}

pub fn timerfd_counts() {
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME] {
        let fd = timerfd(clock, 0);
        let start = now(libc::CLOCK_MONOTONIC);
        arm(fd, 0, 10_000_000, 10_000_000);
        let first = read_ticks(fd);
        assert!(first >= 1);
        std::thread::sleep(std::time::Duration::from_millis(55));
        let ticks = read_ticks(fd);
        let elapsed = now(libc::CLOCK_MONOTONIC) - start;
        assert!(ticks >= 5 && (first + ticks) * 10_000_000 <= elapsed, "{first} and {ticks} in {elapsed} ns");
        arm(fd, 1, now(clock) + 5_000_000, 0);
        assert_eq!(read_ticks(fd), 1);
        arm(fd, 1, 1, 0);
        assert_eq!(read_ticks(fd), 1);
    }
}

pub fn timerfd_poll_and_read() {
    let fd = timerfd(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    expect_errno(read_ticks(fd), libc::EAGAIN);
    // SAFETY: plain calls on locals.
    unsafe {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        arm(fd, 0, 500_000_000_000, 0);
        assert_eq!(libc::poll(&mut poll, 1, 0), 0);
        let mut left: libc::itimerspec = zeroed();
        assert_eq!(libc::timerfd_gettime(fd, &mut left), 0);
        assert!(ns(left.it_value) > 0 && ns(left.it_value) <= 500_000_000_000);
        arm(fd, 0, 20_000_000, 0);
        assert_eq!(libc::poll(&mut poll, 1, 20_000), 1);
        assert_eq!(poll.revents, libc::POLLIN);
        assert_eq!(read_ticks(fd), 1);
        assert_eq!(libc::poll(&mut poll, 1, 0), 0);
        assert_eq!(libc::timerfd_gettime(fd, &mut left), 0);
        assert_eq!(ns(left.it_value), 0);
    }
}

pub fn timerfd_errors() {
    // SAFETY: plain calls; bad arguments are the point.
    unsafe {
        expect_errno(i64::from(libc::timerfd_create(libc::CLOCK_MONOTONIC_RAW, 0)), libc::EINVAL);
        expect_errno(i64::from(libc::timerfd_create(libc::CLOCK_MONOTONIC, 1)), libc::EINVAL);
        let new = libc::itimerspec { it_interval: ts(0), it_value: ts(1) };
        expect_errno(i64::from(libc::timerfd_settime(0, 0, &new, null_mut())), libc::EINVAL);
        expect_errno(i64::from(libc::timerfd_settime(999, 0, &new, null_mut())), libc::EBADF);
        let fd = timerfd(libc::CLOCK_MONOTONIC, 0);
        expect_errno(i64::from(libc::timerfd_settime(fd, 8, &new, null_mut())), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_timerfd_settime, fd, 0, 0usize, 0usize), libc::EFAULT);
        let mut small = [0u8; 4];
        expect_errno(libc::read(fd, small.as_mut_ptr().cast(), 4) as i64, libc::EINVAL);
        expect_errno(libc::write(fd, null::<u8>().cast(), 0) as i64, libc::EINVAL);
    }
}

pub fn timerfd_cancel_on_set() {
    let fd = timerfd(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK);
    let time = now(libc::CLOCK_REALTIME);
    arm(fd, 1 | 2, time + 3_600_000_000_000, 0);
    // SAFETY: sets the clock to what it says (the tests own the machine).
    unsafe {
        assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &ts(time + 7_200_000_000_000)), 0, "errno {}", errno());
        expect_errno(read_ticks(fd), libc::ECANCELED);
        assert!(now(libc::CLOCK_REALTIME) >= time + 7_200_000_000_000);
        assert!(now_by_call(libc::CLOCK_REALTIME) >= time + 7_200_000_000_000);
        // Without the flag, the timer is due once the clock is past it.
        let other = timerfd(libc::CLOCK_REALTIME, 0);
        arm(other, 1, time + 2 * 7_200_000_000_000, 0);
        assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &ts(time + 3 * 7_200_000_000_000)), 0);
        assert_eq!(read_ticks(other), 1);
        assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &ts(time)), 0);
    }
}

/// A timer that was cancelled says so to whoever sets it anew, which happens all the same; TFD_IOC_SET_TICKS.
pub fn timerfd_cancelled_and_set() {
    const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
    let fd = timerfd(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK);
    let late = now(libc::CLOCK_REALTIME) + 10_000_000_000_000;
    let set = |flags: i32, value: i64| {
        let new = libc::itimerspec { it_interval: ts(0), it_value: ts(value) };
        // SAFETY: plain call on a local.
        i64::from(unsafe { libc::timerfd_settime(fd, flags, &new, null_mut()) })
    };
    // SAFETY: sets the clock (the tests own the machine).
    let jump = || unsafe {
        let next = ts(now(libc::CLOCK_REALTIME) + 1_000_000_000);
        assert_eq!(libc::clock_settime(libc::CLOCK_REALTIME, &next), 0);
    };
    // SAFETY: the kernel checks the address.
    let ioctl = |command: u64, at: usize| i64::from(unsafe { libc::ioctl(fd, command as _, at) });
    let ticks = |count: u64| ioctl(TFD_IOC_SET_TICKS, &raw const count as usize);
    let cancellable = libc::TFD_TIMER_ABSTIME | 2;
    assert_eq!(set(cancellable, late), 0);
    jump();
    expect_errno(set(cancellable, late + 5), libc::ECANCELED);
    // SAFETY: plain call on a local.
    let left = unsafe {
        let mut left: libc::itimerspec = zeroed();
        assert_eq!(libc::timerfd_gettime(fd, &mut left), 0);
        left.it_value.tv_sec
    };
    assert!(left > 9000, "{left} s left");
    assert_eq!(set(cancellable, late), 0);
    expect_errno(read_ticks(fd), libc::EAGAIN);
    // Not to who does not want to hear of it any more, until he does; not to who stops the timer: the next read says it then.
    jump();
    assert_eq!(set(libc::TFD_TIMER_ABSTIME, late), 0);
    expect_errno(read_ticks(fd), libc::EAGAIN);
    expect_errno(set(cancellable, late), libc::ECANCELED);
    assert_eq!(set(cancellable, late), 0);
    jump();
    assert_eq!(set(cancellable, 0), 0);
    expect_errno(read_ticks(fd), libc::ECANCELED);
    expect_errno(read_ticks(fd), libc::EAGAIN);
    expect_errno(ticks(0), libc::EINVAL);
    assert_eq!((ticks(77), read_ticks(fd)), (0, 77));
    expect_errno(ioctl(TFD_IOC_SET_TICKS, 8), libc::EFAULT);
    expect_errno(ioctl(libc::FIONREAD, 8), libc::ENOTTY);
    assert_eq!(set(cancellable, late), 0);
    jump();
    expect_errno(ticks(1), libc::ECANCELED);
    assert_eq!((ticks(1), read_ticks(fd)), (0, 1));
}
