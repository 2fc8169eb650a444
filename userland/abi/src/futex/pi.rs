//! Priority inheritance.

use super::*;

pub fn pi_errors() {
    let word = AtomicU32::new(0);
    expect_errno(futex(&word, UNLOCK_PI, 0, 0, 0, 0), libc::EPERM);
    assert_eq!(futex(&word, LOCK_PI, 0, 0, 0, 0), 0);
    assert_eq!(word.load(Ordering::SeqCst) & 0x3fff_ffff, tid());
    expect_errno(futex(&word, LOCK_PI, 0, 0, 0, 0), libc::EDEADLK);
    expect_errno(futex(&word, TRYLOCK_PI, 0, 0, 0, 0), libc::EDEADLK);
    assert_eq!(futex(&word, UNLOCK_PI, 0, 0, 0, 0), 0);
    assert_eq!(word.load(Ordering::SeqCst), 0);
    assert_eq!(futex(&word, TRYLOCK_PI, 0, 0, 0, 0), 0);
    assert_eq!(futex(&word, UNLOCK_PI, 0, 0, 0, 0), 0);
    word.store(99_999, Ordering::SeqCst);
    expect_errno(futex(&word, LOCK_PI, 0, 0, 0, 0), libc::ESRCH);
    // SAFETY: a bad address is the point.
    unsafe { expect_errno(libc::syscall(libc::SYS_futex, 16usize, LOCK_PI, 0, 0usize), libc::EFAULT) };
}

