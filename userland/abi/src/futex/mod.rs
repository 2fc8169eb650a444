//! futex(2): waiting, waking, requeueing, time-outs, priority inheritance, robust lists, and storms of all of it.

mod pi;
mod requeue_pi;
mod rules;
mod storm;

use crate::harness::{Tests, child_succeeds, errno, expect_errno, others_asleep, until_asleep};
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[
    ("errors", errors),
    ("wait_and_wake", wait_and_wake),
    ("timeouts", timeouts),
    ("bitsets", bitsets),
    ("requeue", requeue),
    ("wake_op", wake_op),
    ("waitv", waitv),
    ("counts", rules::counts),
    ("comparisons", rules::comparisons),
    ("keys", rules::keys),
    ("addresses", rules::addresses),
    ("waitv_rules", rules::waitv_rules),
    ("robust_lists", rules::robust_lists),
    ("shared_between_processes", shared_between_processes),
    ("a_signal_interrupts", a_signal_interrupts),
    ("robust_mutex", robust_mutex),
    ("pi_errors", pi::pi_errors),
    ("pi_hands_over", pi::pi_hands_over),
    ("pi_deadlock", pi::pi_deadlock),
    ("pi_timeout", pi::pi_timeout),
    ("pi_mutex_threads", pi::pi_mutex_threads),
    ("pi_robust_mutex", pi_robust_mutex),
    ("pi_boosts_the_owner", pi::pi_boosts_the_owner),
    ("requeue_pi_errors", requeue_pi::requeue_pi_errors),
    ("requeue_pi_hands_over", requeue_pi::requeue_pi_hands_over),
    ("requeue_pi_to_held_lock", requeue_pi::requeue_pi_to_held_lock),
    ("requeue_pi_mismatch", requeue_pi::requeue_pi_mismatch),
    ("requeue_pi_bad_owner", requeue_pi::requeue_pi_bad_owner),
    ("wakes_by_priority", requeue_pi::wakes_by_priority),
    ("requeue_pi_storm", requeue_pi::requeue_pi_storm),
    ("pi_chain", pi::pi_chain),
    ("storm_of_mutexes", storm::storm_of_mutexes),
    ("storm_of_conditions", storm::storm_of_conditions),
    ("storm_of_timeouts", storm::storm_of_timeouts),
];

const WAIT: i32 = 0;
const WAKE: i32 = 1;
const REQUEUE: i32 = 3;
const CMP_REQUEUE: i32 = 4;
const WAKE_OP: i32 = 5;
const LOCK_PI: i32 = 6;
const UNLOCK_PI: i32 = 7;
const TRYLOCK_PI: i32 = 8;
const WAIT_BITSET: i32 = 9;
const WAKE_BITSET: i32 = 10;
const LOCK_PI2: i32 = 13;
const PRIVATE: i32 = 128;
const REALTIME: i32 = 256;

fn futex(word: &AtomicU32, op: i32, value: u32, timeout: usize, word2: usize, value3: u32) -> i64 {
    // SAFETY: the word lives as long as the call; other addresses are checked by the kernel.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, value, timeout, word2, value3) }
}

fn ts(ns: i64) -> libc::timespec {
    libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
}

fn after(clock: i32, ns: i64) -> libc::timespec {
    // SAFETY: plain call on a local.
    unsafe {
        let mut now: libc::timespec = zeroed();
        libc::clock_gettime(clock, &mut now);
        ts(now.tv_sec * 1_000_000_000 + now.tv_nsec + ns)
    }
}

fn at(time: &libc::timespec) -> usize {
    std::ptr::from_ref(time) as usize
}

fn tid() -> u32 {
    // SAFETY: plain call.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Wakes until `count` waiters were woken.
fn wake_all(word: &AtomicU32, op: i32, count: i64, bits: u32) {
    let start = Instant::now();
    let mut woken = 0;
    while woken < count {
        woken += futex(word, op, 1000, 0, 0, bits);
        assert!(start.elapsed() < crate::harness::PATIENCE, "only {woken} of {count}");
        std::thread::yield_now();
    }
    assert_eq!(woken, count);
}

fn errors() {
    let word = AtomicU32::new(1);
    expect_errno(futex(&word, WAIT, 0, 0, 0, 0), libc::EAGAIN);
    expect_errno(futex(&word, 77, 0, 0, 0, 0), libc::ENOSYS);
    expect_errno(futex(&word, WAKE | REALTIME, 0, 0, 0, 0), libc::ENOSYS);
    expect_errno(futex(&word, WAIT | REALTIME, 1, 0, 0, 0), libc::ENOSYS);
    expect_errno(futex(&word, WAIT_BITSET, 1, 0, 0, 0), libc::EINVAL);
    expect_errno(futex(&word, WAKE_BITSET, 1, 0, 0, 0), libc::EINVAL);
    expect_errno(futex(&word, WAIT, 1, 8, 0, 0), libc::EFAULT);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: -1 };
    expect_errno(futex(&word, WAIT, 1, at(&bad), 0, 0), libc::EINVAL);
    expect_errno(futex(&word, CMP_REQUEUE, 0, 0, word.as_ptr() as usize, 2), libc::EAGAIN);
    assert_eq!(futex(&word, WAKE, 1, 0, 0, 0), 0);
    // SAFETY: bad addresses are the point.
    unsafe {
        expect_errno(libc::syscall(libc::SYS_futex, 2usize, WAIT, 0, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_futex, 16usize, WAIT, 0, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_futex, 16usize, WAKE, 1), libc::EFAULT);
        assert_eq!(libc::syscall(libc::SYS_futex, 16usize, WAKE | PRIVATE, 1), 0);
        expect_errno(libc::syscall(libc::SYS_set_robust_list, 0usize, 23), libc::EINVAL);
    }
}

