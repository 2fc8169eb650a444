//! The table of signal(7): which blocking calls go on after a handler with SA_RESTART, which end with EINTR whatever the handler
//! says, and which end with EINTR after a stop and a continue without any handler.
//!
//! Each case blocks in a child; a signal is sent once it sleeps. A call that goes on sleeps again, one that does not ends the child
//! with its errno as exit status.

use crate::harness::{errno, until_asleep};
use libc::*;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::SeqCst};

/// What ends the wait.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    /// Restarted with SA_RESTART; EINTR without; goes on after a stop.
    Restarts,
    /// Always EINTR with a handler; goes on after a stop.
    Handler,
    /// EINTR with a handler and after a stop.
    Always,
    /// Goes on whatever comes.
    Never,
}
use Rule::{Always, Handler, Never, Restarts};

type Case = (&'static str, Rule, fn() -> i64);

fn pair(kind: i32) -> [i32; 2] {
    let mut fds = [0; 2];
    assert_eq!(unsafe { socketpair(AF_UNIX, kind, 0, fds.as_mut_ptr()) }, 0);
    fds
}

fn pipe_ends() -> [i32; 2] {
    let mut fds = [0; 2];
    assert_eq!(unsafe { pipe(fds.as_mut_ptr()) }, 0);
    fds
}

fn read_one(fd: i32) -> i64 {
    let mut bytes = [0u8; 256];
    unsafe { read(fd, bytes.as_mut_ptr().cast(), 256) as i64 }
}

/// A pipe that is full.
fn full_pipe() -> i32 {
    let [_, w] = pipe_ends();
    let bytes = [0u8; 65536];
    assert_eq!(unsafe { write(w, bytes.as_ptr().cast(), 65536) }, 65536);
    w
}

/// One end of a stream whose buffer is full.
fn full_socket() -> i32 {
    let [a, _] = pair(SOCK_STREAM);
    let bytes = [0u8; 4096];
    while unsafe { send(a, bytes.as_ptr().cast(), 4096, MSG_DONTWAIT) } > 0 {}
    a
}

fn set_timeout(fd: i32, name: i32) -> i32 {
    let time = timeval { tv_sec: 100, tv_usec: 0 };
    assert_eq!(unsafe { setsockopt(fd, SOL_SOCKET, name, (&raw const time).cast(), size_of::<timeval>() as u32) }, 0);
    fd
}

fn long() -> timespec {
    timespec { tv_sec: 100, tv_nsec: 0 }
}

fn name(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(format!("/tmp/abi-restart-{text}-{}", std::process::id())).unwrap()
}

fn listener(backlog: i32) -> (i32, sockaddr_un, u32) {
    unsafe {
        let fd = socket(AF_UNIX, SOCK_STREAM, 0);
        let mut address: sockaddr_un = zeroed();
        address.sun_family = AF_UNIX as u16;
        let text = format!("\0abi-restart-{}", std::process::id());
        for (slot, byte) in address.sun_path.iter_mut().zip(text.bytes()) {
            *slot = byte as _;
        }
        let len = 2 + text.len() as u32;
        assert_eq!(bind(fd, (&raw const address).cast(), len), 0);
        assert_eq!(listen(fd, backlog), 0);
        (fd, address, len)
    }
}

/// How far a case has come, in memory its parent sees: 0 while it prepares something that sleeps, then 2; 1 if there is no such.
fn progress() -> &'static AtomicU32 {
    static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
    if PAGE.load(SeqCst).is_null() {
        let page = unsafe { mmap(null_mut(), 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
        assert!(page != MAP_FAILED);
        PAGE.store(page.cast(), SeqCst);
    }
    unsafe { &*PAGE.load(SeqCst) }
}

/// The case sleeps in the call it is about.
fn until_blocked(pid: i32) {
    loop {
        let before = progress().load(SeqCst);
        until_asleep(pid);
        if before != 0 && progress().load(SeqCst) == before {
            return;
        }
    }
}

/// A file whose lock another process holds.
fn locked_file(lock: fn(i32) -> i64) -> i32 {
    progress().store(0, SeqCst);
    let path = name("lock");
    unsafe {
        let fd = open(path.as_ptr(), O_RDWR | O_CREAT, 0o600);
        let [r, w] = pipe_ends();
        if fork() == 0 {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            let own = open(path.as_ptr(), O_RDWR);
            assert_eq!(lock(own), 0);
            write(w, b"x".as_ptr().cast(), 1);
            loop {
                pause();
            }
        }
        read_one(r);
        unlink(path.as_ptr());
        progress().store(2, SeqCst);
        fd
    }
}

fn record_lock(fd: i32, command: i32) -> i64 {
    unsafe {
        let mut lock: flock = zeroed();
        lock.l_type = F_WRLCK as i16;
        i64::from(fcntl(fd, command, &lock))
    }
}

fn full_message_queue() -> i32 {
    unsafe {
        let id = msgget(IPC_PRIVATE, 0o600);
        let text = [1u64; 1024];
        while msgsnd(id, text.as_ptr().cast(), 4096, IPC_NOWAIT) == 0 {}
        id
    }
}

fn posix_queue() -> i32 {
    unsafe {
        let name = std::ffi::CString::new(format!("abi-restart-{}", std::process::id())).unwrap();
        let attr: [i64; 8] = [0, 1, 8, 0, 0, 0, 0, 0];
        let id = syscall(SYS_mq_open, name.as_ptr(), O_CREAT | O_RDWR, 0o600, &attr) as i32;
        assert!(id >= 0);
        syscall(SYS_mq_unlink, name.as_ptr());
        id
    }
}

fn futex(op: i32, word: &u32, value: u32, timeout: usize) -> i64 {
    unsafe { syscall(SYS_futex, word, op, value, timeout, 0usize, u32::MAX) }
}

/// The other end of a terminal.
fn terminal() -> i32 {
    unsafe {
        let master = posix_openpt(O_RDWR | O_NOCTTY);
        assert_eq!((grantpt(master), unlockpt(master)), (0, 0));
        let mut name = [0; 64];
        assert_eq!(ptsname_r(master, name.as_mut_ptr(), name.len()), 0);
        open(name.as_ptr(), O_RDWR | O_NOCTTY)
    }
}

/// A socket of the internet, bound to some port of any address.
fn inet_socket(kind: i32) -> i32 {
    unsafe {
        let fd = socket(AF_INET, kind, 0);
        let mut address: sockaddr_in = zeroed();
        address.sin_family = AF_INET as u16;
        assert_eq!(bind(fd, (&raw const address).cast(), size_of::<sockaddr_in>() as u32), 0);
        if kind == SOCK_STREAM {
            assert_eq!(listen(fd, 1), 0);
        }
        fd
    }
}

/// Where a socket bound to any address is to be found on this machine.
fn local_address(fd: i32) -> sockaddr_in {
    unsafe {
        let mut address: sockaddr_in = zeroed();
        let mut len = size_of::<sockaddr_in>() as u32;
        assert_eq!(getsockname(fd, (&raw mut address).cast(), &mut len), 0);
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        address
    }
}

fn connect_to(fd: i32, address: &sockaddr_in) -> i64 {
    i64::from(unsafe { connect(fd, std::ptr::from_ref(address).cast(), size_of::<sockaddr_in>() as u32) })
}

/// A connection of TCP: both ends.
fn tcp_pair() -> [i32; 2] {
    crate::inet::lo_up();
    unsafe {
        let listener = inet_socket(SOCK_STREAM);
        let client = socket(AF_INET, SOCK_STREAM, 0);
        assert_eq!(connect_to(client, &local_address(listener)), 0);
        [client, accept(listener, null_mut(), null_mut())]
    }
}

/// One end of a connection whose buffers are full.
fn full_tcp() -> i32 {
    progress().store(0, SeqCst);
    let [a, _] = tcp_pair();
    let bytes = [0u8; 65536];
    // What is on its way arrives, until nothing moves any more.
    let mut quiet = 0;
    while quiet < 5 {
        match unsafe { send(a, bytes.as_ptr().cast(), bytes.len(), MSG_DONTWAIT) } {
            -1 => quiet += 1,
            _ => quiet = 0,
        }
        unsafe { usleep(20_000) };
    }
    progress().store(2, SeqCst);
    a
}

/// Connects to a listener that takes no more.
fn crowded_connect(timeout: bool) -> i64 {
    progress().store(0, SeqCst);
    crate::inet::lo_up();
    let listener = unsafe { socket(AF_INET, SOCK_STREAM, 0) };
    let new = || unsafe { socket(AF_INET, SOCK_STREAM, 0) };
    unsafe {
        let any: sockaddr_in = sockaddr_in { sin_family: AF_INET as u16, ..zeroed() };
        assert_eq!(bind(listener, (&raw const any).cast(), size_of::<sockaddr_in>() as u32), 0);
        assert_eq!(listen(listener, 0), 0);
    }
    let address = local_address(listener);
    assert_eq!(connect_to(new(), &address), 0);
    // Only when the first one waits to be accepted is there no room for a second.
    let mut waiting = pollfd { fd: listener, events: POLLIN, revents: 0 };
    assert_eq!(unsafe { poll(&mut waiting, 1, -1) }, 1);
    let fd = if timeout { set_timeout(new(), SO_SNDTIMEO) } else { new() };
    progress().store(2, SeqCst);
    connect_to(fd, &address)
}

/// The CPU time of the process, far from now.
fn much_cpu_time(absolute: i32) -> i64 {
    unsafe { syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, absolute, &long(), 0usize) }
}

/// A time on CLOCK_REALTIME that is far away.
fn late() -> timespec {
    unsafe {
        let mut now: timespec = zeroed();
        clock_gettime(CLOCK_REALTIME, &mut now);
        timespec { tv_sec: now.tv_sec + 1000, ..now }
    }
}

fn sleeping_child() -> i32 {
    unsafe {
        let pid = fork();
        if pid == 0 {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            loop {
                pause();
            }
        }
        pid
    }
}

const FILES: &[Case] = &[
    ("read of a pipe", Restarts, || read_one(pipe_ends()[0])),
    ("write to a pipe", Restarts, || unsafe { write(full_pipe(), b"x".as_ptr().cast(), 1) as i64 }),
    ("open of a FIFO", Restarts, || unsafe {
        let path = name("fifo");
        assert_eq!(mkfifo(path.as_ptr(), 0o600), 0);
        i64::from(open(path.as_ptr(), O_RDONLY))
    }),
    ("splice from a pipe", Restarts, || unsafe {
        splice(pipe_ends()[0], null_mut(), pipe_ends()[1], null_mut(), 1, 0) as i64
    }),
    ("tee", Restarts, || unsafe { tee(pipe_ends()[0], pipe_ends()[1], 1, 0) as i64 }),
    ("read of an eventfd", Restarts, || unsafe { read_one(eventfd(0, 0)) }),
    ("read of a timerfd", Restarts, || unsafe { read_one(timerfd_create(CLOCK_MONOTONIC, 0)) }),
    ("read of a signalfd", Restarts, || unsafe {
        let mut set: sigset_t = zeroed();
        sigaddset(&mut set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, null_mut());
        read_one(signalfd(-1, &set, 0))
    }),
    ("read of an inotify", Restarts, || unsafe { read_one(inotify_init1(0)) }),
    ("flock", Restarts, || unsafe { i64::from(flock(locked_file(|fd| i64::from(flock(fd, LOCK_EX))), LOCK_EX)) }),
    ("F_SETLKW", Restarts, || record_lock(locked_file(|fd| record_lock(fd, F_SETLK)), F_SETLKW)),
    ("F_OFD_SETLKW", Restarts, || record_lock(locked_file(|fd| record_lock(fd, F_SETLK)), F_OFD_SETLKW)),
    ("open of a FIFO for writing", Restarts, || unsafe {
        let path = name("fifo-w");
        assert_eq!(mkfifo(path.as_ptr(), 0o600), 0);
        i64::from(open(path.as_ptr(), O_WRONLY))
    }),
    ("vmsplice to a full pipe", Restarts, || unsafe {
        let part = iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
        vmsplice(full_pipe(), &part, 1, 0) as i64
    }),
    ("sendfile to a full pipe", Restarts, || unsafe {
        sendfile(full_pipe(), open(c"/proc/self/exe".as_ptr(), O_RDONLY), null_mut(), 1) as i64
    }),
    ("write of an eventfd", Restarts, || unsafe {
        let fd = eventfd(0, 0);
        assert_eq!(write(fd, (&raw const *Box::leak(Box::new(u64::MAX - 1))).cast(), 8), 8);
        write(fd, 1u64.to_ne_bytes().as_ptr().cast(), 8) as i64
    }),
    ("read of a terminal", Restarts, || read_one(terminal())),
    ("ppoll", Handler, || unsafe {
        let mut entry = pollfd { fd: pipe_ends()[0], events: POLLIN, revents: 0 };
        i64::from(ppoll(&mut entry, 1, &long(), null()))
    }),
    ("pselect", Handler, || unsafe { i64::from(pselect(0, null_mut(), null_mut(), null_mut(), &long(), null())) }),
    ("epoll_pwait2", Always, || unsafe {
        let mut event: epoll_event = zeroed();
        syscall(SYS_epoll_pwait2, epoll_create1(0), &mut event, 1, &long(), 0usize, 8usize)
    }),
    ("poll", Handler, || unsafe {
        let mut entry = pollfd { fd: pipe_ends()[0], events: POLLIN, revents: 0 };
        i64::from(poll(&mut entry, 1, -1))
    }),
    ("poll with a time-out", Handler, || unsafe {
        let mut entry = pollfd { fd: pipe_ends()[0], events: POLLIN, revents: 0 };
        i64::from(poll(&mut entry, 1, 100_000))
    }),
    ("select", Handler, || unsafe { i64::from(select(0, null_mut(), null_mut(), null_mut(), null_mut())) }),
    ("epoll_wait", Always, || unsafe {
        let mut event: epoll_event = zeroed();
        i64::from(epoll_wait(epoll_create1(0), &mut event, 1, -1))
    }),
];

const SOCKETS: &[Case] = &[
    ("accept", Restarts, || unsafe { i64::from(accept(listener(1).0, null_mut(), null_mut())) }),
    ("connect", Restarts, || unsafe {
        let (_, address, len) = listener(0);
        assert_eq!(connect(socket(AF_UNIX, SOCK_STREAM, 0), (&raw const address).cast(), len), 0);
        i64::from(connect(socket(AF_UNIX, SOCK_STREAM, 0), (&raw const address).cast(), len))
    }),
    ("recv of a stream", Restarts, || read_one(pair(SOCK_STREAM)[0])),
    ("recv of a datagram", Restarts, || read_one(pair(SOCK_DGRAM)[0])),
    ("send to a stream", Restarts, || unsafe { send(full_socket(), b"x".as_ptr().cast(), 1, 0) as i64 }),
    ("recv of UDP", Restarts, || read_one(inet_socket(SOCK_DGRAM))),
    ("accept of TCP", Restarts, || unsafe { i64::from(accept(inet_socket(SOCK_STREAM), null_mut(), null_mut())) }),
    ("connect of TCP", Restarts, || crowded_connect(false)),
    ("connect of TCP with SO_SNDTIMEO", Always, || crowded_connect(true)),
    ("recv of TCP", Restarts, || read_one(tcp_pair()[0])),
    ("recv of TCP with SO_RCVTIMEO", Always, || read_one(set_timeout(tcp_pair()[0], SO_RCVTIMEO))),
    ("send of TCP", Restarts, || unsafe { send(full_tcp(), b"x".as_ptr().cast(), 1, 0) as i64 }),
    ("send of TCP with SO_SNDTIMEO", Always, || unsafe {
        send(set_timeout(full_tcp(), SO_SNDTIMEO), b"x".as_ptr().cast(), 1, 0) as i64
    }),
    ("recv of netlink", Restarts, || unsafe { read_one(socket(AF_NETLINK, SOCK_RAW, 0)) }),
    ("recv of UDP with SO_RCVTIMEO", Always, || read_one(set_timeout(inet_socket(SOCK_DGRAM), SO_RCVTIMEO))),
    ("accept of TCP with SO_RCVTIMEO", Always, || unsafe {
        i64::from(accept(set_timeout(inet_socket(SOCK_STREAM), SO_RCVTIMEO), null_mut(), null_mut()))
    }),
    ("recv of netlink with SO_RCVTIMEO", Always, || unsafe {
        read_one(set_timeout(socket(AF_NETLINK, SOCK_RAW, 0), SO_RCVTIMEO))
    }),
    ("recvmsg", Restarts, || unsafe {
        let mut bytes = [0u8; 8];
        let mut part = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 };
        let mut message: msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        recvmsg(pair(SOCK_SEQPACKET)[0], &mut message, 0) as i64
    }),
    ("recv with SO_RCVTIMEO", Always, || read_one(set_timeout(pair(SOCK_STREAM)[0], SO_RCVTIMEO))),
    ("recv of a datagram with SO_RCVTIMEO", Always, || read_one(set_timeout(pair(SOCK_DGRAM)[0], SO_RCVTIMEO))),
    ("send with SO_SNDTIMEO", Always, || unsafe {
        send(set_timeout(full_socket(), SO_SNDTIMEO), b"x".as_ptr().cast(), 1, 0) as i64
    }),
    ("accept with SO_RCVTIMEO", Always, || unsafe {
        i64::from(accept(set_timeout(listener(1).0, SO_RCVTIMEO), null_mut(), null_mut()))
    }),
];

