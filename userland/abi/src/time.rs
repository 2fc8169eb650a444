//! Clocks, sleeps, interval timers, POSIX timers, timerfd.

use crate::harness::{Tests, errno, expect_errno, sometimes};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

pub const TESTS: Tests = &[
    ("clocks_agree", clocks_agree),
    ("clock_errors", clock_errors),
    ("vdso_is_there", vdso_is_there),
    ("cpu_clocks_run_with_work", cpu_clocks_run_with_work),
    ("nanosleep_is_exact", nanosleep_is_exact),
    ("nanosleep_tells_the_rest", nanosleep_tells_the_rest),
    ("absolute_sleep", absolute_sleep),
    ("sleep_on_cpu_time", sleep_on_cpu_time),
    ("itimer_real", itimer_real),
    ("itimer_virtual_and_prof", itimer_virtual_and_prof),
    ("itimer_errors", itimer_errors),
    ("posix_timer_signal", posix_timer_signal),
    ("posix_timer_overrun", posix_timer_overrun),
    ("posix_timer_errors", posix_timer_errors),
    ("posix_timer_none", posix_timer_none),
    ("posix_cpu_timer", posix_cpu_timer),
    ("timerfd_counts", timerfd_counts),
    ("timerfd_poll_and_read", timerfd_poll_and_read),
    ("timerfd_errors", timerfd_errors),
    ("timerfd_cancel_on_set", timerfd_cancel_on_set),
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

fn itimer(which: i32, value_us: i64, interval_us: i64) -> libc::itimerval {
    let time = |us: i64| libc::timeval { tv_sec: us / 1_000_000, tv_usec: us % 1_000_000 };
    let new = libc::itimerval { it_interval: time(interval_us), it_value: time(value_us) };
    // SAFETY: plain call on locals.
    unsafe {
        let mut old: libc::itimerval = zeroed();
        assert_eq!(libc::syscall(libc::SYS_setitimer, which, &new, &mut old), 0);
        old
    }
}

fn get_itimer(which: i32) -> libc::itimerval {
    // SAFETY: plain call on a local.
    unsafe {
        let mut now: libc::itimerval = zeroed();
        assert_eq!(libc::syscall(libc::SYS_getitimer, which, &mut now), 0);
        now
    }
}

fn itimer_real() {
    on_signal(libc::SIGALRM, 0);
    let start = now(libc::CLOCK_MONOTONIC);
    itimer(0, 20_000, 10_000);
    let left = get_itimer(0);
    assert!(left.it_value.tv_usec > 0 && left.it_value.tv_usec <= 20_000);
    assert_eq!(left.it_interval.tv_usec, 10_000);
    while CAUGHT.load(Ordering::SeqCst) < 5 {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
    assert!(now(libc::CLOCK_MONOTONIC) - start >= 59_000_000);
    let old = itimer(0, 0, 0);
    assert_eq!(old.it_interval.tv_usec, 10_000);
    let off = get_itimer(0);
    assert!(off.it_value.tv_sec == 0 && off.it_value.tv_usec == 0);
    // SAFETY: alarm(2) is this timer too.
    unsafe {
        assert_eq!(libc::alarm(100), 0);
        let rest = libc::alarm(0);
        assert!((90..=100).contains(&rest), "{rest}");
    }
}

fn itimer_virtual_and_prof() {
    for (which, signal) in [(1, libc::SIGVTALRM), (2, libc::SIGPROF)] {
        CAUGHT.store(0, Ordering::SeqCst);
        on_signal(signal, 0);
        let before = now(libc::CLOCK_PROCESS_CPUTIME_ID);
        itimer(which, 20_000, 0);
        // Sleeping does not count.
        std::thread::sleep(std::time::Duration::from_millis(60));
        let used = now(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
        assert!(
            CAUGHT.load(Ordering::SeqCst) == 0 || used >= 20_000_000,
            "timer {which} ran while asleep, {used} ns used"
        );
        let start = now(libc::CLOCK_PROCESS_CPUTIME_ID);
        let mut rounds = 0u64;
        while CAUGHT.load(Ordering::SeqCst) == 0 {
            rounds = std::hint::black_box(rounds + 1);
            assert!(now(libc::CLOCK_PROCESS_CPUTIME_ID) - start < 10_000_000_000, "timer {which} never fires");
            for _ in 0..100_000 {
                std::hint::black_box(rounds);
            }
        }
    }
}

fn itimer_errors() {
    // SAFETY: plain calls; bad arguments are the point.
    unsafe {
        let bad = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 1_000_000 },
        };
        expect_errno(libc::syscall(libc::SYS_setitimer, 0, &bad, 0usize), libc::EINVAL);
        let mut value: libc::itimerval = zeroed();
        expect_errno(libc::syscall(libc::SYS_getitimer, 3, &mut value), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_getitimer, 0, 8usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_setitimer, 0, 8usize, 0usize), libc::EFAULT);
    }
}

/// `struct sigevent` of the kernel.
#[repr(C)]
struct Event {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [i32; 11],
}

fn create(clock: i32, notify: i32, signo: i32, value: u64) -> i64 {
    // SAFETY: plain call on locals.
    unsafe {
        let event = Event { value, signo, notify, tid: libc::syscall(libc::SYS_gettid) as i32, pad: [0; 11] };
        let mut id = -1i32;
        match libc::syscall(libc::SYS_timer_create, clock, &event, &mut id) {
            0 => i64::from(id),
            failed => failed,
        }
    }
}

fn set(id: i64, value: i64, interval: i64) {
    let new = libc::itimerspec { it_interval: ts(interval), it_value: ts(value) };
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::syscall(libc::SYS_timer_settime, id, 0, &new, 0usize) }, 0);
}

