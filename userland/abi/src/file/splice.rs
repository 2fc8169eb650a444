//! splice, tee, sendfile, copy_file_range.

use super::support::{errno_of, ok};
use super::{close, pipe_with, read, write};
use libc::{EAGAIN, EBADF, EINVAL, ESPIPE};
use std::ptr::null_mut;

fn file(path: &std::ffi::CStr, content: &[u8]) -> i32 {
    let fd = ok(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600) });
    assert_eq!(write(fd, content), content.len() as isize);
    ok(unsafe { libc::lseek(fd, 0, 0) });
    fd
}

fn splice(from: i32, off_in: *mut i64, to: i32, off_out: *mut i64, len: usize, flags: u32) -> i64 {
    unsafe { libc::splice(from, off_in, to, off_out, len, flags) as i64 }
}

pub fn moves() {
    let content: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    let input = file(c"/tmp/splice_in", &content);
    let output = file(c"/tmp/splice_out", b"");
    let (r, w) = pipe_with(0);
    let mut offset = 100i64;
    assert_eq!(splice(input, &mut offset, w, null_mut(), 9000, 0), 9000);
    assert_eq!(offset, 9100);
    assert_eq!(unsafe { libc::lseek(input, 0, 1) }, 0);
    let mut moved = 0;
    while moved < 9000 {
        moved += ok(splice(r, null_mut(), output, null_mut(), 9000 - moved as usize, 0));
    }
    assert_eq!(unsafe { libc::lseek(output, 0, 1) }, 9000);
    ok(unsafe { libc::lseek(output, 0, 0) });
    assert!(read(output, 20_000).unwrap() == content[100..9100]);
    // From pipe to pipe.
    let (r2, w2) = pipe_with(0);
    write(w, b"abcdef");
    assert_eq!(splice(r, null_mut(), w2, null_mut(), 4, 0), 4);
    assert_eq!(read(r2, 10), Ok(b"abcd".to_vec()));
    assert_eq!(read(r, 10), Ok(b"ef".to_vec()));
    close(w);
    assert_eq!(splice(r, null_mut(), w2, null_mut(), 4, 0), 0);
    assert_eq!(splice(input, null_mut(), w2, null_mut(), 5, 0), 5);
    assert_eq!(unsafe { libc::lseek(input, 0, 1) }, 5);
}

pub fn errors() {
    let input = file(c"/tmp/splice_err", b"data");
    let (r, w) = pipe_with(0);
    let mut offset = 0i64;
    assert_eq!(errno_of(splice(input, null_mut(), input, null_mut(), 1, 0)), EINVAL);
    assert_eq!(errno_of(splice(r, null_mut(), w, null_mut(), 1, 0)), EINVAL);
    assert_eq!(errno_of(splice(r, &mut offset, input, null_mut(), 1, 0)), ESPIPE);
    assert_eq!(errno_of(splice(w, null_mut(), input, null_mut(), 1, 0)), EBADF);
    assert_eq!(errno_of(splice(r, null_mut(), input, null_mut(), 1, 64)), EINVAL);
    assert_eq!(splice(r, null_mut(), input, null_mut(), 0, 0), 0);
    assert_eq!(errno_of(splice(r, null_mut(), input, null_mut(), 1, libc::SPLICE_F_NONBLOCK)), EAGAIN);
}

pub fn tee() {
    let (r1, w1) = pipe_with(libc::O_NONBLOCK);
    let (r2, w2) = pipe_with(libc::O_NONBLOCK);
    write(w1, b"copied");
    assert_eq!(unsafe { libc::tee(r1, w2, 100, 0) }, 6);
    write(w1, b" more");
    assert_eq!(read(r1, 100), Ok(b"copied more".to_vec()));
    assert_eq!(read(r2, 100), Ok(b"copied".to_vec()));
    assert_eq!(errno_of(unsafe { libc::tee(r1, w2, 100, 0) } as i64), EAGAIN);
    assert_eq!(errno_of(unsafe { libc::tee(r1, w1, 100, 0) } as i64), EINVAL);
    let iov = libc::iovec { iov_base: c"gift".as_ptr().cast_mut().cast(), iov_len: 4 };
    assert_eq!(unsafe { libc::vmsplice(w1, &iov, 1, 0) }, 4);
    assert_eq!(read(r1, 100), Ok(b"gift".to_vec()));
}

