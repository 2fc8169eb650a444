//! eventfd(2), timerfd_create(2), signalfd(2), pidfd_open(2), epoll(7) and process_vm_readv(2): flags and errnos one by one.

use super::support::{errno_of, ok};
use super::{close, pipe_with, poll_one, read, write};
use crate::harness::{child_succeeds, others_asleep, until_asleep};
use libc::*;
use std::ptr::{null, null_mut};

fn raw_write(fd: i32, value: u64) -> i32 {
    errno_of(write(fd, &value.to_ne_bytes()) as i64)
}

fn raw_read(fd: i32) -> Result<u64, i32> {
    read(fd, 8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()))
}

pub fn eventfd_rules() {
    for bad in [2, O_APPEND, EFD_SEMAPHORE | 0x10, -1] {
        assert_eq!(errno_of(unsafe { eventfd(0, bad) }), EINVAL);
    }
    let fd = ok(unsafe { eventfd(u32::MAX, EFD_CLOEXEC | EFD_NONBLOCK) });
    assert_eq!(unsafe { (fcntl(fd, F_GETFD), fcntl(fd, F_GETFL)) }, (FD_CLOEXEC, O_RDWR | O_NONBLOCK));
    assert_eq!(raw_read(fd), Ok(u64::from(u32::MAX)));
    assert_eq!(raw_read(fd), Err(EAGAIN));
    assert_eq!(read(fd, 7), Err(EINVAL));
    assert_eq!(errno_of(write(fd, &[1; 7]) as i64), EINVAL);
    assert_eq!(raw_write(fd, u64::MAX), EINVAL);
    assert_eq!(errno_of(unsafe { libc::write(fd, 8 as *const c_void, 8) } as i64), EFAULT);
    // More than eight bytes are no error, only eight count.
    assert_eq!(write(fd, &[0; 16]), 8);
    assert_eq!(poll_one(fd, POLLIN | POLLOUT, 0), POLLOUT);
    assert_eq!(raw_write(fd, u64::MAX - 1), 0);
    assert_eq!(poll_one(fd, POLLIN | POLLOUT, 0), POLLIN);
    assert_eq!((raw_write(fd, 1), raw_write(fd, 0)), (EAGAIN, 0));
    assert_eq!(read(fd, 20).map(|bytes| bytes.len()), Ok(8));
    assert_eq!(errno_of(unsafe { lseek(fd, 0, SEEK_CUR) }), 0);
    assert_eq!(errno_of(unsafe { pread(fd, [0u8; 8].as_mut_ptr().cast(), 8, 0) } as i64), ESPIPE);
    let mut n = 0;
    assert_eq!(errno_of(unsafe { ioctl(fd, FIONREAD, &mut n) }), ENOTTY);
    // A reader with a bad address: the count is gone.
    assert_eq!(raw_write(fd, 3), 0);
    assert_eq!(errno_of(unsafe { libc::read(fd, 8 as *mut c_void, 8) } as i64), EFAULT);
    // A semaphore gives one at a time.
    let fd = ok(unsafe { eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK) });
    assert_eq!((raw_read(fd), raw_read(fd), raw_read(fd)), (Ok(1), Ok(1), Err(EAGAIN)));
    // A writer waits for room; a reader for a count.
    let fd = ok(unsafe { eventfd(0, 0) });
    assert_eq!(raw_write(fd, u64::MAX - 1), 0);
    let writer = std::thread::spawn(move || assert_eq!(raw_write(fd, 5), 0));
    others_asleep();
    assert_eq!(raw_read(fd), Ok(u64::MAX - 1));
    writer.join().unwrap();
    assert_eq!(raw_read(fd), Ok(5));
    let reader = std::thread::spawn(move || assert_eq!(raw_read(fd), Ok(9)));
    others_asleep();
    assert_eq!(raw_write(fd, 9), 0);
    reader.join().unwrap();
    // It has no O_ASYNC: asking is no error and changes nothing.
    ok(unsafe { fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) });
    assert_eq!(unsafe { fcntl(fd, F_GETFL) }, O_RDWR | O_NONBLOCK);
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    assert!(text.contains("eventfd-count:                0"), "{text}");
}

