//! What one user may have of pipes and of watched files (/proc/sys/fs).

use super::support::{errno_of, ok};
use super::{close, pipe_with};
use crate::harness::child_succeeds;
use libc::*;
use std::ptr::null_mut;

/// Sets a limit while `body` runs.
fn with_limit(name: &str, value: &str, body: impl FnOnce()) {
    let path = format!("/proc/sys/fs/{name}");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, value).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    std::fs::write(&path, old.trim()).unwrap();
    result.unwrap();
}

fn become_user(uid: u32) {
    ok(unsafe { setresgid(uid, uid, uid) });
    ok(unsafe { setresuid(uid, uid, uid) });
}

fn size(fd: i32) -> i32 {
    ok(unsafe { fcntl(fd, F_GETPIPE_SZ) })
}

fn set_size(fd: i32, bytes: i32) -> i32 {
    errno_of(unsafe { fcntl(fd, F_SETPIPE_SZ, bytes) })
}

/// pipe(7): pipe-user-pages-soft makes pipes small, pipe-user-pages-hard refuses them, to all but the privileged.
pub fn pipe_pages() {
    let path = "/proc/sys/fs/pipe-user-pages-";
    let limits = ["soft", "hard"].map(|kind| std::fs::read_to_string(format!("{path}{kind}")).unwrap());
    assert_eq!(limits, ["16384\n", "0\n"]);
    with_limit("pipe-user-pages-soft", "40", || {
        child_succeeds(|| {
            become_user(4001);
            let (a, b) = (pipe_with(0).0, pipe_with(0).0);
            assert_eq!((size(a), size(b)), (65536, 65536));
            // The third would come to 48 pages; two pages each from here on.
            let small = pipe_with(0).0;
            assert_eq!(size(small), 8192);
            assert_eq!((set_size(small, 16384), set_size(small, 4096), set_size(a, 4096)), (0, 0, 0));
            assert_eq!(set_size(small, 65536), 0);
            assert_eq!(set_size(b, 131_072), EPERM);
            assert_eq!(size(b), 65536);
            for fd in [a, b, small] {
                close(fd);
            }
        });
        child_succeeds(|| {
            // What has gone is not counted any more; another user is another count; root is not asked.
            let all: Vec<_> = (0..5).map(|_| pipe_with(0).0).collect();
            assert!(all.iter().all(|fd| size(*fd) == 65536));
            become_user(4001);
            assert_eq!(size(pipe_with(0).0), 65536);
            assert_eq!(set_size(all[0], 131_072), EPERM, "it was root who made it, and who has that many");
        });
    });
    with_limit("pipe-user-pages-hard", "20", || {
        child_succeeds(|| {
            let fifo = std::ffi::CString::new(format!("/tmp/abi-limits-{}", unsafe { getpid() })).unwrap();
            ok(unsafe { mkfifo(fifo.as_ptr(), 0o666) });
            ok(unsafe { chmod(fifo.as_ptr(), 0o666) });
            become_user(4002);
            let first = pipe_with(0).0;
            assert_eq!(errno_of(unsafe { pipe2([0; 2].as_mut_ptr(), 0) }), ENFILE);
            assert_eq!(errno_of(unsafe { open(fifo.as_ptr(), O_RDWR) }), ENOMEM);
            assert_eq!((set_size(first, 131_072), set_size(first, 4096)), (EPERM, 0));
            let second = pipe_with(0).0;
            assert_eq!((size(second), size(first)), (65536, 4096));
            assert_eq!(set_size(second, 4096), 0);
            // A FIFO's pipe counts for who opened it first.
            let opened = ok(unsafe { open(fifo.as_ptr(), O_RDWR) });
            let again = ok(unsafe { open(fifo.as_ptr(), O_RDWR) });
            assert_eq!(errno_of(unsafe { pipe2([0; 2].as_mut_ptr(), 0) }), ENFILE);
            close(opened);
            close(again);
            pipe_with(0);
        });
    });
    with_limit("pipe-max-size", "8192", || {
        child_succeeds(|| {
            assert_eq!(size(pipe_with(0).0), 65536);
            become_user(4003);
            assert_eq!(size(pipe_with(0).0), 8192, "no more than may be asked for");
        });
    });
    for (name, bad) in [("soft", "-1"), ("soft", "x"), ("hard", "99999999999999999999")] {
        let error = std::fs::write(format!("{path}{name}"), bad).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EINVAL), "{name} {bad}");
    }
}

/// epoll(7): max_user_watches counts what all epolls of a user watch.
pub fn epoll_watches() {
    let default: u64 = std::fs::read_to_string("/proc/sys/fs/epoll/max_user_watches").unwrap().trim().parse().unwrap();
    assert!(default > 1000);
    let add = |poll: i32, fd: i32| {
        let mut event = epoll_event { events: EPOLLIN as u32, u64: 0 };
        errno_of(unsafe { epoll_ctl(poll, EPOLL_CTL_ADD, fd, &mut event) })
    };
    let delete = |poll: i32, fd: i32| ok(unsafe { epoll_ctl(poll, EPOLL_CTL_DEL, fd, null_mut()) });
    let poll = || ok(unsafe { epoll_create1(0) });
    let kept = poll();
    with_limit("epoll/max_user_watches", "3", || {
        child_succeeds(|| {
            become_user(4001);
            let (one, other) = (poll(), poll());
            let (r, w) = pipe_with(0);
            assert_eq!((add(one, r), add(one, w), add(other, r), add(other, w)), (0, 0, 0, ENOSPC));
            assert_eq!(add(other, r), EEXIST, "said first");
            delete(one, w);
            assert_eq!((add(other, w), add(one, w)), (0, ENOSPC));
            close(other);
            assert_eq!(add(one, w), 0);
            // The epoll's maker is charged, whoever adds to it; what is closed is not watched.
            assert_eq!(add(kept, r), 0);
            let events = [0, 1].map(|count| ok(unsafe { eventfd(count, 0) }));
            assert_eq!((add(one, events[0]), add(one, events[1])), (0, ENOSPC));
            close(r);
            assert_eq!(add(one, events[1]), 0);
        });
    });
}
