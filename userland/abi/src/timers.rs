//! timer_create(2) and its calls, getitimer(2), alarm(2): flags and errnos one by one. (What takes time is in family time.)

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is system calls on locals, which is what is tested")]

use crate::harness::{Tests, child_dies_of, child_succeeds, expect_errno};
use libc::*;
use std::mem::zeroed;
use std::ptr::null_mut;

pub const TESTS: Tests = &[
    ("create_errors", create_errors),
    ("notification_kinds", notification_kinds),
    ("settime_rules", settime_rules),
    ("delivery", delivery),
    ("not_inherited", not_inherited),
    ("many", many),
    ("interval_timers", interval_timers),
    ("alarms", alarms),
];

#[repr(C)]
struct Event {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [i32; 11],
}

fn event(notify: i32, signo: i32) -> Event {
    Event { value: 0x77, signo, notify, tid: unsafe { gettid() }, pad: [0; 11] }
}

fn create(clock: i32, event: Option<&Event>) -> (i64, i32) {
    let mut id = -1;
    let event = event.map_or(0, |event| std::ptr::from_ref(event) as usize);
    (unsafe { syscall(SYS_timer_create, clock, event, &mut id) }, id)
}

fn new(notify: i32, signo: i32) -> i32 {
    let (result, id) = create(CLOCK_MONOTONIC, Some(&event(notify, signo)));
    assert_eq!(result, 0);
    id
}

fn time(seconds: i64, interval: i64) -> itimerspec {
    let at = |tv_sec| timespec { tv_sec, tv_nsec: 0 };
    itimerspec { it_interval: at(interval), it_value: at(seconds) }
}

fn set(id: i32, flags: i32, new: &itimerspec) -> i64 {
    unsafe { syscall(SYS_timer_settime, id, flags, new, 0usize) }
}

fn get(id: i32) -> (i64, i64) {
    let mut now = time(-1, -1);
    assert_eq!(unsafe { syscall(SYS_timer_gettime, id, &mut now) }, 0);
    (now.it_value.tv_sec + i64::from(now.it_value.tv_nsec > 0), now.it_interval.tv_sec)
}

fn block(signal: i32) -> sigset_t {
    unsafe {
        let mut set: sigset_t = zeroed();
        sigaddset(&mut set, signal);
        sigprocmask(SIG_BLOCK, &set, null_mut());
        set
    }
}

fn wait(set: &sigset_t) -> siginfo_t {
    unsafe {
        let mut info: siginfo_t = zeroed();
        let limit = timespec { tv_sec: 10, tv_nsec: 0 };
        assert!(sigtimedwait(set, &mut info, &limit) > 0);
        info
    }
}

fn create_errors() {
    let good = event(SIGEV_NONE, 0);
    for clock in [-1, 12, 99, CLOCK_REALTIME_COARSE + 1000] {
        expect_errno(create(clock, Some(&good)).0, EINVAL);
    }
    for clock in [CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE] {
        expect_errno(create(clock, Some(&good)).0, EOPNOTSUPP);
    }
    for clock in
        [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID]
    {
        assert_eq!(create(clock, Some(&good)).0, 0, "clock {clock}");
    }
    expect_errno(unsafe { syscall(SYS_timer_create, CLOCK_MONOTONIC, 8usize, &mut 0i32) }, EFAULT);
    expect_errno(unsafe { syscall(SYS_timer_create, CLOCK_MONOTONIC, &good, 8usize) }, EFAULT);
    for (notify, signo) in
        [(SIGEV_SIGNAL, 0), (SIGEV_SIGNAL, 65), (SIGEV_SIGNAL, -1), (3, SIGUSR1), (5, SIGUSR1), (SIGEV_THREAD, 0)]
    {
        expect_errno(create(CLOCK_MONOTONIC, Some(&event(notify, signo))).0, EINVAL);
    }
    // SIGEV_THREAD_ID: a thread of this process.
    for tid in [0, -1, 1, unsafe { getppid() }] {
        let mut other = event(SIGEV_THREAD_ID, SIGUSR1);
        other.tid = tid;
        expect_errno(create(CLOCK_MONOTONIC, Some(&other)).0, EINVAL);
    }
    for id in [-1, 1234, i32::MAX] {
        expect_errno(unsafe { syscall(SYS_timer_delete, id) }, EINVAL);
        expect_errno(unsafe { syscall(SYS_timer_getoverrun, id) }, EINVAL);
        expect_errno(unsafe { syscall(SYS_timer_gettime, id, 8usize) }, EINVAL);
        expect_errno(set(id, 0, &time(1, 0)), EINVAL);
        expect_errno(unsafe { syscall(SYS_timer_settime, id, 0, 8usize, 0usize) }, EFAULT);
    }
}