fn timer(ns: i64, interval_ns: i64) -> itimerspec {
    let time = |ns: i64| timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) };
    itimerspec { it_interval: time(interval_ns), it_value: time(ns) }
}

pub fn timerfd_rules() {
    for clock in [CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_TAI, 99, -1] {
        assert_eq!(errno_of(unsafe { timerfd_create(clock, 0) }), EINVAL, "clock {clock}");
    }
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM] {
        close(ok(unsafe { timerfd_create(clock, TFD_CLOEXEC) }));
    }
    assert_eq!(errno_of(unsafe { timerfd_create(CLOCK_MONOTONIC, O_APPEND) }), EINVAL);
    child_succeeds(|| {
        ok(unsafe { setresuid(1000, 1000, 1000) });
        assert_eq!(errno_of(unsafe { timerfd_create(CLOCK_BOOTTIME_ALARM, 0) }), EPERM);
    });
    let fd = ok(unsafe { timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC) });
    assert_eq!(unsafe { (fcntl(fd, F_GETFD), fcntl(fd, F_GETFL)) }, (FD_CLOEXEC, O_RDWR | O_NONBLOCK));
    let set = |fd, flags, new: &itimerspec| errno_of(unsafe { timerfd_settime(fd, flags, new, null_mut()) });
    assert_eq!(set(fd, 4, &timer(1, 0)), EINVAL);
    assert_eq!(set(fd, 0, &timer(-1_000_000_000, 0)), EINVAL);
    let mut bad = timer(1, 0);
    bad.it_interval.tv_nsec = 1_000_000_000;
    assert_eq!(set(fd, 0, &bad), EINVAL);
    assert_eq!(set(999, 4, &timer(1, 0)), EINVAL);
    assert_eq!(errno_of(unsafe { syscall(SYS_timerfd_settime, 999, 0, 8usize, 0usize) }), EFAULT);
    assert_eq!(errno_of(unsafe { timerfd_gettime(999, &mut timer(0, 0)) }), EBADF);
    assert_eq!(errno_of(unsafe { timerfd_gettime(0, &mut timer(0, 0)) }), EINVAL);
    assert_eq!(errno_of(unsafe { syscall(SYS_timerfd_gettime, fd, 8usize) }), EFAULT);
    assert_eq!(read(fd, 7), Err(EINVAL));
    assert_eq!(read(fd, 8), Err(EAGAIN));
    assert_eq!(errno_of(write(fd, &[0; 8]) as i64), EINVAL);
    // An absolute time that is past is due at once; what was there is told.
    assert_eq!(set(fd, 0, &timer(1_000_000_000_000, 5)), 0);
    let mut old = timer(0, 0);
    assert_eq!(unsafe { timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer(1, 0), &mut old) }, 0);
    assert!(old.it_interval.tv_nsec == 5 && old.it_value.tv_sec >= 990);
    assert_eq!(poll_one(fd, POLLIN, 1000), POLLIN);
    assert_eq!((raw_read(fd), raw_read(fd)), (Ok(1), Err(EAGAIN)));
    // Setting it anew forgets what was due; 0 stops it.
    assert_eq!(set(fd, TFD_TIMER_ABSTIME, &timer(1, 0)), 0);
    assert_eq!(poll_one(fd, POLLIN, 1000), POLLIN);
    assert_eq!(set(fd, 0, &timer(0, 7)), 0);
    assert_eq!(raw_read(fd), Err(EAGAIN));
    assert_eq!(unsafe { timerfd_gettime(fd, &mut old) }, 0);
    assert_eq!((old.it_value.tv_sec, old.it_value.tv_nsec), (0, 0));
    // Many periods at once.
    assert_eq!(set(fd, TFD_TIMER_ABSTIME, &timer(1, 1_000_000)), 0);
    assert_eq!(poll_one(fd, POLLIN, 1000), POLLIN);
    assert!(raw_read(fd).unwrap() > 10);
    ok(unsafe { fcntl(fd, F_SETFL, O_ASYNC) });
    assert_eq!(unsafe { fcntl(fd, F_GETFL) }, O_RDWR);
}

