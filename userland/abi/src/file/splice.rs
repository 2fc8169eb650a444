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
