//! pipe(2), pipe(7), fcntl(2) on pipes, splice(2), tee(2), vmsplice(2), sendfile(2): flags and errnos one by one.

use super::support::{child, errno_of, ok, reap};
use super::{close, pipe_with, poll_one, read, write};
use crate::harness::{child_succeeds, until_asleep};
use libc::*;
use std::ptr::null_mut;

fn unread(fd: i32) -> i32 {
    let mut n = -1;
    ok(unsafe { ioctl(fd, FIONREAD, &mut n) });
    n
}

fn size(fd: i32) -> i32 {
    unsafe { fcntl(fd, F_GETPIPE_SZ) }
}

pub fn flags() {
    for bad in [O_APPEND, O_RDWR, O_CREAT, 1 << 30, O_SYNC] {
        assert_eq!(errno_of(unsafe { pipe2([0; 2].as_mut_ptr(), bad) }), EINVAL, "{bad:#o}");
    }
    let (r, w) = pipe_with(O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    let flags = |fd, command| unsafe { fcntl(fd, command) };
    assert_eq!((flags(r, F_GETFD), flags(w, F_GETFD)), (FD_CLOEXEC, FD_CLOEXEC));
    assert_eq!(flags(r, F_GETFL) & !O_DIRECT, O_RDONLY | O_NONBLOCK);
    assert_eq!(flags(w, F_GETFL), O_WRONLY | O_NONBLOCK | O_DIRECT);
    // Ends are for one direction each, and have no place.
    assert_eq!(write(r, b"x"), -1);
    assert_eq!(errno_of(-1), EBADF);
    assert_eq!(read(w, 1), Err(EBADF));
    assert_eq!(errno_of(unsafe { lseek(r, 0, SEEK_CUR) }), ESPIPE);
    assert_eq!(errno_of(unsafe { pread(r, [0u8].as_mut_ptr().cast(), 1, 0) } as i64), ESPIPE);
    assert_eq!(errno_of(unsafe { ftruncate(w, 0) }), EINVAL);
    assert_eq!(errno_of(unsafe { fsync(w) }), EINVAL);
    let mut info: stat = unsafe { std::mem::zeroed() };
    ok(unsafe { fstat(r, &mut info) });
    assert_eq!((info.st_mode & S_IFMT, info.st_mode & 0o777, info.st_size), (S_IFIFO, 0o600, 0));
    // The descriptor limit: nothing is left open.
    child_succeeds(|| unsafe {
        let next = dup(r);
        close(next);
        let limit = rlimit { rlim_cur: next as u64 + 1, rlim_max: next as u64 + 1 };
        assert_eq!(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_eq!(errno_of(pipe2([0; 2].as_mut_ptr(), 0)), EMFILE);
        assert_eq!(dup(r), next);
    });
}

/// What a pipe cannot do, and what its ends share.
pub fn one_file() {
    assert_eq!(errno_of(unsafe { pipe2([0; 2].as_mut_ptr(), O_EXCL) }), ENOPKG, "O_NOTIFICATION_PIPE");
    let (r, w) = pipe_with(O_NONBLOCK);
    assert_eq!(errno_of(unsafe { fallocate(w, 0, 0, 10) }), ESPIPE);
    assert_eq!(errno_of(unsafe { fcntl(r, F_SETPIPE_SZ, 1 << 29) }), ENOMEM);
    assert_eq!(unsafe { (flock(r, LOCK_EX), flock(r, LOCK_EX | LOCK_NB)) }, (0, 0));
    assert_eq!(errno_of(unsafe { flock(w, LOCK_SH | LOCK_NB) }), EAGAIN);
    close(r);
    assert_eq!(unsafe { flock(w, LOCK_EX | LOCK_NB) }, 0);
}

/// O_DIRECT may be set and taken away. Each write is a packet then, unless it still fits behind bytes that are none.
pub fn packet_mode_switches() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let direct = |on: bool| ok(unsafe { fcntl(w, F_SETFL, O_NONBLOCK | if on { O_DIRECT } else { 0 }) });
    let all = || std::iter::from_fn(|| read(r, 100).ok()).collect::<Vec<_>>();
    assert_eq!(write(w, b"ab"), 2);
    direct(true);
    assert_eq!((write(w, b"cd"), write(w, b"ef")), (2, 2));
    assert_eq!(all(), [b"abcdef"]);
    assert_eq!((write(w, b"cd"), write(w, b"ef")), (2, 2));
    direct(false);
    assert_eq!((write(w, b"gh"), write(w, b"ij")), (2, 2));
    assert_eq!(unread(r), 8);
    assert_eq!(all(), [&b"cd"[..], b"ef", b"ghij"]);
    direct(true);
    assert_eq!(write(w, b""), 0);
    assert_eq!(read(r, 1), Err(EAGAIN));
}

pub fn sizes() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let set = |n: u32| errno_of(unsafe { fcntl(r, F_SETPIPE_SZ, n) });
    assert_eq!(size(w), 65536);
    assert_eq!(set(u32::MAX), EINVAL);
    assert_eq!(errno_of(unsafe { fcntl(0x7fff, F_GETPIPE_SZ) }), EBADF);
    let file = ok(unsafe { open(c"/proc/self/status".as_ptr(), O_RDONLY) });
    assert_eq!((errno_of(size(file)), errno_of(unsafe { fcntl(file, F_SETPIPE_SZ, 4096) })), (EBADF, EBADF));
    // Above pipe-max-size only the privileged.
    let max: i32 = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap().trim().parse().unwrap();
    assert_eq!(ok(unsafe { fcntl(r, F_SETPIPE_SZ, max * 2) }), max * 2);
    child_succeeds(|| {
        ok(unsafe { setresuid(1000, 1000, 1000) });
        assert_eq!(errno_of(unsafe { fcntl(r, F_SETPIPE_SZ, max * 4) }), EPERM);
        assert_eq!(ok(unsafe { fcntl(r, F_SETPIPE_SZ, max) }), max);
        assert_eq!(errno_of(unsafe { fcntl(r, F_SETPIPE_SZ, max + 1) }), EPERM);
    });
    // A pipe that shrinks keeps what is in it; EBUSY when that does not fit.
    assert_eq!(write(w, &[7; 10_000]), 10_000);
    assert_eq!(set(8192), EBUSY);
    assert_eq!(set(16384), 0);
    assert_eq!((unread(r), read(r, 20_000).map(|bytes| bytes.len())), (10_000, Ok(10_000)));
    // A writer that waits for room gets it by a larger pipe too.
    assert_eq!(write(w, &[7; 16384]), 16384);
    let pid = child(|| {
        ok(unsafe { fcntl(w, F_SETFL, 0) });
        assert_eq!(write(w, b"more"), 4);
    });
    until_asleep(pid);
    assert_eq!(set(65536), 0);
    assert_eq!(reap(pid), 0);
}