fn set_of(signals: &[i32]) -> sigset_t {
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        signals.iter().for_each(|signal| assert_eq!(sigaddset(&mut set, *signal), 0));
        set
    }
}

pub fn signalfd_rules() {
    let set = set_of(&[SIGUSR1, SIGUSR2]);
    let call = |fd: i32, mask: *const sigset_t, size: usize, flags: i32| unsafe {
        syscall(SYS_signalfd4, fd, mask, size, flags)
    };
    assert_eq!(errno_of(call(-1, &set, 4, 0)), EINVAL);
    assert_eq!(errno_of(call(-1, 8 as *const sigset_t, 8, 0)), EFAULT);
    assert_eq!(errno_of(call(-1, &set, 8, O_APPEND)), EINVAL);
    assert_eq!(errno_of(call(999, &set, 8, 0)), EBADF);
    assert_eq!(errno_of(call(0, &set, 8, 0)), EINVAL);
    let fd = call(-1, &set, 8, SFD_NONBLOCK | SFD_CLOEXEC) as i32;
    assert_eq!(unsafe { (fcntl(fd, F_GETFD), fcntl(fd, F_GETFL)) }, (FD_CLOEXEC, O_RDWR | O_NONBLOCK));
    unsafe { sigprocmask(SIG_BLOCK, &set, null_mut()) };
    assert_eq!(read(fd, 127), Err(EINVAL));
    assert_eq!(read(fd, 128), Err(EAGAIN));
    assert_eq!(errno_of(write(fd, &[0; 128]) as i64), EINVAL);
    unsafe { (kill(getpid(), SIGUSR2), kill(getpid(), SIGUSR1)) };
    assert_eq!(poll_one(fd, POLLIN, 0), POLLIN);
    // As many as there is room for, lowest number first.
    let bytes = read(fd, 128 * 3 + 5).unwrap();
    assert_eq!(bytes.len(), 256);
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(128), word(12)), (SIGUSR1 as u32, SIGUSR2 as u32, unsafe { getpid() } as u32));
    // The set is replaced; SIGKILL and SIGSTOP are left out of it without a word.
    assert_eq!(call(fd, &set_of(&[SIGUSR2, SIGKILL, SIGSTOP]), 8, 0), i64::from(fd));
    unsafe { kill(getpid(), SIGUSR1) };
    assert_eq!((poll_one(fd, POLLIN, 0), read(fd, 128)), (0, Err(EAGAIN)));
    assert_eq!(call(fd, &set, 8, 0), i64::from(fd));
    assert_eq!(read(fd, 128).map(|bytes| bytes.len()), Ok(128));
    // Whoever reads takes his own: a child's signals are not the parent's.
    let (r, w) = pipe_with(0);
    let child = super::support::child(|| {
        ok(unsafe { fcntl(fd, F_SETFL, 0) });
        write(w, b"x");
        assert_eq!(read(fd, 128).map(|bytes| bytes[0]), Ok(SIGUSR1 as u8));
    });
    assert_eq!(read(r, 1), Ok(b"x".to_vec()));
    until_asleep(child);
    unsafe { kill(child, SIGUSR1) };
    assert_eq!(super::support::reap(child), 0);
    // A value and a code of sigqueue.
    unsafe { sigqueue(getpid(), SIGUSR2, sigval { sival_ptr: 0x1234 as *mut c_void }) };
    let bytes = read(fd, 128).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(8) as i32, word(44)), (-1, 0x1234));
}

