//! TCP: bytes, halves, resets.

use super::support::*;
use crate::harness::{child_dies_of, child_succeeds};
use std::thread;

pub fn echo() {
    let (listener, port) = listener(1);
    let client = new(AF_INET, SOCK_STREAM);
    let server = thread::spawn(move || {
        let fd = take(listener);
        while let Ok(bytes) = get(fd, 100, 0)
            && !bytes.is_empty()
        {
            assert_eq!(put(fd, &bytes), Ok(bytes.len()));
        }
        unsafe { close(fd) };
    });
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    for round in 0..200u32 {
        let message = format!("message {round}");
        assert_eq!(put(client, message.as_bytes()), Ok(message.len()));
        assert_eq!(get(client, message.len(), MSG_WAITALL).unwrap(), message.as_bytes());
    }
    ok(unsafe { shutdown(client, SHUT_WR) });
    assert_eq!(get(client, 10, 0).unwrap(), b"");
    server.join().unwrap();
}

pub fn echo_v6() {
    let listener = new(AF_INET6, SOCK_STREAM);
    assert_eq!(bind_v6(listener, LOCAL6, 0), 0);
    ok(unsafe { listen(listener, 5) });
    let port = name_v6(listener).1;
    let client = new(AF_INET6, SOCK_STREAM);
    assert_eq!(connect_v6(client, LOCAL6, port), 0);
    let server = take(listener);
    assert_eq!(put(client, b"over six"), Ok(8));
    assert_eq!(get(server, 20, 0).unwrap(), b"over six");
    assert_eq!(name_v6(client).0, LOCAL6);
    assert_eq!(put(server, b"back"), Ok(4));
    assert_eq!(get(client, 20, 0).unwrap(), b"back");
}

pub fn dual_stack() {
    let listener = new(AF_INET6, SOCK_STREAM);
    assert_eq!(option(listener, IPPROTO_IPV6, IPV6_V6ONLY), Ok(0));
    assert_eq!(bind_v6(listener, [0; 16], 0), 0);
    ok(unsafe { listen(listener, 5) });
    let port = name_v6(listener).1;
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let server = take(listener);
    let mapped = name_v6(server).0;
    assert_eq!(mapped, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
    assert_eq!(put(client, b"four"), Ok(4));
    assert_eq!(get(server, 9, 0).unwrap(), b"four");
    let only = new(AF_INET6, SOCK_STREAM);
    assert_eq!(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
    assert_eq!(bind_v6(only, [0; 16], 0), 0);
    assert_eq!(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
    ok(unsafe { listen(only, 5) });
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, name_v6(only).1), ECONNREFUSED);
    // An IPv6 socket reaches IPv4 by a mapped address.
    let client = new(AF_INET6, SOCK_STREAM);
    assert_eq!(connect_v6(client, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], port), 0);
}

pub fn names() {
    let (listener, port) = listener(1);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(name_v4(client), (0, 0));
    assert_eq!(peer_v4(client), Err(ENOTCONN));
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let (ip, own) = name_v4(client);
    assert_eq!(ip, LOCAL);
    assert!(own >= 1024);
    assert_eq!(peer_v4(client), Ok((LOCAL, port)));
    let mut address = v4(0, 0);
    let mut len = 100u32;
    let server = ok(unsafe { accept(listener, (&raw mut address).cast(), &mut len) });
    assert_eq!(len, ADDRESS_LEN);
    assert_eq!((u32::from_be(address.sin_addr.s_addr), u16::from_be(address.sin_port)), (LOCAL, own));
    assert_eq!(name_v4(server), (LOCAL, port));
    assert_eq!(peer_v4(server), Ok((LOCAL, own)));
    // A short buffer is filled, the true length told.
    let mut short = [0u8; 4];
    let mut len = 4;
    ok(unsafe { getsockname(server, short.as_mut_ptr().cast(), &mut len) });
    assert_eq!((len, &short[2..]), (16, &port.to_be_bytes()[..]));
    let mut negative = -1i32 as u32;
    assert_eq!(errno_of(unsafe { getsockname(server, short.as_mut_ptr().cast(), &mut negative) }), EINVAL);
}

