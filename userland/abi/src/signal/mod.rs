//! Signals: delivery order, masks, flags of sigaction, frames, restart rules, waiting, stops, faults.

mod group;
mod limit;
mod restart;
mod rules;
mod stack;

use crate::harness::{Tests, child_dies_of, child_succeeds, expect_errno, in_child};
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

pub const TESTS: Tests = &[
    ("handler_gets_info", handler_gets_info),
    ("number_order_and_queues", number_order_and_queues),
    ("mask_during_handler", mask_during_handler),
    ("resethand_and_nodefer", resethand_and_nodefer),
    ("alternate_stack", stack::alternate_stack),
    ("alternate_stack_errors", stack::alternate_stack_errors),
    ("floating_point_survives", stack::floating_point_survives),
    ("faults", stack::faults),
    ("fault_blocked_kills", stack::fault_blocked_kills),
    ("restart_and_eintr", restart_and_eintr),
    ("sleep_never_restarts_with_handler", sleep_never_restarts_with_handler),
    ("sigsuspend_restores", sigsuspend_restores),
    ("sigtimedwait", sigtimedwait),
    ("sigqueue_values", sigqueue_values),
    ("pending_limit", pending_limit),
    ("pending_of_a_user", limit::pending_of_a_user),
    ("beyond_the_limit", limit::beyond_the_limit),
    ("timers_and_files_at_the_limit", limit::timers_and_files),
    ("errors", errors),
    ("ignored_are_dropped", ignored_are_dropped),
    ("thread_directed", thread_directed),
    ("default_actions", group::default_actions),
    ("stop_and_continue", group::stop_and_continue),
    ("stop_storm", group::stop_storm),
    ("between_processes", group::between_processes),
    ("signalfd_reads", signalfd_reads),
    ("kill_ends_all_threads", group::kill_ends_all_threads),
    ("permissions", group::permissions),
    ("storm", group::storm),
    ("unknown_flags_are_cleared", rules::unknown_flags_are_cleared),
    ("sigaction_errors", rules::sigaction_errors),
    ("alternate_stack_rules", rules::alternate_stack_rules),
    ("queueing", rules::queueing),
    ("waiting_for_signals", rules::waiting_for_signals),
    ("children_and_flags", rules::children_and_flags),
    ("wait_rules", rules::wait_rules),
    ("restart_files", restart::restart_files),
    ("restart_sockets", restart::restart_sockets),
    ("restart_processes", restart::restart_processes),
    ("restart_ipc", restart::restart_ipc),
];

static LOG: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];
static LOGGED: AtomicUsize = AtomicUsize::new(0);
static LAST: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

extern "C" fn log(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    LOG[LOGGED.fetch_add(1, SeqCst) % 64].store(signal, SeqCst);
    unsafe {
        LAST[0].store((*info).si_code as u64, SeqCst);
        LAST[1].store((*info).si_pid() as u64, SeqCst);
        LAST[2].store((*info).si_value().sival_ptr as u64, SeqCst);
        LAST[3].store((*info).si_addr() as u64, SeqCst);
    }
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(signal: i32, flags: i32, handler: Handler) {
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}

fn block(signals: &[i32]) {
    assert_eq!(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set_of(signals), null_mut()) }, 0);
}

fn unblock(signals: &[i32]) {
    assert_eq!(unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &set_of(signals), null_mut()) }, 0);
}

fn mask() -> u64 {
    let mut mask = 0u64;
    assert_eq!(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 0, 0usize, &mut mask, 8) }, 0);
    mask
}

fn logged() -> Vec<i32> {
    (0..LOGGED.load(SeqCst)).map(|at| LOG[at % 64].load(SeqCst)).collect()
}

fn kill_self(signal: i32) {
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

/// Runs `body` and, when it sleeps, sends `signal` to this process from a child.
fn with_later(signal: i32, body: impl FnOnce()) {
    unsafe {
        let parent = libc::getpid();
        let child = libc::fork();
        if child == 0 {
            crate::harness::until_asleep(parent);
            libc::kill(parent, signal);
            libc::_exit(0);
        }
        body();
        while libc::waitpid(child, null_mut(), 0) == -1 {}
    }
}

fn handler_gets_info() {
    handle(libc::SIGUSR1, 0, log);
    kill_self(libc::SIGUSR1);
    assert_eq!(logged(), [libc::SIGUSR1]);
    assert_eq!(LAST[0].load(SeqCst), 0);
    assert_eq!(LAST[1].load(SeqCst), u64::from(std::process::id()));
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(LAST[0].load(SeqCst) as i32, -6);
}

fn number_order_and_queues() {
    let (low, high) = (libc::SIGRTMIN(), libc::SIGRTMIN() + 3);
    for signal in [libc::SIGUSR1, libc::SIGHUP, low, high] {
        handle(signal, 0, log);
        unsafe { libc::sigaddset(&mut zeroed(), signal) };
    }
    // While one handler runs the others wait, so that the order is that of taking.
    block(&[libc::SIGUSR1, libc::SIGHUP, low, high]);
    for signal in [high, low, libc::SIGUSR1, libc::SIGUSR1, libc::SIGHUP, low, high] {
        kill_self(signal);
    }
    let mut taken = Vec::new();
    let all = set_of(&[libc::SIGUSR1, libc::SIGHUP, low, high]);
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match unsafe { libc::sigtimedwait(&all, null_mut(), &zero) } {
            -1 => break,
            signal => taken.push(signal),
        }
    }
    assert_eq!(taken, [libc::SIGHUP, libc::SIGUSR1, low, low, high, high]);
}

