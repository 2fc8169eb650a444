//! Scheduling calls: policies, priorities, affinity, nice, I/O priorities.

use crate::harness::{Tests, child_succeeds, expect_errno};
use std::mem::zeroed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub const TESTS: Tests = &[
    ("policies", policies),
    ("policy_errors", policy_errors),
    ("unprivileged_may_not", unprivileged_may_not),
    ("affinity", affinity),
    ("affinity_odd_sizes", affinity_odd_sizes),
    ("nice_levels", nice_levels),
    ("attributes", attributes),
    ("io_priority", io_priority),
    ("yield_lets_others_run", yield_lets_others_run),
    ("fifo_goes_first", fifo_goes_first),
    ("nice_shares_the_cpu", nice_shares_the_cpu),
    ("equals_take_turns", equals_take_turns),
    ("long_calls_let_others_run", long_calls_let_others_run),
];

fn set(pid: i32, policy: i32, priority: i32) -> i64 {
    // SAFETY: plain call on a local.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, policy, &priority) }
}

fn policies() {
    // SAFETY: plain calls on locals.
    unsafe {
        assert_eq!(libc::sched_getscheduler(0), 0);
        for (policy, low, high) in [(0, 0, 0), (1, 1, 99), (2, 1, 99), (3, 0, 0), (5, 0, 0)] {
            assert_eq!(libc::sched_get_priority_min(policy), low);
            assert_eq!(libc::sched_get_priority_max(policy), high);
            assert_eq!(set(0, policy, low), 0);
            assert_eq!(libc::sched_getscheduler(0), policy);
            let mut priority = -1i32;
            assert_eq!(libc::syscall(libc::SYS_sched_getparam, 0, &mut priority), 0);
            assert_eq!(priority, low);
        }
        assert_eq!(set(0, 2, 10), 0);
        let mut interval = zeroed::<libc::timespec>();
        assert_eq!(libc::sched_rr_get_interval(0, &mut interval), 0);
        assert!(interval.tv_sec == 0 && interval.tv_nsec > 0);
        let priority = 20i32;
        assert_eq!(libc::syscall(libc::SYS_sched_setparam, 0, &priority), 0);
        assert_eq!(set(0, 1 | 0x4000_0000, 5), 0);
        assert_eq!(libc::sched_getscheduler(0), 1 | 0x4000_0000);
        child_succeeds(|| assert_eq!(libc::sched_getscheduler(0), 0));
        assert_eq!(set(0, 0, 0), 0);
    }
}

fn policy_errors() {
    expect_errno(set(0, 4, 0), libc::EINVAL);
    expect_errno(set(0, 77, 0), libc::EINVAL);
    expect_errno(set(0, -1, 0), libc::EINVAL);
    expect_errno(set(0, 0, 1), libc::EINVAL);
    expect_errno(set(0, 1, 0), libc::EINVAL);
    expect_errno(set(0, 1, 100), libc::EINVAL);
    expect_errno(set(-1, 1, 1), libc::EINVAL);
    expect_errno(set(99_999, 1, 1), libc::ESRCH);
    // SAFETY: plain calls; bad arguments are the point.
    unsafe {
        expect_errno(libc::syscall(libc::SYS_sched_setscheduler, 0, 1, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_setscheduler, 0, 1, 8usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_sched_getparam, 0, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_getparam, 0, 8usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_sched_getscheduler, -1), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_getscheduler, 99_999), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_sched_get_priority_max, 4), libc::EINVAL);
    }
}

fn unprivileged_may_not() {
    child_succeeds(|| {
        // SAFETY: plain calls.
        unsafe {
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
            expect_errno(set(0, 1, 1), libc::EPERM);
            expect_errno(set(1, 0, 0), libc::EPERM);
            expect_errno(i64::from(libc::setpriority(0, 0, -1)), libc::EACCES);
            assert_eq!(libc::setpriority(0, 0, 5), 0);
            expect_errno(i64::from(libc::setpriority(0, 0, 4)), libc::EACCES);
            expect_errno(i64::from(libc::setpriority(0, 1, 5)), libc::EPERM);
            assert_eq!(set(0, 3, 0), 0);
            let mask = 1u64;
            expect_errno(libc::syscall(libc::SYS_sched_setaffinity, 1, 8, &mask), libc::EPERM);
        }
    });
}

fn affinity() {
    // SAFETY: plain calls on locals.
    unsafe {
        let mut all = 0u64;
        assert!(libc::syscall(libc::SYS_sched_getaffinity, 0, 8, &mut all) > 0);
        assert_eq!(all.count_ones() as i64, libc::sysconf(libc::_SC_NPROCESSORS_ONLN));
        for cpu in 0..all.count_ones() {
            let mask = 1u64 << cpu;
            assert_eq!(libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &mask), 0);
            let mut seen = 0u64;
            assert!(libc::syscall(libc::SYS_sched_getaffinity, 0, 8, &mut seen) > 0);
            assert_eq!(seen, mask);
            assert_eq!(libc::sched_getcpu(), cpu as i32);
            let (mut by_call, mut node) = (99u32, 99u32);
            assert_eq!(libc::syscall(libc::SYS_getcpu, &mut by_call, &mut node, 0usize), 0);
            assert_eq!((by_call, node), (cpu, 0));
        }
        let nothing = 1u64 << 62;
        expect_errno(libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &nothing), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_setaffinity, 99_999, 8, &all), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_sched_setaffinity, 0, 8, 8usize), libc::EFAULT);
        assert_eq!(libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &all), 0);
    }
}