pub fn bulk() {
    const TOTAL: usize = 8 << 20;
    let (client, server) = connected();
    let byte = |n: usize| (n * 7 + n / 1000) as u8;
    let writer = thread::spawn(move || {
        let mut at = 0;
        while at < TOTAL {
            let len = (at % 70_000 + 1).min(TOTAL - at);
            let piece: Vec<u8> = (at..at + len).map(byte).collect();
            assert_eq!(put(client, &piece), Ok(len));
            at += len;
        }
        unsafe { close(client) };
    });
    let mut at = 0;
    loop {
        let bytes = get(server, 1 + at % 100_000, 0).unwrap();
        if bytes.is_empty() {
            break;
        }
        for (offset, value) in bytes.iter().enumerate() {
            assert_eq!(*value, byte(at + offset));
        }
        at += bytes.len();
    }
    assert_eq!(at, TOTAL);
    writer.join().unwrap();
}

pub fn half_close() {
    let (client, server) = connected();
    assert_eq!(put(client, b"last words"), Ok(10));
    ok(unsafe { shutdown(client, SHUT_WR) });
    assert_eq!(put(client, b"x"), Err(EPIPE));
    assert_eq!(get(server, 100, MSG_WAITALL).unwrap(), b"last words");
    assert_eq!(get(server, 100, 0).unwrap(), b"");
    // The other half goes on.
    assert_eq!(put(server, b"answer"), Ok(6));
    assert_eq!(get(client, 100, 0).unwrap(), b"answer");
    unsafe { close(server) };
    assert_eq!(get(client, 100, 0).unwrap(), b"");
    // Reading may be shut too: what comes is still taken.
    let (client, server) = connected();
    ok(unsafe { shutdown(client, SHUT_RD) });
    assert_eq!(get(client, 10, 0).unwrap(), b"");
    assert_eq!(put(server, b"late"), Ok(4));
    assert_eq!(errno_of(unsafe { shutdown(client, 7) }), EINVAL);
}

pub fn reset_by_unread() {
    let (client, server) = connected();
    assert_eq!(put(client, b"never read"), Ok(10));
    assert_ne!(events(server, POLLIN, 5000), 0);
    unsafe { close(server) };
    // The reset is told once, as an error; then there is nothing.
    let hung = events(client, POLLIN, 5000);
    assert_eq!(hung & (POLLERR | POLLHUP), POLLERR | POLLHUP);
    assert_eq!(get(client, 10, 0), Err(ECONNRESET));
    assert_eq!(get(client, 10, 0).unwrap(), b"");
    assert_eq!(put(client, b"x"), Err(EPIPE));
}

pub fn linger_zero() {
    let (client, server) = connected();
    let value = linger { l_onoff: 1, l_linger: 0 };
    ok(unsafe { setsockopt(client, SOL_SOCKET, SO_LINGER, (&raw const value).cast(), 8) });
    unsafe { close(client) };
    assert_ne!(events(server, POLLIN, 5000) & POLLERR, 0);
    assert_eq!(option(server, SOL_SOCKET, SO_ERROR), Ok(ECONNRESET));
    assert_eq!(option(server, SOL_SOCKET, SO_ERROR), Ok(0));
    assert_eq!(get(server, 10, 0).unwrap(), b"");
    // With time to linger, close waits for the other side to have it all.
    let (client, server) = connected();
    let value = linger { l_onoff: 1, l_linger: 5 };
    ok(unsafe { setsockopt(client, SOL_SOCKET, SO_LINGER, (&raw const value).cast(), 8) });
    assert_eq!(put(client, b"kept"), Ok(4));
    unsafe { close(client) };
    assert_eq!(get(server, 10, 0).unwrap(), b"kept");
    assert_eq!(get(server, 10, 0).unwrap(), b"");
}

pub fn broken() {
    let (client, server) = connected();
    unsafe { close(server) };
    assert_eq!(get(client, 10, 0).unwrap(), b"");
    // The first bytes are answered by a reset.
    assert_eq!(put(client, b"x"), Ok(1));
    assert_ne!(events(client, 0, 5000) & POLLHUP, 0);
    assert_eq!(put(client, b"y"), Err(EPIPE));
    child_dies_of(SIGPIPE, || {
        let (client, _server) = connected();
        unsafe {
            signal(SIGPIPE, SIG_DFL);
            shutdown(client, SHUT_WR);
            write(client, b"x".as_ptr().cast(), 1);
        }
    });
}

