//! fcntl(2) and the ioctls every file has.

use super::support::{errno_of, ok, sleep_ms};
use super::{pipe_with, read, write};
use libc::{EBADF, EINVAL, ENOTTY, ESRCH};
use std::sync::atomic::{AtomicI32, Ordering};

pub fn flags() {
    let (r, w) = pipe_with(libc::O_CLOEXEC);
    let get = |fd, cmd| unsafe { libc::fcntl(fd, cmd) };
    assert_eq!(get(r, libc::F_GETFD), 1);
    assert_eq!(get(r, libc::F_GETFL), libc::O_RDONLY);
    assert_eq!(get(w, libc::F_GETFL), libc::O_WRONLY);
    ok(unsafe { libc::fcntl(r, libc::F_SETFL, libc::O_NONBLOCK | libc::O_RDWR | libc::O_CREAT) });
    assert_eq!(get(r, libc::F_GETFL), libc::O_NONBLOCK);
    let copy = ok(unsafe { libc::fcntl(r, libc::F_DUPFD_CLOEXEC, 0) });
    assert_eq!(get(copy, libc::F_GETFD), 1);
    assert_eq!(get(copy, libc::F_GETFL), libc::O_NONBLOCK);
    assert_eq!(errno_of(get(999, libc::F_GETFD)), EBADF);
    assert_eq!(errno_of(get(r, 777)), EINVAL);
    assert_eq!(errno_of(unsafe { libc::fcntl(r, libc::F_DUPFD, -1) }), EINVAL);
    assert_eq!(errno_of(get(r, libc::F_GET_SEALS)), EINVAL);
    let path = ok(unsafe { libc::open(c"/".as_ptr(), libc::O_PATH) });
    assert_eq!(errno_of(unsafe { libc::fcntl(path, libc::F_SETFL, 0) }), EBADF);
    ok(get(path, libc::F_GETFD));
}

pub fn owner() {
    let (r, _w) = pipe_with(0);
    let pid = unsafe { libc::getpid() };
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETOWN) }, 0);
    ok(unsafe { libc::fcntl(r, libc::F_SETOWN, pid) });
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETOWN) }, pid);
    assert_eq!(errno_of(unsafe { libc::fcntl(r, libc::F_SETOWN, 4_000_000) }), ESRCH);
    let mut ex = [2i32, unsafe { libc::getpgrp() }]; // F_OWNER_PGRP
    ok(unsafe { libc::fcntl(r, 15, &mut ex) });
    ex = [0, 0];
    ok(unsafe { libc::fcntl(r, 16, &mut ex) });
    assert_eq!(ex, [2, unsafe { libc::getpgrp() }]);
    ex = [9, pid];
    assert_eq!(errno_of(unsafe { libc::fcntl(r, 15, &mut ex) }), EINVAL);
    assert_eq!(errno_of(unsafe { libc::fcntl(r, 10, 65) }), EINVAL);
    ok(unsafe { libc::fcntl(r, 10, libc::SIGUSR1) });
    assert_eq!(unsafe { libc::fcntl(r, 11) }, libc::SIGUSR1);
}

static GOT: AtomicI32 = AtomicI32::new(0);
static GOT_FD: AtomicI32 = AtomicI32::new(-1);

pub fn sigio() {
    extern "C" fn note(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        GOT.store(signal, Ordering::SeqCst);
        // si_fd stands behind the 8-byte si_band.
        GOT_FD.store(unsafe { info.cast::<i32>().add(6).read() }, Ordering::SeqCst);
    }
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGIO, &action, std::ptr::null_mut());
        libc::sigaction(libc::SIGRTMIN(), &action, std::ptr::null_mut());
    }
    let (r, w) = pipe_with(0);
    ok(unsafe { libc::fcntl(r, libc::F_SETOWN, libc::getpid()) });
    ok(unsafe { libc::fcntl(r, libc::F_SETFL, libc::O_ASYNC) });
    write(w, b"x");
    sleep_ms(20);
    assert_eq!(GOT.swap(0, Ordering::SeqCst), libc::SIGIO);
    ok(unsafe { libc::fcntl(r, 10, libc::SIGRTMIN()) });
    assert!(read(r, 1).is_ok());
    write(w, b"x");
    sleep_ms(20);
    assert_eq!(GOT.swap(0, Ordering::SeqCst), libc::SIGRTMIN());
    assert_eq!(GOT_FD.load(Ordering::SeqCst), r);
    ok(unsafe { libc::fcntl(r, libc::F_SETFL, 0) });
    write(w, b"x");
    sleep_ms(20);
    assert_eq!(GOT.load(Ordering::SeqCst), 0);
}

pub fn generic_ioctls() {
    let (r, w) = pipe_with(0);
    let mut n = 1i32;
    ok(unsafe { libc::ioctl(r, libc::FIONBIO, &n) });
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETFL) }, libc::O_NONBLOCK);
    ok(unsafe { libc::ioctl(r, libc::FIOCLEX) });
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETFD) }, 1);
    ok(unsafe { libc::ioctl(r, libc::FIONCLEX) });
    assert_eq!(unsafe { libc::fcntl(r, libc::F_GETFD) }, 0);
    write(w, b"12345");
    ok(unsafe { libc::ioctl(r, libc::FIONREAD, &mut n) });
    assert_eq!(n, 5);
    assert_eq!(errno_of(unsafe { libc::ioctl(r, libc::TCGETS, &mut n) }), ENOTTY);
    assert_eq!(errno_of(unsafe { libc::ioctl(999, libc::FIONREAD, &mut n) }), EBADF);
}