const PROCESSES: &[Case] = &[
    ("wait4", Restarts, || unsafe { i64::from(waitpid(sleeping_child(), null_mut(), 0)) }),
    ("waitid", Restarts, || unsafe {
        let mut info: siginfo_t = zeroed();
        i64::from(waitid(P_PID, sleeping_child() as u32, &mut info, WEXITED))
    }),
    ("pause", Handler, || unsafe { i64::from(ppoll(null_mut(), 0, null(), null())) }),
    ("sigsuspend", Handler, || unsafe {
        let set: sigset_t = zeroed();
        i64::from(sigsuspend(&set))
    }),
    ("sigtimedwait", Always, || unsafe {
        let mut set: sigset_t = zeroed();
        sigaddset(&mut set, SIGUSR2);
        syscall(SYS_rt_sigtimedwait, &set, 0usize, &long(), 8usize)
    }),
    ("nanosleep", Handler, || unsafe { syscall(SYS_nanosleep, &long(), 0usize) }),
    ("clock_nanosleep, absolute", Handler, || unsafe {
        syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &late(), 0usize)
    }),
    ("clock_nanosleep of CPU time", Handler, || much_cpu_time(0)),
    ("clock_nanosleep of CPU time, absolute", Handler, || much_cpu_time(TIMER_ABSTIME)),
    ("waitid of a pidfd", Restarts, || unsafe {
        let fd = syscall(SYS_pidfd_open, sleeping_child(), 0);
        let mut info: siginfo_t = zeroed();
        i64::from(waitid(P_PIDFD, fd as u32, &mut info, WEXITED))
    }),
    ("sigwaitinfo", Always, || unsafe {
        let mut set: sigset_t = zeroed();
        sigaddset(&mut set, SIGUSR2);
        syscall(SYS_rt_sigtimedwait, &set, 0usize, 0usize, 8usize)
    }),
    ("clock_nanosleep", Handler, || unsafe { syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &long(), 0usize) }),
];

