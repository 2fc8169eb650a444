//! MSG_OOB on streams (CONFIG_AF_UNIX_OOB): the urgent byte out of order, at its place, inline, and who hears of it.

use super::*;
use std::sync::atomic::{AtomicI32, Ordering};

fn urgent(fd: i32, text: &[u8]) -> i64 {
    unsafe { send(fd, text.as_ptr().cast(), text.len(), MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) as i64 }
}

fn is_at_mark(fd: i32) -> bool {
    let mut mark = -1;
    ok(unsafe { ioctl(fd, SIOCATMARK, &mut mark) });
    mark == 1
}

fn ready(fd: i32) -> i16 {
    let mut entry = pollfd { fd, events: POLLIN | POLLPRI, revents: 0 };
    ok(unsafe { poll(&mut entry, 1, 0) });
    entry.revents
}

fn unread(fd: i32) -> i32 {
    let mut bytes = -1;
    ok(unsafe { ioctl(fd, FIONREAD, &mut bytes) });
    bytes
}

const F_SETSIG: i32 = 10;
const SIOCATMARK: u64 = 0x8905;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
const FIOGETOWN: u64 = 0x8903;
const SIOCGPGRP: u64 = 0x8904;

fn text(fd: i32, len: usize, flags: i32) -> Result<String, i32> {
    get(fd, len, flags | MSG_DONTWAIT).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn is(text: &str) -> Result<String, i32> {
    Ok(text.to_owned())
}

/// The last byte is urgent: it stops a read before it, is received by MSG_OOB, and is lost to who reads on.
pub fn urgent_byte() {
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    assert_eq!(urgent(a, b"hello"), 5);
    assert_eq!((is_at_mark(b), unread(b), ready(b) & (POLLIN | POLLPRI)), (false, 5, POLLIN | POLLPRI));
    assert_eq!(text(b, 9, MSG_OOB | MSG_PEEK), is("o"));
    assert_eq!(text(b, 9, MSG_PEEK), is("hell"));
    assert_eq!(text(b, 9, 0), is("hell"));
    assert!(is_at_mark(b));
    assert_eq!(text(b, 9, MSG_PEEK), Err(EAGAIN));
    assert_eq!(text(b, 9, MSG_OOB), is("o"));
    assert_eq!((is_at_mark(b), unread(b), ready(b) & (POLLIN | POLLPRI)), (false, 0, POLLIN));
    assert_eq!(text(b, 9, MSG_OOB), Err(EINVAL));
    assert_eq!(text(b, 9, 0), Err(EAGAIN));
    assert_eq!(ready(b) & (POLLIN | POLLPRI), 0);
    // Read past, it is lost.
    urgent(a, b"ab");
    put(a, b"cd");
    assert_eq!(text(b, 9, 0), is("a"));
    assert_eq!(text(b, 9, 0), is("cd"));
    assert_eq!((text(b, 9, MSG_OOB), ready(b) & POLLPRI), (Err(EINVAL), 0));
    // A second one makes the first an ordinary byte.
    urgent(a, b"ab");
    urgent(a, b"cd");
    assert_eq!(text(b, 9, MSG_WAITALL), is("abc"));
    assert_eq!(text(b, 9, MSG_OOB), is("d"));
    // A read that begins at such a place finds nothing, once.
    put(a, b"e");
    assert_eq!(text(b, 9, 0), Err(EAGAIN));
    assert_eq!(text(b, 9, 0), is("e"));
    // Received out of order, its place is still where a read ends, and the next begins.
    urgent(a, b"xy");
    put(a, b"z");
    assert_eq!(text(b, 1, MSG_OOB), is("y"));
    assert_eq!((unread(b), text(b, 9, MSG_PEEK)), (2, is("xz")));
    assert_eq!(text(b, 9, 0), is("x"));
    assert_eq!(text(b, 9, 0), is("z"));
}

pub fn urgent_inline() {
    let [a, b] = pair_of(SOCK_STREAM);
    let on = 1i32;
    ok(unsafe { setsockopt(b, SOL_SOCKET, SO_OOBINLINE, (&raw const on).cast(), 4) });
    urgent(a, b"abc");
    put(a, b"d");
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    assert_eq!(text(b, 9, 0), is("ab"));
    assert!(is_at_mark(b));
    assert_eq!(text(b, 9, 0), is("cd"));
    assert_eq!((is_at_mark(b), ready(b) & POLLPRI), (false, 0));
}

pub fn urgent_errors() {
    for kind in [SOCK_DGRAM, SOCK_SEQPACKET] {
        let [a, b] = pair_of(kind);
        assert_eq!((urgent(a, b"x"), errno()), (-1, EOPNOTSUPP));
        assert_eq!(text(b, 1, MSG_OOB), Err(EOPNOTSUPP));
        let mut mark = 0;
        assert_eq!(errno_of(unsafe { ioctl(b, SIOCATMARK, &mut mark) }), EOPNOTSUPP);
    }
    let alone = new_socket(SOCK_STREAM);
    assert_eq!((urgent(alone, b"x"), errno()), (-1, ENOTCONN));
    assert_eq!(text(alone, 1, MSG_OOB), Err(EINVAL));
    assert_eq!(errno_of(unsafe { ioctl(alone, SIOCATMARK, 0) }), EFAULT);
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!((urgent(a, b""), errno()), (-1, EOPNOTSUPP));
    // A place that cannot be written to costs the byte; no place at all does not matter.
    urgent(a, b"1");
    assert_eq!(errno_of(unsafe { recv(b, 8 as *mut _, 1, MSG_OOB) } as i64), EFAULT);
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    urgent(a, b"2");
    assert_eq!(unsafe { recv(b, [0u8].as_mut_ptr().cast(), 0, MSG_OOB) }, 1);
    // The flag comes back.
    urgent(a, b"3");
    let mut byte = [0u8; 4];
    let mut place = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 4 };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut place;
    message.msg_iovlen = 1;
    assert_eq!(ok(unsafe { recvmsg(b, &mut message, MSG_OOB) } as i64), 1);
    assert_eq!((byte[0], message.msg_flags & MSG_OOB), (b'3', MSG_OOB));
    // What is left behind is no unread data, but an urgent byte is.
    unsafe { close(b) };
    assert_eq!(text(a, 1, 0), is(""));
    let [a, b] = pair_of(SOCK_STREAM);
    urgent(a, b"4");
    unsafe { close(b) };
    assert_eq!(text(a, 1, 0), Err(ECONNRESET));
    assert_eq!((urgent(a, b"5"), errno()), (-1, EPIPE));
    let [a, b] = pair_of(SOCK_STREAM);
    ok(unsafe { shutdown(b, SHUT_RD) });
    assert_eq!((urgent(a, b"5"), errno()), (-1, EPIPE));
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(_: i32) {
    SEEN.fetch_add(1, Ordering::SeqCst);
}

/// SIGURG to the owner, O_ASYNC or not; POLL_PRI only with F_SETSIG; the owner by ioctl.
pub fn urgent_signals() {
    let [a, b] = pair_of(SOCK_STREAM);
    unsafe { signal(SIGURG, on_signal as *const () as usize) };
    urgent(a, b"1");
    assert_eq!(SEEN.load(Ordering::SeqCst), 0);
    ok(unsafe { fcntl(b, F_SETOWN, getpid()) });
    urgent(a, b"2");
    assert_eq!(SEEN.load(Ordering::SeqCst), 1);
    let mut owner = -1;
    ok(unsafe { ioctl(b, SIOCGPGRP, &mut owner) });
    assert_eq!(owner, std::process::id() as i32);
    owner = -unsafe { getpgrp() };
    ok(unsafe { ioctl(b, FIOSETOWN, &owner) });
    urgent(a, b"3");
    assert_eq!(SEEN.load(Ordering::SeqCst), 2);
    let mut same = 0;
    ok(unsafe { ioctl(b, FIOGETOWN, &mut same) });
    assert_eq!((same, unsafe { fcntl(b, F_GETOWN) }), (owner, owner));
    assert_eq!(errno_of(unsafe { ioctl(b, SIOCSPGRP, 8) }), EFAULT);
    owner = 999_999;
    assert_eq!(errno_of(unsafe { ioctl(b, SIOCSPGRP, &owner) }), ESRCH);
    // With a signal of its own, O_ASYNC tells of the urgent byte too.
    let number = SIGRTMIN();
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        sigaddset(&mut set, number);
        sigprocmask(SIG_BLOCK, &set, std::ptr::null_mut());
        ok(fcntl(b, F_SETOWN, getpid()));
        ok(fcntl(b, F_SETSIG, number));
        ok(fcntl(b, F_SETFL, O_ASYNC));
        urgent(a, b"ab");
        let mut seen = Vec::new();
        let mut info: siginfo_t = std::mem::zeroed();
        let now = timespec { tv_sec: 0, tv_nsec: 0 };
        while sigtimedwait(&set, &mut info, &now) == number {
            seen.push(info.si_code);
        }
        assert_eq!(seen, [1, 5, 1], "POLL_IN, POLL_PRI, POLL_IN");
    }
}