pub fn pidfd_rules() {
    let open = |pid: i32, flags: u32| unsafe { syscall(SYS_pidfd_open, pid, flags) };
    assert_eq!(errno_of(open(0, 0)), EINVAL);
    assert_eq!(errno_of(open(-1, 0)), EINVAL);
    assert_eq!(errno_of(open(1, 1)), EINVAL);
    assert_eq!(errno_of(open(4_000_000, 0)), ESRCH);
    let thread = std::thread::scope(|scope| scope.spawn(|| errno_of(open(unsafe { gettid() }, 0))).join().unwrap());
    assert_eq!(thread, EINVAL, "a thread that does not lead");
    let (r, w) = pipe_with(0);
    let child = super::support::child(|| drop(read(r, 1)));
    let fd = ok(open(child, O_NONBLOCK as u32)) as i32;
    assert_eq!(unsafe { (fcntl(fd, F_GETFD), fcntl(fd, F_GETFL)) }, (FD_CLOEXEC, O_RDWR | O_NONBLOCK));
    let mut info: siginfo_t = unsafe { std::mem::zeroed() };
    let wait = |info: &mut siginfo_t, flags| errno_of(unsafe { waitid(P_PIDFD, fd as u32, info, flags) });
    // Non-blocking: a child that runs is EAGAIN.
    assert_eq!(wait(&mut info, WEXITED), EAGAIN);
    assert_eq!(poll_one(fd, POLLIN, 0), 0);
    assert_eq!(read(fd, 8), Err(EINVAL));
    assert_eq!(errno_of(write(fd, b"12345678") as i64), EINVAL);
    let send = |fd: i32, signal: i32, info: usize, flags: u32| {
        errno_of(unsafe { syscall(SYS_pidfd_send_signal, fd, signal, info, flags) })
    };
    assert_eq!(send(fd, 0, 0, 1), EINVAL);
    assert_eq!(send(999, 0, 0, 0), EBADF);
    assert_eq!(send(r, 0, 0, 0), EBADF);
    assert_eq!(send(fd, 65, 0, 0), EINVAL);
    assert_eq!(send(fd, 0, 8, 0), EFAULT);
    assert_eq!(send(fd, 0, 0, 0), 0);
    // A siginfo that names another signal, or speaks as the kernel.
    info.si_signo = SIGUSR2;
    info.si_code = -1;
    assert_eq!(send(fd, SIGUSR1, &raw const info as usize, 0), EINVAL);
    info.si_signo = SIGUSR1;
    info.si_code = 1;
    assert_eq!(send(fd, SIGUSR1, &raw const info as usize, 0), EPERM);
    let get = |fd: i32, target: i32, flags: u32| unsafe { syscall(SYS_pidfd_getfd, fd, target, flags) };
    assert_eq!(errno_of(get(fd, r, 1)), EINVAL);
    assert_eq!(errno_of(get(r, r, 0)), EBADF);
    assert_eq!(errno_of(get(fd, 999, 0)), EBADF);
    let theirs = ok(get(fd, w, 0)) as i32;
    assert_eq!(unsafe { fcntl(theirs, F_GETFD) }, FD_CLOEXEC);
    assert_eq!(write(theirs, b"x"), 1);
    assert_eq!(poll_one(fd, POLLIN, 5000), POLLIN);
    assert_eq!(errno_of(get(fd, w, 0)), ESRCH);
    assert_eq!(send(fd, 0, 0, 0), 0, "a zombie is still there");
    assert_eq!(wait(&mut info, WEXITED | WNOWAIT), 0);
    assert_eq!(wait(&mut info, WEXITED), 0);
    assert_eq!(unsafe { (info.si_pid(), info.si_status()) }, (child, 0));
    assert_eq!((wait(&mut info, WEXITED), send(fd, 0, 0, 0)), (ECHILD, ESRCH));
    assert_eq!(errno_of(unsafe { waitid(P_PIDFD, r as u32, &mut info, WEXITED) }), EBADF);
    assert_eq!(errno_of(unsafe { waitid(P_PIDFD, 999, &mut info, WEXITED) }), EBADF);
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    assert!(text.lines().any(|line| line == "Pid:\t-1"), "{text}");
}