pub fn unconnected() {
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(put(fd, b"x"), Err(EPIPE));
    assert_eq!(get(fd, 1, 0), Err(ENOTCONN));
    assert_eq!(errno_of(unsafe { shutdown(fd, SHUT_RDWR) }), ENOTCONN);
    assert_eq!(peer_v4(fd), Err(ENOTCONN));
    let (listening, _) = listener(1);
    assert_eq!(get(listening, 1, 0), Err(ENOTCONN));
    assert_eq!(put(listening, b"x"), Err(EPIPE));
    assert_eq!(connect_v4(listening, LOCAL, 9), EISCONN);
}

pub fn flags() {
    let (client, server) = connected();
    assert_eq!(get(server, 10, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(put(client, b"abcdef"), Ok(6));
    assert_ne!(events(server, POLLIN, 5000), 0);
    assert_eq!(get(server, 4, MSG_PEEK).unwrap(), b"abcd");
    assert_eq!(get(server, 4, MSG_PEEK).unwrap(), b"abcd");
    assert_eq!(get(server, 2, 0).unwrap(), b"ab");
    // MSG_TRUNC throws bytes of a stream away.
    let mut untouched = [7u8; 3];
    assert_eq!(ok(unsafe { recv(server, untouched.as_mut_ptr().cast(), 3, MSG_TRUNC) }), 3);
    assert_eq!(untouched, [7; 3]);
    assert_eq!(get(server, 9, 0).unwrap(), b"f");
    // MSG_MORE holds back, MSG_WAITALL waits for all of it.
    let half = soon(move || {
        ok(unsafe { send(client, b"one".as_ptr().cast(), 3, MSG_MORE) });
        ok(unsafe { send(client, b"two".as_ptr().cast(), 3, 0) });
    });
    assert_eq!(get(server, 6, MSG_WAITALL).unwrap(), b"onetwo");
    half.join().unwrap();
    assert_eq!(get(server, 1, MSG_OOB), Err(EINVAL));
    // Even no bytes are waited for.
    assert_eq!(get(server, 0, MSG_DONTWAIT), Err(EAGAIN));
    assert_eq!(get(server, 1, MSG_ERRQUEUE), Err(EAGAIN));
    // A receive of several pieces.
    let mut parts = [[0u8; 2], [0u8; 2]];
    assert_eq!(put(client, b"wxyz"), Ok(4));
    let mut iov = parts.each_mut().map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 2 });
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    let mut name = v4(9, 9);
    (message.msg_iov, message.msg_iovlen) = (iov.as_mut_ptr(), 2);
    (message.msg_name, message.msg_namelen) = ((&raw mut name).cast(), 16);
    assert_eq!(ok(unsafe { recvmsg(server, &mut message, MSG_WAITALL) }), 4);
    assert_eq!((parts, message.msg_namelen, message.msg_flags), ([*b"wx", *b"yz"], 0, 0));
}

pub fn peek() {
    let (client, server) = connected();
    let block: Vec<u8> = (0..50_000u32).map(|n| (n / 3) as u8).collect();
    for _ in 0..30 {
        assert_eq!(put(client, &block), Ok(block.len()));
        assert_eq!(get(server, block.len(), MSG_PEEK | MSG_WAITALL).unwrap(), block);
        assert_eq!(get(server, block.len(), MSG_WAITALL).unwrap(), block);
    }
}

pub fn full() {
    let (client, server) = connected();
    nonblocking(client);
    let block = vec![5u8; 65_536];
    let mut sent = 0;
    loop {
        match put(client, &block) {
            Ok(n) => sent += n,
            Err(error) => {
                assert_eq!(error, EAGAIN);
                break;
            }
        }
        assert!(sent < 64 << 20);
    }
    assert_eq!(events(client, POLLOUT, 0), 0);
    let mut read = 0;
    while read < sent {
        read += get(server, 65_536, 0).unwrap().len();
    }
    assert_eq!(events(client, POLLOUT, 5000), POLLOUT);
    assert_eq!(put(client, b"x"), Ok(1));
    // A blocked sender goes on when there is room.
    let (client, server) = connected();
    let writer = thread::spawn(move || {
        let block = vec![6u8; 8 << 20];
        assert_eq!(put(client, &block), Ok(block.len()));
    });
    let mut read = 0;
    while read < 8 << 20 {
        read += get(server, 100_000, 0).unwrap().len();
    }
    writer.join().unwrap();
}

