//! UNIX sockets.

#![expect(clippy::undocumented_unsafe_blocks, reason = "each block is one system call, which is what is tested")]

mod flight;
mod limits;
mod mode;
mod options;
mod rules;
mod urgent;

use crate::harness::{Tests, child_succeeds, errno};
use libc::*;

pub const TESTS: Tests = &[
    ("unix_pair", pair),
    ("unix_connect", connect_and_accept),
    ("unix_abstract", abstract_names),
    ("unix_datagram", datagrams),
    ("unix_seqpacket", packets),
    ("unix_descriptors", descriptors),
    ("unix_credentials", credentials),
    ("unix_shutdown", shut_down),
    ("unix_poll", readiness),
    ("unix_full", full),
    ("unix_errors", errors),
    ("peer_groups", options::peer_groups),
    ("common_options", options::common_options),
    ("peek_offsets", options::peek_offsets),
    ("buffer_sizes", limits::buffer_sizes),
    ("message_counts", limits::message_counts),
    ("queue_sizes", limits::queue_sizes),
    ("datagram_queue", limits::datagram_queue),
    ("datagram_queue_length", limits::datagram_queue_length),
    ("writable_again", limits::writable_again),
    ("cycles_are_collected", flight::cycles_are_collected),
    ("reachable_is_kept", flight::reachable_is_kept),
    ("unaccepted_connection", flight::unaccepted_connection),
    ("long_chain", flight::long_chain),
    ("descriptor_counts", flight::descriptor_counts),
    ("peeked_descriptors", flight::peeked_descriptors),
    ("flight_storm", flight::flight_storm),
    ("resets", rules::resets),
    ("broken_pipes", rules::broken_pipes),
    ("datagram_peers", rules::datagram_peers),
    ("receive_flags", rules::receive_flags),
    ("credentials_part_senders", rules::credentials_part_senders),
    ("bad_buffers", rules::bad_buffers),
    ("backlog", rules::backlog),
    ("halves", rules::halves),
    ("names", rules::names),
    ("urgent_byte", urgent::urgent_byte),
    ("urgent_inline", urgent::urgent_inline),
    ("urgent_errors", urgent::urgent_errors),
    ("urgent_signals", urgent::urgent_signals),
    ("urgent_wakes", urgent::urgent_wakes),
    ("mode_of_name", mode::mode_of_name),
    ("mode_is_not_inherited", mode::mode_is_not_inherited),
    ("owner_of_descriptor", mode::owner_of_descriptor),
    ("unnamed_objects", mode::unnamed_objects),
    ("peer_security", options::peer_security),
];

#[track_caller]
fn ok<T: Into<i64> + Copy>(result: T) -> T {
    assert!(result.into() != -1, "{}", std::io::Error::last_os_error());
    result
}

fn errno_of(result: impl Into<i64>) -> i32 {
    if result.into() == -1 { errno() } else { 0 }
}

fn pair_of(kind: i32) -> [i32; 2] {
    let mut fds = [0; 2];
    ok(unsafe { socketpair(AF_UNIX, kind, 0, fds.as_mut_ptr()) });
    fds
}

fn put(fd: i32, bytes: &[u8]) -> isize {
    unsafe { send(fd, bytes.as_ptr().cast(), bytes.len(), MSG_NOSIGNAL) }
}

fn get(fd: i32, len: usize, flags: i32) -> Result<Vec<u8>, i32> {
    let mut buffer = vec![0u8; len];
    let n = unsafe { recv(fd, buffer.as_mut_ptr().cast(), len, flags) };
    if n < 0 {
        return Err(errno());
    }
    buffer.truncate(n as usize);
    Ok(buffer)
}

fn address(name: &[u8]) -> (sockaddr_un, u32) {
    let mut address: sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = AF_UNIX as u16;
    for (slot, byte) in address.sun_path.iter_mut().zip(name) {
        *slot = *byte as _;
    }
    (address, 2 + name.len() as u32)
}

fn bind_to(fd: i32, name: &[u8]) -> i32 {
    let (address, len) = address(name);
    errno_of(unsafe { bind(fd, (&raw const address).cast(), len) })
}