pub fn sendfile() {
    let content: Vec<u8> = (0..50_000).map(|i| (i % 253) as u8).collect();
    let input = file(c"/tmp/sendfile_in", &content);
    let output = file(c"/tmp/sendfile_out", b"");
    let mut offset = 10i64;
    assert_eq!(unsafe { libc::sendfile(output, input, &mut offset, 40_000) }, 40_000);
    assert_eq!(offset, 40_010);
    assert_eq!(unsafe { libc::sendfile(output, input, null_mut(), 10) }, 10);
    assert_eq!(unsafe { libc::lseek(input, 0, 1) }, 10);
    offset = 60_000;
    assert_eq!(unsafe { libc::sendfile(output, input, &mut offset, 10) }, 0);
    let (r, w) = pipe_with(0);
    assert_eq!(errno_of(unsafe { libc::sendfile(output, r, null_mut(), 1) } as i64), EINVAL);
    assert_eq!(unsafe { libc::sendfile(w, input, null_mut(), 20) }, 20);
    assert_eq!(read(r, 100), Ok(content[10..30].to_vec()));
    assert_eq!(errno_of(unsafe { libc::sendfile(r, input, null_mut(), 1) } as i64), EBADF);
}

pub fn copy_file_range() {
    let input = file(c"/tmp/cfr_in", b"0123456789");
    let output = file(c"/tmp/cfr_out", b"");
    let mut offset = 2i64;
    let call = |from, off: *mut i64, to, len, flags| unsafe {
        libc::copy_file_range(from, off, to, null_mut(), len, flags) as i64
    };
    assert_eq!(call(input, &mut offset, output, 5, 0), 5);
    assert_eq!(offset, 7);
    assert_eq!(call(input, &mut offset, output, 50, 0), 3);
    assert_eq!(call(input, &mut offset, output, 50, 0), 0);
    ok(unsafe { libc::lseek(output, 0, 0) });
    assert_eq!(read(output, 20), Ok(b"23456789".to_vec()));
    assert_eq!(errno_of(call(input, null_mut(), output, 1, 1)), EINVAL);
    let (r, _w) = pipe_with(0);
    assert_eq!(errno_of(call(r, null_mut(), output, 1, 0)), EINVAL);
    let mut zero = 0i64;
    ok(unsafe { libc::lseek(input, 2, 0) });
    assert_eq!(errno_of(call(input, &mut zero, input, 5, 0)), EINVAL); // overlap
}

/// Runs `body` in a process of its own, which must end in time and well.
#[track_caller]
fn ends(body: impl FnOnce()) {
    let start = std::time::Instant::now();
    let pid = ok(unsafe { libc::fork() });
    if pid == 0 {
        body();
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > crate::harness::PATIENCE {
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("never ends");
        }
        super::support::sleep_ms(5);
    }
    assert_eq!(status, 0);
}

/// Ends `child` by SIGKILL, which nothing may keep from happening.
#[track_caller]
fn can_be_killed(child: i32) {
    unsafe { libc::kill(child, libc::SIGKILL) };
    let start = std::time::Instant::now();
    let mut status = 0;
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        assert!(start.elapsed() < crate::harness::PATIENCE, "cannot be killed");
        super::support::sleep_ms(5);
    }
    assert_eq!(status, libc::SIGKILL);
}