/// Without an event: SIGALRM, whose value is the timer's number. SIGEV_NONE counts and tells nobody.
fn notification_kinds() {
    let set_of = block(SIGALRM);
    let (result, id) = create(CLOCK_MONOTONIC, None);
    assert_eq!(result, 0);
    assert_eq!(set(id, TIMER_ABSTIME, &itimerspec { it_value: timespec { tv_sec: 0, tv_nsec: 1 }, ..time(0, 0) }), 0);
    let info = wait(&set_of);
    unsafe {
        assert_eq!((info.si_signo, info.si_code), (SIGALRM, SI_TIMER));
        assert_eq!((info.si_value().sival_ptr as usize as i32, info.si_timerid()), (id, id));
    }
    assert_eq!(unsafe { syscall(SYS_timer_getoverrun, id) }, 0);
    assert_eq!(get(id), (0, 0));
    let none = new(SIGEV_NONE, 0);
    assert_eq!(set(none, 0, &time(1000, 7)), 0);
    assert_eq!(get(none), (1000, 7));
    // A signal for one thread only.
    let set_of = block(SIGUSR1);
    let id = new(SIGEV_THREAD_ID, SIGUSR1);
    assert_eq!(set(id, TIMER_ABSTIME, &itimerspec { it_value: timespec { tv_sec: 0, tv_nsec: 1 }, ..time(0, 0) }), 0);
    let info = wait(&set_of);
    assert_eq!((info.si_code, unsafe { info.si_value().sival_ptr as usize }), (SI_TIMER, 0x77));
}

fn settime_rules() {
    let id = new(SIGEV_SIGNAL, SIGUSR1);
    for bad in [
        timespec { tv_sec: 0, tv_nsec: -1 },
        timespec { tv_sec: 0, tv_nsec: 1_000_000_000 },
        timespec { tv_sec: -1, tv_nsec: 0 },
    ] {
        expect_errno(set(id, 0, &itimerspec { it_value: bad, ..time(0, 0) }), EINVAL);
        expect_errno(set(id, 0, &itimerspec { it_interval: bad, ..time(1, 0) }), EINVAL);
    }
    // Flags nobody knows are not looked at.
    assert_eq!(set(id, 0x7ffe, &time(100, 3)), 0);
    let mut old = time(0, 0);
    assert_eq!(unsafe { syscall(SYS_timer_settime, id, 0, &time(200, 0), &mut old) }, 0);
    assert!(old.it_value.tv_sec >= 95 && old.it_interval.tv_sec == 3);
    assert_eq!(get(id), (200, 0));
    // An interval alone starts nothing; the old one is told after the new one was set.
    assert_eq!(set(id, 0, &time(0, 5)), 0);
    assert_eq!(get(id).0, 0);
    expect_errno(unsafe { syscall(SYS_timer_settime, id, 0, &time(50, 0), 8usize) }, EFAULT);
    assert_eq!(get(id), (50, 0));
    let mut now: timespec = unsafe { zeroed() };
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    assert_eq!(
        set(id, TIMER_ABSTIME, &itimerspec { it_value: timespec { tv_sec: now.tv_sec + 300, ..now }, ..time(0, 0) }),
        0
    );
    assert!((295..=300).contains(&get(id).0));
    expect_errno(unsafe { syscall(SYS_timer_gettime, id, 8usize) }, EFAULT);
    assert_eq!(unsafe { syscall(SYS_timer_delete, id) }, 0);
    expect_errno(unsafe { syscall(SYS_timer_gettime, id, &mut old) }, EINVAL);
}

/// One signal in the queue for each timer, however often it went off; a timer that is set anew or deleted is not told any more.
fn delivery() {
    let past = itimerspec {
        it_value: timespec { tv_sec: 0, tv_nsec: 1 },
        it_interval: timespec { tv_sec: 0, tv_nsec: 1_000_000 },
    };
    let set_of = block(SIGRTMIN());
    let (a, b) = (new(SIGEV_SIGNAL, SIGRTMIN()), new(SIGEV_SIGNAL, SIGRTMIN()));
    assert_eq!((set(a, TIMER_ABSTIME, &past), set(b, TIMER_ABSTIME, &past)), (0, 0));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let stop = time(0, 0);
    let first = wait(&set_of);
    let second = wait(&set_of);
    unsafe {
        assert_ne!(first.si_timerid(), second.si_timerid());
        assert_eq!(first.si_code, SI_TIMER);
        assert!(syscall(SYS_timer_getoverrun, a) > 3);
        assert_eq!((set(a, 0, &stop), set(b, 0, &stop)), (0, 0));
        assert_eq!(syscall(SYS_timer_getoverrun, a), 0);
        let last = if first.si_timerid() == a { first } else { second };
        assert!(std::ptr::from_ref(&last).cast::<i32>().add(5).read() > 3, "overruns since 1 ns after the boot");
    }
    // A deleted timer's queued signal may still come, at most once.
    assert_eq!(set(a, TIMER_ABSTIME, &past), 0);
    unsafe { syscall(SYS_timer_delete, a) };
    let zero = timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe {
        while sigtimedwait(&set_of, null_mut(), &zero) > 0 {}
        std::thread::sleep(std::time::Duration::from_millis(5));
        expect_errno(sigtimedwait(&set_of, null_mut(), &zero).into(), EAGAIN);
    }
}