fn wait_and_wake() {
    for private in [0, PRIVATE] {
        let word = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let word = word.clone();
                std::thread::spawn(move || assert_eq!(futex(&word, WAIT | private, 0, 0, 0, 0), 0))
            })
            .collect();
        others_asleep();
        assert_eq!(futex(&word, WAKE | private, 1, 0, 0, 0), 1);
        wake_all(&word, WAKE | private, 3, 0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(futex(&word, WAKE | private, 1000, 0, 0, 0), 0);
    }
}

fn timeouts() {
    let word = AtomicU32::new(0);
    let start = Instant::now();
    expect_errno(futex(&word, WAIT, 0, at(&ts(10_000_000)), 0, 0), libc::ETIMEDOUT);
    assert!(start.elapsed() >= Duration::from_millis(10));
    expect_errno(futex(&word, WAIT_BITSET, 0, at(&after(1, 5_000_000)), 0, 1), libc::ETIMEDOUT);
    expect_errno(futex(&word, WAIT_BITSET | REALTIME, 0, at(&after(0, 5_000_000)), 0, 1), libc::ETIMEDOUT);
    expect_errno(futex(&word, WAIT_BITSET, 0, at(&ts(1)), 0, 1), libc::ETIMEDOUT);
}

fn bitsets() {
    let word = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = [1u32, 2, 4]
        .into_iter()
        .map(|bits| {
            let word = word.clone();
            std::thread::spawn(move || assert_eq!(futex(&word, WAIT_BITSET, 0, 0, 0, bits), 0))
        })
        .collect();
    others_asleep();
    assert_eq!(futex(&word, WAKE_BITSET, 1000, 0, 0, 8), 0);
    wake_all(&word, WAKE_BITSET, 2, 5);
    assert_eq!(futex(&word, WAKE_BITSET, 1000, 0, 0, 5), 0);
    wake_all(&word, WAKE_BITSET, 1, 2);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn requeue() {
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    for op in [REQUEUE, CMP_REQUEUE] {
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let words = words.clone();
                std::thread::spawn(move || assert_eq!(futex(&words[0], WAIT, 0, 0, 0, 0), 0))
            })
            .collect();
        others_asleep();
        assert_eq!(futex(&words[0], op, 1, 2, words[1].as_ptr() as usize, 0), 3);
        assert_eq!(futex(&words[1], WAKE, 1000, 0, 0, 0), 2);
        assert_eq!(futex(&words[0], WAKE, 1000, 0, 0, 0), 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    // A waiter that was moved still times out where it is now.
    let moved = words.clone();
    let thread = std::thread::spawn(move || {
        expect_errno(futex(&moved[0], WAIT, 0, at(&ts(1_000_000_000)), 0, 0), libc::ETIMEDOUT);
    });
    others_asleep();
    assert_eq!(futex(&words[0], REQUEUE, 0, 1, words[1].as_ptr() as usize, 0), 1);
    thread.join().unwrap();
    assert_eq!(futex(&words[1], WAKE, 1, 0, 0, 0), 0);
}

fn wake_op() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(5));
    let operation =
        |op: u32, argument: u32, compare: u32, against: u32| op << 28 | compare << 24 | argument << 12 | against;
    let run = |encoded: u32| futex(&first, WAKE_OP, 1, 1, second.as_ptr() as usize, encoded);
    assert_eq!(run(operation(1, 3, 0, 5)), 0);
    assert_eq!(second.load(Ordering::SeqCst), 8);
    assert_eq!(run(operation(0, 0xfff, 1, 0)), 0);
    assert_eq!(second.load(Ordering::SeqCst), u32::MAX, "the argument is signed");
    assert_eq!(run(operation(3, 0xf, 0, 0)), 0);
    assert_eq!(second.load(Ordering::SeqCst), !0xf);
    assert_eq!(run(operation(8, 4, 0, 0)), 0);
    assert_eq!(second.load(Ordering::SeqCst), 16);
    assert_eq!(run(operation(4, 16, 0, 0)), 0);
    assert_eq!(second.load(Ordering::SeqCst), 0);
}

