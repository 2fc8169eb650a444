//! Record locks and flock.

use super::support::{Place, errno_of, ok};
use libc::*;
use std::ffi::CStr;

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = SEEK_SET as i16;
    lock.l_start = start;
    lock.l_len = len;
    lock
}

fn set(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> i32 {
    let lock = range(kind, start, len);
    errno_of(unsafe { fcntl(fd, command, &lock) })
}

fn open_rw(path: &CStr) -> i32 {
    ok(unsafe { open(path.as_ptr(), O_RDWR) })
}

/// Runs `body` in a child that must succeed.
fn child(body: impl FnOnce()) {
    crate::harness::child_succeeds(body);
}

pub fn posix() {
    let place = Place::new("posix");
    let path = place.file("file", "0123456789");
    let fd = open_rw(&path);
    assert_eq!(set(fd, F_SETLK, F_WRLCK, 10, 20), 0);
    child(|| {
        let other = open_rw(&path);
        assert_eq!(set(other, F_SETLK, F_WRLCK, 29, 1), EAGAIN);
        assert_eq!(set(other, F_SETLK, F_RDLCK, 0, 11), EAGAIN);
        assert_eq!(set(other, F_SETLK, F_WRLCK, 30, 0), 0);
        let mut lock = range(F_RDLCK, 0, 0);
        ok(unsafe { fcntl(other, F_GETLK, &mut lock) });
        assert_eq!((lock.l_type as i32, lock.l_start, lock.l_len, lock.l_pid), (F_WRLCK, 10, 20, unsafe { getppid() }));
    });
    // Unlocking the middle leaves two.
    assert_eq!(set(fd, F_SETLK, F_UNLCK, 15, 5), 0);
    child(|| {
        let other = open_rw(&path);
        assert_eq!(set(other, F_SETLK, F_WRLCK, 15, 5), 0);
        assert_eq!(set(other, F_SETLK, F_WRLCK, 14, 1), EAGAIN);
        assert_eq!(set(other, F_SETLK, F_WRLCK, 20, 1), EAGAIN);
    });
    let reader = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    assert_eq!(set(reader, F_SETLK, F_WRLCK, 0, 1), EBADF);
    assert_eq!(set(fd, F_SETLK, 77, 0, 1), EINVAL);
    assert_eq!(set(fd, F_SETLK, F_WRLCK, -1, 1), EINVAL);
    // Closing any descriptor of the file drops them all.
    unsafe { close(reader) };
    child(|| assert_eq!(set(open_rw(&path), F_SETLK, F_WRLCK, 0, 0), 0));
    // A waiter gets it when the holder goes.
    let mut ends = [0; 2];
    ok(unsafe { pipe(ends.as_mut_ptr()) });
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        let held = open_rw(&path);
        let failed = set(held, F_SETLK, F_WRLCK, 0, 0) != 0;
        unsafe {
            write(ends[1], b"x".as_ptr().cast(), 1);
            usleep(50_000);
            _exit(failed as i32)
        }
    }
    ok(unsafe { read(ends[0], [0u8; 1].as_mut_ptr().cast(), 1) } as i64);
    assert_eq!(set(fd, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
    assert_eq!(set(fd, F_SETLKW, F_WRLCK, 0, 1), 0);
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    assert_eq!(status, 0);
}

pub fn deadlock() {
    let place = Place::new("deadlock");
    let path = place.file("file", "");
    let fd = open_rw(&path);
    assert_eq!(set(fd, F_SETLK, F_WRLCK, 0, 1), 0);
    let mut ends = [0; 2];
    ok(unsafe { pipe(ends.as_mut_ptr()) });
    let pid = ok(unsafe { fork() });
    if pid == 0 {
        let own = open_rw(&path);
        let first = set(own, F_SETLK, F_WRLCK, 1, 1);
        unsafe { write(ends[1], b"x".as_ptr().cast(), 1) };
        let second = set(own, F_SETLKW, F_WRLCK, 0, 1);
        unsafe { _exit(i32::from(first != 0 || second != 0)) }
    }
    ok(unsafe { read(ends[0], [0u8; 1].as_mut_ptr().cast(), 1) } as i64);
    crate::harness::until_asleep(pid);
    assert_eq!(set(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    assert_eq!(set(fd, F_SETLK, F_UNLCK, 0, 1), 0);
    let mut status = 0;
    ok(unsafe { waitpid(pid, &mut status, 0) });
    assert_eq!(status, 0);
}

pub fn ofd() {
    let place = Place::new("ofd");
    let path = place.file("file", "");
    let (one, two) = (open_rw(&path), open_rw(&path));
    assert_eq!(set(one, F_OFD_SETLK, F_WRLCK, 0, 10), 0);
    assert_eq!(set(two, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    assert_eq!(set(two, F_SETLK, F_WRLCK, 5, 1), EAGAIN);
    let mut lock = range(F_WRLCK, 0, 0);
    lock.l_pid = 1;
    assert_eq!(errno_of(unsafe { fcntl(two, F_OFD_SETLK, &lock) }), EINVAL);
    lock.l_pid = 0;
    ok(unsafe { fcntl(two, F_OFD_GETLK, &mut lock) });
    assert_eq!((lock.l_type as i32, lock.l_pid, lock.l_len), (F_WRLCK, -1, 10));
    // A duplicate keeps it; the last close drops it.
    let copy = ok(unsafe { dup(one) });
    unsafe { close(one) };
    assert_eq!(set(two, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    unsafe { close(copy) };
    assert_eq!(set(two, F_OFD_SETLK, F_WRLCK, 5, 1), 0);
}

pub fn flock() {
    let place = Place::new("flock");
    let path = place.file("file", "");
    let (one, two) = (open_rw(&path), open_rw(&path));
    let lock = |fd, operation| errno_of(unsafe { libc::flock(fd, operation) });
    assert_eq!(lock(one, LOCK_SH), 0);
    assert_eq!(lock(two, LOCK_SH), 0);
    assert_eq!(lock(one, LOCK_EX | LOCK_NB), EAGAIN);
    assert_eq!(lock(two, LOCK_UN), 0);
    assert_eq!(lock(one, LOCK_EX | LOCK_NB), 0);
    assert_eq!(lock(two, LOCK_SH | LOCK_NB), EAGAIN);
    assert_eq!(lock(one, 0), EINVAL);
    assert_eq!(lock(999, LOCK_SH), EBADF);
    // It belongs to the description: a child has it too, and may give it up.
    child(|| assert_eq!(errno_of(unsafe { libc::flock(one, LOCK_UN) }), 0));
    assert_eq!(lock(two, LOCK_EX | LOCK_NB), 0);
}