pub fn sendfile_to_itself() {
    let content: Vec<u8> = (0..100u8).collect();
    for dup in [false, true] {
        ends(|| {
            let fd = file(c"/tmp/sendfile_self", &content);
            let other = if dup { ok(unsafe { libc::dup(fd) }) } else { fd };
            ok(unsafe { libc::lseek(fd, 10, 0) });
            // What is read at the position is written there.
            assert_eq!(unsafe { libc::sendfile(fd, other, null_mut(), 50) }, 50);
            assert_eq!(unsafe { libc::lseek(fd, 0, 1) }, 60);
            assert_eq!(unsafe { libc::sendfile(fd, other, null_mut(), 1000) }, 40);
            assert_eq!(unsafe { libc::sendfile(fd, other, null_mut(), 1000) }, 0);
            // From the beginning to the position, which is the end: the file grows, and is read as it grows.
            let mut offset = 0i64;
            assert_eq!(unsafe { libc::sendfile(fd, other, &mut offset, 150) }, 150);
            assert_eq!((offset, unsafe { libc::lseek(fd, 0, 1) }), (150, 250));
            ok(unsafe { libc::lseek(fd, 0, 0) });
            let all = read(fd, 1000).unwrap();
            assert_eq!(
                (all.len(), &all[..100], &all[100..200], &all[200..]),
                (250, &content[..], &content[..], &content[..50])
            );
        });
    }
}

pub fn sendfile_across() {
    let content = vec![7u8; 100_000];
    let (a, b) = (file(c"/tmp/sendfile_a", &content), file(c"/tmp/sendfile_b", &content));
    let other = ok(unsafe { libc::fork() });
    let rounds = |from: i32, to: i32| {
        for _ in 0..200 {
            unsafe {
                libc::lseek(from, 0, 0);
                libc::sendfile(to, from, null_mut(), 50_000);
            }
        }
    };
    if other == 0 {
        rounds(a, b);
        unsafe { libc::_exit(0) };
    }
    ends(|| rounds(b, a));
    let start = std::time::Instant::now();
    let mut status = 1;
    while unsafe { libc::waitpid(other, &mut status, libc::WNOHANG) } == 0 {
        assert!(start.elapsed() < crate::harness::PATIENCE, "never ends");
        super::support::sleep_ms(5);
    }
    assert_eq!(status, 0);
}

pub fn waits_hold_no_description() {
    let content = vec![7u8; 4 << 20];
    let plain = file(c"/tmp/splice_wait", &content);
    let (empty, _w) = pipe_with(0);
    let (_r, full) = pipe_with(0);
    write(full, &vec![0; 65536]);
    let mut pair = [0; 2];
    ok(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) });
    let waits: [(&str, &dyn Fn()); 5] = [
        ("sendfile to a full socket", &|| {
            unsafe { libc::sendfile(pair[0], plain, null_mut(), 4 << 20) };
        }),
        ("sendfile to a full pipe", &|| {
            unsafe { libc::sendfile(full, plain, null_mut(), 100) };
        }),
        ("splice to a full pipe", &|| {
            splice(plain, null_mut(), full, null_mut(), 100, 0);
        }),
        ("splice from an empty pipe", &|| {
            splice(empty, null_mut(), plain, null_mut(), 100, 0);
        }),
        ("vmsplice to a full pipe", &|| {
            let iov = libc::iovec { iov_base: c"gift".as_ptr().cast_mut().cast(), iov_len: 4 };
            unsafe { libc::vmsplice(full, &iov, 1, 0) };
        }),
    ];
    for (what, wait) in waits {
        let child = ok(unsafe { libc::fork() });
        if child == 0 {
            wait();
            unsafe { libc::_exit(1) };
        }
        crate::harness::until_asleep(child);
        println!("{what}");
        ends(|| {
            ok(unsafe { libc::lseek(plain, 0, 0) });
            assert_eq!(read(plain, 3).map(|bytes| bytes.len()), Ok(3));
            assert_eq!(write(plain, b"abc"), 3);
            ok(unsafe { libc::lseek(plain, 0, 0) });
            let flags = ok(unsafe { libc::fcntl(plain, libc::F_GETFL) });
            ok(unsafe { libc::fcntl(plain, libc::F_SETFL, flags) });
        });
        can_be_killed(child);
    }
}

