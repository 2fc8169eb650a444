//! RLIMIT_SIGPENDING: what the processes of one real user have queued together, and what happens beyond.

use super::*;
use crate::harness::errno;
use libc::*;

const F_SETSIG: i32 = 10;

/// The numbers of SigQ in /proc/self/status.
fn queued() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigQ:")).unwrap();
    let (used, limit) = line.trim().split_once('/').unwrap();
    (used.parse().unwrap(), limit.parse().unwrap())
}

fn queue_to(pid: i32, signal: i32, value: usize) -> i32 {
    if unsafe { sigqueue(pid, signal, sigval { sival_ptr: value as *mut _ }) } == 0 { 0 } else { errno() }
}

fn set_limit(limit: u64) {
    let limit = rlimit { rlim_cur: limit, rlim_max: 1000 };
    assert_eq!(unsafe { setrlimit(RLIMIT_SIGPENDING, &limit) }, 0);
}

fn take(signals: &[i32]) -> Option<siginfo_t> {
    unsafe {
        let (set, now) = (set_of(signals), timespec { tv_sec: 0, tv_nsec: 0 });
        let mut info: siginfo_t = zeroed();
        (libc::sigtimedwait(&set, &mut info, &now) > 0).then_some(info)
    }
}

/// As a user that no other test is.
fn as_user(uid: u32) {
    assert_eq!(unsafe { setresuid(uid, uid, uid) }, 0);
}

/// All processes of a user have one count; another user, and who was this one when it sent, another.
pub fn pending_of_a_user() {
    let signal = SIGRTMIN();
    block(&[signal, SIGUSR1]);
    set_limit(5);
    let own = std::process::id() as i32;
    let before = queued().0;
    child_succeeds(|| {
        as_user(7001);
        assert_eq!(queued(), (0, 5));
        let me = std::process::id() as i32;
        assert_eq!([1, 2, 3].map(|value| queue_to(me, signal, value)), [0; 3]);
        assert_eq!(queued(), (3, 5));
        child_succeeds(|| {
            let me = std::process::id() as i32;
            assert_eq!(queued(), (3, 5));
            assert_eq!([1, 2, 3].map(|value| queue_to(me, signal, value)), [0, 0, EAGAIN]);
            assert_eq!(queued(), (5, 5));
        });
        // What was pending went with it.
        assert_eq!(queued(), (3, 5));
        // The receiver's user and limit count, not the sender's.
        assert_eq!(queue_to(own, SIGUSR1, 1), EPERM);
        assert!(take(&[signal]).is_some());
        assert_eq!(queued(), (2, 5));
    });
    child_succeeds(|| {
        let me = std::process::id() as i32;
        assert_eq!(queue_to(me, signal, 1), 0);
        assert_eq!(queued().0, before + 1);
        as_user(7002);
        // What it has queued stays the other user's.
        assert_eq!(queued(), (0, 5));
        assert!(take(&[signal]).is_some());
        assert_eq!(queued(), (0, 5));
    });
    assert_eq!(queued().0, before);
}

/// Beyond the limit: EAGAIN for real-time signals but kill(2)'s; standard ones are pending all the same, sigqueue's without what
/// they carry; ignored ones never fail.
pub fn beyond_the_limit() {
    let signal = SIGRTMIN();
    block(&[signal, signal + 1, SIGUSR1, SIGUSR2]);
    child_succeeds(|| unsafe {
        set_limit(2);
        as_user(7003);
        let me = getpid();
        assert_eq!([1, 2, 3].map(|value| queue_to(me, signal, value)), [0, 0, EAGAIN]);
        expect_errno(syscall(SYS_tgkill, me, gettid(), signal), EAGAIN);
        expect_errno(syscall(SYS_tkill, gettid(), signal), EAGAIN);
        assert_eq!((kill(me, signal + 1), kill(me, signal + 1)), (0, 0));
        assert_eq!((kill(me, SIGUSR1), queue_to(me, SIGUSR2, 77)), (0, 0));
        assert_eq!(queued(), (3, 2));
        let seen = take(&[SIGUSR1]).unwrap();
        assert_eq!((seen.si_code, seen.si_pid()), (SI_USER, me));
        for number in [SIGUSR2, signal + 1] {
            let lost = take(&[number]).unwrap();
            assert_eq!((lost.si_signo, lost.si_code, lost.si_pid()), (number, SI_USER, 0));
            assert!(take(&[number]).is_none());
        }
        let kept = [take(&[signal]).unwrap(), take(&[signal]).unwrap()];
        assert_eq!(kept.map(|info| info.si_value().sival_ptr as usize), [1, 2]);
        assert!(take(&[signal]).is_none());
        // With the queue empty again, and a limit of none.
        set_limit(0);
        assert_eq!(queue_to(me, signal, 1), EAGAIN);
        libc::signal(signal, SIG_IGN);
        let empty = set_of(&[]);
        sigprocmask(SIG_SETMASK, &empty, null_mut());
        assert_eq!(queue_to(me, signal, 1), 0);
        assert_eq!(queued(), (0, 0));
    });
}

/// A POSIX timer takes a place as long as it is there; a file with F_SETSIG falls back to SIGIO.
pub fn timers_and_files() {
    let signal = SIGRTMIN();
    block(&[signal, SIGIO, SIGALRM]);
    child_succeeds(|| unsafe {
        set_limit(3);
        as_user(7004);
        let create = |notify: i32| {
            let mut event: sigevent = zeroed();
            (event.sigev_notify, event.sigev_signo) = (notify, SIGALRM);
            let mut id = -1;
            if syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &mut id) == 0 { Ok(id) } else { Err(errno()) }
        };
        let (first, second) = (create(SIGEV_SIGNAL).unwrap(), create(SIGEV_NONE).unwrap());
        assert_eq!(queued(), (2, 3));
        assert_eq!(queue_to(getpid(), signal, 1), 0);
        assert_eq!(create(SIGEV_NONE), Err(EAGAIN));
        assert_eq!(syscall(SYS_timer_delete, second), 0);
        let third = create(SIGEV_SIGNAL).unwrap();
        // Its signal needs no other place.
        let soon = itimerspec { it_interval: zeroed(), it_value: timespec { tv_sec: 0, tv_nsec: 1 } };
        assert_eq!(syscall(SYS_timer_settime, first, 0, &soon, 0usize), 0);
        let set = set_of(&[SIGALRM]);
        let mut info: siginfo_t = zeroed();
        assert_eq!(sigwaitinfo(&set, &mut info), SIGALRM);
        assert_eq!(info.si_code, SI_TIMER);
        assert_eq!(queued(), (3, 3));
        let mut ends = [0; 2];
        assert_eq!(pipe(ends.as_mut_ptr()), 0);
        assert_eq!(fcntl(ends[0], F_SETOWN, getpid()), 0);
        assert_eq!(fcntl(ends[0], F_SETSIG, signal), 0);
        assert_eq!(fcntl(ends[0], F_SETFL, O_ASYNC), 0);
        assert_eq!(write(ends[1], b"x".as_ptr().cast(), 1), 1);
        assert_eq!(take(&[SIGIO]).map(|info| info.si_code), Some(0x80));
        assert_eq!(take(&[signal]).map(|info| info.si_code), Some(SI_QUEUE));
        assert!(take(&[signal]).is_none());
        for id in [first, third] {
            assert_eq!(syscall(SYS_timer_delete, id), 0);
        }
        assert_eq!(queued(), (0, 3));
    });
}
