//! What makes an edge: EPOLLET on pipes, FIFOs, eventfds, timerfds, signalfds, sockets; and the order in which epoll_wait tells.

use super::support::ok;
use super::{close, pipe_with, read, write};
use libc::*;
use std::ptr::null_mut;

struct Watcher(i32);

impl Watcher {
    fn new() -> Self {
        Self(ok(unsafe { epoll_create1(0) }))
    }
    fn control(&self, command: i32, fd: i32, events: i32) {
        let mut event = epoll_event { events: events as u32, u64: fd as u64 };
        ok(unsafe { epoll_ctl(self.0, command, fd, &mut event) });
    }
    fn add(&self, fd: i32, events: i32) {
        self.control(EPOLL_CTL_ADD, fd, events);
    }
    /// What is told now, at most `max`: descriptor and events.
    fn ready(&self, max: i32) -> Vec<(i32, i32)> {
        let mut events: [epoll_event; 16] = unsafe { std::mem::zeroed() };
        let n = ok(unsafe { epoll_wait(self.0, events.as_mut_ptr(), max, 0) });
        events[..n as usize].iter().map(|event| (event.u64 as i32, event.events as i32)).collect()
    }
    fn events(&self) -> i32 {
        self.ready(16).first().map_or(0, |first| first.1)
    }
}

pub fn pipes() {
    let watcher = Watcher::new();
    let (r, w) = pipe_with(O_NONBLOCK);
    watcher.add(r, EPOLLIN | EPOLLET);
    watcher.add(w, EPOLLOUT | EPOLLET);
    assert_eq!(watcher.ready(16), [(w, EPOLLOUT)]);
    assert_eq!(watcher.ready(16), []);
    // Every write is an edge for the reader, whether or not it has read.
    for _ in 0..2 {
        write(w, b"x");
        assert_eq!(watcher.ready(16), [(r, EPOLLIN)]);
        assert_eq!(watcher.ready(16), []);
    }
    // Reading is none for the reader, and none for the writer unless the pipe was full.
    assert_eq!(read(r, 1), Ok(b"x".to_vec()));
    assert_eq!(watcher.ready(16), []);
    assert!(read(r, 100).is_ok());
    assert_eq!(watcher.ready(16), []);
    assert_eq!(write(w, &[7; 65536]), 65536);
    assert_eq!(watcher.ready(16), [(r, EPOLLIN)]);
    assert!(read(r, 4096).is_ok());
    let seen = watcher.ready(16);
    assert!(seen.contains(&(w, EPOLLOUT)), "{seen:?}");
    assert_eq!(watcher.ready(16), []);
    // A descriptor that is changed is told again.
    watcher.control(EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET);
    assert_eq!(watcher.ready(16), [(r, EPOLLIN)]);
    close(w);
    assert_eq!(watcher.ready(16), [(r, EPOLLIN | EPOLLHUP)]);
    assert_eq!(watcher.ready(16), []);
    while read(r, 65536).unwrap() != b"" {}
    assert_eq!(watcher.ready(16), []);
    let (r, w) = pipe_with(O_NONBLOCK);
    watcher.add(w, EPOLLOUT | EPOLLET);
    assert_eq!(watcher.events(), EPOLLOUT);
    close(r);
    assert_eq!(watcher.events(), EPOLLOUT | EPOLLERR);
    assert_eq!(watcher.events(), 0);
}