fn connect_to(fd: i32, name: &[u8]) -> i32 {
    let (address, len) = address(name);
    errno_of(unsafe { connect(fd, (&raw const address).cast(), len) })
}

fn new_socket(kind: i32) -> i32 {
    ok(unsafe { socket(AF_UNIX, kind, 0) })
}

fn path(name: &str) -> Vec<u8> {
    let path = format!("/tmp/abi-{name}-{}\0", std::process::id());
    let _ = std::fs::remove_file(path.trim_end_matches('\0'));
    path.into_bytes()
}

fn pair() {
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!(put(a, b"hello "), 6);
    assert_eq!(put(a, b"world"), 5);
    assert_eq!(get(b, 8, MSG_PEEK).unwrap(), b"hello wo");
    assert_eq!(get(b, 8, 0).unwrap(), b"hello wo");
    assert_eq!(get(b, 8, 0).unwrap(), b"rld");
    assert_eq!(get(b, 8, MSG_DONTWAIT), Err(EAGAIN));
    let mut buffered = 0;
    put(b, b"back");
    ok(unsafe { ioctl(a, FIONREAD, &raw mut buffered) });
    assert_eq!(buffered, 4);
    unsafe { close(b) };
    assert_eq!(put(a, b"x"), -1);
    assert_eq!(errno(), EPIPE);
    assert_eq!(get(a, 8, 0).unwrap(), b"back");
    assert_eq!(get(a, 8, 0).unwrap(), b"");
}

fn connect_and_accept() {
    let name = path("stream");
    let listener = new_socket(SOCK_STREAM);
    assert_eq!(errno_of(unsafe { listen(listener, 5) }), EINVAL);
    assert_eq!(bind_to(listener, &name), 0);
    assert_eq!(bind_to(new_socket(SOCK_STREAM), &name), EADDRINUSE);
    let client = new_socket(SOCK_STREAM);
    assert_eq!(connect_to(client, &name), ECONNREFUSED);
    ok(unsafe { listen(listener, 5) });
    assert_eq!(connect_to(client, &name), 0);
    assert_eq!(connect_to(client, &name), EISCONN);
    let mut peer: sockaddr_un = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sockaddr_un>() as u32;
    ok(unsafe { getpeername(client, (&raw mut peer).cast(), &mut len) });
    assert_eq!(len as usize, 2 + name.len());
    assert_eq!(put(client, b"early"), 5);
    let server = ok(unsafe { accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), SOCK_CLOEXEC) });
    assert_eq!(unsafe { fcntl(server, F_GETFD) }, FD_CLOEXEC);
    assert_eq!(get(server, 16, 0).unwrap(), b"early");
    assert_eq!(put(server, b"answer"), 6);
    assert_eq!(get(client, 16, 0).unwrap(), b"answer");
    // A child connects while this one waits.
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        unsafe { usleep(20_000) };
        let own = new_socket(SOCK_STREAM);
        let failed = connect_to(own, &name) != 0 || put(own, b"child") != 5;
        unsafe { _exit(failed as i32) }
    }
    let server = ok(unsafe { accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) });
    assert_eq!(get(server, 16, 0).unwrap(), b"child");
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    assert_eq!(status, 0);
    // Whoever was never accepted is cut off when the listener goes.
    let late = new_socket(SOCK_STREAM);
    assert_eq!(connect_to(late, &name), 0);
    unsafe { close(listener) };
    assert!(matches!(get(late, 16, 0), Err(ECONNRESET) | Ok(_)));
    assert_eq!(connect_to(new_socket(SOCK_STREAM), &name), ECONNREFUSED);
    std::fs::remove_file(std::str::from_utf8(&name[..name.len() - 1]).unwrap()).unwrap();
    assert_eq!(connect_to(new_socket(SOCK_STREAM), &name), ENOENT);
}