pub fn pi_hands_over() {
    let word = Arc::new(AtomicU32::new(0));
    assert_eq!(futex(&word, LOCK_PI, 0, 0, 0, 0), 0);
    let other = word.clone();
    let thread = std::thread::spawn(move || {
        expect_errno(futex(&other, TRYLOCK_PI, 0, 0, 0, 0), libc::EAGAIN);
        assert_eq!(futex(&other, LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(other.load(Ordering::SeqCst) & 0x3fff_ffff, tid());
        assert_eq!(futex(&other, UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    crate::harness::others_asleep();
    assert_eq!(word.load(Ordering::SeqCst), tid() | 0x8000_0000);
    assert_eq!(futex(&word, UNLOCK_PI, 0, 0, 0, 0), 0);
    thread.join().unwrap();
}

pub fn pi_deadlock() {
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    assert_eq!(futex(&words[0], LOCK_PI, 0, 0, 0, 0), 0);
    let other = words.clone();
    let thread = std::thread::spawn(move || {
        assert_eq!(futex(&other[1], LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[0], LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[0], UNLOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    while words[0].load(Ordering::SeqCst) & 0x8000_0000 == 0 {
        std::thread::yield_now();
    }
    crate::harness::others_asleep();
    expect_errno(futex(&words[1], LOCK_PI, 0, 0, 0, 0), libc::EDEADLK);
    assert_eq!(futex(&words[0], UNLOCK_PI, 0, 0, 0, 0), 0);
    thread.join().unwrap();
}

pub fn pi_timeout() {
    let word = Arc::new(AtomicU32::new(0));
    assert_eq!(futex(&word, LOCK_PI, 0, 0, 0, 0), 0);
    let other = word.clone();
    std::thread::spawn(move || {
        expect_errno(futex(&other, LOCK_PI, 0, at(&after(0, 20_000_000)), 0, 0), libc::ETIMEDOUT);
        expect_errno(futex(&other, LOCK_PI2, 0, at(&after(1, 20_000_000)), 0, 0), libc::ETIMEDOUT);
    })
    .join()
    .unwrap();
    assert_eq!(futex(&word, UNLOCK_PI, 0, 0, 0, 0), 0);
    assert_eq!(word.load(Ordering::SeqCst), 0);
}

struct SendPointer(*mut libc::pthread_mutex_t);
// SAFETY: a pthread mutex may be used from any thread.
unsafe impl Send for SendPointer {}

pub fn pi_mutex_threads() {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let mutex = mutex(libc::PTHREAD_PRIO_INHERIT, false);
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let pointer = SendPointer(mutex);
            std::thread::spawn(move || {
                let pointer = pointer;
                for round in 0..500 {
                    // SAFETY: the mutex is initialised and stays mapped.
                    unsafe {
                        assert_eq!(libc::pthread_mutex_lock(pointer.0), 0);
                        let sum = SUM.load(Ordering::Relaxed);
                        if round % 16 == 0 {
                            std::thread::yield_now();
                        }
                        SUM.store(sum + 1, Ordering::Relaxed);
                        assert_eq!(libc::pthread_mutex_unlock(pointer.0), 0);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(SUM.load(Ordering::Relaxed), 3000);
}

pub fn set_fifo(priority: i32) {
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, 1, &priority) }, 0, "errno {}", errno());
}

pub fn pi_boosts_the_owner() {
    let mask = 1u64;
    // SAFETY: plain call on a local.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &mask) };
    let word = Arc::new(AtomicU32::new(0));
    let order = Arc::new(AtomicU32::new(0));
    set_fifo(10);
    assert_eq!(futex(&word, LOCK_PI, 0, 0, 0, 0), 0);
    let (high_word, high_order) = (word.clone(), order.clone());
    let high = std::thread::spawn(move || {
        set_fifo(50);
        assert_eq!(futex(&high_word, LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(high_order.fetch_add(1, Ordering::SeqCst), 0, "the one in the middle ran first");
        assert_eq!(futex(&high_word, UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    while word.load(Ordering::SeqCst) & 0x8000_0000 == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The owner now runs with priority 50: one of priority 30 must wait until the lock is given back.
    let middle_order = order.clone();
    let middle = std::thread::spawn(move || {
        set_fifo(30);
        middle_order.fetch_add(1, Ordering::SeqCst);
    });
    std::thread::yield_now();
    let end = Instant::now() + Duration::from_millis(20);
    while Instant::now() < end {}
    assert_eq!(futex(&word, UNLOCK_PI, 0, 0, 0, 0), 0);
    high.join().unwrap();
    middle.join().unwrap();
}

/// The real-time priority a thread runs with, from /proc.
fn running_priority(tid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    -1 - fields[15].parse::<i32>().unwrap()
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
}

/// A waits for B, which waits for C: C runs with A's priority, also when that changes while it sleeps, and until it unlocks.
pub fn pi_chain() {
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    assert_eq!(futex(&words[0], LOCK_PI, 0, 0, 0, 0), 0);
    let tids = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let own = tid();
    let (other, number) = (words.clone(), tids.clone());
    let middle = std::thread::spawn(move || {
        assert_eq!(futex(&other[1], LOCK_PI, 0, 0, 0, 0), 0);
        number[0].store(tid(), Ordering::SeqCst);
        assert_eq!(futex(&other[0], LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[0], UNLOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    until(|| words[0].load(Ordering::SeqCst) & 0x8000_0000 != 0);
    assert!(running_priority(own) < 0);
    let (other, number) = (words.clone(), tids.clone());
    let high = std::thread::spawn(move || {
        set_fifo(20);
        number[1].store(tid(), Ordering::SeqCst);
        assert_eq!(futex(&other[1], LOCK_PI, 0, 0, 0, 0), 0);
        assert_eq!(futex(&other[1], UNLOCK_PI, 0, 0, 0, 0), 0);
    });
    until(|| running_priority(own) == 20);
    assert_eq!(running_priority(tids[0].load(Ordering::SeqCst)), 20);
    // SAFETY: plain call on a local.
    unsafe {
        let parameter = libc::sched_param { sched_priority: 33 };
        let tid = tids[1].load(Ordering::SeqCst) as i32;
        assert_eq!(libc::sched_setscheduler(tid, libc::SCHED_FIFO, &parameter), 0);
    }
    until(|| running_priority(own) == 33);
    assert_eq!(futex(&words[0], UNLOCK_PI, 0, 0, 0, 0), 0);
    assert!(running_priority(own) < 0);
    middle.join().unwrap();
    high.join().unwrap();
}
