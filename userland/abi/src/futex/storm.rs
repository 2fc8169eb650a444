//! Storms: many threads at once, no wake lost.

use super::*;

pub fn storm_of_mutexes() {
    static LOCKS: [std::sync::Mutex<u64>; 3] = [const { std::sync::Mutex::new(0) }; 3];
    let threads: Vec<_> = (0..8usize)
        .map(|index| {
            std::thread::spawn(move || {
                for round in 0..3000 {
                    let mut guard = LOCKS[(index + round) % 3].lock().unwrap();
                    *guard += 1;
                    if round % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(LOCKS.iter().map(|lock| *lock.lock().unwrap()).sum::<u64>(), 24_000);
}

pub fn storm_of_conditions() {
    let pair = Arc::new((std::sync::Mutex::new(0u32), std::sync::Condvar::new()));
    let threads: Vec<_> = (0..8u32)
        .map(|index| {
            let pair = pair.clone();
            std::thread::spawn(move || {
                for _ in 0..300 {
                    let mut turn = pair.0.lock().unwrap();
                    while *turn % 8 != index {
                        turn = pair.1.wait(turn).unwrap();
                    }
                    *turn += 1;
                    pair.1.notify_all();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*pair.0.lock().unwrap(), 2400);
}

pub fn storm_of_timeouts() {
    let word = Arc::new(AtomicU32::new(0));
    let slept = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..8i64)
        .map(|index| {
            let (word, slept) = (word.clone(), slept.clone());
            std::thread::spawn(move || {
                for round in 0..200 {
                    let time = ts(20_000 * (1 + (index + round) % 9));
                    if futex(&word, WAIT | PRIVATE, 0, at(&time), 0, 0) == 0 {
                        slept.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(errno(), libc::ETIMEDOUT);
                    }
                }
            })
        })
        .collect();
    let mut woken = 0;
    while threads.iter().any(|thread| !thread.is_finished()) {
        woken += futex(&word, WAKE | PRIVATE, 2, 0, 0, 0);
        std::thread::yield_now();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(woken as u64, slept.load(Ordering::Relaxed), "a wake was lost");
}
