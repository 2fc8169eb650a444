//! poll, epoll, wakes and signals.

use super::support::*;
use std::mem::zeroed;

const RDHUP: i16 = POLLRDHUP;

pub fn poll_stream() {
    let (client, server) = connected();
    let all = POLLIN | POLLOUT | RDHUP;
    assert_eq!(events(client, all, 0), POLLOUT);
    assert_eq!(put(server, b"x"), Ok(1));
    assert_eq!(events(client, POLLIN, 5000), POLLIN);
    assert_eq!(events(client, all, 0), POLLIN | POLLOUT);
    get(client, 1, 0).unwrap();
    ok(unsafe { shutdown(server, SHUT_WR) });
    assert_eq!(events(client, POLLIN, 5000), POLLIN);
    assert_eq!(events(client, all, 0), POLLIN | POLLOUT | RDHUP);
    ok(unsafe { shutdown(client, SHUT_WR) });
    assert_ne!(events(client, 0, 5000) & POLLHUP, 0);
    assert_eq!(events(client, all, 0), POLLIN | POLLOUT | RDHUP | POLLHUP);
    assert_eq!(events(client, POLLOUT, 0), POLLOUT | POLLHUP);
}

pub fn poll_fresh() {
    let fd = new(AF_INET, SOCK_STREAM);
    let all = POLLIN | POLLOUT | RDHUP;
    assert_eq!(events(fd, all, 0), POLLOUT | POLLHUP);
    let (listening, port) = listener(3);
    assert_eq!(events(listening, all, 0), 0);
    assert_eq!(connect_v4(fd, LOCAL, port), 0);
    assert_eq!(events(listening, all, 5000), POLLIN);
    let datagram = new(AF_INET, SOCK_DGRAM);
    assert_eq!(events(datagram, all, 0), POLLOUT);
}

fn wait(epoll: i32, timeout_ms: i32) -> Vec<u32> {
    let mut list: [epoll_event; 8] = unsafe { zeroed() };
    let count = ok(unsafe { epoll_wait(epoll, list.as_mut_ptr(), 8, timeout_ms) });
    list[..count as usize].iter().map(|event| event.events).collect()
}

pub fn epoll_edge() {
    let (client, server) = connected();
    let epoll = ok(unsafe { epoll_create1(0) });
    let interest = (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) as u32;
    let mut event = epoll_event { events: interest, u64: 1 };
    ok(unsafe { epoll_ctl(epoll, EPOLL_CTL_ADD, client, &mut event) });
    assert_eq!(wait(epoll, 5000), [EPOLLOUT as u32]);
    assert_eq!(wait(epoll, 50), []);
    assert_eq!(put(server, b"ab"), Ok(2));
    assert_eq!(wait(epoll, 5000), [(EPOLLIN | EPOLLOUT) as u32]);
    assert_eq!(wait(epoll, 50), []);
    // More bytes are a new edge though the old ones are still there.
    assert_eq!(put(server, b"c"), Ok(1));
    assert_eq!(wait(epoll, 5000), [(EPOLLIN | EPOLLOUT) as u32]);
    assert_eq!(get(client, 10, 0).unwrap(), b"abc");
    // Room after a full buffer is an edge.
    nonblocking(client);
    let block = vec![0u8; 65_536];
    let mut sent = 0;
    while let Ok(n) = put(client, &block) {
        sent += n;
    }
    while !wait(epoll, 50).is_empty() {}
    let mut read = 0;
    while read < sent {
        read += get(server, 1 << 20, 0).unwrap().len();
    }
    let edge = wait(epoll, 5000);
    assert!(edge.iter().any(|events| events & EPOLLOUT as u32 != 0));
    unsafe { close(server) };
    let end = wait(epoll, 5000);
    assert!(end.iter().any(|events| events & EPOLLRDHUP as u32 != 0));
}

pub fn epoll_connect() {
    let (listening, port) = listener(3);
    let epoll = ok(unsafe { epoll_create1(0) });
    let fd = new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    let mut event = epoll_event { events: (EPOLLIN | EPOLLOUT | EPOLLET) as u32, u64: 1 };
    ok(unsafe { epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &mut event) });
    assert_eq!(wait(epoll, 5000), [(EPOLLOUT | EPOLLHUP) as u32]);
    let first = connect_v4(fd, LOCAL, port);
    assert!(first == EINPROGRESS || first == 0);
    assert_eq!(wait(epoll, 5000), [EPOLLOUT as u32]);
    take(listening);
    // Level triggered: as long as it holds.
    let (client, server) = connected();
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 2 };
    ok(unsafe { epoll_ctl(epoll, EPOLL_CTL_ADD, client, &mut event) });
    assert_eq!(put(server, b"x"), Ok(1));
    assert_eq!(wait(epoll, 5000), [EPOLLIN as u32]);
    assert_eq!(wait(epoll, 5000), [EPOLLIN as u32]);
    get(client, 1, 0).unwrap();
    assert_eq!(wait(epoll, 50), []);
}

pub fn shutdown_wakes() {
    let (client, server) = connected();
    let waker = soon(move || {
        ok(unsafe { shutdown(client, SHUT_RDWR) });
    });
    assert_eq!(get(client, 1, 0).unwrap(), b"");
    waker.join().unwrap();
    // The last close of the other side ends a blocked receive.
    let (other, waiting) = connected();
    let closer = soon(move || {
        unsafe { close(other) };
    });
    assert_eq!(get(waiting, 1, 0).unwrap(), b"");
    closer.join().unwrap();
    let _ = server;
}

extern "C" fn note(_signal: i32) {}

pub fn signals_interrupt() {
    let (client, _server) = connected();
    let (listening, _) = listener(1);
    for restart in [false, true] {
        unsafe {
            let mut action: sigaction = zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = if restart { SA_RESTART } else { 0 };
            sigaction(SIGUSR1, &action, std::ptr::null_mut());
        }
        if restart {
            continue;
        }
        let own = unsafe { pthread_self() } as usize;
        let kicker = soon(move || unsafe {
            pthread_kill(own as _, SIGUSR1);
        });
        assert_eq!(get(client, 1, 0), Err(EINTR));
        kicker.join().unwrap();
        let kicker = soon(move || unsafe {
            pthread_kill(own as _, SIGUSR1);
        });
        assert_eq!(errno_of(unsafe { accept(listening, std::ptr::null_mut(), std::ptr::null_mut()) }), EINTR);
        kicker.join().unwrap();
    }
}
