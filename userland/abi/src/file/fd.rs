//! The descriptor table, read and write, simple devices, eventfd.

use super::support::{errno_of, ok};
use super::{close, pipe_with, poll_one, read, write};
use libc::{EAGAIN, EBADF, EINVAL, EMFILE, ENOSPC, ESPIPE};

fn open(path: &std::ffi::CStr, flags: i32) -> i32 {
    ok(unsafe { libc::open(path.as_ptr(), flags, 0o600) })
}

pub fn lowest() {
    let a = open(c"/dev/null", libc::O_RDWR);
    let b = ok(unsafe { libc::dup(a) });
    let c = ok(unsafe { libc::dup(a) });
    assert_eq!((b, c), (a + 1, a + 2));
    close(b);
    assert_eq!(open(c"/dev/null", 0), b);
    close(a);
    assert_eq!(unsafe { libc::fcntl(c, libc::F_DUPFD, a) }, a);
    assert_eq!(unsafe { libc::fcntl(c, libc::F_DUPFD, 200) }, 200);
    assert_eq!(unsafe { libc::fcntl(c, libc::F_DUPFD, 200) }, 201);
    // What is taken from a number on hides nothing below it.
    assert_eq!([63, 63, 63].map(|from| unsafe { libc::fcntl(c, libc::F_DUPFD, from) }), [63, 64, 65]);
    assert_eq!(open(c"/dev/null", 0), c + 1);
}

pub fn fdinfo_of_itself() {
    let fd = open(c"/dev/null", 0);
    let name = std::ffi::CString::new(format!("/proc/self/fdinfo/{fd}")).unwrap();
    ok(unsafe { libc::dup3(open(&name, 0), fd, 0) });
    // Now it describes the file that is read.
    let text = String::from_utf8(read(fd, 4096).unwrap()).unwrap();
    assert!(text.starts_with("pos:\t0\n"), "{text}");
    assert_eq!(read(fd, 4096), Ok(vec![]));
}

pub fn limit() {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    ok(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) });
    let null = open(c"/dev/null", libc::O_RDWR);
    let mut last = null;
    loop {
        let fd = unsafe { libc::dup(null) };
        if fd < 0 {
            assert_eq!(errno_of(fd), EMFILE);
            break;
        }
        last = fd;
    }
    assert_eq!(last, 63);
    assert_eq!(errno_of(unsafe { libc::fcntl(null, libc::F_DUPFD, 64) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::dup3(null, 64, 0) }), EBADF);
    let mut fds = [0; 2];
    assert_eq!(errno_of(unsafe { libc::pipe(fds.as_mut_ptr()) }), EMFILE);
    let entry = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 65];
    assert_eq!(errno_of(unsafe { libc::poll(entry.as_ptr().cast_mut(), 65, 0) }), EINVAL);
}

pub fn dup3() {
    let (r, w) = pipe_with(0);
    assert_eq!(errno_of(unsafe { libc::dup3(r, r, 0) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::dup3(r, 50, libc::O_NONBLOCK) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::dup3(99, 50, 0) }), EBADF);
    assert_eq!(errno_of(unsafe { libc::dup3(r, -1, 0) }), EBADF);
    assert_eq!(ok(unsafe { libc::dup3(w, 50, libc::O_CLOEXEC) }), 50);
    assert_eq!(unsafe { libc::fcntl(50, libc::F_GETFD) }, 1);
    assert_eq!(unsafe { libc::fcntl(w, libc::F_GETFD) }, 0);
    close(w);
    assert_eq!(ok(unsafe { libc::dup3(r, 50, 0) }), 50); // closes the last writer
    assert_eq!(read(r, 1), Ok(vec![]));
    assert_eq!(unsafe { libc::fcntl(50, libc::F_GETFD) }, 0);
}

pub fn close_range() {
    let null = open(c"/dev/null", libc::O_RDWR);
    for fd in [60, 61, 62, 70, 200] {
        ok(unsafe { libc::dup2(null, fd) });
    }
    let call = |first: u32, last: u32, flags: u32| unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    assert_eq!(errno_of(call(5, 4, 0)), EINVAL);
    assert_eq!(errno_of(call(4, 5, 8)), EINVAL);
    ok(call(61, 69, 0));
    assert_eq!(errno_of(unsafe { libc::fcntl(61, libc::F_GETFD) }), EBADF);
    assert_eq!(errno_of(unsafe { libc::fcntl(62, libc::F_GETFD) }), EBADF);
    assert_eq!(unsafe { libc::fcntl(60, libc::F_GETFD) }, 0);
    ok(call(70, u32::MAX, 4));
    assert_eq!(unsafe { libc::fcntl(200, libc::F_GETFD) }, 1);
    ok(call(60, u32::MAX, 2));
    assert_eq!(errno_of(unsafe { libc::fcntl(200, libc::F_GETFD) }), EBADF);
}

pub fn rw_errors() {
    let (r, w) = pipe_with(libc::O_NONBLOCK);
    assert_eq!(errno_of(write(r, b"x") as i64), EBADF);
    assert_eq!(read(w, 1), Err(EBADF));
    assert_eq!(read(999, 1), Err(EBADF));
    assert_eq!(read(-1, 1), Err(EBADF));
    assert_eq!(read(r, 1), Err(EAGAIN));
    assert_eq!(read(r, 0), Ok(vec![]));
    assert_eq!(errno_of(unsafe { libc::lseek(r, 0, 0) }), ESPIPE);
    assert_eq!(errno_of(unsafe { libc::lseek(r, 0, 9) }), EINVAL);
    let mut byte = 0u8;
    let at: *mut libc::c_void = (&raw mut byte).cast();
    assert_eq!(errno_of(unsafe { libc::pread(r, at, 1, 0) } as i64), ESPIPE);
    assert_eq!(errno_of(unsafe { libc::pread(r, at, 1, -1) } as i64), EINVAL);
    let iov = libc::iovec { iov_base: at, iov_len: usize::MAX };
    assert_eq!(errno_of(unsafe { libc::readv(r, &iov, 1) } as i64), EINVAL);
    assert_eq!(errno_of(unsafe { libc::readv(r, &iov, 1025) } as i64), EINVAL);
    write(w, b"hello");
    assert_eq!(errno_of(unsafe { libc::read(r, 8 as *mut _, 1) } as i64), libc::EFAULT);
    assert_eq!(read(r, 9), Ok(b"hello".to_vec()));
    let path = open(c"/", libc::O_PATH);
    assert_eq!(read(path, 1), Err(EBADF));
    assert_eq!(read(open(c"/", 0), 1), Err(libc::EISDIR));
}

