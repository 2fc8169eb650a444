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

/// Many take turns with one lock: whoever has just been let in, or just gave up, is no longer in anybody's circle.
pub fn turns() {
    let place = Place::new("turns");
    let path = place.file("file", "");
    let workers: Vec<i32> = (0..4)
        .map(|_| {
            let pid = ok(unsafe { fork() });
            if pid == 0 {
                let own = open_rw(&path);
                for round in 0..2000 {
                    let taken = set(own, F_SETLKW, F_WRLCK, 0, 1);
                    if taken != 0 || set(own, F_SETLK, F_UNLCK, 0, 1) != 0 {
                        unsafe { _exit(taken) }
                    }
                    // The others are in every stage of their wakening when this one comes again.
                    for _ in 0..round % 256 * 8 {
                        std::hint::spin_loop();
                    }
                }
                unsafe { _exit(0) }
            }
            pid as i32
        })
        .collect();
    for pid in workers {
        let mut status = 0;
        ok(unsafe { waitpid(pid, &mut status, 0) });
        assert_eq!(status, 0);
    }
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

/// How fcntl(2) reads `struct flock`: whence, negative lengths, ends that do not fit; the order of its errors.
pub fn ranges() {
    let place = Place::new("ranges");
    let path = place.file("file", "0123456789");
    let fd = open_rw(&path);
    let call = |fd, command, kind: i32, whence: i32, start: i64, len: i64| {
        let mut lock = range(kind, start, len);
        lock.l_whence = whence as i16;
        errno_of(unsafe { fcntl(fd, command, &lock) })
    };
    for command in [F_SETLK, F_OFD_SETLK] {
        assert_eq!(call(fd, command, F_WRLCK, 3, 0, 1), EINVAL);
        assert_eq!(call(fd, command, 3, SEEK_SET, 0, 1), EINVAL);
        assert_eq!(call(fd, command, -1, SEEK_SET, 0, 1), EINVAL);
        assert_eq!(call(fd, command, F_WRLCK, SEEK_SET, -1, 1), EINVAL);
        assert_eq!(call(fd, command, F_WRLCK, SEEK_SET, 5, -6), EINVAL);
        assert_eq!(call(fd, command, F_WRLCK, SEEK_END, i64::MAX, 1), EOVERFLOW);
        assert_eq!(call(fd, command, F_WRLCK, SEEK_SET, i64::MAX, 2), EOVERFLOW);
        assert_eq!(call(fd, command, F_WRLCK, SEEK_SET, i64::MAX, 1), 0);
        assert_eq!(call(fd, command, F_UNLCK, SEEK_SET, 0, 0), 0);
        assert_eq!(call(999, command, F_WRLCK, 3, 0, 1), EBADF);
        assert_eq!(errno_of(unsafe { fcntl(fd, command, 8usize) }), EFAULT);
    }
    let seen = |expected: Option<(i32, i64, i64)>| {
        child(|| {
            let mut lock = range(F_WRLCK, 0, 0);
            ok(unsafe { fcntl(open_rw(&path), F_GETLK, &mut lock) });
            match expected {
                Some(expected) => assert_eq!((lock.l_type as i32, lock.l_start, lock.l_len), expected),
                None => assert_eq!(lock.l_type as i32, F_UNLCK),
            }
        });
    };
    seen(None);
    // From the place in the file, from its end, backwards.
    ok(unsafe { lseek(fd, 4, SEEK_SET) });
    assert_eq!(call(fd, F_SETLK, F_RDLCK, SEEK_CUR, 1, 2), 0);
    seen(Some((F_RDLCK, 5, 2)));
    assert_eq!(call(fd, F_SETLK, F_UNLCK, SEEK_CUR, 1, 2), 0);
    assert_eq!(call(fd, F_SETLK, F_WRLCK, SEEK_END, -2, 0), 0);
    seen(Some((F_WRLCK, 8, 0)));
    assert_eq!(call(fd, F_SETLK, F_UNLCK, SEEK_SET, 0, 0), 0);
    assert_eq!(call(fd, F_SETLK, F_WRLCK, SEEK_SET, 6, -3), 0);
    seen(Some((F_WRLCK, 3, 3)));
    // Neighbours of one kind become one lock; a change of kind in the middle makes three.
    assert_eq!(call(fd, F_SETLK, F_WRLCK, SEEK_SET, 6, 4), 0);
    seen(Some((F_WRLCK, 3, 7)));
    assert_eq!(call(fd, F_SETLK, F_RDLCK, SEEK_SET, 3, 3), 0);
    seen(Some((F_RDLCK, 3, 3)));
    // What is one's own is no conflict, and F_GETLK says so.
    let mut lock = range(F_WRLCK, 0, 0);
    ok(unsafe { fcntl(fd, F_GETLK, &mut lock) });
    assert_eq!(lock.l_type as i32, F_UNLCK);
    lock.l_type = F_UNLCK as i16;
    assert_eq!(errno_of(unsafe { fcntl(fd, F_GETLK, &mut lock) }), EINVAL);
    // The modes a lock needs.
    let (reader, writer) = unsafe { (open(path.as_ptr(), O_RDONLY), open(path.as_ptr(), O_WRONLY)) };
    assert_eq!(set(reader, F_SETLK, F_WRLCK, 20, 1), EBADF);
    assert_eq!(set(writer, F_SETLK, F_RDLCK, 20, 1), EBADF);
    assert_eq!(set(reader, F_SETLK, F_RDLCK, 20, 1), 0);
    assert_eq!(set(writer, F_SETLK, F_WRLCK, 20, 1), 0);
    let path_only = ok(unsafe { open(path.as_ptr(), O_PATH) });
    assert_eq!(set(path_only, F_SETLK, F_RDLCK, 20, 1), EBADF);
}

/// A circle of three; OFD locks take no part in the search; a fork has no locks, an exec keeps them.
pub fn circles_and_owners() {
    let place = Place::new("circles");
    let path = place.file("file", "");
    let start = |own: i64, other: i64| unsafe {
        let mut ends = [0; 2];
        ok(pipe(ends.as_mut_ptr()));
        let pid = ok(fork());
        if pid == 0 {
            let fd = open_rw(&path);
            let first = set(fd, F_SETLK, F_WRLCK, own, 1);
            write(ends[1], b"x".as_ptr().cast(), 1);
            let second = set(fd, F_SETLKW, F_WRLCK, other, 1);
            _exit(i32::from(first != 0 || second != 0));
        }
        ok(read(ends[0], [0u8; 1].as_mut_ptr().cast(), 1) as i64);
        pid
    };
    let fd = open_rw(&path);
    assert_eq!(set(fd, F_SETLK, F_WRLCK, 0, 1), 0);
    // 1 is waited for by 2, 2 by 3, 3 would be by us, who have 0 that 1's holder waits for.
    let one = start(1, 0);
    let two = start(2, 1);
    crate::harness::until_asleep(one);
    crate::harness::until_asleep(two);
    assert_eq!(set(fd, F_SETLKW, F_WRLCK, 2, 1), EDEADLK);
    assert_eq!(set(fd, F_SETLKW, F_RDLCK, 1, 1), EDEADLK);
    child(|| assert_eq!(set(open_rw(&path), F_SETLK, F_WRLCK, 0, 1), EAGAIN));
    assert_eq!(set(fd, F_SETLK, F_UNLCK, 0, 1), 0);
    for pid in [one, two] {
        let mut status = 0;
        ok(unsafe { waitpid(pid, &mut status, 0) });
        assert_eq!(status, 0);
    }
    // POSIX locks are the process's: a second description of it sees none, a child all.
    assert_eq!(set(fd, F_SETLK, F_WRLCK, 0, 0), 0);
    let again = open_rw(&path);
    assert_eq!(set(again, F_SETLK, F_WRLCK, 0, 0), 0);
    child(|| assert_eq!(set(fd, F_SETLK, F_RDLCK, 0, 1), EAGAIN));
    // A thread is of the same process.
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(set(fd, F_SETLK, F_RDLCK, 0, 1), 0));
    });
    unsafe { close(again) };
    child(|| assert_eq!(set(fd, F_SETLK, F_WRLCK, 0, 0), 0));
}