fn abstract_names() {
    let name = format!("\0abi-{}", std::process::id()).into_bytes();
    let listener = new_socket(SOCK_STREAM);
    assert_eq!(bind_to(listener, &name), 0);
    ok(unsafe { listen(listener, 1) });
    assert_eq!(bind_to(new_socket(SOCK_STREAM), &name), EADDRINUSE);
    assert_eq!(connect_to(new_socket(SOCK_STREAM), &name), 0);
    assert_eq!(connect_to(new_socket(SOCK_DGRAM), &name), ECONNREFUSED);
    unsafe { close(listener) };
    assert_eq!(connect_to(new_socket(SOCK_STREAM), &name), ECONNREFUSED);
    // A bind without a name finds one.
    let any = new_socket(SOCK_DGRAM);
    assert_eq!(bind_to(any, b""), 0);
    let mut own: sockaddr_un = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sockaddr_un>() as u32;
    ok(unsafe { getsockname(any, (&raw mut own).cast(), &mut len) });
    assert_eq!((len, own.sun_path[0]), (8, 0));
}

fn datagrams() {
    let name = path("dgram");
    let (server, client) = (new_socket(SOCK_DGRAM), new_socket(SOCK_DGRAM));
    assert_eq!(bind_to(server, &name), 0);
    assert_eq!(put(client, b"x"), -1);
    assert_eq!(errno(), ENOTCONN);
    let (to, len) = address(&name);
    for text in [&b"first"[..], b"", b"third message"] {
        let n = unsafe { sendto(client, text.as_ptr().cast(), text.len(), 0, (&raw const to).cast(), len) };
        assert_eq!(n, text.len() as isize);
    }
    assert_eq!(get(server, 64, 0).unwrap(), b"first");
    assert_eq!(get(server, 64, 0).unwrap(), b"");
    let mut small = [0u8; 5];
    assert_eq!(unsafe { recv(server, small.as_mut_ptr().cast(), 5, MSG_TRUNC) }, 13);
    assert_eq!(&small, b"third");
    assert_eq!(get(server, 64, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(connect_to(client, &name), 0);
    assert_eq!(put(client, b"connected"), 9);
    assert_eq!(get(server, 64, 0).unwrap(), b"connected");
    unsafe { close(server) };
    assert_eq!(put(client, b"x"), -1);
    assert_eq!(errno(), ECONNREFUSED);
    let _ = std::fs::remove_file(std::str::from_utf8(&name[..name.len() - 1]).unwrap());
}

fn packets() {
    let [a, b] = pair_of(SOCK_SEQPACKET);
    put(a, b"one");
    put(a, b"two two");
    assert_eq!(get(b, 64, 0).unwrap(), b"one");
    assert_eq!(get(b, 3, 0).unwrap(), b"two");
    assert_eq!(get(b, 3, MSG_DONTWAIT), Err(EAGAIN));
    unsafe { close(a) };
    assert_eq!(get(b, 3, 0).unwrap(), b"");
}

/// Sends one descriptor beside `bytes`.
fn send_descriptor(socket: i32, bytes: &[u8], fd: i32) -> isize {
    let mut control = [0u64; 4];
    let mut iov = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = unsafe { CMSG_SPACE(4) } as _;
    unsafe {
        let header = CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = SOL_SOCKET;
        (*header).cmsg_type = SCM_RIGHTS;
        (*header).cmsg_len = CMSG_LEN(4) as _;
        CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        sendmsg(socket, &message, 0)
    }
}

/// Bytes, the descriptor that came with them, and the message's flags.
fn receive_descriptor(socket: i32, room: usize) -> (Vec<u8>, Option<i32>, i32) {
    let mut bytes = vec![0u8; 64];
    let mut control = [0u64; 8];
    let mut iov = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = room as _;
    unsafe {
        let n = ok(recvmsg(socket, &mut message, MSG_CMSG_CLOEXEC) as i64);
        bytes.truncate(n as usize);
        let header = CMSG_FIRSTHDR(&message);
        let fd = (!header.is_null() && (*header).cmsg_type == SCM_RIGHTS)
            .then(|| CMSG_DATA(header).cast::<i32>().read_unaligned());
        (bytes, fd, message.msg_flags)
    }
}

fn descriptors() {
    let [a, b] = pair_of(SOCK_STREAM);
    let mut ends = [0; 2];
    ok(unsafe { pipe(ends.as_mut_ptr()) });
    child_succeeds(|| {
        assert_eq!(send_descriptor(a, b"take it", ends[1]), 7);
    });
    unsafe { close(ends[1]) };
    let (bytes, fd, _) = receive_descriptor(b, 64);
    assert_eq!(bytes, b"take it");
    let fd = fd.expect("a descriptor");
    assert_eq!(unsafe { fcntl(fd, F_GETFD) }, FD_CLOEXEC);
    ok(unsafe { write(fd, b"through".as_ptr().cast(), 7) } as i64);
    let mut buffer = [0u8; 16];
    assert_eq!(unsafe { read(ends[0], buffer.as_mut_ptr().cast(), 16) }, 7);
    // Without room the descriptor is closed, and the flag says so.
    assert_eq!(send_descriptor(a, b"no room", ends[0]), 7);
    let (bytes, fd, flags) = receive_descriptor(b, 0);
    assert_eq!((&bytes[..], fd, flags & MSG_CTRUNC), (&b"no room"[..], None, MSG_CTRUNC));
    assert_eq!(errno_of(send_descriptor(a, b"x", 999) as i64), EBADF);
    // A descriptor ends what one receive takes; bytes before it come along.
    put(a, b"plain");
    send_descriptor(a, b"with", ends[0]);
    put(a, b"behind");
    let (bytes, fd, _) = receive_descriptor(b, 64);
    assert_eq!((&bytes[..], fd.is_some()), (&b"plainwith"[..], true));
    assert_eq!(receive_descriptor(b, 64).0, b"behind");
}

fn credentials() {
    let [a, b] = pair_of(SOCK_STREAM);
    let mut creds: ucred = unsafe { std::mem::zeroed() };
    let mut len = size_of::<ucred>() as u32;
    ok(unsafe { getsockopt(a, SOL_SOCKET, SO_PEERCRED, (&raw mut creds).cast(), &mut len) });
    assert_eq!((creds.pid, creds.uid), (std::process::id() as i32, unsafe { geteuid() }));
    let on = 1i32;
    ok(unsafe { setsockopt(b, SOL_SOCKET, SO_PASSCRED, (&raw const on).cast(), 4) });
    put(a, b"x");
    let mut control = [0u64; 8];
    let mut byte = [0u8; 1];
    let mut iov = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    unsafe {
        ok(recvmsg(b, &mut message, 0) as i64);
        let header = CMSG_FIRSTHDR(&message);
        assert!(!header.is_null() && (*header).cmsg_type == SCM_CREDENTIALS);
        let sent = CMSG_DATA(header).cast::<ucred>().read_unaligned();
        assert_eq!(sent.pid, std::process::id() as i32);
    }
}

fn shut_down() {
    let [a, b] = pair_of(SOCK_STREAM);
    put(a, b"last");
    ok(unsafe { shutdown(a, SHUT_WR) });
    assert_eq!(put(a, b"x"), -1);
    assert_eq!(errno(), EPIPE);
    assert_eq!(get(b, 16, 0).unwrap(), b"last");
    assert_eq!(get(b, 16, 0).unwrap(), b"");
    assert_eq!(put(b, b"other way"), 9);
    assert_eq!(get(a, 16, 0).unwrap(), b"other way");
    ok(unsafe { shutdown(b, SHUT_RDWR) });
    assert_eq!(errno_of(unsafe { shutdown(b, 7) }), EINVAL);
    assert_eq!(errno_of(unsafe { shutdown(new_socket(SOCK_STREAM), SHUT_WR) }), 0);
    crate::harness::child_dies_of(SIGPIPE, || unsafe {
        signal(SIGPIPE, SIG_DFL);
        write(a, b"x".as_ptr().cast(), 1);
    });
}

fn ready(fd: i32) -> i16 {
    let mut entry = pollfd { fd, events: POLLIN | POLLOUT | POLLRDHUP, revents: 0 };
    ok(unsafe { poll(&mut entry, 1, 0) });
    entry.revents
}

fn readiness() {
    let [a, b] = pair_of(SOCK_STREAM);
    assert_eq!(ready(b), POLLOUT);
    put(a, b"x");
    assert_eq!(ready(b), POLLIN | POLLOUT);
    get(b, 1, 0).unwrap();
    ok(unsafe { shutdown(a, SHUT_WR) });
    assert_eq!(ready(b), POLLIN | POLLOUT | POLLRDHUP);
    unsafe { close(a) };
    assert_eq!(ready(b) & (POLLIN | POLLHUP | POLLRDHUP), POLLIN | POLLHUP | POLLRDHUP);
    // A poll that sleeps wakes when something comes.
    let [a, b] = pair_of(SOCK_STREAM);
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        unsafe { usleep(20_000) };
        put(a, b"x");
        unsafe { _exit(0) }
    }
    let mut entry = pollfd { fd: b, events: POLLIN, revents: 0 };
    assert_eq!(unsafe { poll(&mut entry, 1, 5000) }, 1);
    ok(unsafe { waitpid(pid, std::ptr::null_mut(), 0) });
}

fn full() {
    let [a, b] = pair_of(SOCK_STREAM);
    let piece = [7u8; 4096];
    let mut total = 0usize;
    loop {
        let n = unsafe { send(a, piece.as_ptr().cast(), piece.len(), MSG_DONTWAIT) };
        if n < 0 {
            assert_eq!(errno(), EAGAIN);
            break;
        }
        total += n as usize;
        assert!(total < 16 << 20);
    }
    assert_eq!(ready(a) & POLLOUT, 0);
    // A writer that waits goes on when the other side reads; nothing is lost.
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        let rest = vec![9u8; 300_000];
        let n = unsafe { send(a, rest.as_ptr().cast(), rest.len(), 0) };
        unsafe { _exit(i32::from(n != 300_000)) }
    }
    let mut got = 0;
    while got < total + 300_000 {
        let piece = get(b, 65_536, 0).unwrap();
        assert!(!piece.is_empty());
        let wanted = |index: usize| if got + index < total { 7 } else { 9 };
        assert!(piece.iter().enumerate().all(|(index, byte)| *byte == wanted(index)));
        got += piece.len();
    }
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    assert_eq!(status, 0);
    // A receive time-out ends as EAGAIN.
    let time = timeval { tv_sec: 0, tv_usec: 20_000 };
    ok(unsafe { setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, (&raw const time).cast(), size_of::<timeval>() as u32) });
    assert_eq!(get(b, 1, 0), Err(EAGAIN));
}