pub fn devices() {
    let null = open(c"/dev/null", libc::O_RDWR);
    assert_eq!(read(null, 10), Ok(vec![]));
    assert_eq!(write(null, b"gone"), 4);
    assert_eq!(unsafe { libc::lseek(null, 5, 0) }, 0);
    let zero = open(c"/dev/zero", libc::O_RDWR);
    for device in [null, zero, open(c"/dev/full", libc::O_RDWR), open(c"/dev/urandom", libc::O_RDONLY)] {
        for offset in [i64::MIN, -1, 7] {
            for whence in [libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END] {
                assert_eq!(unsafe { libc::lseek(device, offset, whence) }, 0, "{device}, {offset}, {whence}");
            }
        }
    }
    assert_eq!(read(zero, 5), Ok(vec![0; 5]));
    let full = open(c"/dev/full", libc::O_RDWR);
    assert_eq!(errno_of(write(full, b"x") as i64), ENOSPC);
    assert_eq!(read(full, 2), Ok(vec![0; 2]));
    let random = open(c"/dev/urandom", libc::O_RDONLY);
    assert_ne!(read(random, 32), read(random, 32));
    assert_eq!(poll_one(null, libc::POLLIN | libc::POLLOUT, 0), libc::POLLIN | libc::POLLOUT);
}

pub fn positioned() {
    let file = open(c"/tmp/positioned", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);
    assert_eq!(write(file, b"0123456789"), 10);
    let mut buffer = [0u8; 4];
    let at = buffer.as_mut_ptr().cast();
    assert_eq!(unsafe { libc::pread(file, at, 4, 3) }, 4);
    assert_eq!(&buffer, b"3456");
    assert_eq!(unsafe { libc::lseek(file, 0, 1) }, 10);
    assert_eq!(unsafe { libc::lseek(file, -3, 2) }, 7);
    assert_eq!(errno_of(unsafe { libc::lseek(file, -30, 2) }), EINVAL);
    assert_eq!(read(file, 9), Ok(b"789".to_vec()));
    let iov = libc::iovec { iov_base: at.cast(), iov_len: 4 };
    assert_eq!(unsafe { libc::preadv2(file, &iov, 1, 0, 0) }, 4);
    assert_eq!(&buffer, b"0123");
    assert_eq!(errno_of(unsafe { libc::preadv2(file, &iov, 1, 0, 0x100) } as i64), libc::EOPNOTSUPP);
    // O_APPEND moves the position to the new end; RWF_APPEND does too, for one call.
    ok(unsafe { libc::lseek(file, 0, 0) });
    ok(unsafe { libc::fcntl(file, libc::F_SETFL, libc::O_APPEND) });
    assert_eq!(write(file, b"ab"), 2);
    assert_eq!(unsafe { libc::lseek(file, 0, 1) }, 12);
    ok(unsafe { libc::fcntl(file, libc::F_SETFL, 0) });
    assert_eq!(unsafe { libc::pwritev2(file, &iov, 1, 0, libc::RWF_APPEND) }, 4);
    assert_eq!(unsafe { libc::lseek(file, 0, 2) }, 16);
    assert_eq!(unsafe { libc::lseek(file, 0, 3) }, 0); // SEEK_DATA
    assert_eq!(unsafe { libc::lseek(file, 0, 4) }, 16); // SEEK_HOLE
    assert_eq!(errno_of(unsafe { libc::lseek(file, 16, 3) }), libc::ENXIO);
}

pub fn eventfd() {
    let fd = ok(unsafe { libc::eventfd(3, libc::EFD_NONBLOCK) });
    let word = |n: u64| n.to_ne_bytes().to_vec();
    assert_eq!(read(fd, 7), Err(EINVAL));
    assert_eq!(read(fd, 8), Ok(word(3)));
    assert_eq!(read(fd, 8), Err(EAGAIN));
    assert_eq!(poll_one(fd, libc::POLLIN | libc::POLLOUT, 0), libc::POLLOUT);
    assert_eq!(write(fd, &word(u64::MAX - 1)), 8);
    assert_eq!(poll_one(fd, libc::POLLIN | libc::POLLOUT, 0), libc::POLLIN);
    assert_eq!(errno_of(write(fd, &word(1)) as i64), EAGAIN);
    assert_eq!(errno_of(write(fd, &word(u64::MAX)) as i64), EINVAL);
    assert_eq!(errno_of(write(fd, b"short") as i64), EINVAL);
    assert_eq!(read(fd, 16), Ok(word(u64::MAX - 1)));
    let semaphore = ok(unsafe { libc::eventfd(2, libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK) });
    assert_eq!((read(semaphore, 8), read(semaphore, 8)), (Ok(word(1)), Ok(word(1))));
    assert_eq!(read(semaphore, 8), Err(EAGAIN));
    assert_eq!(errno_of(unsafe { libc::eventfd(0, 0x10) }), EINVAL);
}
