//! What the numbers of arguments mean: flags and constants by call and argument name, where they say much.

use libc::*;

/// A set of flags, or one value of several.
enum Names {
    Flags(&'static [(u64, &'static str)]),
    Values(&'static [(i64, &'static str)]),
    Signal,
    Octal,
    Open,
    Clone,
    Futex,
}

macro_rules! flags { ($($name:ident)*) => { Names::Flags(&[$(($name as u64, stringify!($name))),*]) } }
macro_rules! values { ($($name:ident)*) => { Names::Values(&[$(($name as i64, stringify!($name))),*]) } }

fn names(call: &str, argument: &str) -> Option<Names> {
    Some(match (call, argument) {
        ("openat" | "open_by_handle_at", "flags") | ("mq_open", "oflag") => Names::Open,
        (_, "mode") if call != "fallocate" && call != "membarrier" => Names::Octal,
        ("mmap" | "mprotect", "prot") => flags!(PROT_READ PROT_WRITE PROT_EXEC),
        ("mmap", "flags") => {
            flags!(MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_STACK MAP_FIXED_NOREPLACE)
        }
        ("mremap", "flags") => flags!(MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP),
        ("msync", "flags") => flags!(MS_ASYNC MS_INVALIDATE MS_SYNC),
        ("madvise", "advice") => {
            values!(MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK MADV_DOFORK MADV_HUGEPAGE MADV_NOHUGEPAGE)
        }
        ("clone", "flags") => Names::Clone,
        ("unshare", "flags") => {
            flags!(CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_THREAD CLONE_SYSVSEM CLONE_NEWNS CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET)
        }
        ("wait4", "options") => flags!(WNOHANG WUNTRACED WCONTINUED __WALL __WCLONE),
        ("waitid", "options") => flags!(WNOHANG WEXITED WSTOPPED WCONTINUED WNOWAIT),
        ("futex", "op") => Names::Futex,
        (
            "pipe2" | "dup3" | "eventfd2" | "epoll_create1" | "inotify_init1" | "signalfd4" | "timerfd_create",
            "flags",
        ) => flags!(O_CLOEXEC O_NONBLOCK O_DIRECT),
        ("epoll_ctl", "op") => values!(EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD),
        ("fcntl", "cmd") => {
            values!(F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW)
        }
        ("ioctl", "cmd") => {
            values!(TCGETS TCSETS TCSETSW TCSETSF TIOCGWINSZ TIOCSWINSZ TIOCGPGRP TIOCSPGRP TIOCSCTTY TIOCNOTTY FIONREAD FIONBIO FIOASYNC TIOCGPTN TIOCSPTLCK)
        }
        ("lseek", "whence") => values!(SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE),
        ("newfstatat" | "statx" | "fchownat" | "linkat" | "faccessat2" | "utimensat" | "execveat", "flags") => {
            flags!(AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH)
        }
        ("unlinkat", "flags") => flags!(AT_REMOVEDIR),
        ("renameat2", "flags") => flags!(RENAME_NOREPLACE RENAME_EXCHANGE),
        ("socket" | "socketpair", "domain") => values!(AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET),
        ("accept4", "flags") => flags!(SOCK_CLOEXEC SOCK_NONBLOCK),
        ("sendto" | "recvfrom" | "sendmsg" | "recvmsg" | "sendmmsg" | "recvmmsg", "flags") => {
            flags!(MSG_PEEK MSG_DONTWAIT MSG_WAITALL MSG_TRUNC MSG_NOSIGNAL MSG_CMSG_CLOEXEC MSG_MORE MSG_OOB)
        }
        ("shutdown", "how") => values!(SHUT_RD SHUT_WR SHUT_RDWR),
        ("setsockopt" | "getsockopt", "level") => values!(SOL_SOCKET IPPROTO_TCP IPPROTO_IP IPPROTO_IPV6),
        ("rt_sigprocmask", "how") => values!(SIG_BLOCK SIG_UNBLOCK SIG_SETMASK),
        (_, "sig" | "signum" | "signo") => Names::Signal,
        (
            "clock_gettime" | "clock_nanosleep" | "clock_getres" | "timer_create" | "timerfd_create",
            "clock" | "clockid" | "clock_id",
        ) => values!(CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_BOOTTIME),
        ("prlimit64", "resource") => {
            values!(RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS)
        }
        ("getrandom", "flags") => flags!(GRND_NONBLOCK GRND_RANDOM),
        ("memfd_create", "flags") => flags!(MFD_CLOEXEC MFD_ALLOW_SEALING),
        ("msgget" | "semget" | "shmget", "flags") => flags!(IPC_CREAT IPC_EXCL),
        ("msgctl" | "semctl" | "shmctl", "cmd") => values!(IPC_RMID IPC_SET IPC_STAT IPC_INFO),
        _ => return None,
    })
}