/// A read of a pipe that is empty and one without writers; readers and writers of many buffers (readv, writev).
pub fn vectors_and_ends() {
    let (r, w) = pipe_with(O_NONBLOCK);
    assert_eq!(read(r, 1), Err(EAGAIN));
    assert_eq!(read(r, 0), Ok(vec![]));
    let parts = [c"one", c"", c"three"]
        .map(|text| iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.to_bytes().len() });
    assert_eq!(unsafe { writev(w, parts.as_ptr(), 3) }, 8);
    let (mut a, mut b) = ([0u8; 5], [0u8; 10]);
    let into = [&mut a[..], &mut b[..]].map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    assert_eq!(unsafe { readv(r, into.as_ptr(), 2) }, 8);
    assert_eq!((&a, &b[..3]), (b"oneth", &b"ree"[..]));
    assert_eq!(errno_of(unsafe { writev(w, parts.as_ptr(), -1) } as i64), EINVAL);
    assert_eq!(errno_of(unsafe { writev(w, parts.as_ptr(), 1025) } as i64), EINVAL);
    assert_eq!(unsafe { writev(w, parts.as_ptr(), 0) }, 0);
    assert_eq!(poll_one(r, POLLIN, 0), 0);
    write(w, b"last");
    close(w);
    assert_eq!(poll_one(r, POLLIN, 0), POLLIN | POLLHUP);
    assert_eq!(read(r, 10), Ok(b"last".to_vec()));
    assert_eq!((read(r, 10), read(r, 10)), (Ok(vec![]), Ok(vec![])));
    assert_eq!(poll_one(r, POLLIN, 0), POLLHUP);
}

fn splice(from: i32, off_in: *mut i64, to: i32, off_out: *mut i64, len: usize, flags: u32) -> i32 {
    errno_of(unsafe { libc::splice(from, off_in, to, off_out, len, flags) } as i64)
}

fn temporary(content: &[u8]) -> i32 {
    let fd = ok(unsafe { open(c"/tmp".as_ptr(), O_TMPFILE | O_RDWR, 0o600) });
    assert_eq!(write(fd, content), content.len() as isize);
    ok(unsafe { lseek(fd, 0, SEEK_SET) });
    fd
}

