//! Urgent data of TCP (MSG_OOB): the byte out of order, at its place, inline, and who hears of it.

use super::support::*;
use std::sync::atomic::{AtomicI32, Ordering};

const SIOCATMARK: u64 = 0x8905;

fn urgent(fd: i32, text: &[u8]) -> Result<usize, i32> {
    match unsafe { send(fd, text.as_ptr().cast(), text.len(), MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) } {
        -1 => Err(errno()),
        n => Ok(n as usize),
    }
}

fn is_at_mark(fd: i32) -> bool {
    let mut mark = -1;
    ok(unsafe { ioctl(fd, SIOCATMARK, &mut mark) });
    mark == 1
}

fn unread(fd: i32) -> i32 {
    let mut bytes = -1;
    ok(unsafe { ioctl(fd, FIONREAD, &mut bytes) });
    bytes
}

fn text(fd: i32, len: usize, flags: i32) -> Result<String, i32> {
    get(fd, len, flags | MSG_DONTWAIT).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn is(text: &str) -> Result<String, i32> {
    Ok(text.to_owned())
}

fn ready(fd: i32) -> i16 {
    events(fd, POLLIN | POLLPRI, 0)
}

/// Sends `text`, and waits until its urgent byte has come.
fn says(from: i32, to: i32, text: &[u8]) {
    assert_eq!(urgent(from, text), Ok(text.len()));
    assert_eq!(events(to, POLLPRI, 5000), POLLPRI);
}

/// The last byte is urgent: it stops a read before it, is received by MSG_OOB, and is lost to who reads on.
pub fn byte() {
    let (a, b) = connected();
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    says(a, b, b"hello");
    assert_eq!((is_at_mark(b), unread(b), ready(b)), (false, 4, POLLIN | POLLPRI));
    assert_eq!(text(b, 9, MSG_OOB | MSG_PEEK), is("o"));
    assert_eq!(text(b, 9, MSG_PEEK), is("hell"));
    assert_eq!(text(b, 9, 0), is("hell"));
    assert_eq!((is_at_mark(b), unread(b), ready(b)), (true, 0, POLLPRI));
    assert_eq!(text(b, 9, MSG_OOB), is("o"));
    assert_eq!((is_at_mark(b), unread(b), ready(b)), (true, 0, 0));
    assert_eq!(text(b, 9, MSG_OOB), Err(EINVAL));
    assert_eq!(text(b, 9, 0), Err(EAGAIN));
    assert_eq!((is_at_mark(b), ready(b)), (false, 0));
    // Read past, it is lost.
    says(a, b, b"ab");
    assert_eq!(put(a, b"cd"), Ok(2));
    assert_eq!(text(b, 9, 0), is("a"));
    assert_eq!(text(b, 9, MSG_PEEK), is("cd"));
    assert_eq!(text(b, 1, MSG_PEEK | MSG_OOB), is("b"));
    assert_eq!(text(b, 9, 0), is("cd"));
    assert_eq!((text(b, 9, MSG_OOB), ready(b)), (Err(EINVAL), 0));
    // Received out of order, its place is still where a read ends, even one that waits for all.
    says(a, b, b"xy");
    assert_eq!(put(a, b"z"), Ok(1));
    assert_eq!(text(b, 1, MSG_OOB), is("y"));
    assert_eq!((unread(b), text(b, 9, MSG_PEEK)), (1, is("x")));
    assert_eq!(get(b, 9, MSG_WAITALL).unwrap(), b"x");
    assert_eq!(text(b, 9, 0), is("z"));
    // The other way.
    says(b, a, b"!");
    assert_eq!(text(a, 9, MSG_OOB), is("!"));
}

/// A newer one takes its place: the older is an ordinary byte then, but for one that was next to be read.
pub fn newer() {
    let (a, b) = connected();
    says(a, b, b"ab");
    assert_eq!(urgent(a, b"cd"), Ok(2));
    assert_eq!(text(b, 9, MSG_WAITALL), is("abc"));
    assert_eq!(text(b, 9, MSG_OOB), is("d"));
    assert_eq!(put(a, b"e"), Ok(1));
    assert_eq!(text(b, 9, 0), is("e"));
    says(a, b, b"x");
    assert_eq!(urgent(a, b"y"), Ok(1));
    assert_eq!(text(b, 9, MSG_OOB), is("y"));
    assert_eq!(text(b, 9, 0), Err(EAGAIN));
    // One of many bytes.
    let long = [b'l'; 30_000];
    says(a, b, &long);
    assert_eq!(put(a, b"end"), Ok(3));
    let mut seen = 0;
    while seen < long.len() - 1 {
        seen += get(b, 40_000, 0).unwrap().len();
    }
    assert_eq!(seen, long.len() - 1);
    assert!(is_at_mark(b));
    assert_eq!(text(b, 1, MSG_OOB), is("l"));
    assert_eq!(text(b, 9, 0), is("end"));
}

pub fn inline() {
    let (a, b) = connected();
    assert_eq!(set(b, SOL_SOCKET, SO_OOBINLINE, 1), 0);
    says(a, b, b"abc");
    assert_eq!(put(a, b"d"), Ok(1));
    assert_eq!((text(b, 1, MSG_OOB), unread(b)), (Err(EINVAL), 4));
    assert_eq!(text(b, 9, 0), is("ab"));
    assert_eq!((is_at_mark(b), ready(b)), (true, POLLIN | POLLPRI));
    assert_eq!(text(b, 9, 0), is("cd"));
    assert_eq!((is_at_mark(b), ready(b)), (false, 0));
}

pub fn errors() {
    let alone = new(AF_INET, SOCK_STREAM);
    assert_eq!((urgent(alone, b"x"), text(alone, 1, MSG_OOB)), (Err(EPIPE), Err(EINVAL)));
    assert_eq!(errno_of(unsafe { ioctl(alone, SIOCATMARK, 8) }), EFAULT);
    let (listening, _) = listener(1);
    assert_eq!(text(listening, 1, MSG_OOB), Err(ENOTCONN));
    assert_eq!(errno_of(unsafe { ioctl(listening, SIOCATMARK, 8) }), EFAULT);
    let (a, b) = connected();
    assert_eq!(urgent(a, b""), Ok(0));
    assert_eq!(ready(b), 0);
    // A place that cannot be written to costs the byte, and so does none at all.
    says(a, b, b"1");
    assert_eq!(errno_of(unsafe { recv(b, 8 as *mut _, 1, MSG_OOB) }), EFAULT);
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    says(a, b, b"2");
    assert_eq!(unsafe { recv(b, [0u8].as_mut_ptr().cast(), 0, MSG_OOB) }, 0);
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    // The flag comes back.
    says(a, b, b"3");
    let got = message(b, MSG_OOB).unwrap();
    assert_eq!((&got.bytes[..], got.flags & MSG_OOB), (&b"3"[..], MSG_OOB));
    // What is left behind is unread data, its place at least.
    unsafe { close(b) };
    assert_eq!(events(a, POLLIN, 5000) & POLLIN, POLLIN);
    assert_eq!(text(a, 1, 0), Err(ECONNRESET));
    // After the end.
    let (a, b) = connected();
    says(a, b, b"4");
    unsafe { close(a) };
    assert_eq!(events(b, POLLRDHUP, 5000) & POLLRDHUP, POLLRDHUP);
    assert_eq!(text(b, 1, MSG_OOB), is("4"));
    assert_eq!(text(b, 1, 0), is(""));
    assert_eq!(text(b, 1, MSG_OOB), Err(EINVAL));
    let (a, b) = connected();
    ok(unsafe { shutdown(a, SHUT_WR) });
    assert_eq!(urgent(a, b"5"), Err(EPIPE));
    unsafe { close(b) };
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(_: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// SIGURG for the owner, of an accepted socket too; POLLPRI for who waits.
pub fn signals() {
    unsafe { signal(SIGURG, on_signal as *const () as usize) };
    let (a, b) = connected();
    says(a, b, b"1");
    assert_eq!(SEEN.load(Ordering::Relaxed), 0, "nobody owns it");
    ok(unsafe { fcntl(b, F_SETOWN, getpid()) });
    says(a, b, b"2");
    let start = std::time::Instant::now();
    while SEEN.load(Ordering::Relaxed) == 0 {
        assert!(start.elapsed() < crate::harness::PATIENCE, "no SIGURG");
    }
    assert_eq!(text(b, 1, MSG_OOB), is("2"));
    assert_eq!(put(a, b"x"), Ok(1));
    assert_eq!(events(b, POLLIN, 5000), POLLIN);
    assert_eq!(SEEN.load(Ordering::Relaxed), 1);
    unsafe { signal(SIGURG, SIG_IGN) };
    let waits = std::thread::spawn(move || events(b, POLLPRI, 30_000));
    crate::harness::others_asleep();
    assert_eq!(urgent(a, b"3"), Ok(1));
    assert_eq!(waits.join().unwrap(), POLLPRI);
}