pub fn epoll_rules() {
    assert_eq!(errno_of(unsafe { epoll_create(0) }), EINVAL);
    assert_eq!(errno_of(unsafe { epoll_create1(1) }), EINVAL);
    let poll = ok(unsafe { epoll_create1(EPOLL_CLOEXEC) });
    assert_eq!(unsafe { fcntl(poll, F_GETFD) }, FD_CLOEXEC);
    let (r, w) = pipe_with(0);
    let ctl = |poll, command, fd, events: i32| {
        let mut event = epoll_event { events: events as u32, u64: 7 };
        errno_of(unsafe { epoll_ctl(poll, command, fd, &mut event) })
    };
    assert_eq!(ctl(999, EPOLL_CTL_ADD, r, EPOLLIN), EBADF);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, 999, EPOLLIN), EBADF);
    assert_eq!(ctl(r, EPOLL_CTL_ADD, w, EPOLLIN), EINVAL);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, poll, EPOLLIN), EINVAL);
    let file = ok(unsafe { open(c"/tmp".as_ptr(), O_TMPFILE | O_RDWR, 0o600) });
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, file, EPOLLIN), EPERM);
    assert_eq!(ctl(poll, 9, r, EPOLLIN), EINVAL);
    assert_eq!(ctl(poll, EPOLL_CTL_MOD, r, EPOLLIN), ENOENT);
    assert_eq!(ctl(poll, EPOLL_CTL_DEL, r, EPOLLIN), ENOENT);
    assert_eq!(errno_of(unsafe { syscall(SYS_epoll_ctl, poll, EPOLL_CTL_ADD, r, 8usize) }), EFAULT);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, EPOLLIN), 0);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, EPOLLIN), EEXIST);
    assert_eq!(errno_of(unsafe { syscall(SYS_epoll_ctl, poll, EPOLL_CTL_DEL, r, 0usize) }), 0);
    // EPOLLEXCLUSIVE: with few other flags, never by MOD, and not on an epoll.
    let exclusive = EPOLLEXCLUSIVE | EPOLLIN;
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, exclusive | EPOLLONESHOT), EINVAL);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, exclusive | EPOLLRDHUP), EINVAL);
    let other = ok(unsafe { epoll_create1(0) });
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, other, exclusive), EINVAL);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, exclusive | EPOLLET), 0);
    assert_eq!(ctl(poll, EPOLL_CTL_MOD, r, EPOLLIN), EINVAL);
    assert_eq!(ctl(poll, EPOLL_CTL_DEL, r, 0), 0);
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, r, EPOLLIN), 0);
    assert_eq!(ctl(poll, EPOLL_CTL_MOD, r, exclusive), EINVAL);
    // Circles and depth.
    assert_eq!(ctl(poll, EPOLL_CTL_ADD, other, EPOLLIN), 0);
    assert_eq!(ctl(other, EPOLL_CTL_ADD, poll, EPOLLIN), ELOOP);
    let mut chain = other;
    let mut depth = 0;
    let found = loop {
        let next = ok(unsafe { epoll_create1(0) });
        match ctl(chain, EPOLL_CTL_ADD, next, EPOLLIN) {
            0 => (chain, depth) = (next, depth + 1),
            error => break error,
        }
        assert!(depth < 10);
    };
    assert_eq!((found, depth), (ELOOP, 3));
    // Waiting.
    let mut events: [epoll_event; 4] = unsafe { std::mem::zeroed() };
    let wait = |fd, at: *mut epoll_event, count, ms| errno_of(unsafe { epoll_wait(fd, at, count, ms) });
    assert_eq!(wait(poll, events.as_mut_ptr(), 0, 0), EINVAL);
    assert_eq!(wait(poll, events.as_mut_ptr(), -1, 0), EINVAL);
    assert_eq!(wait(poll, events.as_mut_ptr(), i32::MAX, 0), EINVAL);
    assert_eq!(wait(999, events.as_mut_ptr(), 1, 0), EBADF);
    assert_eq!(wait(r, events.as_mut_ptr(), 1, 0), EINVAL);
    assert_eq!(wait(poll, 8 as *mut epoll_event, 1, 0), 0);
    write(w, b"x");
    assert_eq!(wait(poll, 8 as *mut epoll_event, 1, 0), EFAULT);
    assert_eq!(unsafe { epoll_wait(poll, events.as_mut_ptr(), 4, 0) }, 1);
    let pwait2 = |time: *const timespec| unsafe {
        errno_of(syscall(SYS_epoll_pwait2, poll, events.as_ptr(), 4, time, 0usize, 8usize))
    };
    assert_eq!(pwait2(&timespec { tv_sec: 0, tv_nsec: -1 }), EINVAL);
    assert_eq!(pwait2(8 as *const timespec), EFAULT);
    assert_eq!(pwait2(null()), 0);
    let mask = set_of(&[]);
    assert_eq!(errno_of(unsafe { syscall(SYS_epoll_pwait, poll, events.as_ptr(), 4, 0, &mask, 4usize) }), EINVAL);
    assert_eq!(errno_of(unsafe { syscall(SYS_epoll_pwait, poll, events.as_ptr(), 4, 0, 8usize, 8usize) }), EFAULT);
}