fn get(id: i64) -> libc::itimerspec {
    // SAFETY: plain call on a local.
    unsafe {
        let mut now: libc::itimerspec = zeroed();
        assert_eq!(libc::syscall(libc::SYS_timer_gettime, id, &mut now), 0);
        now
    }
}

extern "C" fn on_timer(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo: code, then timer id, overrun, value.
    unsafe {
        let words = info.cast::<i32>();
        if *words.add(2) == -2 {
            VALUE.store(*words.add(6), Ordering::SeqCst);
        }
    }
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn on_timer_signal(signal: i32) {
    // SAFETY: installs a handler that is safe in signal context.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = on_timer as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

fn wait_for(count: u32) {
    let start = now(libc::CLOCK_MONOTONIC);
    while CAUGHT.load(Ordering::SeqCst) < count {
        assert!(now(libc::CLOCK_MONOTONIC) - start < 30_000_000_000, "signal {count} never comes");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn posix_timer_signal() {
    let signal = libc::SIGRTMIN();
    on_timer_signal(signal);
    // SIGEV_SIGNAL and SIGEV_THREAD_ID
    for notify in [0, 4] {
        CAUGHT.store(0, Ordering::SeqCst);
        let id = create(libc::CLOCK_MONOTONIC, notify, signal, 77);
        assert!(id >= 0);
        set(id, 5_000_000, 5_000_000);
        wait_for(4);
        assert_eq!(VALUE.load(Ordering::SeqCst), 77);
        let state = get(id);
        assert!(ns(state.it_value) > 0 && ns(state.it_value) <= 5_000_000);
        assert_eq!(ns(state.it_interval), 5_000_000);
        set(id, 0, 0);
        let caught = CAUGHT.load(Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(CAUGHT.load(Ordering::SeqCst) <= caught + 1);
        // SAFETY: plain calls.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_timer_delete, id), 0);
            expect_errno(libc::syscall(libc::SYS_timer_delete, id), libc::EINVAL);
        }
    }
}

fn posix_timer_overrun() {
    let signal = libc::SIGUSR1;
    const INTERVAL: i64 = 10_000_000;
    // SAFETY: blocks the signal; then plain calls on locals.
    unsafe {
        let mut set_of: libc::sigset_t = zeroed();
        libc::sigaddset(&mut set_of, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set_of, null_mut());
        let id = create(libc::CLOCK_REALTIME, 0, signal, 5);
        let start = now(libc::CLOCK_MONOTONIC);
        set(id, INTERVAL, INTERVAL);
        std::thread::sleep(std::time::Duration::from_millis(105));
        // struct siginfo of a timer: signo, errno, code, pad, timer, overrun.
        let mut info = [0i32; 32];
        assert_eq!(libc::sigwaitinfo(&set_of, info.as_mut_ptr().cast()), signal);
        let elapsed = now(libc::CLOCK_MONOTONIC) - start;
        let overrun = info[5];
        assert_eq!(libc::syscall(libc::SYS_timer_getoverrun, id), i64::from(overrun));
        // The first expiry is the signal's own.
        let expiries = i64::from(overrun) + 1;
        assert!(expiries >= 10 && expiries * INTERVAL <= elapsed, "{expiries} in {elapsed} ns");
        libc::syscall(libc::SYS_timer_delete, id);
    }
}

fn posix_timer_errors() {
    expect_errno(create(99, 0, libc::SIGUSR1, 0), libc::EINVAL);
    expect_errno(create(libc::CLOCK_MONOTONIC_RAW, 0, libc::SIGUSR1, 0), libc::EOPNOTSUPP);
    expect_errno(create(libc::CLOCK_MONOTONIC, 0, 65, 0), libc::EINVAL);
    expect_errno(create(libc::CLOCK_MONOTONIC, 9, libc::SIGUSR1, 0), libc::EINVAL);
    // SAFETY: plain calls; bad arguments are the point.
    unsafe {
        let mut state: libc::itimerspec = zeroed();
        expect_errno(libc::syscall(libc::SYS_timer_gettime, 12345, &mut state), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_timer_getoverrun, 12345), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_timer_settime, 12345, 0, 0usize, 0usize), libc::EINVAL);
        let id = create(libc::CLOCK_MONOTONIC, 1, 0, 0);
        let bad = libc::itimerspec { it_interval: ts(0), it_value: libc::timespec { tv_sec: 0, tv_nsec: -1 } };
        expect_errno(libc::syscall(libc::SYS_timer_settime, id, 0, &bad, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_timer_gettime, id, 8usize), libc::EFAULT);
    }
}

fn posix_timer_none() {
    let id = create(libc::CLOCK_MONOTONIC, 1, 0, 0);
    set(id, 500_000_000_000, 0);
    assert!(ns(get(id).it_value) > 0);
    set(id, 20_000_000, 0);
    std::thread::sleep(std::time::Duration::from_millis(40));
    assert_eq!(ns(get(id).it_value), 0);
}

fn posix_cpu_timer() {
    let signal = libc::SIGUSR2;
    on_timer_signal(signal);
    for clock in [libc::CLOCK_PROCESS_CPUTIME_ID, libc::CLOCK_THREAD_CPUTIME_ID] {
        CAUGHT.store(0, Ordering::SeqCst);
        let id = create(clock, 0, signal, 0);
        assert!(id >= 0, "clock {clock}: errno {}", errno());
        let before = now(clock);
        set(id, 20_000_000, 0);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(CAUGHT.load(Ordering::SeqCst) == 0 || now(clock) - before >= 20_000_000);
        burn(80_000_000);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), 1, "clock {clock}");
    }
}

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

fn timerfd_counts() {
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

fn timerfd_poll_and_read() {
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

fn timerfd_errors() {
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

fn timerfd_cancel_on_set() {
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