pub fn splice_errors() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let (r2, w2) = pipe_with(O_NONBLOCK);
    let file = temporary(b"0123456789");
    let mut offset = 0i64;
    let null = null_mut();
    assert_eq!(splice(999, null, w, null, 1, 0), EBADF);
    assert_eq!(splice(file, null, 999, null, 1, 0), EBADF);
    // A length of 0 is done before the descriptors are looked at, the flags are not.
    assert_eq!(splice(999, null, 999, null, 0, 0), 0);
    assert_eq!(splice(999, null, 999, null, 0, 0x10), 0);
    assert_eq!(splice(r, null, w2, null, 1, 0x10), EINVAL);
    assert_eq!(splice(file, null, r, null, 1, 0), EBADF);
    assert_eq!(splice(file, &mut offset, w, &mut offset, 1, 0), ESPIPE);
    assert_eq!(splice(r, null, w2, &mut offset, 1, 0), ESPIPE);
    assert_eq!(splice(r, null, w, null, 1, 0), EINVAL);
    assert_eq!(splice(r, null, w2, null, 1, SPLICE_F_NONBLOCK), EAGAIN);
    let mut negative = -1i64;
    assert_eq!(splice(file, &mut negative, w, null, 1, 0), EINVAL);
    assert_eq!(splice(file, 8 as *mut i64, w, null, 1, 0), EFAULT);
    let reader = ok(unsafe { open(c"/proc/self/status".as_ptr(), O_RDONLY) });
    write(w, b"text");
    assert_eq!(splice(r, null, reader, null, 1, 0), EBADF);
    // Not to a file open for appending.
    let appending = ok(unsafe { open(c"/tmp/abi-splice-append".as_ptr(), O_CREAT | O_WRONLY | O_APPEND, 0o600) });
    ok(unsafe { unlink(c"/tmp/abi-splice-append".as_ptr()) });
    assert_eq!(splice(r, null, appending, null, 1, 0), EINVAL);
    assert_eq!(unread(r), 4);
    // At an offset: the file's own place stays.
    let mut at = 20i64;
    assert_eq!(splice(r, null, file, &mut at, 4, 0), 0);
    assert_eq!((at, unsafe { lseek(file, 0, SEEK_CUR) }, unsafe { lseek(file, 0, SEEK_END) }), (24, 0, 24));
    // The other pipe without a reader.
    write(w, b"text");
    close(r2);
    unsafe { signal(SIGPIPE, SIG_IGN) };
    assert_eq!(splice(r, null, w2, null, 4, 0), EPIPE);
    assert_eq!(unread(r), 4);
}

pub fn tee_and_vmsplice() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let (r2, w2) = pipe_with(O_NONBLOCK);
    let tee = |from, to, len, flags| errno_of(unsafe { libc::tee(from, to, len, flags) } as i64);
    let file = temporary(b"x");
    assert_eq!(tee(999, w, 0, 0), 0);
    assert_eq!(tee(999, w, 1, 0), EBADF);
    assert_eq!(tee(r, w2, 1, 0x10), EINVAL);
    assert_eq!(tee(file, w, 1, 0), EINVAL);
    assert_eq!(tee(w, w2, 1, 0), EBADF);
    assert_eq!(tee(r, r2, 1, 0), EBADF);
    assert_eq!(tee(r, w, 1, 0), EINVAL);
    assert_eq!(tee(r, w2, 1, 0), EAGAIN);
    write(w, b"abc");
    assert_eq!(unsafe { libc::tee(r, w2, 2, 0) }, 2);
    assert_eq!((unread(r), unread(r2)), (3, 2));
    // The end of input is 0, not EAGAIN.
    assert_eq!(read(r, 10), Ok(b"abc".to_vec()));
    close(w);
    assert_eq!(unsafe { libc::tee(r, w2, 2, 0) }, 0);
    let part = iovec { iov_base: c"gifts".as_ptr().cast_mut().cast(), iov_len: 5 };
    let vmsplice =
        |fd, parts: *const iovec, count, flags| errno_of(unsafe { libc::vmsplice(fd, parts, count, flags) } as i64);
    assert_eq!(vmsplice(999, &part, 1, 0), EBADF);
    assert_eq!(vmsplice(file, &part, 1, 0), EBADF);
    assert_eq!(vmsplice(w2, &part, 1, 0x10), EINVAL);
    assert_eq!(vmsplice(w2, &part, 1025, 0), EINVAL);
    assert_eq!(vmsplice(w2, 8 as *const iovec, 1, 0), EFAULT);
    assert_eq!(vmsplice(w2, &part, 0, 0), 0);
    let bad = iovec { iov_base: 8 as *mut c_void, iov_len: 5 };
    assert_eq!(vmsplice(w2, &bad, 1, 0), EFAULT);
    assert_eq!(unsafe { libc::vmsplice(w2, &part, 1, SPLICE_F_GIFT) }, 5);
    // From the pipe to memory.
    let mut bytes = [0u8; 16];
    let into = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 16 };
    assert_eq!(unsafe { libc::vmsplice(r2, &into, 1, 0) }, 7);
    assert_eq!(&bytes[..7], b"abgifts");
    assert_eq!(vmsplice(r2, &into, 1, SPLICE_F_NONBLOCK), EAGAIN);
}

