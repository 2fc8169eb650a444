//! FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI, and the order in which threads of different priorities are woken.

use super::*;
use std::sync::Mutex;

const WAIT_REQUEUE_PI: i32 = 11;
const CMP_REQUEUE_PI: i32 = 12;

fn requeue_pi(from: &AtomicU32, to: &AtomicU32, wake: u32, count: usize, expected: u32) -> i64 {
    futex(from, CMP_REQUEUE_PI, wake, count, to.as_ptr() as usize, expected)
}

fn wait_requeue_pi(from: &AtomicU32, to: &AtomicU32, expected: u32, timeout: usize) -> i64 {
    futex(from, WAIT_REQUEUE_PI, expected, timeout, to.as_ptr() as usize, 0)
}

/// A word to wait on and a lock.
type Pair = Arc<[AtomicU32; 2]>;

fn pair() -> Pair {
    Arc::new([AtomicU32::new(0), AtomicU32::new(0)])
}

/// Moves waiters until `count` were.
fn move_all(words: &Pair, count: i64) {
    let start = Instant::now();
    let mut moved = 0;
    while moved < count {
        let now = requeue_pi(&words[0], &words[1], 1, 1000, 0);
        assert!(now >= 0, "errno {}", errno());
        moved += now;
        assert!(start.elapsed() < crate::harness::PATIENCE, "only {moved} of {count}");
        std::thread::yield_now();
    }
    assert_eq!(moved, count);
}

pub fn requeue_pi_errors() {
    let words = pair();
    let (word, lock) = (&words[0], &words[1]);
    expect_errno(wait_requeue_pi(word, word, 0, 0), libc::EINVAL);
    expect_errno(wait_requeue_pi(word, lock, 1, 0), libc::EAGAIN);
    expect_errno(wait_requeue_pi(word, lock, 0, at(&after(1, 10_000_000))), libc::ETIMEDOUT);
    expect_errno(
        futex(word, WAIT_REQUEUE_PI | REALTIME, 0, at(&after(0, 10_000_000)), lock.as_ptr() as usize, 0),
        libc::ETIMEDOUT,
    );
    expect_errno(requeue_pi(word, word, 1, 0, 0), libc::EINVAL);
    expect_errno(requeue_pi(word, lock, 2, 0, 0), libc::EINVAL);
    expect_errno(requeue_pi(word, lock, 0, 1, 0), libc::EINVAL);
    expect_errno(requeue_pi(word, lock, 1, usize::MAX, 0), libc::EINVAL);
    expect_errno(requeue_pi(word, lock, 1, 1, 7), libc::EAGAIN);
    assert_eq!(requeue_pi(word, lock, 1, 1, 0), 0);
}

/// The first waiter gets the free lock, the others stand in line; each owns it when its call returns.
pub fn requeue_pi_hands_over() {
    let words = pair();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let words = words.clone();
            std::thread::spawn(move || {
                assert_eq!(wait_requeue_pi(&words[0], &words[1], 0, 0), 0);
                assert_eq!(words[1].load(Ordering::SeqCst) & 0x3fff_ffff, tid());
                std::thread::yield_now();
                assert_eq!(futex(&words[1], UNLOCK_PI, 0, 0, 0, 0), 0);
            })
        })
        .collect();
    move_all(&words, 4);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(words[1].load(Ordering::SeqCst), 0);
}