pub fn process_vm() {
    let mut source = *b"0123456789";
    let mut target = [0u8; 10];
    let pid = unsafe { getpid() };
    let part = |at: *mut u8, len: usize| iovec { iov_base: at.cast(), iov_len: len };
    let local = [part(target.as_mut_ptr(), 4), part(unsafe { target.as_mut_ptr().add(4) }, 6)];
    let remote = [part(source.as_mut_ptr(), 7), part(unsafe { source.as_mut_ptr().add(7) }, 3)];
    let call = |number: i64, pid: i32, local: &[iovec], remote: &[iovec], flags: u64| unsafe {
        syscall(number, pid, local.as_ptr(), local.len(), remote.as_ptr(), remote.len(), flags)
    };
    let readv = |pid, local: &[iovec], remote: &[iovec], flags| call(SYS_process_vm_readv, pid, local, remote, flags);
    assert_eq!(readv(pid, &local, &remote, 0), 10);
    assert_eq!(&target, b"0123456789");
    assert_eq!(errno_of(readv(pid, &local, &remote, 1)), EINVAL);
    assert_eq!(errno_of(readv(4_000_000, &local, &remote, 0)), ESRCH);
    assert_eq!((readv(pid, &[], &remote, 0), readv(pid, &local, &[], 0)), (0, 0));
    let many: Vec<iovec> = (0..1025).map(|_| part(null_mut(), 0)).collect();
    assert_eq!(errno_of(readv(pid, &local, &many, 0)), EINVAL);
    assert_eq!(errno_of(readv(pid, &many, &remote, 0)), EINVAL);
    assert_eq!(errno_of(readv(pid, &local, &[part(source.as_mut_ptr(), usize::MAX)], 0)), EINVAL);
    assert_eq!(errno_of(unsafe { syscall(SYS_process_vm_readv, pid, 8usize, 1, remote.as_ptr(), 1, 0) }), EFAULT);
    assert_eq!(errno_of(unsafe { syscall(SYS_process_vm_readv, pid, local.as_ptr(), 1, 8usize, 1, 0) }), EFAULT);
    // What could be copied before the bad place counts.
    let bad = part(8 as *mut u8, 5);
    assert_eq!(errno_of(readv(pid, &local, &[bad], 0)), EFAULT);
    assert_eq!(readv(pid, &local, &[part(source.as_mut_ptr(), 3), bad], 0), 3);
    assert_eq!(errno_of(readv(pid, &[bad], &remote, 0)), EFAULT);
    // Into another process, and not into one's that may not be traced, nor into read-only memory.
    let (r, w) = pipe_with(0);
    let (r2, w2) = pipe_with(0);
    let place = source.as_mut_ptr();
    let child = super::support::child(|| {
        write(w2, b"x");
        read(r, 1).unwrap();
        let seen = unsafe { std::ptr::read_volatile(place.cast::<[u8; 10]>()) };
        assert_eq!(&seen, b"ab23456789");
    });
    read(r2, 1).unwrap();
    let mut text = *b"ab";
    let writev = |pid, local: &[iovec], remote: &[iovec]| call(SYS_process_vm_writev, pid, local, remote, 0);
    assert_eq!(writev(child, &[part(text.as_mut_ptr(), 2)], &[part(place, 2)]), 2);
    let constant = c"constant".as_ptr().cast_mut().cast();
    assert_eq!(errno_of(writev(child, &[part(text.as_mut_ptr(), 2)], &[part(constant, 2)])), EFAULT);
    assert_eq!(&source, b"0123456789");
    child_succeeds(|| {
        ok(unsafe { setresuid(1000, 1000, 1000) });
        assert_eq!(errno_of(readv(child, &local, &remote, 0)), EPERM);
    });
    write(w, b"x");
    assert_eq!(super::support::reap(child), 0);
}