fn affinity_odd_sizes() {
    // SAFETY: plain calls on locals.
    unsafe {
        let mut mask = [0u8; 1024];
        expect_errno(libc::syscall(libc::SYS_sched_getaffinity, 0, 3, mask.as_mut_ptr()), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_getaffinity, 0, 0, mask.as_mut_ptr()), libc::EINVAL);
        let bytes = libc::syscall(libc::SYS_sched_getaffinity, 0, 1024, mask.as_mut_ptr());
        assert!(bytes >= 8 && bytes % 8 == 0);
        for len in [1usize, 3, 7, 9, 1000] {
            assert_eq!(libc::syscall(libc::SYS_sched_setaffinity, 0, len, mask.as_ptr()), 0, "size {len}");
        }
        expect_errno(libc::syscall(libc::SYS_sched_setaffinity, 0, 0, mask.as_ptr()), libc::EINVAL);
    }
}

fn nice_levels() {
    // SAFETY: plain calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, 0), 20);
        assert_eq!(libc::setpriority(0, 0, -100), 0);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, 0), 40);
        assert_eq!(libc::setpriority(0, 0, 100), 0);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, 0), 1);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 1, 0), 1);
        child_succeeds(|| assert_eq!(libc::syscall(libc::SYS_getpriority, 0, 0), 1));
        expect_errno(libc::syscall(libc::SYS_getpriority, 3, 0), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_getpriority, 0, 99_999), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_setpriority, 0, 99_999, 0), libc::ESRCH);
    }
}

fn attributes() {
    // size, policy, flags, nice, priority, runtime, deadline, period
    let mut attr = [0u32; 14];
    // SAFETY: plain calls on locals.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 56, 0), 0);
        assert_eq!((attr[0], attr[1], attr[4], attr[5]), (56, 0, 0, 0));
        assert_eq!(libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 48, 0), 0);
        assert_eq!(attr[0], 48);
        expect_errno(libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 47, 0), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 48, 1), libc::EINVAL);
        let mut new = [0u32; 14];
        new[0] = 48;
        new[1] = 1;
        new[5] = 7;
        assert_eq!(libc::syscall(libc::SYS_sched_setattr, 0, new.as_ptr(), 0), 0);
        assert_eq!(libc::syscall(libc::SYS_sched_getattr, 0, attr.as_mut_ptr(), 56, 0), 0);
        assert_eq!((attr[1], attr[5]), (1, 7));
        new[1] = 0;
        new[4] = 6;
        new[5] = 0;
        assert_eq!(libc::syscall(libc::SYS_sched_setattr, 0, new.as_ptr(), 0), 0);
        assert_eq!(libc::syscall(libc::SYS_getpriority, 0, 0), 14);
        new[0] = 5;
        expect_errno(libc::syscall(libc::SYS_sched_setattr, 0, new.as_ptr(), 0), libc::E2BIG);
        assert_eq!(new[0] & 0xff, 56);
        expect_errno(libc::syscall(libc::SYS_sched_setattr, 0, 0usize, 0), libc::EINVAL);
    }
}

fn io_priority() {
    // SAFETY: plain calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_ioprio_set, 1, 0, 2 << 13 | 5), 0);
        assert_eq!(libc::syscall(libc::SYS_ioprio_get, 1, 0), 2 << 13 | 5);
        expect_errno(libc::syscall(libc::SYS_ioprio_set, 1, 0, 7 << 13), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_ioprio_set, 0, 0, 2 << 13), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_ioprio_get, 1, 99_999), libc::ESRCH);
    }
}

fn pin() {
    let mask = 1u64;
    // SAFETY: plain call on a local.
    assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, 8, &mask) }, 0);
}

fn yield_lets_others_run() {
    pin();
    static TURN: AtomicU64 = AtomicU64::new(0);
    let other = std::thread::spawn(|| {
        for round in 0..1000 {
            while TURN.load(Ordering::Acquire) != 2 * round + 1 {
                std::thread::yield_now();
            }
            TURN.store(2 * round + 2, Ordering::Release);
        }
    });
    for round in 0..1000 {
        while TURN.load(Ordering::Acquire) != 2 * round {
            std::thread::yield_now();
        }
        TURN.store(2 * round + 1, Ordering::Release);
    }
    other.join().unwrap();
}

