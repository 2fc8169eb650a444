//! Stress: lost wakes, races of signals and time-outs against wakes, storms, processes that are killed in the middle of it.
//!
//! ROUNDS in the environment says how hard they try: 20 without it, 500 in the long run.

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is system calls on locals, which is what is tested")]

mod killed;
mod wakes;

use crate::harness::{Tests, errno};
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[
    ("robust_mutexes", killed::robust_mutexes),
    ("semaphores_are_undone", killed::semaphores_are_undone),
    ("semaphore_waiters", killed::semaphore_waiters),
    ("segments_are_detached", killed::segments_are_detached),
    ("message_queues", killed::message_queues),
    ("pipes_hang_up", killed::pipes_hang_up),
    ("sockets_hang_up", killed::sockets_hang_up),
    ("locks_are_released", killed::locks_are_released),
    ("threads_in_ipc", killed::threads_in_ipc),
    ("semaphore_storm", wakes::semaphore_storm),
    ("message_storm", wakes::message_storm),
    ("epoll_storm", wakes::epoll_storm),
    ("queued_signals", wakes::queued_signals),
    ("signal_storm", wakes::signal_storm),
    ("requeue_storm", wakes::requeue_storm),
    ("pipe_relay", wakes::pipe_relay),
];

/// Rounds of a stress test.
pub fn rounds() -> u32 {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// How much longer than usual a test may take.
pub fn patience() -> u32 {
    rounds().div_ceil(20).max(1)
}

/// Numbers without a pattern, the same in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, limit: u32) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit as usize
    }
}

fn pause_us(us: u64) {
    std::thread::sleep(Duration::from_micros(us));
}

#[track_caller]
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
}

/// A set of System V semaphores with these values.
fn new_semaphores(values: &[i32]) -> i32 {
    const SETVAL: i32 = 16;
    unsafe {
        let id = libc::semget(libc::IPC_PRIVATE, values.len() as i32, 0o600);
        assert!(id >= 0, "errno {}", errno());
        for (number, value) in values.iter().enumerate() {
            assert_eq!(libc::semctl(id, number as i32, SETVAL, *value), 0);
        }
        id
    }
}

fn semaphore(id: i32, number: i32) -> i32 {
    const GETVAL: i32 = 12;
    unsafe { libc::semctl(id, number, GETVAL) }
}
