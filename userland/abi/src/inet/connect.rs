//! connect, listen, accept.

use super::support::*;
use std::mem::zeroed;
use std::thread;

/// A port nobody listens to.
fn closed_port() -> u16 {
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(bind_v4(fd, LOCAL, 0), 0);
    let port = name_v4(fd).1;
    unsafe { close(fd) };
    port
}

pub fn refused() {
    let port = closed_port();
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(fd, LOCAL, port), ECONNREFUSED);
    assert_eq!(option(fd, SOL_SOCKET, SO_ERROR), Ok(0));
    // The socket may try again, elsewhere too.
    assert_eq!(connect_v4(fd, LOCAL, port), ECONNREFUSED);
    let (_listening, port) = listener(1);
    assert_eq!(connect_v4(fd, LOCAL, port), 0);
    assert_eq!(connect_v4(fd, LOCAL, port), EISCONN);
    let fd = new(AF_INET6, SOCK_STREAM);
    assert_eq!(connect_v6(fd, LOCAL6, closed_port()), ECONNREFUSED);
}

pub fn nonblocking() {
    let (listening, port) = listener(5);
    let fd = new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    let first = connect_v4(fd, LOCAL, port);
    assert!(first == EINPROGRESS || first == 0, "{first}");
    assert_eq!(events(fd, POLLOUT, 5000), POLLOUT);
    assert_eq!(option(fd, SOL_SOCKET, SO_ERROR), Ok(0));
    let server = take(listening);
    assert_eq!(put(fd, b"x"), Ok(1));
    assert_eq!(get(server, 1, 0).unwrap(), b"x");
    // A refusal is told by poll and SO_ERROR, once.
    let fd = new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    let first = connect_v4(fd, LOCAL, closed_port());
    if first == EINPROGRESS {
        let seen = events(fd, POLLOUT, 5000);
        assert_eq!(seen & (POLLERR | POLLHUP), POLLERR | POLLHUP);
        assert_eq!(option(fd, SOL_SOCKET, SO_ERROR), Ok(ECONNREFUSED));
        assert_eq!(option(fd, SOL_SOCKET, SO_ERROR), Ok(0));
    } else {
        assert_eq!(first, ECONNREFUSED);
    }
}

pub fn again() {
    let (listening, port) = listener(5);
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(fd, LOCAL, port), 0);
    assert_eq!(connect_v4(fd, LOCAL, port), EISCONN);
    // AF_UNSPEC ends the connection; the socket may connect anew.
    let mut nobody: sockaddr = unsafe { zeroed() };
    nobody.sa_family = AF_UNSPEC as u16;
    ok(unsafe { connect(fd, &nobody, 16) });
    assert_eq!(peer_v4(fd), Err(ENOTCONN));
    assert_eq!(connect_v4(fd, LOCAL, port), 0);
    unsafe { close(listening) };
    let address = v4(LOCAL, port);
    let fresh = new(AF_INET, SOCK_STREAM);
    assert_eq!(errno_of(unsafe { connect(fresh, (&raw const address).cast(), 1) }), EINVAL);
    assert_eq!(errno_of(unsafe { connect(fresh, (&raw const address).cast(), 10) }), EINVAL);
    let mut odd = address;
    odd.sin_family = 77;
    assert_eq!(errno_of(unsafe { connect(fresh, (&raw const odd).cast(), 16) }), EAFNOSUPPORT);
    assert_eq!(errno_of(unsafe { connect(fresh, 8 as *const sockaddr, 16) }), EFAULT);
    assert_eq!(errno_of(unsafe { connect(fresh, (&raw const address).cast(), 200) }), EINVAL);
}

fn state_of(fd: i32) -> u8 {
    let mut info = [0u8; 256];
    let mut len = 256;
    ok(unsafe { getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.as_mut_ptr().cast(), &mut len) });
    assert!(len >= 104);
    info[0]
}

