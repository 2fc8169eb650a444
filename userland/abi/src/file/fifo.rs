//! FIFOs.

use super::support::{child, errno_of, ok, reap, sleep_ms};
use super::{close, poll_one, read, write};
use libc::{EAGAIN, ENXIO, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, POLLHUP, POLLIN};

fn make(path: &std::ffi::CStr) {
    unsafe { libc::unlink(path.as_ptr()) };
    ok(unsafe { libc::mkfifo(path.as_ptr(), 0o600) });
}

fn open(path: &std::ffi::CStr, flags: i32) -> i32 {
    unsafe { libc::open(path.as_ptr(), flags) }
}

pub fn open_rules() {
    let path = c"/tmp/fifo_open";
    make(path);
    assert_eq!(errno_of(open(path, O_WRONLY | O_NONBLOCK)), ENXIO);
    let r = ok(open(path, O_RDONLY | O_NONBLOCK));
    assert_eq!(read(r, 1), Ok(vec![]));
    let w = ok(open(path, O_WRONLY | O_NONBLOCK));
    assert_eq!(read(r, 1), Err(EAGAIN));
    write(w, b"through");
    assert_eq!(read(r, 10), Ok(b"through".to_vec()));
    close(r);
    close(w);
    // A blocking open waits for the other side.
    let pid = child(|| {
        sleep_ms(50);
        let w = ok(open(path, O_WRONLY));
        write(w, b"hi");
    });
    let r = ok(open(path, O_RDONLY));
    assert_eq!(read(r, 10), Ok(b"hi".to_vec()));
    assert_eq!(read(r, 10), Ok(vec![]));
    assert_eq!(reap(pid), 0);
    close(r);
    let both = ok(open(path, O_RDWR));
    write(both, b"self");
    assert_eq!(read(both, 10), Ok(b"self".to_vec()));
}

pub fn hangup() {
    let path = c"/tmp/fifo_hup";
    make(path);
    let r = ok(open(path, O_RDONLY | O_NONBLOCK));
    assert_eq!(poll_one(r, POLLIN, 0), 0); // no writer yet is no hang-up
    let w = ok(open(path, O_WRONLY));
    assert_eq!(poll_one(r, POLLIN, 0), 0);
    close(w);
    assert_eq!(poll_one(r, POLLIN, 0), POLLHUP);
    let w = ok(open(path, O_WRONLY));
    assert_eq!(poll_one(r, POLLIN, 0), 0);
    write(w, b"x");
    close(w);
    assert_eq!(poll_one(r, POLLIN, 0), POLLIN | POLLHUP);
}