/// A read that waits sleeps at a byte it may not look at, and goes on with what comes after.
pub fn urgent_wakes() {
    let [a, b] = pair_of(SOCK_STREAM);
    urgent(a, b"1");
    let looker = std::thread::spawn(move || get(b, 4, MSG_PEEK));
    crate::harness::others_asleep();
    put(a, b"23");
    assert_eq!(looker.join().unwrap().unwrap(), b"23");
    let waiter = std::thread::spawn(move || {
        let mut poll_fd = pollfd { fd: b, events: POLLPRI, revents: 0 };
        assert_eq!(unsafe { poll(&mut poll_fd, 1, -1) }, 1);
        poll_fd.revents
    });
    assert_eq!(get(b, 4, 0).unwrap(), b"23");
    crate::harness::others_asleep();
    urgent(a, b"4");
    assert_eq!(waiter.join().unwrap(), POLLPRI);
    // One who looks does not keep the wake of one who reads.
    let [a, b] = pair_of(SOCK_STREAM);
    let lookers: Vec<_> = (0..3).map(|_| std::thread::spawn(move || get(b, 4, MSG_PEEK).unwrap())).collect();
    crate::harness::others_asleep();
    let reader = std::thread::spawn(move || get(b, 4, 0).unwrap());
    crate::harness::others_asleep();
    put(a, b"one");
    assert_eq!(reader.join().unwrap(), b"one");
    put(a, b"two");
    for looker in lookers {
        assert!(matches!(&looker.join().unwrap()[..], b"one" | b"two"));
    }
}
