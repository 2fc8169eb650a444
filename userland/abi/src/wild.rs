//! Every system call with wild pointers and odd values: errors of this world, and a machine that lives.
//!
//! Each call number gets a child of its own, which makes the call again and again with arguments drawn from [`pool`]. A child
//! that blocks or breaks itself is replaced by one that goes on behind that call. Calls that would take the machine down or
//! change it for others by design are left out.

use crate::harness::{Tests, child_succeeds, errno};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[("system_calls_1", first), ("system_calls_2", second), ("system_calls_3", third)];

/// Left out: exit, exit_group; umount2, mount, pivot_root, vhangup, acct, settimeofday, clock_settime, adjtimex, clock_adjtime,
/// sethostname, setdomainname, reboot, swapon, swapoff, init_module, delete_module, finit_module, kexec_load, syslog, quotactl,
/// setpriority; kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal; makers of System V objects and message
/// queues, which would outlive the test; sync and syncfs.
const LEFT_OUT: &[i64] = &[
    93, 94, 39, 40, 41, 58, 89, 170, 112, 171, 266, 161, 162, 142, 224, 225, 105, 106, 273, 104, 116, 60, 140, 129,
    130, 131, 138, 240, 424, 186, 190, 194, 180, 81, 267,
];
/// Their first argument names a process: the caller.
const OF_SELF: &[i64] = &[118, 119, 122, 261, 274, 270, 271, 30, 434];
const CLONE: i64 = 220;
const CLONE3: i64 = 435;
const ROUNDS: u64 = 48;
/// How long one call may block before its child is given up.
const PATIENCE: Duration = Duration::from_millis(60);
/// Children given up for one call number, at most.
const MAX_GIVEN_UP: u64 = 6;

/// What parent and child share: how far the child has come, and what it found wrong.
struct Shared {
    round: AtomicU64,
    wrong: AtomicI64,
    arguments: [AtomicU64; 6],
}

/// One page of mapped memory with `protection`, and nothing behind it.
fn page(protection: i32, flags: i32) -> u64 {
    // SAFETY: a new mapping, of which the second half is closed.
    unsafe {
        let at = libc::mmap(null_mut(), 8192, protection, flags | libc::MAP_ANONYMOUS, -1, 0);
        assert!(at != libc::MAP_FAILED, "errno {}", errno());
        assert_eq!(libc::mprotect(at.byte_add(4096), 4096, libc::PROT_NONE), 0);
        at as u64
    }
}

fn pool() -> Vec<u64> {
    let good = page(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
    let path = page(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
    // SAFETY: the page is ours.
    unsafe { std::ptr::copy_nonoverlapping(c"/tmp/wild".as_ptr(), path as *mut _, 10) };
    let read_only = page(libc::PROT_READ, libc::MAP_PRIVATE);
    let closed = page(libc::PROT_NONE, libc::MAP_PRIVATE);
    vec![
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        16,
        64,
        0x1000,
        0xfff,
        u64::MAX,
        -100i32 as u64,
        -2i64 as u64,
        0x7fff_ffff,
        0x8000_0000,
        1 << 63,
        i64::MAX as u64,
        0x0000_ffff_ffff_f000,
        0x0000_ffff_ffff_fffc,
        0x0001_0000_0000_0000,
        0xffff_0000_0000_0000,
        0xffff_ffff_ffff_f000,
        0xdead_beef_dead_beef,
        good,
        good + 4096 - 4,
        good + 1,
        good | 0x55 << 56,
        path,
        path,
        read_only,
        closed,
        closed - 2,
    ]
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    // SAFETY: plain call on a local.
    unsafe { libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }) };
}