const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

pub fn signal(number: i64) -> String {
    match usize::try_from(number).ok().and_then(|number| SIGNALS.get(number.checked_sub(1)?)) {
        Some(name) => format!("SIG{name}"),
        None if (32..=64).contains(&number) => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

/// A|B|0x40, or `none` when no bit is set.
fn set(value: u64, known: &[(u64, &str)], none: &str) -> String {
    let mut left = value;
    let mut out: Vec<String> = Vec::new();
    for (bits, name) in known {
        if *bits != 0 && left & bits == *bits {
            left &= !bits;
            out.push(name.to_string());
        }
    }
    if left != 0 {
        out.push(format!("{left:#x}"));
    }
    if out.is_empty() { none.into() } else { out.join("|") }
}

fn open_flags(value: u64) -> String {
    const ACCESS: u64 = 3;
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(value & ACCESS) as usize];
    let Names::Flags(known) = (flags!(O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_ASYNC O_TMPFILE O_DIRECTORY O_NOFOLLOW O_DIRECT O_LARGEFILE O_NOATIME O_CLOEXEC O_PATH))
    else {
        return access.into();
    };
    match set(value & !ACCESS, known, "") {
        rest if rest.is_empty() => access.into(),
        rest => format!("{access}|{rest}"),
    }
}

fn clone_flags(value: u64) -> String {
    let Names::Flags(known) = (flags!(CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_CHILD_SETTID CLONE_DETACHED))
    else {
        return value.to_string();
    };
    let (flags, exit) = (value & !0xff, (value & 0xff) as i64);
    match (set(flags, known, ""), exit) {
        (flags, 0) if flags.is_empty() => "0".into(),
        (flags, 0) => flags,
        (flags, exit) if flags.is_empty() => signal(exit),
        (flags, exit) => format!("{flags}|{}", signal(exit)),
    }
}

fn futex_operation(value: u64) -> String {
    const OPERATIONS: &[&str] = &[
        "WAIT",
        "WAKE",
        "FD",
        "REQUEUE",
        "CMP_REQUEUE",
        "WAKE_OP",
        "LOCK_PI",
        "UNLOCK_PI",
        "TRYLOCK_PI",
        "WAIT_BITSET",
        "WAKE_BITSET",
        "WAIT_REQUEUE_PI",
        "CMP_REQUEUE_PI",
        "LOCK_PI2",
    ];
    let mut out = match OPERATIONS.get((value & 0x7f) as usize) {
        Some(name) => format!("FUTEX_{name}"),
        None => format!("{:#x}", value & 0x7f),
    };
    for (bit, name) in [(0x80, "_PRIVATE"), (0x100, "|FUTEX_CLOCK_REALTIME")] {
        out.push_str(if value & bit != 0 { name } else { "" });
    }
    out
}

/// The socket type of socket(2), with its flags.
fn socket_kind(value: u64) -> String {
    let kind = match (value & 0xf) as i32 {
        SOCK_STREAM => "SOCK_STREAM",
        SOCK_DGRAM => "SOCK_DGRAM",
        SOCK_RAW => "SOCK_RAW",
        SOCK_SEQPACKET => "SOCK_SEQPACKET",
        _ => return format!("{value:#x}"),
    };
    let Names::Flags(known) = (flags!(SOCK_CLOEXEC SOCK_NONBLOCK)) else { return kind.into() };
    match set(value & !0xf, known, "") {
        flags if flags.is_empty() => kind.into(),
        flags => format!("{kind}|{flags}"),
    }
}

/// The value of an argument in words, where there are some for it.
pub fn decode(call: &str, argument: &str, value: u64) -> Option<String> {
    if matches!((call, argument), ("socket" | "socketpair", "kind")) {
        return Some(socket_kind(value));
    }
    let small = value & 0xffff_ffff;
    Some(match names(call, argument)? {
        Names::Flags(known) => set(small, known, "0"),
        Names::Values(known) => {
            let value = i64::from(value as i32);
            known.iter().find(|(known, _)| *known as i32 == value as i32)?.1.into()
        }
        Names::Signal => signal(i64::from(value as i32)),
        Names::Octal => format!("0{small:o}"),
        Names::Open => open_flags(small),
        Names::Clone => clone_flags(value),
        Names::Futex => futex_operation(small),
    })
}