pub fn vmsplice_takes_what_fits() {
    ends(|| {
        let (r, w) = pipe_with(0);
        // From a page's beginning: a pipe's slots hold pages.
        let mut room = vec![0u8; 132 << 10];
        let start = room.as_ptr().align_offset(4096);
        let bytes = &mut room[start..][..128 << 10];
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 241) as u8);
        let iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        assert_eq!(unsafe { libc::vmsplice(w, &iov, 1, 0) }, 65536);
        assert!(read(r, 1 << 20).unwrap() == bytes[..65536]);
        assert_eq!(unsafe { libc::vmsplice(w, &iov, 1, libc::SPLICE_F_NONBLOCK) }, 65536);
        assert_eq!(errno_of(unsafe { libc::vmsplice(w, &iov, 1, libc::SPLICE_F_NONBLOCK) } as i64), EAGAIN);
        let mut got = vec![0u8; 128 << 10];
        let into = libc::iovec { iov_base: got.as_mut_ptr().cast(), iov_len: got.len() };
        assert_eq!(unsafe { libc::vmsplice(r, &into, 1, 0) }, 65536);
        assert_eq!(errno_of(unsafe { libc::vmsplice(r, &into, 1, libc::SPLICE_F_NONBLOCK) } as i64), EAGAIN);
        let none = libc::iovec { iov_base: null_mut(), iov_len: 0 };
        assert_eq!(unsafe { libc::vmsplice(w, &none, 1, 0) }, 0);
        assert_eq!(unsafe { libc::vmsplice(w, &none, 0, 0) }, 0);
    });
}

pub fn splice_knows_its_files() {
    let (r, w) = pipe_with(0);
    let (full_r, full) = pipe_with(0);
    write(full, b"x");
    let mask = 0u64;
    let others = unsafe {
        [
            ("epoll", libc::epoll_create1(0)),
            ("timerfd", libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)),
            ("eventfd", libc::eventfd(0, 0)),
            ("signalfd", libc::syscall(libc::SYS_signalfd4, -1, &mask, 8, 0) as i32),
            ("inotify", libc::inotify_init1(0)),
            ("pidfd", libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32),
        ]
    };
    let plain = file(c"/tmp/splice_kinds", b"data");
    for (name, fd) in others {
        ok(fd);
        ends(|| {
            println!("{name}");
            let may_not = |errno: i32| errno == EINVAL || errno == EBADF;
            assert!(may_not(errno_of(splice(r, null_mut(), fd, null_mut(), 8, 0))), "to {name}");
            assert!(may_not(errno_of(splice(full_r, null_mut(), fd, null_mut(), 8, 0))), "bytes to {name}");
            assert!(may_not(errno_of(splice(fd, null_mut(), w, null_mut(), 8, 0))), "from {name}");
            assert!(
                may_not(errno_of(unsafe { libc::sendfile(fd, plain, null_mut(), 4) } as i64)),
                "sendfile to {name}"
            );
            assert!(may_not(errno_of(unsafe { libc::sendfile(w, fd, null_mut(), 4) } as i64)), "sendfile from {name}");
        });
    }
    // An empty socket, without waiting.
    ends(|| {
        let mut pair = [0; 2];
        ok(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) });
        let flag = libc::SPLICE_F_NONBLOCK;
        assert_eq!(errno_of(splice(pair[0], null_mut(), w, null_mut(), 8, flag)), EAGAIN);
        write(pair[1], b"hello");
        assert_eq!(splice(pair[0], null_mut(), w, null_mut(), 8, flag), 5);
        assert_eq!(splice(r, null_mut(), pair[0], null_mut(), 8, 0), 5);
        assert_eq!(read(pair[1], 10), Ok(b"hello".to_vec()));
        // Terminals and devices take part.
        let null = ok(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY) });
        write(w, b"abc");
        assert_eq!(splice(r, null_mut(), null, null_mut(), 8, 0), 3);
    });
}
