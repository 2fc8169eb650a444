//! Storms: many processes and threads at once, and memory back where it was when they have passed. ROUNDS makes them longer.

use crate::harness::{Tests, errno};
use crate::stress::rounds;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[("fork_and_exec", fork_and_exec), ("futexes_and_mappings", futexes_and_mappings)];

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// What the test binary does when a test or the host executes it; answers its exit code.
pub fn helper() -> Option<i32> {
    match std::env::args().nth(1)?.strip_prefix("--storm")?.trim() {
        "nothing" => Some(0),
        "bomb" => Some(bomb(false)),
        "zombies" => Some(bomb(true)),
        _ => Some(9),
    }
}

/// MemAvailable in KiB.
fn available() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs `storm` twice and looks whether the second left memory as the first did.
fn leaves_nothing_behind(storm: impl Fn()) {
    const SLACK_KIB: i64 = 4096;
    storm();
    let before = available();
    storm();
    // What ended last may still be on its way out.
    let end = Instant::now() + Duration::from_secs(5);
    while available() < before - SLACK_KIB && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = available();
    assert!(after >= before - SLACK_KIB, "{before} KiB before, {after} KiB after");
}

/// Four threads, each of which starts a program, waits for it, and again.
fn fork_and_exec() {
    let each = (rounds() * 25).div_ceil(8);
    leaves_nothing_behind(|| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..each {
                        start_and_wait();
                    }
                });
            }
        });
    });
}

fn start_and_wait() {
    let words = [c"abi".as_ptr(), c"--storm nothing".as_ptr(), std::ptr::null()];
    let env = [std::ptr::null()];
    // SAFETY: the child only execs or leaves; all it reads was made before.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "fork: errno {}", errno());
        if pid == 0 {
            libc::execve(SELF.as_ptr(), words.as_ptr(), env.as_ptr());
            libc::_exit(9);
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert_eq!(status, 0);
    }
}

const PAGE: usize = 4096;

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation | libc::FUTEX_PRIVATE_FLAG, value, 0usize) };
}

/// The classic lock: 0 free, 1 taken, 2 taken and waited for.
fn with_lock(word: &AtomicU32, body: impl FnOnce()) {
    if word.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
        while word.swap(2, SeqCst) != 0 {
            futex(word, libc::FUTEX_WAIT, 2);
        }
    }
    body();
    if word.swap(0, SeqCst) == 2 {
        futex(word, libc::FUTEX_WAKE, 1);
    }
}

/// Maps, fills, protects, cuts and unmaps a few pages; what was written must be there.
fn use_memory(number: u64, round: u64) {
    let pages = 1 + (number + round) as usize % 16;
    // SAFETY: the mapping is this call's own.
    unsafe {
        let at = libc::mmap(null_mut(), pages * PAGE, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).cast::<u8>();
        assert!(at as isize != -1, "mmap: errno {}", errno());
        for page in 0..pages {
            at.add(page * PAGE).cast::<u64>().write_volatile(number << 32 | round);
        }
        let half = pages / 2;
        assert_eq!(libc::mprotect(at.cast(), pages * PAGE, libc::PROT_READ), 0);
        assert_eq!(libc::munmap(at.add(half * PAGE).cast(), (pages - half) * PAGE), 0);
        for page in 0..half {
            assert_eq!(at.add(page * PAGE).cast::<u64>().read_volatile(), number << 32 | round);
        }
        if half > 0 {
            assert_eq!(libc::munmap(at.cast(), half * PAGE), 0);
        }
    }
}

/// Eight threads that lock, map and now and then fork.
fn futexes_and_mappings() {
    let duration = Duration::from_millis(25) * rounds();
    leaves_nothing_behind(|| {
        let (lock, sum) = (AtomicU32::new(0), AtomicU64::new(0));
        let total: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|number| {
                    let (lock, sum) = (&lock, &sum);
                    scope.spawn(move || {
                        let start = Instant::now();
                        let mut round = 0;
                        while start.elapsed() < duration {
                            with_lock(lock, || sum.store(sum.load(SeqCst) + 1, SeqCst));
                            use_memory(number, round);
                            if round % 64 == 63 {
                                start_and_wait();
                            }
                            round += 1;
                        }
                        round
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(sum.load(SeqCst), total);
    });
}

/// Forks for as long as that succeeds, in every process that comes of it (`zombies`: only here, and nobody waits); then ends
/// them all and looks whether the machine still does its work.
fn bomb(zombies: bool) -> i32 {
    // SAFETY: plain process calls; children only fork, sleep and leave.
    unsafe {
        let shared = libc::mmap(null_mut(), PAGE, 3, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0);
        let failed = &*shared.cast::<AtomicU32>();
        let leader = libc::fork();
        if leader == 0 {
            libc::setpgid(0, 0);
            loop {
                match libc::fork() {
                    0 if zombies => libc::_exit(0),
                    -1 => {
                        failed.store(errno() as u32, SeqCst);
                        loop {
                            libc::pause();
                        }
                    }
                    _ => {}
                }
            }
        }
        while failed.load(SeqCst) == 0 {
            libc::usleep(1000);
        }
        println!("fork: errno {}", failed.load(SeqCst));
        // Some may be in the midst of a fork: until nobody is left.
        while libc::kill(-leader, libc::SIGKILL) == 0 {
            while libc::waitpid(-1, null_mut(), libc::WNOHANG) > 0 {}
            libc::usleep(1000);
        }
    }
    for _ in 0..10 {
        start_and_wait();
    }
    println!("the machine lives");
    0
}