static SEEN_MASK: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_mask(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    SEEN_MASK.store(mask(), SeqCst);
}

fn mask_during_handler() {
    let before = mask();
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = note_mask as Handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_mask = set_of(&[libc::SIGTERM, libc::SIGKILL]);
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, null_mut()), 0);
    }
    kill_self(libc::SIGUSR1);
    assert_eq!(SEEN_MASK.load(SeqCst), before | 1 << 9 | 1 << 14);
    assert_eq!(mask(), before);
    block(&[libc::SIGKILL, libc::SIGSTOP]);
    assert_eq!(mask(), before);
}

fn resethand_and_nodefer() {
    handle(libc::SIGUSR1, libc::SA_RESETHAND | libc::SA_NODEFER, note_mask);
    kill_self(libc::SIGUSR1);
    assert_eq!(SEEN_MASK.load(SeqCst) & 1 << 9, 0);
    let mut action: libc::sigaction = unsafe { zeroed() };
    unsafe { libc::sigaction(libc::SIGUSR1, std::ptr::null(), &mut action) };
    assert_eq!(action.sa_sigaction, libc::SIG_DFL);
    child_dies_of(libc::SIGUSR1, || kill_self(libc::SIGUSR1));
}

fn restart_and_eintr() {
    let mut pipe = [0; 2];
    unsafe { assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0) };
    let [from, to] = pipe;
    handle(libc::SIGUSR1, 0, log);
    with_later(libc::SIGUSR1, || unsafe {
        let mut byte = 0u8;
        expect_errno(libc::read(from, (&raw mut byte).cast(), 1) as i64, libc::EINTR);
    });
    handle(libc::SIGUSR1, libc::SA_RESTART, log);
    unsafe {
        let parent = libc::getpid();
        let child = libc::fork();
        if child == 0 {
            crate::harness::until_asleep(parent);
            libc::kill(parent, libc::SIGUSR1);
            crate::harness::until_asleep(parent);
            libc::write(to, c"x".as_ptr().cast(), 1);
            libc::_exit(0);
        }
        let mut byte = 0u8;
        assert_eq!(libc::read(from, (&raw mut byte).cast(), 1), 1);
        assert_eq!(byte, b'x');
        assert_eq!(libc::waitpid(child, null_mut(), 0), child);
        // poll never restarts.
        with_later(libc::SIGUSR1, || {
            expect_errno(i64::from(libc::poll(null_mut(), 0, 5000)), libc::EINTR);
        });
    }
    assert_eq!(LOGGED.load(SeqCst), 3);
}

fn sleep_never_restarts_with_handler() {
    handle(libc::SIGUSR1, libc::SA_RESTART, log);
    with_later(libc::SIGUSR1, || unsafe {
        let want = libc::timespec { tv_sec: 500, tv_nsec: 0 };
        let mut left: libc::timespec = zeroed();
        let start = Instant::now();
        expect_errno(i64::from(libc::nanosleep(&want, &mut left)), libc::EINTR);
        let (left, slept) = (Duration::new(left.tv_sec as u64, left.tv_nsec as u32), start.elapsed());
        assert!(
            left < Duration::from_secs(500) && left + slept >= Duration::from_secs(500),
            "{slept:?}, {left:?} left"
        );
    });
    // Stop and continue without a handler: the sleep goes on to its end.
    unsafe {
        let parent = libc::getpid();
        let child = libc::fork();
        if child == 0 {
            libc::usleep(20_000);
            libc::kill(parent, libc::SIGSTOP);
            libc::usleep(20_000);
            libc::kill(parent, libc::SIGCONT);
            libc::_exit(0);
        }
        let start = Instant::now();
        let want = libc::timespec { tv_sec: 0, tv_nsec: 150_000_000 };
        assert_eq!(libc::nanosleep(&want, null_mut()), 0);
        let slept = start.elapsed();
        assert!(slept >= Duration::from_millis(150) && slept < Duration::from_secs(15), "{slept:?}");
        libc::waitpid(child, null_mut(), 0);
    }
}

