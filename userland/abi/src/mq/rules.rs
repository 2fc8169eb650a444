//! mq_open(3), mq_send(3), mq_receive(3), mq_getattr(3), mq_unlink(3): errnos one by one.

use super::*;
use crate::harness::others_asleep;

fn call_send(id: i64, at: usize, len: usize, priority: u32, time: usize) -> i64 {
    // SAFETY: bad addresses are the point.
    unsafe { libc::syscall(libc::SYS_mq_timedsend, id, at, len, priority, time) }
}

fn call_receive(id: i64, at: usize, len: usize, time: usize) -> i64 {
    // SAFETY: bad addresses are the point.
    unsafe { libc::syscall(libc::SYS_mq_timedreceive, id, at, len, 0usize, time) }
}

const BAD_TIMES: [libc::timespec; 3] = [
    libc::timespec { tv_sec: -1, tv_nsec: 0 },
    libc::timespec { tv_sec: 0, tv_nsec: -1 },
    libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 },
];

pub fn send_errors() {
    let id = queue(1, 16, 0);
    let text = [7u8; 64];
    let at = text.as_ptr() as usize;
    expect_errno(call_send(999, at, 1, 0, 0), libc::EBADF);
    expect_errno(call_send(0, at, 1, 0, 0), libc::EBADF);
    expect_errno(call_send(id, at, 17, 0, 0), libc::EMSGSIZE);
    expect_errno(call_send(id, at, 1, 32_768, 0), libc::EINVAL);
    expect_errno(call_send(999, at, 1, 32_768, 0), libc::EINVAL);
    expect_errno(call_send(id, 8, 1, 0, 0), libc::EFAULT);
    expect_errno(call_send(id, at, 1, 0, 8), libc::EFAULT);
    // A time that is none is refused though nobody would wait.
    for bad in BAD_TIMES {
        expect_errno(call_send(id, at, 1, 0, &raw const bad as usize), libc::EINVAL);
        expect_errno(call_send(999, at, 1, 0, &raw const bad as usize), libc::EINVAL);
    }
    assert_eq!(call_send(id, at, 0, 32_767, 0), 0);
    let past = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    expect_errno(call_send(id, at, 1, 0, &raw const past as usize), libc::ETIMEDOUT);
    let reader = open_again(libc::O_RDONLY);
    expect_errno(call_send(reader, at, 1, 0, 0), libc::EBADF);
    let nonblocking = open_again(libc::O_WRONLY | libc::O_NONBLOCK);
    expect_errno(call_send(nonblocking, at, 1, 0, &raw const past as usize), libc::EAGAIN);
    unlink(NAME);
}

const NAME: &std::ffi::CStr = c"abi-mq-rules";

fn open_again(flags: i32) -> i64 {
    let id = open(NAME, flags | libc::O_CREAT, Some(&attr(1, 16)));
    assert!(id >= 0);
    if flags & libc::O_NONBLOCK != 0 {
        assert_eq!(call_send(id, [1u8].as_ptr() as usize, 1, 0, 0), 0);
    }
    id
}

pub fn receive_errors() {
    let id = queue(2, 16, 0);
    let mut text = [0u8; 64];
    let at = text.as_mut_ptr() as usize;
    expect_errno(call_receive(999, at, 64, 0), libc::EBADF);
    expect_errno(call_receive(0, at, 64, 0), libc::EBADF);
    expect_errno(call_receive(id, at, 15, 0), libc::EMSGSIZE);
    expect_errno(call_receive(id, at, 16, 8), libc::EFAULT);
    for bad in BAD_TIMES {
        expect_errno(call_receive(id, at, 16, &raw const bad as usize), libc::EINVAL);
    }
    let past = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    expect_errno(call_receive(id, at, 16, &raw const past as usize), libc::ETIMEDOUT);
    // A bad place costs the message, as on Linux.
    assert_eq!(send(id, b"lost", 1, None), 0);
    assert_eq!(send(id, b"kept", 0, None), 0);
    expect_errno(call_receive(id, 8, 16, 0), libc::EFAULT);
    assert_eq!(call_receive(id, at, 16, 0), 4);
    assert_eq!(&text[..4], b"kept");
    let writer = open_again(libc::O_WRONLY);
    expect_errno(call_receive(writer, at, 16, 0), libc::EBADF);
    unlink(NAME);
}

