//! The rules of unix(7) for errors, resets, shutdowns, flags and credentials.

use super::*;
use crate::harness::child_dies_of;

fn error_of(fd: i32) -> i32 {
    let mut value = 0i32;
    let mut len = 4u32;
    ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_ERROR, (&raw mut value).cast(), &mut len) });
    value
}

/// A close with unread data resets the other side, once; without, it reads as the end.
pub fn resets() {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        let [a, b] = pair_of(kind);
        put(a, b"unread");
        unsafe { close(b) };
        assert_eq!(ready(a) & POLLERR, POLLERR);
        assert_eq!(get(a, 8, 0), Err(ECONNRESET));
        assert_eq!(get(a, 8, 0).unwrap(), b"");
        let [a, b] = pair_of(kind);
        put(a, b"unread");
        unsafe { close(b) };
        assert_eq!((error_of(a), error_of(a)), (ECONNRESET, 0));
        // What had come before is still read: by a stream before the error, as a packet after it.
        let [a, b] = pair_of(kind);
        put(a, b"unread");
        put(b, b"last");
        unsafe { close(b) };
        let (first, second) = (get(a, 8, 0), get(a, 8, 0));
        let (data, error) = if kind == SOCK_STREAM { (first, second) } else { (second, first) };
        assert_eq!((data.unwrap(), error), (b"last".to_vec(), Err(ECONNRESET)));
    }
    // A connection that was never accepted.
    let name = format!("\0abi-reset-{}", std::process::id()).into_bytes();
    let listener = new_socket(SOCK_STREAM);
    assert_eq!(bind_to(listener, &name), 0);
    ok(unsafe { listen(listener, 1) });
    let client = new_socket(SOCK_STREAM);
    assert_eq!(connect_to(client, &name), 0);
    unsafe { close(listener) };
    assert_eq!(get(client, 8, 0), Err(ECONNRESET));
    assert_eq!(put(client, b"x"), -1);
    assert_eq!(errno(), EPIPE);
}

/// SIGPIPE goes with a stream's EPIPE alone, and not with MSG_NOSIGNAL.
pub fn broken_pipes() {
    let closed = |kind| {
        let [a, b] = pair_of(kind);
        unsafe { (close(b), signal(SIGPIPE, SIG_DFL)) };
        a
    };
    child_dies_of(SIGPIPE, || {
        unsafe { send(closed(SOCK_STREAM), b"x".as_ptr().cast(), 1, 0) };
    });
    child_succeeds(|| {
        let fd = closed(SOCK_SEQPACKET);
        assert_eq!(errno_of(unsafe { send(fd, b"x".as_ptr().cast(), 1, 0) } as i64), EPIPE);
        let fd = closed(SOCK_STREAM);
        assert_eq!(errno_of(put(fd, b"x") as i64), EPIPE);
        let fd = closed(SOCK_DGRAM);
        assert_eq!(errno_of(unsafe { send(fd, b"x".as_ptr().cast(), 1, 0) } as i64), ECONNREFUSED);
        assert_eq!(errno_of(unsafe { send(fd, b"x".as_ptr().cast(), 1, 0) } as i64), ENOTCONN);
    });
}