fn sigsuspend_restores() {
    handle(libc::SIGUSR1, 0, note_mask);
    block(&[libc::SIGUSR1, libc::SIGUSR2]);
    let before = mask();
    kill_self(libc::SIGUSR1);
    let none = set_of(&[libc::SIGTERM]);
    expect_errno(i64::from(unsafe { libc::sigsuspend(&none) }), libc::EINTR);
    assert_eq!(SEEN_MASK.load(SeqCst), 1 << 14 | 1 << 9);
    assert_eq!(mask(), before);
    with_later(libc::SIGUSR1, || expect_errno(i64::from(unsafe { libc::sigsuspend(&none) }), libc::EINTR));
    assert_eq!(mask(), before);
}

fn sigtimedwait() {
    block(&[libc::SIGUSR1, libc::SIGUSR2]);
    let set = set_of(&[libc::SIGUSR1]);
    unsafe {
        let mut info: libc::siginfo_t = zeroed();
        let short = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let start = Instant::now();
        expect_errno(i64::from(libc::sigtimedwait(&set, &mut info, &short)), libc::EAGAIN);
        assert!(start.elapsed() >= Duration::from_millis(20));
        let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        expect_errno(i64::from(libc::sigtimedwait(&set, &mut info, &bad)), libc::EINVAL);
        with_later(libc::SIGUSR1, || {
            assert_eq!(libc::sigwaitinfo(&set, &mut info), libc::SIGUSR1);
            assert_eq!(info.si_code, 0);
        });
        handle(libc::SIGHUP, libc::SA_RESTART, log);
        with_later(libc::SIGHUP, || expect_errno(i64::from(libc::sigwaitinfo(&set, &mut info)), libc::EINTR));
    }
}

fn sigqueue_values() {
    let signal = libc::SIGRTMIN() + 2;
    block(&[signal]);
    let set = set_of(&[signal]);
    unsafe {
        for value in 1..=20usize {
            assert_eq!(libc::sigqueue(libc::getpid(), signal, libc::sigval { sival_ptr: value as *mut _ }), 0);
        }
        for value in 1..=20usize {
            let mut info: libc::siginfo_t = zeroed();
            assert_eq!(libc::sigwaitinfo(&set, &mut info), signal);
            assert_eq!((info.si_code, info.si_value().sival_ptr as usize), (-1, value));
            assert_eq!(info.si_pid(), libc::getpid());
        }
    }
}

fn pending_limit() {
    let signal = libc::SIGRTMIN();
    block(&[signal]);
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 10, rlim_max: 10 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &limit), 0);
        let mut sent = 0;
        while libc::sigqueue(libc::getpid(), signal, libc::sigval { sival_ptr: null_mut() }) == 0 && sent < 100 {
            sent += 1;
        }
        assert!(sent > 0 && sent <= 10, "{sent}");
        expect_errno(
            i64::from(libc::sigqueue(libc::getpid(), signal, libc::sigval { sival_ptr: null_mut() })),
            libc::EAGAIN,
        );
        // kill never fails for want of room.
        for _ in 0..100 {
            assert_eq!(libc::kill(libc::getpid(), signal), 0);
        }
        let (set, zero) = (set_of(&[signal]), libc::timespec { tv_sec: 0, tv_nsec: 0 });
        let mut taken = 0;
        while libc::sigtimedwait(&set, null_mut(), &zero) == signal {
            taken += 1;
        }
        assert!(taken <= 11, "{taken}");
        limit.rlim_cur = 11;
        limit.rlim_max = 11;
        libc::setrlimit(libc::RLIMIT_SIGPENDING, &limit);
    }
}

