//! poll(2), ppoll(2), select(2).

use super::support::{child, errno_of, reap, sleep_ms, timed};
use super::{catch, close, pipe_with, poll_one, write};
use libc::{EBADF, EINTR, EINVAL, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT};

pub fn pipe_events() {
    let (r, w) = pipe_with(0);
    assert_eq!(poll_one(r, POLLIN, 0), 0);
    assert_eq!(poll_one(w, POLLOUT | POLLIN, 0), POLLOUT);
    write(w, b"x");
    assert_eq!(poll_one(r, POLLIN | POLLOUT, 0), POLLIN);
    assert_eq!(poll_one(r, 0, 0), 0);
    close(w);
    assert_eq!(poll_one(r, POLLIN, 0), POLLIN | POLLHUP);
    assert_eq!(poll_one(w, POLLIN, 0), POLLNVAL);
    assert_eq!(poll_one(-1, POLLIN, 0), 0);
    let (r, w) = pipe_with(0);
    close(r);
    assert_eq!(poll_one(w, POLLOUT, 0), POLLOUT | POLLERR);
    // One of several, woken from outside.
    let (r1, _w1) = pipe_with(0);
    let (r2, w2) = pipe_with(0);
    let pid = child(|| {
        sleep_ms(40);
        write(w2, b"x");
    });
    let mut set = [r1, r2, -1].map(|fd| libc::pollfd { fd, events: POLLIN, revents: 99 });
    assert_eq!(unsafe { libc::poll(set.as_mut_ptr(), 3, 5000) }, 1);
    assert_eq!(set.map(|entry| entry.revents), [0, POLLIN, 0]);
    reap(pid);
}

pub fn timeouts() {
    let (r, _w) = pipe_with(0);
    crate::harness::sometimes(|| {
        let took = timed(|| assert_eq!(poll_one(r, POLLIN, 60), 0));
        assert!(took >= 60, "{took}");
        took < 120
    });
    let mut entry = libc::pollfd { fd: r, events: POLLIN, revents: 0 };
    let ppoll =
        |timeout: *const libc::timespec| unsafe { libc::syscall(libc::SYS_ppoll, &raw const entry, 1, timeout, 0, 0) };
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    assert_eq!(errno_of(ppoll(&bad)), EINVAL);
    // The raw call writes back what is left.
    let left = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    assert_eq!(ppoll(&left), 0);
    assert_eq!((left.tv_sec, left.tv_nsec), (0, 0));
    let left = libc::timespec { tv_sec: 100, tv_nsec: 0 };
    let (ready, _w) = pipe_with(0);
    close(_w);
    entry.fd = ready;
    assert_eq!(unsafe { libc::syscall(libc::SYS_ppoll, &raw const entry, 1, &raw const left, 0, 0) }, 1);
    assert_eq!(left.tv_sec, 99);
}

pub fn mask() {
    catch(libc::SIGUSR1);
    let (r, w) = pipe_with(0);
    unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        libc::raise(libc::SIGUSR1);
        let mut entry = libc::pollfd { fd: r, events: POLLIN, revents: 0 };
        assert_eq!(libc::poll(&mut entry, 1, 20), 0); // blocked: not interrupted
        let long = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(errno_of(libc::ppoll(&mut entry, 1, &long, &empty)), EINTR);
        // The old mask is back.
        let mut now: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &mut now);
        assert_eq!(libc::sigismember(&now, libc::SIGUSR1), 1);
        assert_eq!(
            errno_of(libc::syscall(libc::SYS_ppoll, &raw mut entry, 1, &raw const long, &raw const empty, 4)),
            EINVAL
        );
        libc::raise(libc::SIGUSR1);
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(r, &mut set);
        let nothing = std::ptr::null_mut();
        assert_eq!(errno_of(libc::pselect(r + 1, &mut set, nothing, nothing, &long, &empty)), EINTR);
        // No time at all is no reason to pass over a signal; epoll does, and leaves it pending.
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        libc::raise(libc::SIGUSR1);
        assert_eq!(errno_of(libc::ppoll(&mut entry, 1, &none, &empty)), EINTR);
        assert_eq!(libc::ppoll(&mut entry, 1, &none, &empty), 0);
        libc::raise(libc::SIGUSR1);
        libc::FD_SET(r, &mut set);
        assert_eq!(errno_of(libc::pselect(r + 1, &mut set, nothing, nothing, &none, &empty)), EINTR);
        libc::raise(libc::SIGUSR1);
        let epoll = libc::epoll_create1(0);
        let mut event: libc::epoll_event = std::mem::zeroed();
        assert_eq!(libc::epoll_pwait(epoll, &mut event, 1, 0, &empty), 0);
        let mut pending: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&mut pending);
        assert_eq!(libc::sigismember(&pending, libc::SIGUSR1), 1);
        // What there is to report goes before the signal.
        let mut ready = libc::pollfd { fd: w, events: libc::POLLOUT, revents: 0 };
        assert_eq!(libc::ppoll(&mut ready, 1, &none, &empty), 1);
    }
}

pub fn select_sets() {
    let (r, w) = pipe_with(0);
    let select = |nfds, sets: &mut [libc::fd_set; 3], ms: i64| unsafe {
        let mut timeout = libc::timeval { tv_sec: 0, tv_usec: ms * 1000 };
        let [a, b, c] = sets;
        libc::select(nfds, a, b, c, &mut timeout)
    };
    let sets = |r: i32, w: i32| unsafe {
        let mut sets: [libc::fd_set; 3] = std::mem::zeroed();
        libc::FD_SET(r, &mut sets[0]);
        libc::FD_SET(w, &mut sets[1]);
        libc::FD_SET(r, &mut sets[2]);
        sets
    };
    let mut s = sets(r, w);
    assert_eq!(select(w + 1, &mut s, 0), 1);
    assert!(unsafe { !libc::FD_ISSET(r, &s[0]) && libc::FD_ISSET(w, &s[1]) && !libc::FD_ISSET(r, &s[2]) });
    write(w, b"x");
    let mut s = sets(r, w);
    assert_eq!(select(w + 1, &mut s, 0), 2);
    let mut s = sets(r, w);
    assert_eq!(select(r, &mut s, 10), 0); // nfds leaves both out
    assert!(unsafe { !libc::FD_ISSET(r, &s[0]) });
    close(w);
    let mut s = sets(r, w);
    assert_eq!(errno_of(select(w + 1, &mut s, 0)), EBADF);
    assert_eq!(errno_of(select(-1, &mut sets(r, r), 0)), EINVAL);
    // Beyond what the table can hold nothing is looked at.
    let mut s = sets(r, 1000);
    unsafe { libc::FD_CLR(r, &mut s[2]) };
    assert_eq!(select(1024, &mut s, 0), 1);
}