/// Makes `number`'s calls from round `from` on.
fn child(number: i64, from: u64, shared: &Shared) -> ! {
    // SAFETY: a process of its own, which may break.
    unsafe {
        libc::setsid();
        for fd in 0..3 {
            libc::close(fd);
        }
        // Descriptors 0 to 8: what small numbers hit.
        let mut fds = [0; 2];
        libc::open(c"/tmp".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600);
        libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK);
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0, fds.as_mut_ptr());
        libc::epoll_create1(0);
        libc::eventfd(1, libc::EFD_NONBLOCK);
        libc::timerfd_create(1, libc::TFD_NONBLOCK);
        libc::open(c"/tmp".as_ptr(), libc::O_RDONLY);
        libc::inotify_init1(libc::IN_NONBLOCK);
        limit(libc::RLIMIT_AS, 128 << 20);
        limit(libc::RLIMIT_FSIZE, 4 << 20);
        limit(libc::RLIMIT_NOFILE, 64);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let pool = pool();
        for round in from..ROUNDS {
            let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ (round + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
            let mut arguments = [0u64; 6];
            for argument in &mut arguments {
                random(&mut state);
                *argument = pool[(random(&mut state) >> 20) as usize % pool.len()];
            }
            if OF_SELF.contains(&number) {
                arguments[0] = 0;
            }
            for (to, from) in shared.arguments.iter().zip(arguments) {
                to.store(from, SeqCst);
            }
            shared.round.store(round, SeqCst);
            let [a, b, c, d, e, f] = arguments;
            let result: i64;
            // A new process or thread leaves at once, without touching the stack it may share.
            std::arch::asm!(
                "svc #0",
                "cmp x8, {clone}", "b.eq 2f",
                "mov x9, {clone3}", "cmp x8, x9", "b.ne 3f",
                "2: cbnz x0, 3f",
                "mov x8, #93", "svc #0",
                "3:",
                clone = const CLONE, clone3 = const CLONE3,
                inlateout("x0") a as i64 => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
                inlateout("x8") number => _, out("x9") _,
            );
            let is_errno = (-4095..0).contains(&result);
            if is_errno && !(1..=133).contains(&-result) {
                shared.wrong.store(result, SeqCst);
                break;
            }
        }
        shared.round.store(ROUNDS, SeqCst);
        libc::syscall(libc::SYS_exit_group, 0);
    }
    unreachable!()
}

/// Waits for `pid`; kills it when it makes no progress. A child that cannot be killed is the failure looked for.
fn attend(number: i64, pid: i32, shared: &Shared) {
    let mut status = 0;
    let mut seen = (shared.round.load(SeqCst), Instant::now());
    let mut killed: Option<Instant> = None;
    loop {
        // SAFETY: plain calls.
        unsafe {
            if libc::waitpid(pid, &mut status, libc::WNOHANG) != 0 {
                return;
            }
            let round = shared.round.load(SeqCst);
            if round != seen.0 {
                seen = (round, Instant::now());
            }
            match killed {
                None if seen.1.elapsed() > PATIENCE => {
                    libc::kill(pid, libc::SIGKILL);
                    killed = Some(Instant::now());
                }
                Some(since) => assert!(since.elapsed() < crate::harness::PATIENCE, "call {number} cannot be killed"),
                None => {}
            }
            libc::usleep(500);
        }
    }
}

fn calls(numbers: std::ops::Range<i64>) {
    let at = page(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a page of zeros, which is a valid `Shared`.
    let shared = unsafe { &*(at as *const Shared) };
    for number in numbers.filter(|number| !LEFT_OUT.contains(number)) {
        let mut from = 0;
        let mut given_up = 0;
        while from < ROUNDS && given_up < MAX_GIVEN_UP {
            shared.round.store(from, SeqCst);
            // SAFETY: the child never returns.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "fork: errno {}", errno());
            if pid == 0 {
                child(number, from, shared);
            }
            attend(number, pid, shared);
            let arguments = shared.arguments.each_ref().map(|argument| argument.load(SeqCst));
            let wrong = shared.wrong.load(SeqCst);
            assert!(wrong == 0, "call {number}({arguments:x?}) answered {wrong}");
            from = shared.round.load(SeqCst) + 1;
            given_up += 1;
        }
    }
    // What a child left lying about.
    let _ = std::fs::remove_file("/tmp/wild");
    let _ = std::fs::remove_dir_all("/tmp/wild");
    child_succeeds(|| assert_eq!(std::fs::read("/proc/self/comm").unwrap().last(), Some(&b'\n')));
}

fn first() {
    calls(0..100);
}

fn second() {
    calls(100..220);
}

fn third() {
    calls(220..462);
}
