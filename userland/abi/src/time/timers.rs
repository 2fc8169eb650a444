//! Interval timers and POSIX timers as time passes. (Flags and errnos are in family timers.)

use super::*;

pub fn itimer(which: i32, value_us: i64, interval_us: i64) -> libc::itimerval {
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

pub fn itimer_real() {
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

pub fn itimer_virtual_and_prof() {
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

pub fn itimer_errors() {
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

pub fn posix_timer_signal() {
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

pub fn posix_timer_overrun() {
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

pub fn posix_timer_errors() {
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

pub fn posix_timer_none() {
    let id = create(libc::CLOCK_MONOTONIC, 1, 0, 0);
    set(id, 500_000_000_000, 0);
    assert!(ns(get(id).it_value) > 0);
    set(id, 20_000_000, 0);
    std::thread::sleep(std::time::Duration::from_millis(40));
    assert_eq!(ns(get(id).it_value), 0);
}

pub fn posix_cpu_timer() {
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