/// A lock that is held: the waiters are moved, none runs before it is unlocked, and a time-out ends a moved one too.
pub fn requeue_pi_to_held_lock() {
    let words = pair();
    assert_eq!(futex(&words[1], LOCK_PI, 0, 0, 0, 0), 0);
    let other = words.clone();
    let patient = std::thread::spawn(move || {
        let result = wait_requeue_pi(&other[0], &other[1], 0, 0);
        (result, futex(&other[1], UNLOCK_PI, 0, 0, 0, 0))
    });
    let other = words.clone();
    let hasty = std::thread::spawn(move || {
        expect_errno(wait_requeue_pi(&other[0], &other[1], 0, at(&after(1, 150_000_000))), libc::ETIMEDOUT);
    });
    move_all(&words, 2);
    assert_eq!(words[1].load(Ordering::SeqCst), tid() | 0x8000_0000);
    hasty.join().unwrap();
    assert!(!patient.is_finished());
    assert_eq!(futex(&words[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    assert_eq!(patient.join().unwrap(), (0, 0));
}

/// Calls of one kind meet waiters of another: EINVAL, and nobody is woken.
pub fn requeue_pi_mismatch() {
    let words = pair();
    let other = words.clone();
    let waiter = std::thread::spawn(move || wait_requeue_pi(&other[0], &other[1], 0, 0));
    let third = AtomicU32::new(0);
    let start = Instant::now();
    // Nothing says that it waits now, but its first refusal.
    while futex(&words[0], WAKE, 1, 0, 0, 0) != -1 {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(errno(), libc::EINVAL);
    expect_errno(futex(&words[0], REQUEUE, 1, 1, third.as_ptr() as usize, 0), libc::EINVAL);
    expect_errno(futex(&words[0], CMP_REQUEUE, 0, 1, third.as_ptr() as usize, 0), libc::EINVAL);
    expect_errno(requeue_pi(&words[0], &third, 1, 1, 0), libc::EINVAL);
    assert!(!waiter.is_finished());
    assert_eq!(requeue_pi(&words[0], &words[1], 1, 0, 0), 1);
    assert_eq!(waiter.join().unwrap(), 0);

    // A plain waiter, and one that stands in line for a lock.
    let words = pair();
    let other = words.clone();
    let plain = std::thread::spawn(move || futex(&other[0], WAIT, 0, 0, 0, 0));
    while requeue_pi(&words[0], &words[1], 1, 1, 0) != -1 {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(errno(), libc::EINVAL);
    expect_errno(futex(&words[0], LOCK_PI, 0, 0, 0, 0), libc::EINVAL);
    assert_eq!(futex(&words[0], WAKE, 1, 0, 0, 0), 1);
    assert_eq!(plain.join().unwrap(), 0);

    assert_eq!(futex(&words[1], LOCK_PI, 0, 0, 0, 0), 0);
    let other = words.clone();
    let locker = std::thread::spawn(move || {
        assert_eq!(futex(&other[1], LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    while futex(&words[1], WAKE, 1, 0, 0, 0) != -1 {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(errno(), libc::EINVAL);
    assert_eq!(futex(&words[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    locker.join().unwrap();
}

/// A lock that names nobody alive, and one whose owner is the waiter itself.
pub fn requeue_pi_bad_owner() {
    let words = pair();
    words[1].store(99_999, Ordering::SeqCst);
    let other = words.clone();
    let waiter = std::thread::spawn(move || wait_requeue_pi(&other[0], &other[1], 0, 0));
    let start = Instant::now();
    while requeue_pi(&words[0], &words[1], 1, 1, 0) != -1 {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(errno(), libc::ESRCH);
    words[1].store(0, Ordering::SeqCst);
    assert_eq!(requeue_pi(&words[0], &words[1], 1, 1, 0), 1);
    assert_eq!(waiter.join().unwrap(), 0);
}

/// Of the waiters on a word, the one of the highest priority is woken first; equals in the order they came.
pub fn wakes_by_priority() {
    let word = Arc::new(AtomicU32::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let ready = Arc::new(AtomicU32::new(0));
    let mut threads = Vec::new();
    for (index, priority) in [0, 5, 20, 10, 20, 0].into_iter().enumerate() {
        let (word, order, arrived) = (word.clone(), order.clone(), ready.clone());
        threads.push(std::thread::spawn(move || {
            if priority != 0 {
                pi::set_fifo(priority);
            }
            arrived.fetch_add(1, Ordering::SeqCst);
            assert_eq!(futex(&word, WAIT, 0, 0, 0, 0), 0);
            order.lock().unwrap().push(index);
        }));
        while ready.load(Ordering::SeqCst) != index as u32 + 1 {
            std::thread::yield_now();
        }
        // Until it sleeps: nothing else tells.
        crate::harness::others_asleep();
    }
    for woken in 1..=6 {
        assert_eq!(futex(&word, WAKE, 1, 0, 0, 0), 1);
        let start = Instant::now();
        while order.lock().unwrap().len() != woken {
            assert!(start.elapsed() < crate::harness::PATIENCE);
            std::thread::yield_now();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*order.lock().unwrap(), [2, 4, 3, 1, 0, 5]);
}

/// A condition variable in the style of requeue-PI: signallers, waiters with time-outs, all counts right in the end.
pub fn requeue_pi_storm() {
    let rounds = crate::stress::rounds();
    let words = pair();
    let sent = Arc::new(AtomicU64::new(0));
    let got = Arc::new(AtomicU64::new(0));
    let timed_out = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (words, got, timed_out) = (words.clone(), got.clone(), timed_out.clone());
            std::thread::spawn(move || {
                for round in 0..rounds * 10 {
                    let time = after(1, 200_000 * (1 + (round as i64 + number) % 5));
                    let value = words[0].load(Ordering::SeqCst);
                    match wait_requeue_pi(&words[0], &words[1], value, at(&time)) {
                        0 => {
                            assert_eq!(words[1].load(Ordering::SeqCst) & 0x3fff_ffff, tid());
                            got.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(futex(&words[1], UNLOCK_PI, 0, 0, 0, 0), 0);
                        }
                        _ if errno() == libc::ETIMEDOUT => {
                            timed_out.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => assert_eq!(errno(), libc::EAGAIN),
                    }
                }
            })
        })
        .collect();
    while !threads.iter().all(|thread| thread.is_finished()) {
        assert_eq!(futex(&words[1], LOCK_PI, 0, 0, 0, 0), 0);
        let value = words[0].fetch_add(1, Ordering::SeqCst) + 1;
        let moved = requeue_pi(&words[0], &words[1], 1, 2, value);
        if moved > 0 {
            sent.fetch_add(moved as u64, Ordering::SeqCst);
        }
        assert_eq!(futex(&words[1], UNLOCK_PI, 0, 0, 0, 0), 0);
        std::thread::yield_now();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Who was moved got the lock, or timed out in line.
    let (sent, got, late) = (sent.load(Ordering::SeqCst), got.load(Ordering::SeqCst), timed_out.load(Ordering::SeqCst));
    assert!(got <= sent && sent <= got + late, "moved {sent}, got the lock {got}, timed out {late}");
    assert_eq!(words[1].load(Ordering::SeqCst), 0);
}