fn errors() {
    let mut fds = [0; 2];
    assert_eq!(errno_of(unsafe { socket(12345, SOCK_STREAM, 0) }), EAFNOSUPPORT);
    assert_eq!(errno_of(unsafe { socket(AF_UNIX, 9, 0) }), ESOCKTNOSUPPORT);
    assert_eq!(errno_of(unsafe { socket(AF_UNIX, SOCK_STREAM, 77) }), EPROTONOSUPPORT);
    assert_eq!(errno_of(unsafe { socketpair(AF_UNIX, SOCK_STREAM, 0, std::ptr::dangling_mut()) }), EFAULT);
    let fd = new_socket(SOCK_STREAM);
    assert_eq!(get(fd, 1, 0), Err(EINVAL));
    assert_eq!(put(fd, b"x"), -1);
    assert_eq!(errno(), ENOTCONN);
    assert_eq!(errno_of(unsafe { accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) }), EINVAL);
    assert_eq!(connect_to(fd, b"/absent/socket\0"), ENOENT);
    assert_eq!(connect_to(fd, b"/\0"), ECONNREFUSED);
    ok(unsafe { pipe(fds.as_mut_ptr()) });
    assert_eq!(errno_of(unsafe { listen(fds[0], 1) }), ENOTSOCK);
    assert_eq!(errno_of(unsafe { listen(999, 1) }), EBADF);
    assert_eq!(errno_of(unsafe { lseek(fd, 0, SEEK_SET) }), ESPIPE);
    let mut kind = 0i32;
    let mut len = 4u32;
    ok(unsafe { getsockopt(fd, SOL_SOCKET, SO_TYPE, (&raw mut kind).cast(), &mut len) });
    assert_eq!((kind, len), (SOCK_STREAM, 4));
    assert_eq!(errno_of(unsafe { getsockopt(fd, SOL_SOCKET, 9999, (&raw mut kind).cast(), &mut len) }), ENOPROTOOPT);
}