/// OFD locks: the description's own, F_OFD_SETLKW waits, F_OFD_GETLK tells -1 and POSIX locks by their pid.
pub fn ofd_rules() {
    let place = Place::new("ofdrules");
    let path = place.file("file", "");
    let (one, two) = (open_rw(&path), open_rw(&path));
    assert_eq!(set(one, F_OFD_SETLK, F_RDLCK, 0, 10), 0);
    assert_eq!(set(two, F_OFD_SETLK, F_RDLCK, 5, 10), 0);
    assert_eq!(set(one, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
    assert_eq!(set(one, F_OFD_SETLK, F_WRLCK, 0, 6), EAGAIN);
    child(|| {
        // The same description in another process: its locks are its own.
        assert_eq!(set(one, F_OFD_SETLK, F_RDLCK, 0, 5), 0);
        assert_eq!(set(one, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
        assert_eq!(set(one, F_SETLK, F_RDLCK, 0, 5), EAGAIN);
    });
    let waiter = std::thread::spawn(move || assert_eq!(set(two, F_OFD_SETLKW, F_WRLCK, 0, 1), 0));
    crate::harness::others_asleep();
    assert_eq!(set(one, F_OFD_SETLK, F_UNLCK, 0, 0), 0);
    waiter.join().unwrap();
    assert_eq!(set(two, F_OFD_SETLK, F_UNLCK, 0, 0), 0);
    assert_eq!(set(one, F_SETLK, F_WRLCK, 3, 4), 0);
    let mut lock = range(F_RDLCK, 0, 0);
    ok(unsafe { fcntl(two, F_OFD_GETLK, &mut lock) });
    assert_eq!((lock.l_type as i32, lock.l_start, lock.l_len, lock.l_pid), (F_WRLCK, 3, 4, unsafe { getpid() }));
    for command in [F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK] {
        let mut lock = range(F_RDLCK, 0, 0);
        lock.l_pid = 7;
        assert_eq!(errno_of(unsafe { fcntl(two, command, &mut lock) }), EINVAL);
    }
}

/// flock(2): its flags, conversions, files of every kind, and that it knows nothing of record locks.
pub fn flock_rules() {
    let place = Place::new("flockrules");
    let path = place.file("file", "");
    let (one, two) = (open_rw(&path), open_rw(&path));
    let lock = |fd, operation| errno_of(unsafe { libc::flock(fd, operation) });
    for bad in [0, LOCK_NB, LOCK_SH | LOCK_EX, LOCK_EX | LOCK_UN, 16] {
        assert_eq!(lock(one, bad), EINVAL, "{bad}");
    }
    assert_eq!(lock(999, 0), EINVAL);
    assert_eq!(lock(one, 32), 0, "LOCK_MAND, which means nothing any more");
    assert_eq!(lock(999, LOCK_SH), EBADF);
    let path_only = ok(unsafe { open(path.as_ptr(), O_PATH) });
    assert_eq!(lock(path_only, LOCK_SH), EBADF);
    let reader = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    assert_eq!(lock(reader, LOCK_EX), 0, "whatever it is open for");
    assert_eq!(set(two, F_SETLK, F_WRLCK, 0, 0), 0);
    assert_eq!(lock(reader, LOCK_UN), 0);
    assert_eq!(lock(reader, LOCK_UN), 0);
    // A conversion that cannot be had at once gives the old lock up.
    assert_eq!((lock(one, LOCK_SH), lock(two, LOCK_SH)), (0, 0));
    assert_eq!(lock(one, LOCK_EX | LOCK_NB), EAGAIN);
    assert_eq!(lock(two, LOCK_EX | LOCK_NB), 0);
    assert_eq!(lock(one, LOCK_SH | LOCK_NB), EAGAIN);
    let waiter = std::thread::spawn(move || assert_eq!(lock(one, LOCK_EX), 0));
    crate::harness::others_asleep();
    assert_eq!(lock(two, LOCK_UN), 0);
    waiter.join().unwrap();
    let (r, _w) = {
        let mut ends = [0; 2];
        ok(unsafe { pipe(ends.as_mut_ptr()) });
        (ends[0], ends[1])
    };
    assert_eq!(lock(r, LOCK_EX), 0);
    let directory = ok(unsafe { open(c"/tmp".as_ptr(), O_RDONLY | O_DIRECTORY) });
    assert_eq!((lock(directory, LOCK_SH), lock(directory, LOCK_UN)), (0, 0));
}