/// A fork has none of its parent's timers, an exec none at all (fork is what can be seen here).
fn not_inherited() {
    let id = new(SIGEV_SIGNAL, SIGUSR1);
    assert_eq!(set(id, 0, &time(1000, 0)), 0);
    let interval = itimerval { it_interval: unsafe { zeroed() }, it_value: timeval { tv_sec: 1000, tv_usec: 0 } };
    assert_eq!(unsafe { setitimer(ITIMER_REAL, &interval, null_mut()) }, 0);
    child_succeeds(|| {
        expect_errno(unsafe { syscall(SYS_timer_getoverrun, id) }, EINVAL);
        let mut left: itimerval = unsafe { zeroed() };
        assert_eq!(unsafe { getitimer(ITIMER_REAL, &mut left) }, 0);
        assert_eq!((left.it_value.tv_sec, left.it_value.tv_usec), (0, 0));
    });
    assert_eq!(get(id), (1000, 0));
}

/// RLIMIT_SIGPENDING limits timers with signals: EAGAIN.
fn many() {
    child_succeeds(|| {
        unsafe {
            let limit = rlimit { rlim_cur: 4, rlim_max: 4 };
            assert_eq!(setrlimit(RLIMIT_SIGPENDING, &limit), 0);
            assert_eq!(setresuid(4321, 4321, 4321), 0);
        }
        let results: Vec<i64> =
            (0..6).map(|_| create(CLOCK_MONOTONIC, Some(&event(SIGEV_SIGNAL, SIGUSR1))).0).collect();
        assert_eq!(results, [0, 0, 0, 0, -1, -1]);
        expect_errno(create(CLOCK_MONOTONIC, Some(&event(SIGEV_SIGNAL, SIGUSR1))).0, EAGAIN);
    });
}

fn interval_timers() {
    let call = |which: i32, new: usize, old: usize| unsafe { syscall(SYS_setitimer, which, new, old) };
    let mut old: itimerval = unsafe { zeroed() };
    let old_at = &raw mut old as usize;
    for bad in [-1, 3] {
        expect_errno(call(bad, old_at, 0), EINVAL);
        expect_errno(unsafe { syscall(SYS_getitimer, bad, old_at) }, EINVAL);
    }
    expect_errno(call(0, 8, 0), EFAULT);
    expect_errno(unsafe { syscall(SYS_getitimer, 0, 8usize) }, EFAULT);
    for (sec, usec) in [(0, -1), (0, 1_000_000), (-1, 0)] {
        for interval in [false, true] {
            let mut new: itimerval = unsafe { zeroed() };
            let place = if interval { &mut new.it_interval } else { &mut new.it_value };
            *place = timeval { tv_sec: sec, tv_usec: usec };
            expect_errno(call(0, &raw const new as usize, 0), EINVAL);
        }
    }
    for which in [ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF] {
        let new = itimerval {
            it_interval: timeval { tv_sec: 3, tv_usec: 4 },
            it_value: timeval { tv_sec: 1000, tv_usec: 0 },
        };
        assert_eq!(call(which, &raw const new as usize, 0), 0);
        assert_eq!(unsafe { getitimer(which, &mut old) }, 0);
        assert!((995..=1000).contains(&old.it_value.tv_sec), "{}", old.it_value.tv_sec);
        // Without a new value it is stopped.
        assert_eq!(call(which, 0, old_at), 0);
        assert!((995..=1000).contains(&old.it_value.tv_sec));
        assert_eq!(unsafe { getitimer(which, &mut old) }, 0);
        assert_eq!((old.it_value.tv_sec, old.it_value.tv_usec, old.it_interval.tv_sec), (0, 0, 0));
        expect_errno(call(which, &raw const new as usize, 8), EFAULT);
        assert_eq!(unsafe { getitimer(which, &mut old) }, 0);
        assert!(old.it_value.tv_sec >= 995, "set though the old one could not be told");
        assert_eq!(call(which, 0, 0), 0);
    }
}

/// alarm(2) and setitimer(2) are one timer; exec keeps it, its signal ends who has no handler.
fn alarms() {
    unsafe {
        assert_eq!(alarm(100), 0);
        let mut old: itimerval = zeroed();
        assert_eq!(getitimer(ITIMER_REAL, &mut old), 0);
        assert!((95..=100).contains(&old.it_value.tv_sec));
        assert!((95..=100).contains(&alarm(0)));
        assert_eq!(alarm(0), 0);
        child_dies_of(SIGALRM, || {
            let soon = itimerval { it_interval: zeroed(), it_value: timeval { tv_sec: 0, tv_usec: 1000 } };
            setitimer(ITIMER_REAL, &soon, null_mut());
            loop {
                pause();
            }
        });
    }
}