pub fn open_errors() {
    let try_open = |name: &std::ffi::CStr, flags: i32, attr: Option<&Attr>| open(name, flags, attr);
    expect_errno(try_open(c"", CREATE, None), libc::ENOENT);
    expect_errno(try_open(c"abi-a/b", CREATE, None), libc::EACCES);
    expect_errno(try_open(c"abi-absent", libc::O_RDWR, None), libc::ENOENT);
    let long = std::ffi::CString::new(vec![b'a'; 256]).unwrap();
    expect_errno(try_open(&long, CREATE, None), libc::ENAMETOOLONG);
    for (max, size) in [(0, 16), (-1, 16), (1, 0), (1, -1), (i64::MAX, 16), (1, i64::MAX), (65_537, 16)] {
        expect_errno(try_open(c"abi-mq-bad", CREATE, Some(&attr(max, size))), libc::EINVAL);
    }
    expect_errno(try_open(c"abi-mq-bad", libc::O_RDWR, None), libc::ENOENT);
    // SAFETY: bad addresses are the point.
    unsafe {
        expect_errno(libc::syscall(libc::SYS_mq_open, 8usize, CREATE, 0o600, 0usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_mq_open, c"abi-mq-bad".as_ptr(), CREATE, 0o600, 8usize), libc::EFAULT);
        expect_errno(libc::syscall(libc::SYS_mq_unlink, 8usize), libc::EFAULT);
    }
    expect_errno(unlink(c"abi-absent"), libc::ENOENT);
    let id = open(NAME, CREATE | libc::O_EXCL, Some(&attr(1, 16)));
    assert!(id >= 0);
    expect_errno(open(NAME, CREATE | libc::O_EXCL, None), libc::EEXIST);
    // The descriptor is close-on-exec whatever was asked for, and its kind is its own.
    // SAFETY: plain calls.
    unsafe { assert_eq!(libc::fcntl(id as i32, libc::F_GETFD), libc::FD_CLOEXEC) };
    child_succeeds(|| {
        // SAFETY: plain calls.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        expect_errno(open(NAME, libc::O_RDONLY, None), libc::EACCES);
        expect_errno(unlink(NAME), libc::EPERM);
        // Within the limits of those who are not privileged.
        expect_errno(open(c"abi-mq-other", CREATE, Some(&attr(11, 16))), libc::EINVAL);
        expect_errno(open(c"abi-mq-other", CREATE, Some(&attr(1, 8193))), libc::EINVAL);
    });
    // A name that is taken away: those who have it open go on.
    assert_eq!(unlink(NAME), 0);
    assert_eq!(send(id, b"x", 0, None), 0);
    expect_errno(open(NAME, libc::O_RDWR, None), libc::ENOENT);
    assert_eq!(receive(id, 16, None), Ok((b"x".to_vec(), 0)));
}

/// mq_getsetattr(2): only O_NONBLOCK can be changed, and any other flag is EINVAL.
pub fn attribute_errors() {
    let id = queue(3, 16, 0);
    let call = |id: i64, new: usize, old: usize| {
        // SAFETY: bad addresses are the point.
        unsafe { libc::syscall(libc::SYS_mq_getsetattr, id, new, old) }
    };
    let mut new = attr(9, 9);
    let mut old = Attr::default();
    new.flags = i64::from(libc::O_NONBLOCK);
    assert_eq!(call(id, &raw const new as usize, &raw mut old as usize), 0);
    assert_eq!((old.flags, old.max_messages, old.message_bytes, old.messages), (0, 3, 16, 0));
    assert_eq!(call(id, 0, &raw mut old as usize), 0);
    assert_eq!((old.flags, old.max_messages), (i64::from(libc::O_NONBLOCK), 3));
    expect_errno(receive(id, 16, None).err().map_or(0, |_| -1), libc::EAGAIN);
    new.flags = i64::from(libc::O_APPEND);
    expect_errno(call(id, &raw const new as usize, 0), libc::EINVAL);
    expect_errno(call(999, &raw const new as usize, 0), libc::EINVAL);
    expect_errno(call(999, 0, 0), libc::EBADF);
    expect_errno(call(0, 0, 0), libc::EBADF);
    expect_errno(call(id, 8, 0), libc::EFAULT);
    expect_errno(call(id, 0, 8), libc::EFAULT);
    assert_eq!(call(id, 0, 0), 0);
    // Turned to waiting again while another thread looks.
    new.flags = 0;
    assert_eq!(call(id, &raw const new as usize, 0), 0);
    let reader = std::thread::spawn(move || assert_eq!(receive(id, 16, None), Ok((b"y".to_vec(), 3))));
    others_asleep();
    assert_eq!(send(id, b"y", 3, None), 0);
    reader.join().unwrap();
}
