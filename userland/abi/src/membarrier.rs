//! membarrier(2).

use crate::harness::{Tests, child_succeeds, expect_errno};
use libc::*;

pub const TESTS: Tests = &[("registration_comes_first", registration), ("barriers_complete_under_load", under_load)];

const GLOBAL: i32 = 1;
const PRIVATE: i32 = 8;
const REGISTER_PRIVATE: i32 = 16;

fn membarrier(command: i32, flags: u32) -> i64 {
    unsafe { syscall(SYS_membarrier, command, flags, 0) }
}

fn registration() {
    let supported = membarrier(0, 0);
    assert!(supported & 0x1f == 0x1f, "{supported:#x}");
    expect_errno(membarrier(0, 1), EINVAL);
    expect_errno(membarrier(-1, 0), EINVAL);
    expect_errno(membarrier(3, 0), EINVAL);
    assert_eq!(membarrier(GLOBAL, 0), 0);
    expect_errno(membarrier(PRIVATE, 0), EPERM);
    assert_eq!(membarrier(REGISTER_PRIVATE, 0), 0);
    assert_eq!(membarrier(PRIVATE, 0), 0);
    child_succeeds(|| assert_eq!(membarrier(PRIVATE, 0), 0));
}

fn under_load() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*, compiler_fence};
    static STOP: AtomicBool = AtomicBool::new(false);
    // Store buffering: with the barrier pair, never may both sides miss the other's store.
    static X: AtomicU64 = AtomicU64::new(0);
    static Y: AtomicU64 = AtomicU64::new(0);
    static SEEN: AtomicU64 = AtomicU64::new(0);
    assert_eq!(membarrier(REGISTER_PRIVATE, 0), 0);
    let spinner = std::thread::spawn(|| {
        while !STOP.load(Relaxed) {
            let round = Y.load(Acquire);
            X.store(round + 1, Relaxed);
            compiler_fence(SeqCst);
            SEEN.store(Y.load(Relaxed), Relaxed);
        }
    });
    for round in 0..200 {
        Y.store(round, Relaxed);
        assert_eq!(membarrier(PRIVATE, 0), 0);
        std::hint::black_box(X.load(Relaxed));
    }
    STOP.store(true, Relaxed);
    spinner.join().unwrap();
}
