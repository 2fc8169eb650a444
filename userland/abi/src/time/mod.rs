//! Clocks, sleeps, interval timers, POSIX timers, timerfd.

mod timerfd;
mod timers;

use crate::harness::{Tests, errno, expect_errno, sometimes};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use timers::itimer;

pub const TESTS: Tests = &[
    ("clocks_agree", clocks_agree),
    ("clock_errors", clock_errors),
    ("vdso_is_there", vdso_is_there),
    ("cpu_clocks_run_with_work", cpu_clocks_run_with_work),
    ("nanosleep_is_exact", nanosleep_is_exact),
    ("nanosleep_tells_the_rest", nanosleep_tells_the_rest),
    ("absolute_sleep", absolute_sleep),
    ("sleep_on_cpu_time", sleep_on_cpu_time),
    ("itimer_real", timers::itimer_real),
    ("itimer_virtual_and_prof", timers::itimer_virtual_and_prof),
    ("itimer_errors", timers::itimer_errors),
    ("posix_timer_signal", timers::posix_timer_signal),
    ("posix_timer_overrun", timers::posix_timer_overrun),
    ("posix_timer_errors", timers::posix_timer_errors),
    ("posix_timer_none", timers::posix_timer_none),
    ("posix_cpu_timer", timers::posix_cpu_timer),
    ("timerfd_counts", timerfd::timerfd_counts),
    ("timerfd_poll_and_read", timerfd::timerfd_poll_and_read),
    ("timerfd_errors", timerfd::timerfd_errors),
    ("timerfd_cancel_on_set", timerfd::timerfd_cancel_on_set),
    ("timerfd_cancelled_and_set", timerfd::timerfd_cancelled_and_set),
    ("clock_adjustment_is_read", clock_adjustment_is_read),
];

fn clock_adjustment_is_read() {
    // SAFETY: structures of our own, and one address that is none.
    unsafe {
        let adjust = |clock: i32, timex: *mut libc::timex| libc::syscall(libc::SYS_clock_adjtime, clock, timex);
        let mut timex: libc::timex = zeroed();
        assert!(adjust(libc::CLOCK_REALTIME, &mut timex) >= 0);
        assert!((9_000..=11_000).contains(&timex.tick), "{}", timex.tick);
        const ADJ_OFFSET_SS_READ: u32 = 0xa001;
        let mut timex: libc::timex = zeroed();
        (timex.modes, timex.offset) = (ADJ_OFFSET_SS_READ, 5);
        assert!(adjust(libc::CLOCK_REALTIME, &mut timex) >= 0);
        assert_eq!(timex.offset, 0);
        let mut timex: libc::timex = zeroed();
        expect_errno(adjust(libc::CLOCK_MONOTONIC, &mut timex), libc::EOPNOTSUPP);
        expect_errno(adjust(99, &mut timex), libc::EINVAL);
        expect_errno(adjust(99, 8 as *mut _), libc::EFAULT);
        crate::harness::child_succeeds(|| {
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
            let mut timex: libc::timex = zeroed();
            assert!(adjust(libc::CLOCK_REALTIME, &mut timex) >= 0);
            const ADJ_OFFSET: u32 = 1;
            timex.modes = ADJ_OFFSET;
            expect_errno(adjust(libc::CLOCK_REALTIME, &mut timex), libc::EPERM);
        });
    }
}

