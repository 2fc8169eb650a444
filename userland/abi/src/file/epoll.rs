//! epoll.

use super::support::{child, errno_of, ok, reap, sleep_ms, timed};
use super::{catch, close, pipe_with, poll_one, read, write};
use libc::{
    EBADF, EEXIST, EINTR, EINVAL, ELOOP, ENOENT, EPERM, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN,
    EPOLLONESHOT, EPOLLOUT,
};

fn create() -> i32 {
    ok(unsafe { libc::epoll_create1(0) })
}

fn control(epoll: i32, op: i32, fd: i32, events: i32, data: u64) -> i32 {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    unsafe { libc::epoll_ctl(epoll, op, fd, &mut event) }
}

fn add(epoll: i32, fd: i32, events: i32) {
    ok(control(epoll, libc::EPOLL_CTL_ADD, fd, events, fd as u64));
}

/// (events, data) of what is ready within `ms`, sorted.
fn wait(epoll: i32, max: usize, ms: i32) -> Vec<(i32, u64)> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; max];
    let n = ok(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), max as i32, ms) });
    let mut out: Vec<_> = events[..n as usize].iter().map(|event| (event.events as i32, event.u64)).collect();
    out.sort();
    out
}

pub fn level_and_edge() {
    let epoll = create();
    let (r, w) = pipe_with(0);
    let id = r as u64;
    add(epoll, r, EPOLLIN);
    assert_eq!(wait(epoll, 4, 0), []);
    write(w, b"ab");
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, id)]);
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, id)]);
    assert!(read(r, 9).is_ok());
    assert_eq!(wait(epoll, 4, 0), []);
    ok(control(epoll, libc::EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, 7));
    write(w, b"a");
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, 7)]);
    assert_eq!(wait(epoll, 4, 0), []);
    write(w, b"b"); // every write is an edge once epoll watches the pipe
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, 7)]);
    ok(control(epoll, libc::EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, 8)); // MOD looks again
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, 8)]);
    close(w);
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN | EPOLLHUP, 8)]);
    // Woken while waiting.
    let (r, w) = pipe_with(0);
    add(epoll, r, EPOLLIN);
    let pid = child(|| {
        sleep_ms(40);
        write(w, b"x");
    });
    assert_eq!(wait(epoll, 4, 5000), [(EPOLLIN, r as u64)]);
    reap(pid);
    assert!(timed(|| assert_eq!(wait(create(), 1, 50), [])) >= 50);
}

pub fn oneshot() {
    let epoll = create();
    let (r, w) = pipe_with(0);
    add(epoll, r, EPOLLIN | EPOLLONESHOT);
    write(w, b"x");
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, r as u64)]);
    write(w, b"y");
    assert_eq!(wait(epoll, 4, 0), []);
    close(w);
    assert_eq!(wait(epoll, 4, 0), []); // disabled: not even a hang-up
    ok(control(epoll, libc::EPOLL_CTL_MOD, r, EPOLLIN | EPOLLONESHOT, 1));
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN | EPOLLHUP, 1)]);
}

pub fn errors() {
    let epoll = create();
    let (r, w) = pipe_with(0);
    let ctl = |epoll, op, fd, events| errno_of(control(epoll, op, fd, events, 0));
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, r, EPOLLIN), ENOENT);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_DEL, r, EPOLLIN), ENOENT);
    add(epoll, r, EPOLLIN);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, r, EPOLLIN), EEXIST);
    assert_eq!(ctl(epoll, 9, r, EPOLLIN), EINVAL);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, epoll, EPOLLIN), EINVAL);
    assert_eq!(ctl(r, libc::EPOLL_CTL_ADD, w, EPOLLIN), EINVAL);
    assert_eq!(ctl(999, libc::EPOLL_CTL_ADD, w, EPOLLIN), EBADF);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, 999, EPOLLIN), EBADF);
    for path in [c"/", c"/dev/null"] {
        let fd = ok(unsafe { libc::open(path.as_ptr(), 0) });
        assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, fd, EPOLLIN), EPERM);
    }
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_MOD, r, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    assert_eq!(ctl(epoll, libc::EPOLL_CTL_ADD, w, EPOLLOUT | EPOLLONESHOT | EPOLLEXCLUSIVE), EINVAL);
    assert_eq!(errno_of(unsafe { libc::epoll_create1(1) }), EINVAL);
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    assert_eq!(errno_of(unsafe { libc::epoll_wait(epoll, &mut event, 0, 0) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::epoll_wait(r, &mut event, 1, 0) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::epoll_wait(999, &mut event, 1, 0) }), EBADF);
    assert_eq!(errno_of(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, r, std::ptr::null_mut()) }), libc::EFAULT);
    ok(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, r, std::ptr::null_mut()) });
    catch(libc::SIGALRM);
    let time = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    ok(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) });
    assert_eq!(errno_of(unsafe { libc::epoll_wait(epoll, &mut event, 1, 5000) }), EINTR);
    // The kernel's layout: 16 bytes, data at 8.
    assert_eq!(size_of::<libc::epoll_event>(), 16);
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    ok(unsafe { libc::syscall(441, epoll, &raw mut event, 1, &raw const timeout, 0, 8) }); // epoll_pwait2
}