#[repr(C)]
struct Waitv {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

fn waitv() {
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)]);
    let list = |words: &[AtomicU32; 3]| -> Vec<Waitv> {
        words.iter().map(|word| Waitv { value: 0, addr: word.as_ptr() as u64, flags: 2 | 128, reserved: 0 }).collect()
    };
    // SAFETY: the list lives across the calls.
    unsafe {
        let entries = list(&words);
        let call = |count: usize, flags: u32, time: usize, clock: i32| {
            libc::syscall(449, entries.as_ptr(), count, flags, time, clock)
        };
        expect_errno(call(0, 0, 0, 1), libc::EINVAL);
        expect_errno(call(129, 0, 0, 1), libc::EINVAL);
        expect_errno(call(3, 1, 0, 1), libc::EINVAL);
        let time = after(1, 10_000_000);
        expect_errno(call(3, 0, at(&time), 1), libc::ETIMEDOUT);
        expect_errno(call(3, 0, at(&time), 2), libc::EINVAL);
    }
    let waiter = words.clone();
    let thread = std::thread::spawn(move || {
        let entries = list(&waiter);
        // SAFETY: the list lives across the call.
        assert_eq!(unsafe { libc::syscall(449, entries.as_ptr(), 3, 0, 0usize, 0) }, 1);
    });
    wake_all(&words[1], WAKE | PRIVATE, 1, 0);
    thread.join().unwrap();
    assert_eq!(futex(&words[0], WAKE | PRIVATE, 10, 0, 0, 0), 0);
}

fn shared_page() -> &'static [AtomicU32; 1024] {
    // SAFETY: a fresh shared page that is never unmapped.
    unsafe {
        let page = libc::mmap(null_mut(), 4096, 3, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0);
        assert!(page != libc::MAP_FAILED);
        &*page.cast()
    }
}

fn shared_between_processes() {
    let words = shared_page();
    let waker = std::thread::spawn(move || wake_all(&words[0], WAKE, 1, 0));
    child_succeeds(|| assert_eq!(futex(&words[0], WAIT, 0, 0, 0, 0), 0));
    waker.join().unwrap();
}

/// What [`a_signal_interrupts`] waits on: 1 once the signal came.
static ALARMED: AtomicU32 = AtomicU32::new(0);

extern "C" fn alarmed(_signal: i32) {
    ALARMED.store(1, Ordering::SeqCst);
}

/// Waits on [`ALARMED`] with a SIGALRM to come in `us`; answers whether it ended the wait: it may also come before.
fn is_interrupted(us: i64, timeout: usize) -> bool {
    ALARMED.store(0, Ordering::SeqCst);
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let value = libc::itimerval { it_interval: zero, it_value: libc::timeval { tv_sec: 0, tv_usec: us } };
    // SAFETY: plain calls on locals and a static.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_setitimer, 0, &value, 0usize), 0);
        assert_eq!(futex(&ALARMED, WAIT, 0, timeout, 0, 0), -1);
    }
    match errno() {
        libc::EINTR => true,
        libc::EAGAIN => false,
        other => panic!("errno {other}"),
    }
}

fn a_signal_interrupts() {
    // SAFETY: installs a handler that stores to a static.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = alarmed as *const () as usize;
        libc::sigaction(libc::SIGALRM, &action, null_mut());
    }
    let limit = ts(2_000_000_000);
    for timeout in [0, at(&limit)] {
        assert!((0..50).any(|_| is_interrupted(20_000, timeout)), "20 ms are always over before the wait begins");
    }
    // Wherever in the call the signal comes, it is not lost.
    for us in 1..400 {
        is_interrupted(us, 0);
    }
}

/// A mutex with the attributes given, in shared memory.
fn mutex(protocol: i32, robust: bool) -> *mut libc::pthread_mutex_t {
    // SAFETY: initialises a mutex in a fresh shared page.
    unsafe {
        let page = shared_page().as_ptr() as *mut libc::pthread_mutex_t;
        let mut attributes: libc::pthread_mutexattr_t = zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        assert_eq!(libc::pthread_mutexattr_setprotocol(&mut attributes, protocol), 0);
        if robust {
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        }
        assert_eq!(libc::pthread_mutex_init(page, &attributes), 0);
        page
    }
}

fn robust(protocol: i32) {
    let mutex = mutex(protocol, true);
    // SAFETY: the mutex is shared and stays mapped.
    unsafe {
        for waits in [false, true] {
            let holder = libc::fork();
            if holder == 0 {
                libc::pthread_mutex_lock(mutex);
                std::thread::sleep(Duration::from_millis(if waits { 60 } else { 0 }));
                libc::_exit(0);
            }
            if waits {
                until_asleep(holder);
            } else {
                let mut status = 0;
                libc::waitpid(holder, &mut status, 0);
            }
            assert_eq!(libc::pthread_mutex_lock(mutex), libc::EOWNERDEAD, "waits: {waits}");
            assert_eq!(libc::pthread_mutex_consistent(mutex), 0);
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
            assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        }
    }
}

fn robust_mutex() {
    robust(libc::PTHREAD_PRIO_NONE);
}

fn pi_robust_mutex() {
    robust(libc::PTHREAD_PRIO_INHERIT);
}