fn ts(ns: i64) -> libc::timespec {
    libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

fn ns(time: libc::timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn now(clock: i32) -> i64 {
    // SAFETY: plain call on a local.
    unsafe {
        let mut time = zeroed();
        assert_eq!(libc::clock_gettime(clock, &mut time), 0);
        ns(time)
    }
}

fn now_by_call(clock: i32) -> i64 {
    // SAFETY: plain call on a local.
    unsafe {
        let mut time: libc::timespec = zeroed();
        assert_eq!(libc::syscall(libc::SYS_clock_gettime, clock, &mut time), 0);
        ns(time)
    }
}

fn burn(duration_ns: i64) {
    let end = now(libc::CLOCK_THREAD_CPUTIME_ID) + duration_ns;
    while now(libc::CLOCK_THREAD_CPUTIME_ID) < end {
        std::hint::spin_loop();
    }
}

fn clocks_agree() {
    for clock in [0, 1, 4, 5, 6, 7, 11] {
        let before = now_by_call(clock);
        let middle = now(clock);
        let after = now_by_call(clock);
        assert!(before <= middle && middle <= after, "clock {clock}: {before} {middle} {after}");
    }
    sometimes(|| {
        let coarse = now(libc::CLOCK_MONOTONIC_COARSE);
        let fine = now(libc::CLOCK_MONOTONIC);
        assert!(coarse <= fine);
        fine - coarse < 50_000_000
    });
    // SAFETY: plain calls on locals.
    unsafe {
        let mut resolution = zeroed();
        assert_eq!(libc::clock_getres(libc::CLOCK_MONOTONIC, &mut resolution), 0);
        assert_eq!(ns(resolution), 1);
        assert_eq!(libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut resolution), 0);
        assert!(ns(resolution) >= 1_000_000);
        let before = now(libc::CLOCK_REALTIME);
        let mut day: libc::timeval = zeroed();
        assert_eq!(libc::gettimeofday(&mut day, null_mut()), 0);
        let day_us = day.tv_sec * 1_000_000 + day.tv_usec;
        assert!((before / 1000..=now(libc::CLOCK_REALTIME) / 1000).contains(&day_us));
    }
}

fn clock_errors() {
    // SAFETY: plain calls; bad addresses are the point.
    unsafe {
        let mut time: libc::timespec = zeroed();
        expect_errno(libc::syscall(libc::SYS_clock_gettime, 99, &mut time), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_clock_gettime, 10, &mut time), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_clock_gettime, 1, 8usize), libc::EFAULT);
        assert_eq!(libc::syscall(libc::SYS_clock_getres, 1, 0usize), 0);
        expect_errno(libc::syscall(libc::SYS_clock_settime, 1, &ts(5)), libc::EINVAL);
        expect_errno(
            libc::syscall(libc::SYS_nanosleep, &libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, 0),
            libc::EINVAL,
        );
        expect_errno(libc::syscall(libc::SYS_nanosleep, &libc::timespec { tv_sec: -1, tv_nsec: 0 }, 0), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_clock_nanosleep, 4, 0, &ts(1), 0), libc::EOPNOTSUPP);
        expect_errno(libc::syscall(libc::SYS_clock_nanosleep, 3, 0, &ts(1), 0), libc::EOPNOTSUPP);
    }
}

fn vdso_is_there() {
    // SAFETY: reads the ELF header the kernel mapped.
    unsafe {
        let at = libc::getauxval(libc::AT_SYSINFO_EHDR);
        assert!(at != 0 && at & 0xfff == 0);
        assert_eq!(std::slice::from_raw_parts(at as *const u8, 4), b"\x7fELF");
    }
}