pub fn nested() {
    let (inner, outer) = (create(), create());
    let (r, w) = pipe_with(0);
    add(inner, r, EPOLLIN);
    add(outer, inner, EPOLLIN);
    assert_eq!(wait(outer, 4, 0), []);
    assert_eq!(poll_one(outer, libc::POLLIN, 0), 0);
    write(w, b"x");
    assert_eq!(poll_one(outer, libc::POLLIN, 0), libc::POLLIN);
    assert_eq!(wait(outer, 4, 0), [(EPOLLIN, inner as u64)]);
    assert_eq!(wait(inner, 4, 0), [(EPOLLIN, r as u64)]);
    assert!(read(r, 1).is_ok());
    assert_eq!(poll_one(outer, libc::POLLIN, 0), 0);
    assert_eq!(errno_of(control(inner, libc::EPOLL_CTL_ADD, outer, EPOLLIN, 0)), ELOOP);
    let mut chain = create();
    let mut refused = false;
    for _ in 0..10 {
        let above = create();
        if control(above, libc::EPOLL_CTL_ADD, chain, EPOLLIN, 0) == -1 {
            assert_eq!(errno_of(-1), ELOOP);
            refused = true;
            break;
        }
        chain = above;
    }
    assert!(refused);
}

pub fn close_removes() {
    let epoll = create();
    let (r, w) = pipe_with(0);
    add(epoll, r, EPOLLIN);
    let copy = ok(unsafe { libc::dup(r) });
    write(w, b"x");
    close(r);
    assert_eq!(wait(epoll, 4, 0), [(EPOLLIN, r as u64)]); // the description is still open
    assert_eq!(errno_of(control(epoll, libc::EPOLL_CTL_DEL, copy, 0, 0)), ENOENT); // known under the other number
    close(copy);
    assert_eq!(wait(epoll, 4, 0), []);
    let (r2, w2) = pipe_with(0);
    assert_eq!(r2, r);
    write(w2, b"x");
    assert_eq!(wait(epoll, 4, 0), []);
    add(epoll, r2, EPOLLIN);
    add(epoll, w2, EPOLLOUT);
    assert_eq!(wait(epoll, 4, 0).len(), 2);
    close(r2);
    assert_eq!(wait(epoll, 4, 0), [(EPOLLOUT | EPOLLERR, w2 as u64)]);
    close(epoll);
}

/// One event wakes one of the waiters that asked for exclusiveness.
pub fn exclusive() {
    let (r, w) = pipe_with(0);
    let (done_r, done_w) = pipe_with(0);
    let children: Vec<_> = (0..4)
        .map(|_| {
            child(|| {
                let epoll = create();
                ok(control(epoll, libc::EPOLL_CTL_ADD, r, EPOLLIN | EPOLLEXCLUSIVE, 0));
                if !wait(epoll, 1, 500_000).is_empty() {
                    write(done_w, b"w");
                }
            })
        })
        .collect();
    children.iter().copied().for_each(crate::harness::until_asleep);
    write(w, b"x");
    // At least one, not the whole herd.
    assert_eq!(read(done_r, 1), Ok(b"w".to_vec()));
    sleep_ms(200);
    for pid in children {
        unsafe { libc::kill(pid, libc::SIGKILL) };
        reap(pid);
    }
    close(done_w);
    let more = read(done_r, 10).map(|bytes| bytes.len());
    assert!(matches!(more, Ok(0..=2)), "{more:?}");
}

pub fn many() {
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    ok(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) });
    let epoll = create();
    let pipes: Vec<_> = (0..500).map(|_| pipe_with(0)).collect();
    for &(r, _) in &pipes {
        add(epoll, r, EPOLLIN);
    }
    for round in 0..200 {
        let (r, w) = pipes[round * 7 % 500];
        write(w, b"x");
        assert_eq!(wait(epoll, 8, 0), [(EPOLLIN, r as u64)]);
        assert!(read(r, 1).is_ok());
    }
    for &(_, w) in &pipes {
        write(w, b"x");
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        seen.extend(wait(epoll, 50, 0)); // level triggered items take turns
    }
    assert_eq!(seen.len(), 500);
}