fn errors() {
    unsafe {
        expect_errno(i64::from(libc::kill(0, 65)), libc::EINVAL);
        expect_errno(i64::from(libc::kill(0, -1)), libc::EINVAL);
        expect_errno(i64::from(libc::kill(99_999, 0)), libc::ESRCH);
        expect_errno(i64::from(libc::kill(-99_999, 0)), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_tgkill, 0, 1, 0), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_tgkill, libc::getpid(), 99_999, 0), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_tgkill, 1, libc::getpid(), 0), libc::ESRCH);
        expect_errno(libc::syscall(libc::SYS_tkill, -1, 0), libc::EINVAL);
        let mut action = [0u64; 4];
        expect_errno(libc::syscall(libc::SYS_rt_sigaction, libc::SIGKILL, action.as_ptr(), 0usize, 8), libc::EINVAL);
        assert_eq!(libc::syscall(libc::SYS_rt_sigaction, libc::SIGKILL, 0usize, action.as_mut_ptr(), 8), 0);
        expect_errno(libc::syscall(libc::SYS_rt_sigaction, 0, 0usize, 0usize, 8), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_rt_sigaction, 65, 0usize, 0usize, 8), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_rt_sigaction, 10, 0usize, 0usize, 4), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_rt_sigaction, 10, 8usize, 0usize, 8), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_rt_sigprocmask, 3, &0u64, 0usize, 8), libc::EINVAL);
        assert_eq!(libc::syscall(libc::SYS_rt_sigprocmask, 3, 0usize, 0usize, 8), 0);
        expect_errno(libc::syscall(libc::SYS_rt_sigprocmask, 0, 8usize, 0usize, 8), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_rt_sigsuspend, &0u64, 4), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_rt_sigpending, &mut 0u64, 9), libc::EINVAL);
        let mut info: libc::siginfo_t = zeroed();
        info.si_code = 0;
        expect_errno(libc::syscall(libc::SYS_rt_sigqueueinfo, 1, 10, &info), libc::EPERM);
        assert_eq!(libc::kill(0, 0), 0);
        assert_eq!(libc::kill(libc::getpid(), 0), 0);
    }
}

fn ignored_are_dropped() {
    unsafe {
        block(&[libc::SIGUSR1, libc::SIGCHLD]);
        kill_self(libc::SIGUSR1);
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        let mut pending: libc::sigset_t = zeroed();
        libc::sigpending(&mut pending);
        assert_eq!(libc::sigismember(&pending, libc::SIGUSR1), 0);
        // Blocked and ignored: it stays pending, it could be waited for.
        kill_self(libc::SIGUSR1);
        libc::sigpending(&mut pending);
        assert_eq!(libc::sigismember(&pending, libc::SIGUSR1), 1);
        handle(libc::SIGUSR1, 0, log);
        unblock(&[libc::SIGUSR1]);
        assert_eq!(logged(), [libc::SIGUSR1]);
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        kill_self(libc::SIGUSR1);
        assert_eq!(logged().len(), 1);
    }
}

static TAKER: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_thread(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    TAKER.store(unsafe { libc::gettid() }, SeqCst);
}

fn thread_directed() {
    handle(libc::SIGUSR1, 0, note_thread);
    static TID: AtomicI32 = AtomicI32::new(0);
    let thread = std::thread::spawn(|| {
        TID.store(unsafe { libc::gettid() }, SeqCst);
        let start = Instant::now();
        while TAKER.load(SeqCst) == 0 && start.elapsed() < crate::harness::PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    while TID.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), TID.load(SeqCst), libc::SIGUSR1) };
    thread.join().unwrap();
    assert_eq!(TAKER.load(SeqCst), TID.load(SeqCst));
    // The process's signal goes to the one thread that does not block it.
    TAKER.store(0, SeqCst);
    TID.store(0, SeqCst);
    let other = std::thread::spawn(|| {
        TID.store(unsafe { libc::gettid() }, SeqCst);
        while TAKER.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
    });
    while TID.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    block(&[libc::SIGUSR1]);
    kill_self(libc::SIGUSR1);
    other.join().unwrap();
    assert_eq!(TAKER.load(SeqCst), TID.load(SeqCst));
}

fn signalfd_reads() {
    block(&[libc::SIGUSR1, libc::SIGCHLD]);
    unsafe {
        let fd = libc::signalfd(-1, &set_of(&[libc::SIGUSR1, libc::SIGCHLD]), libc::SFD_NONBLOCK);
        assert!(fd >= 0);
        let mut record: libc::signalfd_siginfo = zeroed();
        let at = (&raw mut record).cast();
        expect_errno(libc::read(fd, at, 128) as i64, libc::EAGAIN);
        expect_errno(libc::read(fd, at, 127) as i64, libc::EINVAL);
        kill_self(libc::SIGUSR1);
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        assert_eq!(libc::poll(&mut poll, 1, 0), 1);
        assert_eq!(libc::read(fd, at, 128), 128);
        assert_eq!((record.ssi_signo, record.ssi_pid), (10, std::process::id()));
        let child = libc::fork();
        if child == 0 {
            libc::_exit(5);
        }
        assert_eq!(libc::poll(&mut poll, 1, 5000), 1);
        assert_eq!(libc::read(fd, at, 128), 128);
        assert_eq!((record.ssi_signo, record.ssi_code, record.ssi_pid, record.ssi_status), (17, 1, child as u32, 5));
        libc::waitpid(child, null_mut(), 0);
        expect_errno(i64::from(libc::signalfd(0, &set_of(&[]), 0)), libc::EINVAL);
    }
}