fn cpu_clocks_run_with_work() {
    let start = now(libc::CLOCK_MONOTONIC);
    let (process, thread) = (now(libc::CLOCK_PROCESS_CPUTIME_ID), now(libc::CLOCK_THREAD_CPUTIME_ID));
    burn(20_000_000);
    assert!(now(libc::CLOCK_PROCESS_CPUTIME_ID) - process >= 20_000_000);
    let used = now(libc::CLOCK_THREAD_CPUTIME_ID) - thread;
    assert!(used <= now(libc::CLOCK_MONOTONIC) - start);
    let start = now(libc::CLOCK_MONOTONIC);
    let before = now(libc::CLOCK_PROCESS_CPUTIME_ID);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let used = now(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
    let elapsed = now(libc::CLOCK_MONOTONIC) - start;
    assert!(used + 49_000_000 <= elapsed, "sleep costs no CPU time: {used} ns of {elapsed}");
    // SAFETY: plain call on a local.
    unsafe {
        let mut id = 0;
        assert_eq!(libc::clock_getcpuclockid(libc::getpid(), &mut id), 0);
        assert!(now(id) >= before);
    }
}

fn nanosleep_is_exact() {
    for want in [0i64, 1, 100_000, 1_000_000, 20_000_000] {
        sometimes(|| {
            let start = now(libc::CLOCK_MONOTONIC);
            // SAFETY: plain call on locals.
            assert_eq!(unsafe { libc::nanosleep(&ts(want), null_mut()) }, 0);
            let slept = now(libc::CLOCK_MONOTONIC) - start;
            assert!(slept >= want, "asked {want}, slept {slept}");
            slept < want + 10_000_000
        });
    }
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);
static VALUE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn count(_signal: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn on_signal(signal: i32, flags: i32) {
    // SAFETY: installs a handler that is safe in signal context.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = count as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

/// SIGALRM each `us` microseconds, until `itimer(0, 0, 0)`: one that came before the call it is to interrupt is not the last.
fn alarm_each(us: i64) {
    itimer(0, us, us);
}

fn nanosleep_tells_the_rest() {
    on_signal(libc::SIGALRM, libc::SA_RESTART);
    const WANT: i64 = 500_000_000_000;
    alarm_each(50_000);
    // SAFETY: plain call on locals.
    unsafe {
        let mut rest = zeroed();
        let start = now(libc::CLOCK_MONOTONIC);
        expect_errno(i64::from(libc::nanosleep(&ts(WANT), &mut rest)), libc::EINTR);
        let slept = now(libc::CLOCK_MONOTONIC) - start;
        assert!((0..WANT).contains(&ns(rest)), "{}", ns(rest));
        assert!(slept + ns(rest) >= WANT, "{slept} and {}", ns(rest));
    }
    itimer(0, 0, 0);
}

fn absolute_sleep() {
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME] {
        let end = now(clock) + 10_000_000;
        // SAFETY: plain call on locals.
        assert_eq!(unsafe { libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &ts(end), null_mut()) }, 0);
        assert!(now(clock) >= end);
    }
    // SAFETY: as above; an instant in the past.
    assert_eq!(unsafe { libc::clock_nanosleep(1, libc::TIMER_ABSTIME, &ts(5), null_mut()) }, 0);
}

/// The id of a process's or (`thread`) thread's CPU-time clock, as clock_getcpuclockid(3) makes it.
fn cpu_clock(id: i32, thread: bool) -> i32 {
    !id << 3 | 2 | if thread { 4 } else { 0 }
}

fn sleep_on_cpu_time() {
    let sleep = |clock: i32, flags: i32, time: i64, rest: *mut libc::timespec| unsafe {
        libc::syscall(libc::SYS_clock_nanosleep, clock, flags, &ts(time), rest)
    };
    // SAFETY: plain calls on locals.
    unsafe {
        let own = libc::gettid();
        expect_errno(sleep(cpu_clock(own, true), 0, 1, null_mut()), libc::EINVAL);
        expect_errno(sleep(cpu_clock(0, true), 0, 1, null_mut()), libc::EINVAL);
        expect_errno(sleep(cpu_clock(0x7ff_fff0, false), 0, 1, null_mut()), libc::EINVAL);
        expect_errno(sleep(!0 << 3 | 3, 0, 1, null_mut()), libc::EOPNOTSUPP);
        expect_errno(libc::syscall(libc::SYS_clock_nanosleep, 2, 0, 8usize, 0), libc::EFAULT);
        expect_errno(sleep(2, 0, -1, null_mut()), libc::EINVAL);
        // An instant that has passed.
        assert_eq!(sleep(2, libc::TIMER_ABSTIME, 1, null_mut()), 0);
        // Nobody uses CPU time: the sleep ends by the signal, and most of it is left.
        on_signal(libc::SIGALRM, libc::SA_RESTART);
        const WANT: i64 = 500_000_000_000;
        alarm_each(20_000);
        let mut rest: libc::timespec = zeroed();
        let before = now(2);
        expect_errno(sleep(2, 0, WANT, &mut rest), libc::EINTR);
        let used = now(2) - before;
        assert!((WANT - used..=WANT).contains(&ns(rest)), "{} left, {used} used", ns(rest));
        itimer(0, 0, 0);
        // A working thread moves the clock for the sleeper.
        let stop = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while stop.load(Ordering::Relaxed) == 0 {
                    std::hint::spin_loop();
                }
            });
            for clock in [2, cpu_clock(0, false), cpu_clock(libc::getpid(), false)] {
                let before = now(2);
                assert_eq!(sleep(clock, 0, 30_000_000, null_mut()), 0);
                assert!(now(2) - before >= 30_000_000);
                let end = now(2) + 10_000_000;
                assert_eq!(sleep(clock, libc::TIMER_ABSTIME, end, null_mut()), 0);
                assert!(now(2) >= end);
            }
            stop.store(1, Ordering::Relaxed);
        });
    }
}