fn becomes(fd: i32, wanted: u8) {
    for _ in 0..500 {
        if state_of(fd) == wanted {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("state {}, expected {wanted}", state_of(fd));
}

pub fn states() {
    let fresh = new(AF_INET, SOCK_STREAM);
    assert_eq!(state_of(fresh), 7);
    let (listening, port) = listener(5);
    assert_eq!(state_of(listening), 10);
    let client = fresh;
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let server = take(listening);
    assert_eq!((state_of(client), state_of(server)), (1, 1));
    ok(unsafe { shutdown(client, SHUT_WR) });
    becomes(server, 8);
    becomes(client, 5);
    ok(unsafe { shutdown(server, SHUT_WR) });
    becomes(server, 7);
}

pub fn backlog() {
    let (listening, port) = listener(1);
    // Two fit (one more than asked), the third waits.
    let mut clients = Vec::new();
    for _ in 0..2 {
        let fd = new(AF_INET, SOCK_STREAM);
        assert_eq!(connect_v4(fd, LOCAL, port), 0);
        clients.push(fd);
    }
    let third = new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    assert_eq!(connect_v4(third, LOCAL, port), EINPROGRESS);
    assert_eq!(events(third, POLLOUT, 100), 0);
    assert_eq!(connect_v4(third, LOCAL, port), EALREADY);
    assert_eq!(get(third, 1, 0), Err(EAGAIN));
    for _ in 0..2 {
        unsafe { close(take(listening)) };
    }
    // The repeated SYN finds room.
    assert_eq!(events(third, POLLOUT, 10_000), POLLOUT);
    assert_eq!(connect_v4(third, LOCAL, port), 0);
    assert_eq!(connect_v4(third, LOCAL, port), EISCONN);
    take(listening);
}

pub fn accept_errors() {
    let null = std::ptr::null_mut();
    let fd = new(AF_INET, SOCK_STREAM);
    assert_eq!(errno_of(unsafe { accept(fd, null, std::ptr::null_mut()) }), EINVAL);
    let (listening, port) = listener(5);
    nonblocking_fd(listening);
    assert_eq!(errno_of(unsafe { accept(listening, null, std::ptr::null_mut()) }), EAGAIN);
    assert_eq!(errno_of(unsafe { accept4(listening, null, std::ptr::null_mut(), 1) }), EINVAL);
    let datagram = new(AF_INET, SOCK_DGRAM);
    assert_eq!(errno_of(unsafe { accept(datagram, null, std::ptr::null_mut()) }), EOPNOTSUPP);
    assert_eq!(errno_of(unsafe { listen(datagram, 1) }), EOPNOTSUPP);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_ne!(events(listening, POLLIN, 5000), 0);
    let flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    let server = ok(unsafe { accept4(listening, null, std::ptr::null_mut(), flags) });
    assert_eq!(unsafe { fcntl(server, F_GETFD) }, FD_CLOEXEC);
    assert_ne!(unsafe { fcntl(server, F_GETFL) } & O_NONBLOCK, 0);
    assert_eq!(errno_of(unsafe { listen(server, 1) }), EINVAL);
    // One that was reset before it was taken is taken all the same.
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let value = linger { l_onoff: 1, l_linger: 0 };
    ok(unsafe { setsockopt(client, SOL_SOCKET, SO_LINGER, (&raw const value).cast(), 8) });
    assert_ne!(events(listening, POLLIN, 5000), 0);
    unsafe { close(client) };
    let server = take(listening);
    assert_eq!(get(server, 1, 0), Err(ECONNRESET));
}

fn nonblocking_fd(fd: i32) {
    super::support::nonblocking(fd);
}

pub fn listener_close() {
    let (listening, port) = listener(5);
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_ne!(events(listening, POLLIN, 5000), 0);
    unsafe { close(listening) };
    // Whom nobody accepted is reset.
    assert_ne!(events(client, POLLIN, 5000) & POLLERR, 0);
    assert_eq!(get(client, 1, 0), Err(ECONNRESET));
    let late = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(late, LOCAL, port), ECONNREFUSED);
}

pub fn shutdown_listener() {
    let (listening, _) = listener(5);
    let waker = soon(move || {
        ok(unsafe { shutdown(listening, SHUT_RDWR) });
    });
    assert_eq!(errno_of(unsafe { accept(listening, std::ptr::null_mut(), std::ptr::null_mut()) }), EINVAL);
    waker.join().unwrap();
    // It may listen again.
    ok(unsafe { listen(listening, 5) });
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, name_v4(listening).1), 0);
    take(listening);
}

pub fn churn() {
    let (listening, port) = listener(64);
    let server = thread::spawn(move || {
        for _ in 0..300 {
            let fd = take(listening);
            let byte = get(fd, 1, 0).unwrap();
            assert_eq!(put(fd, &byte), Ok(1));
            unsafe { close(fd) };
        }
    });
    for round in 0..300u32 {
        let fd = new(AF_INET, SOCK_STREAM);
        assert_eq!(connect_v4(fd, LOCAL, port), 0, "round {round}");
        assert_eq!(put(fd, &[round as u8]), Ok(1));
        assert_eq!(get(fd, 1, 0).unwrap(), [round as u8]);
        if round % 2 == 0 {
            assert_eq!(get(fd, 1, 0).unwrap(), b"");
        }
        unsafe { close(fd) };
    }
    server.join().unwrap();
}

pub fn many() {
    const COUNT: usize = 400;
    let (listening, port) = listener(COUNT as i32);
    let mut pairs = Vec::new();
    for _ in 0..COUNT {
        let client = new(AF_INET, SOCK_STREAM);
        assert_eq!(connect_v4(client, LOCAL, port), 0);
        pairs.push((client, take(listening)));
    }
    for (index, (client, server)) in pairs.iter().enumerate() {
        assert_eq!(put(*client, &index.to_le_bytes()), Ok(8));
        assert_eq!(put(*server, &index.to_le_bytes()), Ok(8));
    }
    for (index, (client, server)) in pairs.iter().enumerate() {
        assert_eq!(get(*client, 8, MSG_WAITALL).unwrap(), index.to_le_bytes());
        assert_eq!(get(*server, 8, MSG_WAITALL).unwrap(), index.to_le_bytes());
    }
}

pub fn reuseport() {
    let first = new(AF_INET, SOCK_STREAM);
    assert_eq!(set(first, SOL_SOCKET, SO_REUSEPORT, 1), 0);
    assert_eq!(bind_v4(first, LOCAL, 0), 0);
    ok(unsafe { listen(first, 50) });
    let port = name_v4(first).1;
    let second = new(AF_INET, SOCK_STREAM);
    assert_eq!(bind_v4(second, LOCAL, port), EADDRINUSE);
    assert_eq!(set(second, SOL_SOCKET, SO_REUSEPORT, 1), 0);
    assert_eq!(bind_v4(second, LOCAL, port), 0);
    ok(unsafe { listen(second, 50) });
    let clients: Vec<i32> = (0..40)
        .map(|_| {
            let fd = new(AF_INET, SOCK_STREAM);
            assert_eq!(connect_v4(fd, LOCAL, port), 0);
            fd
        })
        .collect();
    nonblocking_fd(first);
    nonblocking_fd(second);
    let count = |fd: i32| {
        let mut count = 0;
        while unsafe { accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) } != -1 {
            count += 1;
        }
        count
    };
    let (one, two) = (count(first), count(second));
    assert_eq!(one + two, clients.len());
    assert!(one > 0 && two > 0, "{one} and {two}");
}