const IPC: &[Case] = &[
    ("futex wait", Restarts, || futex(0, &7, 7, 0)),
    ("futex wait with a time-out", Handler, || futex(0, &7, 7, &raw const *Box::leak(Box::new(long())) as usize)),
    ("futex wait, absolute", Handler, || futex(9 | 256, &7, 7, &raw const *Box::leak(Box::new(late())) as usize)),
    ("futex_waitv", Restarts, || unsafe {
        let word = 7u32;
        let waiter = [7u64, &raw const word as u64, 2];
        syscall(SYS_futex_waitv, &waiter, 1, 0, &late(), CLOCK_REALTIME)
    }),
    ("futex LOCK_PI", Never, || unsafe { futex(6, &(getppid() as u32), 0, 0) }),
    ("mq_receive with a time-out", Restarts, || unsafe {
        let mut text = [0u8; 8];
        syscall(SYS_mq_timedreceive, posix_queue(), text.as_mut_ptr(), 8usize, 0usize, &late())
    }),
    ("msgrcv", Handler, || unsafe {
        let id = msgget(IPC_PRIVATE, 0o600);
        let mut text = [0u64; 8];
        msgrcv(id, text.as_mut_ptr().cast(), 8, 0, 0) as i64
    }),
    ("msgsnd", Handler, || unsafe {
        let text = [1u64; 1024];
        i64::from(msgsnd(full_message_queue(), text.as_ptr().cast(), 4096, 0))
    }),
    ("semop", Always, || unsafe {
        let mut op = sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        i64::from(semop(semget(IPC_PRIVATE, 1, 0o600), &mut op, 1))
    }),
    ("semtimedop", Always, || unsafe {
        let mut op = sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        syscall(SYS_semtimedop, semget(IPC_PRIVATE, 1, 0o600), &mut op, 1usize, &long())
    }),
    ("mq_receive", Restarts, || unsafe {
        let mut text = [0u8; 8];
        syscall(SYS_mq_timedreceive, posix_queue(), text.as_mut_ptr(), 8usize, 0usize, 0usize)
    }),
    ("mq_send", Restarts, || unsafe {
        let id = posix_queue();
        let text = [0u8; 8];
        assert_eq!(syscall(SYS_mq_timedsend, id, text.as_ptr(), 8usize, 0, 0usize), 0);
        syscall(SYS_mq_timedsend, id, text.as_ptr(), 8usize, 0, 0usize)
    }),
];