pub fn queue_lengths() {
    let (client, server) = connected();
    let mut queued = -1;
    assert_eq!(put(client, b"12345"), Ok(5));
    assert_ne!(events(server, POLLIN, 5000), 0);
    ok(unsafe { ioctl(server, FIONREAD as _, &raw mut queued) });
    assert_eq!(queued, 5);
    ok(unsafe { ioctl(client, TIOCOUTQ as _, &raw mut queued) });
    assert!((0..=5).contains(&queued));
    let (listening, _) = listener(1);
    assert_eq!(errno_of(unsafe { ioctl(listening, FIONREAD as _, &raw mut queued) }), EINVAL);
    assert_eq!(errno_of(unsafe { lseek(client, 0, SEEK_SET) }), ESPIPE);
    assert_eq!(errno_of(unsafe { pread(client, (&raw mut queued).cast(), 4, 0) }), ESPIPE);
}

pub fn timeouts() {
    let (client, _server) = connected();
    let time = timeval { tv_sec: 0, tv_usec: 50_000 };
    ok(unsafe { setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, (&raw const time).cast(), 16) });
    assert_eq!(get(client, 1, 0), Err(EAGAIN));
    ok(unsafe { setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, (&raw const time).cast(), 16) });
    let block = vec![0u8; 1 << 20];
    let mut partial = false;
    for _ in 0..64 {
        match put(client, &block) {
            Ok(n) if n == block.len() => {}
            Ok(_) => partial = true,
            Err(error) => {
                assert_eq!(error, EAGAIN);
                partial = true;
            }
        }
        if partial {
            break;
        }
    }
    assert!(partial);
    let (listening, _) = listener(1);
    ok(unsafe { setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, (&raw const time).cast(), 16) });
    assert_eq!(errno_of(unsafe { accept(listening, std::ptr::null_mut(), std::ptr::null_mut()) }), EAGAIN);
}

pub fn sendfile_and_splice() {
    let (client, server) = connected();
    let name = c"/tmp/inet-sendfile";
    let file = ok(unsafe { open(name.as_ptr(), O_RDWR | O_CREAT | O_TRUNC, 0o600) });
    let block: Vec<u8> = (0..100_000u32).map(|n| (n / 5) as u8).collect();
    assert_eq!(ok(unsafe { write(file, block.as_ptr().cast(), block.len()) }), 100_000);
    let reader = thread::spawn(move || get(server, 100_000 + 5, MSG_WAITALL).unwrap());
    let mut offset = 0;
    while offset < 100_000 {
        ok(unsafe { sendfile(client, file, &mut offset, 100_000) });
    }
    let mut pipe = [0; 2];
    ok(unsafe { pipe2(pipe.as_mut_ptr(), 0) });
    assert_eq!(unsafe { write(pipe[1], b"piped".as_ptr().cast(), 5) }, 5);
    let null = std::ptr::null_mut();
    assert_eq!(ok(unsafe { splice(pipe[0], null, client, null, 5, 0) }), 5);
    let got = reader.join().unwrap();
    assert_eq!(got[..100_000], block);
    assert_eq!(&got[100_000..], b"piped");
    unsafe { unlink(name.as_ptr()) };
}

pub fn faults() {
    let (client, server) = connected();
    child_succeeds(|| {});
    assert_eq!(errno_of(unsafe { send(client, 8 as *const c_void, 4, 0) }), EFAULT);
    assert_eq!(put(client, b"kept"), Ok(4));
    assert_ne!(events(server, POLLIN, 5000), 0);
    assert_eq!(errno_of(unsafe { recv(server, 8 as *mut c_void, 4, 0) }), EFAULT);
    // What could not be handed over is still there; fresh pages are no obstacle.
    let page = unsafe { mmap(std::ptr::null_mut(), 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    assert_eq!(ok(unsafe { recv(server, page.add(4094), 4, 0) }), 4);
    assert_eq!(unsafe { std::slice::from_raw_parts(page.cast::<u8>().add(4094), 4) }, b"kept");
    let fresh =
        unsafe { mmap(std::ptr::null_mut(), 65_536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    assert_eq!(ok(unsafe { send(client, fresh, 65_536, 0) }), 65_536);
    assert_eq!(get(server, 65_536, MSG_WAITALL).unwrap(), vec![0; 65_536]);
}