pub fn sendfile_errors() {
    let (r, w) = pipe_with(O_NONBLOCK);
    let file = temporary(b"0123456789");
    let call = |to, from, offset: *mut i64, len| errno_of(unsafe { sendfile(to, from, offset, len) } as i64);
    let mut negative = -1i64;
    assert_eq!(call(999, file, null_mut(), 1), EBADF);
    assert_eq!(call(w, 999, null_mut(), 1), EBADF);
    assert_eq!(call(r, file, null_mut(), 1), EBADF);
    assert_eq!(call(w, w, null_mut(), 1), EBADF);
    assert_eq!(call(w, file, &mut negative, 1), EINVAL);
    assert_eq!(call(w, file, 8 as *mut i64, 1), EFAULT);
    let mut offset = 0i64;
    assert_eq!(call(w, r, &mut offset, 1), ESPIPE);
    let appending = ok(unsafe { open(c"/tmp/abi-sendfile-append".as_ptr(), O_CREAT | O_WRONLY | O_APPEND, 0o600) });
    ok(unsafe { unlink(c"/tmp/abi-sendfile-append".as_ptr()) });
    assert_eq!(call(appending, file, null_mut(), 1), EINVAL);
    assert_eq!(unsafe { sendfile(w, file, null_mut(), 0) }, 0);
    assert_eq!(unsafe { sendfile(w, file, null_mut(), 100) }, 10);
    assert_eq!(unsafe { sendfile(w, file, null_mut(), 100) }, 0);
    assert_eq!(read(r, 100), Ok(b"0123456789".to_vec()));
    // To a socket, and to a full pipe.
    let mut pair = [0; 2];
    ok(unsafe { socketpair(AF_UNIX, SOCK_STREAM, 0, pair.as_mut_ptr()) });
    let mut at = 4i64;
    assert_eq!(unsafe { sendfile(pair[0], file, &mut at, 3) }, 3);
    assert_eq!((at, read(pair[1], 10)), (7, Ok(b"456".to_vec())));
    assert_eq!(write(w, &[0; 65536]), 65536);
    at = 0;
    assert_eq!((call(w, file, &mut at, 3), at), (EAGAIN, 0));
}

/// Who opens a FIFO: ENXIO, both ways, the modes of what is not there.
pub fn fifo_errors() {
    let path = std::ffi::CString::new(format!("/tmp/abi-fifo-{}", std::process::id())).unwrap();
    let open = |flags| unsafe { libc::open(path.as_ptr(), flags | O_NONBLOCK) };
    ok(unsafe { mkfifo(path.as_ptr(), 0o600) });
    assert_eq!(errno_of(unsafe { mkfifo(path.as_ptr(), 0o600) }), EEXIST);
    assert_eq!(errno_of(open(O_WRONLY)), ENXIO);
    let both = ok(open(O_RDWR));
    let writer = ok(open(O_WRONLY));
    write(writer, b"abc");
    assert_eq!((unread(both), read(both, 2)), (3, Ok(b"ab".to_vec())));
    close(both);
    // Without a reader: EPIPE; what was not read waits for the next.
    unsafe { signal(SIGPIPE, SIG_IGN) };
    write(writer, b"x");
    assert_eq!(errno_of(-1), EPIPE);
    let reader = ok(open(O_RDONLY));
    assert_eq!(read(reader, 10), Ok(b"c".to_vec()));
    close(writer);
    close(reader);
    // With everybody gone the bytes are gone.
    let both = ok(open(O_RDWR));
    assert_eq!(unread(both), 0);
    assert_eq!(size(both), 65536);
    ok(unsafe { unlink(path.as_ptr()) });
    assert_eq!(errno_of(open(O_RDONLY)), ENOENT);
}