extern "C" fn ignore(_signal: i32) {}

/// What came of a blocked call when a signal had come.
#[derive(PartialEq, Debug)]
enum End {
    GoesOn,
    Errno(i32),
}

fn end_of(pid: i32) -> End {
    // Either it sleeps again, or it is gone.
    until_asleep(pid);
    let mut status = 0;
    unsafe {
        if waitpid(pid, &mut status, WNOHANG) == 0 {
            kill(pid, SIGKILL);
            waitpid(pid, &mut status, 0);
            return End::GoesOn;
        }
    }
    assert!(WIFEXITED(status), "status {status:#x}");
    End::Errno(WEXITSTATUS(status))
}

/// Runs a case in a child and sends it signals when it sleeps; `flags` are sigaction's, `None` no handler but a stop.
fn run(case: &Case, flags: Option<i32>) -> End {
    unsafe {
        progress().store(0, SeqCst);
        let pid = fork();
        if pid == 0 {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            progress().store(1, SeqCst);
            if let Some(flags) = flags {
                let mut action: sigaction = zeroed();
                action.sa_sigaction = ignore as *const () as usize;
                action.sa_flags = flags;
                libc::sigaction(SIGUSR1, &action, null_mut());
            }
            let result = (case.2)();
            _exit(if result == -1 { errno() } else { 0 });
        }
        until_blocked(pid);
        match flags {
            Some(_) => drop(kill(pid, SIGUSR1)),
            None => {
                let mut status = 0;
                kill(pid, SIGSTOP);
                assert_eq!(waitpid(pid, &mut status, WUNTRACED), pid, "{}", case.0);
                assert!(WIFSTOPPED(status), "{}: status {status:#x} before the signal", case.0);
                kill(pid, SIGCONT);
            }
        }
        end_of(pid)
    }
}

fn table(cases: &[Case]) {
    for case in cases {
        let (what, rule, _) = case;
        let with_handler = if *rule == Never { End::GoesOn } else { End::Errno(EINTR) };
        assert_eq!(run(case, Some(0)), with_handler, "{what}, a handler");
        let restarted = if matches!(rule, Restarts | Never) { End::GoesOn } else { End::Errno(EINTR) };
        assert_eq!(run(case, Some(SA_RESTART)), restarted, "{what}, SA_RESTART");
        let after_stop = if *rule == Always { End::Errno(EINTR) } else { End::GoesOn };
        assert_eq!(run(case, None), after_stop, "{what}, stop and continue");
    }
}

pub fn restart_files() {
    table(FILES);
}
pub fn restart_sockets() {
    table(SOCKETS);
}
pub fn restart_processes() {
    table(PROCESSES);
}
pub fn restart_ipc() {
    table(IPC);
}