fn fifo_goes_first() {
    pin();
    static STARTED: AtomicU64 = AtomicU64::new(0);
    assert_eq!(set(0, 1, 50), 0);
    let low = std::thread::spawn(|| {
        assert_eq!(set(0, 1, 10), 0);
        STARTED.store(1, Ordering::SeqCst);
    });
    let end = std::time::Instant::now() + std::time::Duration::from_millis(30);
    // The new thread inherits priority 50 and runs only when this one sleeps or ends.
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
    assert_eq!(STARTED.load(Ordering::SeqCst), 0);
    low.join().unwrap();
    assert_eq!(set(0, 0, 0), 0);
}

fn nice_shares_the_cpu() {
    pin();
    static WORK: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    let share = || {
        WORK.iter().for_each(|work| work.store(0, Ordering::Relaxed));
        let start = std::time::Instant::now();
        // Both have had a turn before it ends.
        let goes_on = move || {
            let elapsed = start.elapsed().as_millis();
            elapsed < 600 || WORK[1].load(Ordering::Relaxed) == 0 && elapsed < 10_000
        };
        std::thread::scope(|scope| {
            for index in [0usize, 1] {
                scope.spawn(move || {
                    // SAFETY: plain call: the second thread is nice.
                    unsafe { libc::syscall(libc::SYS_setpriority, 0, 0, index as i32 * 10) };
                    while goes_on() {
                        WORK[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        WORK.each_ref().map(|work| work.load(Ordering::Relaxed))
    };
    // A host that is away for long is counted against whoever runs just then.
    let mut seen = Vec::new();
    let is_shared = (0..5).any(|_| {
        let [plain, nice] = share();
        seen.push((plain, nice));
        nice > 0 && plain > nice * 3
    });
    assert!(is_shared, "plain and nice: {seen:?}");
}

/// Three threads that never sleep on one CPU: none is left out, the starter of the others included. Each does the same work,
/// so that it is not the time of a host that counts: who is done first has left the others more than a quarter of theirs.
fn equals_take_turns() {
    pin();
    static WORK: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    const UNITS: u64 = 4000;
    let done = || WORK.each_ref().map(|work| work.load(Ordering::Relaxed));
    // One try: what the others had done when the starter came to its own work, and what all had when the first was done.
    let try_once = || {
        WORK.iter().for_each(|work| work.store(0, Ordering::Relaxed));
        let is_over = AtomicBool::new(false);
        let at_the_end = std::sync::Mutex::new([0; 3]);
        let work = |index: usize| {
            for _ in 0..UNITS {
                for _ in 0..10_000 {
                    std::hint::spin_loop();
                }
                WORK[index].fetch_add(1, Ordering::Relaxed);
            }
            if !is_over.swap(true, Ordering::SeqCst) {
                *at_the_end.lock().unwrap() = done();
            }
        };
        let mut started = [0; 3];
        std::thread::scope(|scope| {
            let work = &work;
            for index in [0, 1] {
                scope.spawn(move || work(index));
            }
            started = done();
            work(2);
        });
        (started, *at_the_end.lock().unwrap())
    };
    // A host that is away for long is counted against whoever runs just then.
    let mut seen = Vec::new();
    let is_fair = (0..5).any(|_| {
        let (started, end) = try_once();
        seen.push((started, end));
        started.iter().all(|work| *work < UNITS / 2) && end.iter().all(|work| *work > UNITS / 4)
    });
    assert!(is_fair, "{seen:?}");
}

/// Says so when its owner is done, or has failed.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A call that moves half a gibibyte does not keep the CPU for itself.
fn long_calls_let_others_run() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 512;
    let turns = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let stay_on_one_cpu = || {
        // SAFETY: plain calls on locals.
        unsafe {
            let mut set = zeroed::<libc::cpu_set_t>();
            libc::CPU_SET(0, &mut set);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on_one_cpu();
            while !is_over.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            let _over = SetOnDrop(&is_over);
            stay_on_one_cpu();
            let mut piece = vec![1u8; PIECE];
            let again = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: PIECE };
            let pieces = vec![again; PIECES];
            let during = |what: &str, call: &dyn Fn() -> isize| {
                let before = turns.load(Ordering::Relaxed);
                assert_eq!(call(), (PIECE * PIECES) as isize, "{what}: {}", std::io::Error::last_os_error());
                // One turn may be had when the call begins, and one when it ends.
                let turns = turns.load(Ordering::Relaxed) - before;
                assert!(turns > 4, "{turns} turns during {what}");
            };
            // SAFETY: the pieces lie in `piece`, which nobody reads; what is copied onto itself stays as it is.
            unsafe {
                let fd = libc::memfd_create(c"hole".as_ptr(), 0);
                assert_eq!(libc::ftruncate(fd, (PIECE * PIECES) as i64), 0);
                during("preadv", &|| libc::preadv(fd, pieces.as_ptr(), PIECES as i32, 0));
                libc::close(fd);
                let (count, list) = (PIECES as u64, pieces.as_ptr());
                during("process_vm_readv", &|| libc::process_vm_readv(libc::getpid(), list, count, list, count, 0));
                during("process_vm_writev", &|| libc::process_vm_writev(libc::getpid(), list, count, list, count, 0));
            }
        });
    });
}