pub fn counters() {
    let watcher = Watcher::new();
    let event = ok(unsafe { eventfd(0, EFD_NONBLOCK) });
    watcher.add(event, EPOLLIN | EPOLLOUT | EPOLLET);
    assert_eq!(watcher.events(), EPOLLOUT);
    for _ in 0..2 {
        write(event, &1u64.to_ne_bytes());
        assert_eq!(watcher.events(), EPOLLIN | EPOLLOUT);
        assert_eq!(watcher.events(), 0);
    }
    assert!(read(event, 8).is_ok());
    assert_eq!(watcher.events(), EPOLLOUT, "reading is an edge for writers");
    assert_eq!(watcher.events(), 0);
    // A timer's expirations, and its being set anew.
    let timer = ok(unsafe { timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK) });
    watcher.add(timer, EPOLLIN | EPOLLET);
    let past =
        itimerspec { it_interval: timespec { tv_sec: 0, tv_nsec: 0 }, it_value: timespec { tv_sec: 0, tv_nsec: 1 } };
    for _ in 0..2 {
        ok(unsafe { timerfd_settime(timer, TFD_TIMER_ABSTIME, &past, null_mut()) });
        assert_eq!(ok(unsafe { epoll_wait(watcher.0, &mut std::mem::zeroed(), 1, 1000) }), 1);
        assert_eq!(watcher.events(), 0);
    }
}

fn pair(kind: i32) -> [i32; 2] {
    let mut fds = [0; 2];
    ok(unsafe { socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, fds.as_mut_ptr()) });
    fds
}

pub fn sockets() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let watcher = Watcher::new();
        let [a, b] = pair(kind);
        watcher.add(b, EPOLLIN | EPOLLRDHUP | EPOLLET);
        assert_eq!(watcher.events(), 0);
        for _ in 0..2 {
            write(a, b"message");
            assert_eq!(watcher.events(), EPOLLIN, "kind {kind}");
            assert_eq!(watcher.events(), 0);
        }
        // What is left after a read is no edge.
        assert!(read(b, 3).is_ok());
        assert_eq!(watcher.events(), 0);
        watcher.control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLOUT | EPOLLET);
        assert_eq!(watcher.events(), EPOLLIN | EPOLLOUT);
        if kind != SOCK_DGRAM {
            watcher.control(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLRDHUP | EPOLLET);
            watcher.events();
            ok(unsafe { shutdown(a, SHUT_WR) });
            assert_eq!(watcher.events(), EPOLLIN | EPOLLRDHUP);
            assert_eq!(watcher.events(), 0);
            close(a);
            assert_eq!(watcher.events(), EPOLLIN | EPOLLRDHUP | EPOLLHUP);
        }
    }
}

/// Level-triggered descriptors take turns when there is room for few; a one-shot is told once until it is armed again.
pub fn turns() {
    let watcher = Watcher::new();
    let events: Vec<i32> = (0..3).map(|_| ok(unsafe { eventfd(1, 0) })).collect();
    for fd in &events {
        watcher.add(*fd, EPOLLIN);
    }
    let told: Vec<i32> = (0..6).map(|_| watcher.ready(1)[0].0).collect();
    assert_eq!(told, [&events[..], &events[..]].concat());
    assert_eq!(watcher.ready(2).len(), 2);
    watcher.control(EPOLL_CTL_MOD, events[1], EPOLLIN | EPOLLONESHOT);
    assert_eq!(watcher.ready(16).len(), 3);
    let rest = watcher.ready(16);
    assert!(rest.len() == 2 && rest.iter().all(|told| told.0 != events[1]));
    write(events[1], &1u64.to_ne_bytes());
    assert_eq!(watcher.ready(16).len(), 2, "not armed");
    watcher.control(EPOLL_CTL_MOD, events[1], EPOLLIN | EPOLLONESHOT);
    assert_eq!(watcher.ready(16).len(), 3);
    // Armed for nothing: only errors would be told.
    watcher.control(EPOLL_CTL_MOD, events[0], 0);
    assert_eq!(watcher.ready(16).len(), 1);
}

/// A description that has two descriptors stays until the second is closed; events then still name the first.
pub fn duplicates() {
    let watcher = Watcher::new();
    let event = ok(unsafe { eventfd(1, 0) });
    let copy = ok(unsafe { dup(event) });
    watcher.add(event, EPOLLIN);
    watcher.add(copy, EPOLLIN | EPOLLET);
    assert_eq!(watcher.ready(16).len(), 2);
    close(event);
    assert_eq!(watcher.ready(16), [(event, EPOLLIN)]);
    close(copy);
    assert_eq!(watcher.ready(16), []);
}