/// Whom datagrams may be sent to, and what connecting elsewhere does.
pub fn datagram_peers() {
    let name = |text: &str| format!("\0abi-{text}-{}", std::process::id()).into_bytes();
    let (one, two, third) = (new_socket(SOCK_DGRAM), new_socket(SOCK_DGRAM), new_socket(SOCK_DGRAM));
    let (first, second) = (name("one"), name("two"));
    assert_eq!(bind_to(one, &first), 0);
    assert_eq!(bind_to(two, &second), 0);
    assert_eq!(connect_to(one, &second), 0);
    // `one` takes datagrams of `two` only.
    assert_eq!(connect_to(third, &first), EPERM);
    let (to, len) = address(&first);
    let send_to = |fd| errno_of(unsafe { sendto(fd, b"x".as_ptr().cast(), 1, 0, (&raw const to).cast(), len) } as i64);
    assert_eq!(send_to(third), EPERM);
    assert_eq!(send_to(two), 0);
    assert_eq!(put(one, b"hello"), 5);
    let mut from: sockaddr_un = unsafe { std::mem::zeroed() };
    let mut from_len = size_of::<sockaddr_un>() as u32;
    let mut buffer = [0u8; 8];
    let n = unsafe { recvfrom(two, buffer.as_mut_ptr().cast(), 8, 0, (&raw mut from).cast(), &mut from_len) };
    assert_eq!((n, from_len as usize), (5, 2 + first.len()));
    // What `two` sent is lost when `one` connects elsewhere.
    let own = sockaddr { sa_family: AF_UNSPEC as u16, sa_data: [0; 14] };
    assert_eq!(errno_of(unsafe { connect(one, &own, 2) }), 0);
    assert_eq!(get(one, 8, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(errno_of(put(one, b"x") as i64), ENOTCONN);
    assert_eq!(send_to(third), 0);
    assert_eq!(get(one, 8, 0).unwrap(), b"x");
    // A stream does not know AF_UNSPEC.
    assert_eq!(errno_of(unsafe { connect(new_socket(SOCK_STREAM), &own, 2) }), EINVAL);
    // Nor an address to send to.
    let [a, _b] = pair_of(SOCK_STREAM);
    assert_eq!(send_to(a), EISCONN);
    assert_eq!(send_to(new_socket(SOCK_STREAM)), EOPNOTSUPP);
}

pub fn receive_flags() {
    // WAITALL waits for all of it, across sends; low water for as much as it says.
    let [a, b] = pair_of(SOCK_STREAM);
    let sender = std::thread::spawn(move || {
        for text in [&b"abc"[..], b"def", b"gh"] {
            std::thread::sleep(std::time::Duration::from_millis(10));
            put(a, text);
        }
        a
    });
    assert_eq!(get(b, 8, MSG_WAITALL).unwrap(), b"abcdefgh");
    let a = sender.join().unwrap();
    // The end cuts it short.
    put(a, b"xy");
    ok(unsafe { shutdown(a, SHUT_WR) });
    assert_eq!(get(b, 8, MSG_WAITALL).unwrap(), b"xy");
    // PEEK and TRUNC.
    let [a, b] = pair_of(SOCK_DGRAM);
    put(a, b"twelve bytes");
    assert_eq!(get(b, 6, MSG_PEEK).unwrap(), b"twelve");
    let mut small = [0u8; 6];
    assert_eq!(unsafe { recv(b, small.as_mut_ptr().cast(), 6, MSG_PEEK | MSG_TRUNC) }, 12);
    let mut iov = iovec { iov_base: small.as_mut_ptr().cast(), iov_len: 6 };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    assert_eq!(unsafe { recvmsg(b, &mut message, 0) }, 6);
    assert_eq!(message.msg_flags & MSG_TRUNC, MSG_TRUNC);
    assert_eq!(get(b, 6, MSG_DONTWAIT), Err(EAGAIN));
    // A datagram of nothing is something.
    put(a, b"");
    assert_eq!(ready(b) & POLLIN, POLLIN);
    assert_eq!(get(b, 6, 0).unwrap(), b"");
    // Several messages in one call.
    put(a, b"1");
    put(a, b"22");
    let mut bytes = [[0u8; 4]; 3];
    let mut vectors = bytes.each_mut().map(|one| iovec { iov_base: one.as_mut_ptr().cast(), iov_len: 4 });
    let mut headers: [mmsghdr; 3] = unsafe { std::mem::zeroed() };
    for (header, vector) in headers.iter_mut().zip(&mut vectors) {
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    assert_eq!(unsafe { recvmmsg(b, headers.as_mut_ptr(), 3, MSG_DONTWAIT, std::ptr::null_mut()) }, 2);
    assert_eq!((headers[0].msg_len, headers[1].msg_len), (1, 2));
}

/// Bytes of different senders are not received as one when credentials are.
pub fn credentials_part_senders() {
    let [a, b] = pair_of(SOCK_STREAM);
    let on = 1i32;
    ok(unsafe { setsockopt(b, SOL_SOCKET, SO_PASSCRED, (&raw const on).cast(), 4) });
    put(a, b"parent");
    child_succeeds(|| assert_eq!(put(a, b"child"), 5));
    assert_eq!(get(b, 64, 0).unwrap(), b"parent");
    assert_eq!(get(b, 64, 0).unwrap(), b"child");
    // Who waits for all gets what is one sender's too.
    put(a, b"four");
    child_succeeds(|| assert_eq!(put(a, b"more"), 4));
    assert_eq!(get(b, 8, MSG_WAITALL).unwrap(), b"four");
    assert_eq!(get(b, 4, MSG_WAITALL).unwrap(), b"more");
    // Credentials of others need privilege; a wrong size is refused.
    child_succeeds(|| {
        assert_eq!(unsafe { setresuid(4321, 4321, 4321) }, 0);
        let own = ucred { pid: std::process::id() as i32, uid: 4321, gid: 0 };
        assert_eq!(send_credentials(a, own), 0);
        assert_eq!(send_credentials(a, ucred { uid: 1, ..own }), EPERM);
        assert_eq!(send_credentials(a, ucred { pid: 1, ..own }), EPERM);
    });
}

/// A reader whose buffer is bad leaves what it could not take to the next who waits; what it had taken before, it has.
pub fn bad_buffers() {
    let [a, b] = pair_of(SOCK_STREAM);
    let first = std::thread::spawn(move || errno_of(unsafe { recv(b, 8 as *mut c_void, 4, 0) } as i64));
    crate::harness::others_asleep();
    let second = std::thread::spawn(move || get(b, 4, 0).unwrap());
    crate::harness::others_asleep();
    put(a, b"data");
    assert_eq!(second.join().unwrap(), b"data");
    put(a, b"more");
    assert_eq!(first.join().unwrap(), EFAULT);
    let _ = get(b, 4, MSG_DONTWAIT);
    unsafe {
        let pages = mmap(std::ptr::null_mut(), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_eq!(munmap(pages.byte_add(4096), 4096), 0);
        let at = pages.byte_add(4092) as usize;
        let reader = std::thread::spawn(move || recv(b, at as *mut c_void, 8, MSG_WAITALL));
        crate::harness::others_asleep();
        put(a, b"four");
        crate::harness::others_asleep();
        put(a, b"rest");
        assert_eq!(reader.join().unwrap(), 4);
        assert_eq!(std::slice::from_raw_parts(at as *const u8, 4), b"four");
    }
    assert_eq!(get(b, 8, MSG_DONTWAIT).unwrap(), b"rest");
}

fn send_credentials(socket: i32, creds: ucred) -> i32 {
    let mut control = [0u64; 8];
    let mut byte = *b"c";
    let mut iov = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = unsafe { CMSG_SPACE(size_of::<ucred>() as u32) } as _;
    unsafe {
        let header = CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = SOL_SOCKET;
        (*header).cmsg_type = SCM_CREDENTIALS;
        (*header).cmsg_len = CMSG_LEN(size_of::<ucred>() as u32) as _;
        CMSG_DATA(header).cast::<ucred>().write_unaligned(creds);
        errno_of(sendmsg(socket, &message, 0) as i64)
    }
}

/// A full queue of connections: EAGAIN at once, or a wait that accept ends.
pub fn backlog() {
    let name = format!("\0abi-backlog-{}", std::process::id()).into_bytes();
    let listener = new_socket(SOCK_SEQPACKET);
    assert_eq!(bind_to(listener, &name), 0);
    ok(unsafe { listen(listener, 1) });
    for _ in 0..2 {
        assert_eq!(connect_to(new_socket(SOCK_SEQPACKET), &name), 0);
    }
    let hasty = ok(unsafe { socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0) });
    assert_eq!(connect_to(hasty, &name), EAGAIN);
    let other = name.clone();
    let patient = std::thread::spawn(move || connect_to(new_socket(SOCK_SEQPACKET), &other));
    crate::harness::others_asleep();
    assert!(!patient.is_finished());
    ok(unsafe { accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) });
    assert_eq!(patient.join().unwrap(), 0);
    // A time-out ends the wait too, and so does the listener's end.
    let time = timeval { tv_sec: 0, tv_usec: 20_000 };
    let limited = new_socket(SOCK_SEQPACKET);
    ok(unsafe { setsockopt(limited, SOL_SOCKET, SO_SNDTIMEO, (&raw const time).cast(), size_of::<timeval>() as u32) });
    assert_eq!(connect_to(limited, &name), EAGAIN);
    let other = name.clone();
    let patient = std::thread::spawn(move || connect_to(new_socket(SOCK_SEQPACKET), &other));
    crate::harness::others_asleep();
    unsafe { close(listener) };
    assert_eq!(patient.join().unwrap(), ECONNREFUSED);
}

/// shutdown(2) of both halves, seen from both sides.
pub fn halves() {
    let [a, b] = pair_of(SOCK_STREAM);
    put(b, b"kept");
    ok(unsafe { shutdown(a, SHUT_RD) });
    assert_eq!(errno_of(put(b, b"x") as i64), EPIPE);
    assert_eq!(get(a, 8, 0).unwrap(), b"kept");
    assert_eq!(get(a, 8, 0).unwrap(), b"");
    assert_eq!(put(a, b"other way"), 9);
    assert_eq!(get(b, 16, 0).unwrap(), b"other way");
    // Someone who waits is woken.
    let [a, b] = pair_of(SOCK_STREAM);
    let reader = std::thread::spawn(move || get(b, 8, 0));
    let [c, d] = pair_of(SOCK_STREAM);
    let bytes = vec![0u8; 400_000];
    let writer = std::thread::spawn(move || unsafe { send(c, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL) });
    crate::harness::others_asleep();
    ok(unsafe { shutdown(a, SHUT_WR) });
    assert_eq!(reader.join().unwrap().unwrap(), b"");
    ok(unsafe { shutdown(d, SHUT_RD) });
    let sent = writer.join().unwrap();
    assert!(sent > 0 && sent < 400_000, "{sent}");
}

/// Names: what bind refuses, and that a second bind of one socket does not help.
pub fn names() {
    let fd = new_socket(SOCK_STREAM);
    let one = format!("\0abi-name-{}", std::process::id()).into_bytes();
    assert_eq!(bind_to(fd, &one), 0);
    assert_eq!(bind_to(fd, b"\0abi-another"), EINVAL);
    assert_eq!(bind_to(fd, b""), 0);
    let (mut bad, len) = address(b"\0x");
    let fresh = new_socket(SOCK_STREAM);
    assert_eq!(errno_of(unsafe { bind(fresh, (&raw const bad).cast(), 111) }), EINVAL);
    assert_eq!(errno_of(unsafe { bind(fresh, (&raw const bad).cast(), 1) }), EINVAL);
    bad.sun_family = AF_INET as u16;
    assert_eq!(errno_of(unsafe { bind(fresh, (&raw const bad).cast(), len) }), EINVAL);
    assert_eq!(bind_to(fresh, b"/absent/place\0"), ENOENT);
    assert_eq!(bind_to(fresh, b"/proc/version\0"), EADDRINUSE);
    // The file stays when the socket goes; permissions count.
    let place = path("permission");
    assert_eq!(bind_to(fresh, &place), 0);
    ok(unsafe { listen(fresh, 1) });
    ok(unsafe { chmod(place.as_ptr(), 0o600) });
    child_succeeds(|| {
        assert_eq!(unsafe { setresuid(4321, 4321, 4321) }, 0);
        assert_eq!(connect_to(new_socket(SOCK_STREAM), &place), EACCES);
    });
    assert_eq!(connect_to(new_socket(SOCK_DGRAM), &place), EPROTOTYPE);
    unsafe { close(fresh) };
    assert_eq!(connect_to(new_socket(SOCK_STREAM), &place), ECONNREFUSED);
    ok(unsafe { unlink(place.as_ptr()) });
}
