//! POSIX message queues.

mod files;
mod rules;
mod waiting;

use crate::harness::{Tests, child_succeeds, errno, expect_errno};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const TESTS: Tests = &[
    ("priorities", priorities),
    ("open_rules", open_rules),
    ("errors", errors),
    ("blocks_and_wakes", blocks_and_wakes),
    ("timeouts", timeouts),
    ("poll", poll),
    ("attributes", attributes),
    ("notify_by_signal", notify_by_signal),
    ("send_errors", rules::send_errors),
    ("receive_errors", rules::receive_errors),
    ("open_errors", rules::open_errors),
    ("attribute_errors", rules::attribute_errors),
    ("queue_files", files::queue_files),
    ("name_rules", files::name_rules),
    ("limits", files::limits),
    ("waiters_by_priority", waiting::waiters_by_priority),
    ("receiver_before_notification", waiting::receiver_before_notification),
    ("notify_errors", waiting::notify_errors),
    ("notify_by_netlink", waiting::notify_by_netlink),
    ("notify_by_thread", waiting::notify_by_thread),
    ("storm", waiting::storm),
    ("killed_receivers", waiting::killed_receivers),
];

const CREATE: i32 = libc::O_CREAT | libc::O_RDWR;

#[repr(C)]
#[derive(Default)]
struct Attr {
    flags: i64,
    max_messages: i64,
    message_bytes: i64,
    messages: i64,
    reserved: [i64; 4],
}

fn attr(max_messages: i64, message_bytes: i64) -> Attr {
    Attr { max_messages, message_bytes, ..Attr::default() }
}

fn open(name: &std::ffi::CStr, flags: i32, attr: Option<&Attr>) -> i64 {
    let attr = attr.map_or(null(), std::ptr::from_ref);
    // SAFETY: name and attributes live across the call.
    unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, 0o600, attr) }
}

fn unlink(name: &std::ffi::CStr) -> i64 {
    // SAFETY: the name lives across the call.
    unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) }
}

fn queue(max_messages: i64, message_bytes: i64, flags: i32) -> i64 {
    let id = open(c"abi-queue", CREATE | libc::O_EXCL | flags, Some(&attr(max_messages, message_bytes)));
    assert!(id >= 0, "errno {}", errno());
    assert_eq!(unlink(c"abi-queue"), 0);
    id
}

fn send(id: i64, text: &[u8], priority: u32, timeout: Option<&libc::timespec>) -> i64 {
    let timeout = timeout.map_or(null(), std::ptr::from_ref);
    // SAFETY: text and time live across the call.
    unsafe { libc::syscall(libc::SYS_mq_timedsend, id, text.as_ptr(), text.len(), priority, timeout) }
}

fn receive(id: i64, size: usize, timeout: Option<&libc::timespec>) -> Result<(Vec<u8>, u32), i64> {
    let mut text = vec![0u8; size];
    let mut priority = 0u32;
    let timeout = timeout.map_or(null(), std::ptr::from_ref);
    // SAFETY: locals live across the call.
    let len = unsafe { libc::syscall(libc::SYS_mq_timedreceive, id, text.as_mut_ptr(), size, &mut priority, timeout) };
    if len < 0 {
        return Err(len);
    }
    text.truncate(len as usize);
    Ok((text, priority))
}

fn after(ms: i64) -> libc::timespec {
    // SAFETY: plain call on a local.
    unsafe {
        let mut now: libc::timespec = zeroed();
        libc::clock_gettime(libc::CLOCK_REALTIME, &mut now);
        let ns = now.tv_nsec + ms * 1_000_000;
        libc::timespec { tv_sec: now.tv_sec + ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
    }
}

fn priorities() {
    let id = queue(8, 32, 0);
    for (text, priority) in [(&b"low"[..], 1), (b"high", 30), (b"low2", 1), (b"top", 32_767), (b"", 2)] {
        assert_eq!(send(id, text, priority, None), 0);
    }
    let order: Vec<_> = (0..5).map(|_| receive(id, 32, None).unwrap()).collect();
    let texts: Vec<&[u8]> = order.iter().map(|(text, _)| &text[..]).collect();
    assert_eq!(texts, [&b"top"[..], b"high", b"", b"low", b"low2"]);
    assert_eq!(order[0].1, 32_767);
}

fn open_rules() {
    expect_errno(open(c"abi-none", libc::O_RDWR, None), libc::ENOENT);
    expect_errno(open(c"", CREATE, None), libc::ENOENT);
    expect_errno(open(c"a/b", CREATE, None), libc::EACCES);
    expect_errno(unlink(c"abi-none"), libc::ENOENT);
    let id = open(c"abi-open", CREATE, None);
    assert!(id >= 0);
    expect_errno(open(c"abi-open", CREATE | libc::O_EXCL, None), libc::EEXIST);
    assert!(open(c"abi-open", libc::O_RDONLY, None) >= 0);
    child_succeeds(|| {
        // SAFETY: plain call.
        assert_eq!(unsafe { libc::setresuid(1000, 1000, 1000) }, 0);
        expect_errno(open(c"abi-open", libc::O_RDWR, None), libc::EACCES);
        expect_errno(open(c"abi-big", CREATE, Some(&attr(11, 10))), libc::EINVAL);
        expect_errno(open(c"abi-big", CREATE, Some(&attr(10, 8193))), libc::EINVAL);
        expect_errno(unlink(c"abi-open"), libc::EPERM);
    });
    // SAFETY: plain call.
    assert_eq!(unsafe { libc::fcntl(id as i32, libc::F_GETFD) }, libc::FD_CLOEXEC);
    assert_eq!(unlink(c"abi-open"), 0);
    expect_errno(open(c"abi-bad", CREATE, Some(&attr(0, 10))), libc::EINVAL);
    expect_errno(open(c"abi-bad", CREATE, Some(&attr(10, 0))), libc::EINVAL);
}

fn errors() {
    let id = queue(2, 16, libc::O_NONBLOCK);
    expect_errno(receive(id, 16, None).unwrap_err(), libc::EAGAIN);
    expect_errno(receive(id, 15, None).unwrap_err(), libc::EMSGSIZE);
    expect_errno(send(id, &[0; 17], 0, None), libc::EMSGSIZE);
    expect_errno(send(id, b"x", 32_768, None), libc::EINVAL);
    expect_errno(send(0, b"x", 0, None), libc::EBADF);
    expect_errno(send(999, b"x", 0, None), libc::EBADF);
    assert_eq!(send(id, b"1", 0, None), 0);
    assert_eq!(send(id, b"2", 0, None), 0);
    expect_errno(send(id, b"3", 0, None), libc::EAGAIN);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    expect_errno(send(id, b"3", 0, Some(&bad)), libc::EINVAL);
}

fn blocks_and_wakes() {
    let id = queue(1, 16, 0);
    let reader = std::thread::spawn(move || {
        for round in 0..500u32 {
            assert_eq!(receive(id, 16, None).unwrap().0, round.to_ne_bytes());
        }
    });
    for round in 0..500u32 {
        assert_eq!(send(id, &round.to_ne_bytes(), 0, None), 0);
    }
    reader.join().unwrap();
}

fn timeouts() {
    let id = queue(1, 16, 0);
    expect_errno(receive(id, 16, Some(&after(20))).unwrap_err(), libc::ETIMEDOUT);
    assert_eq!(send(id, b"1", 0, None), 0);
    expect_errno(send(id, b"2", 0, Some(&after(20))), libc::ETIMEDOUT);
}

fn poll() {
    let id = queue(1, 16, 0);
    let mut poll = libc::pollfd { fd: id as i32, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    // SAFETY: plain calls on a local.
    unsafe {
        assert_eq!(libc::poll(&mut poll, 1, 0), 1);
        assert_eq!(poll.revents, libc::POLLOUT);
        assert_eq!(send(id, b"1", 0, None), 0);
        assert_eq!(libc::poll(&mut poll, 1, 0), 1);
        assert_eq!(poll.revents, libc::POLLIN);
        poll.events = libc::POLLOUT;
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            receive(id, 16, None).unwrap();
        });
        assert_eq!(libc::poll(&mut poll, 1, 2000), 1);
        reader.join().unwrap();
    }
}

fn attributes() {
    let id = queue(3, 24, 0);
    send(id, b"x", 0, None);
    let mut seen = Attr::default();
    // SAFETY: locals live across the calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_mq_getsetattr, id, 0usize, &mut seen), 0);
        assert_eq!((seen.flags, seen.max_messages, seen.message_bytes, seen.messages), (0, 3, 24, 1));
        let new = Attr { flags: i64::from(libc::O_NONBLOCK), ..Attr::default() };
        assert_eq!(libc::syscall(libc::SYS_mq_getsetattr, id, &new, 0usize), 0);
        receive(id, 24, None).unwrap();
        expect_errno(receive(id, 24, None).unwrap_err(), libc::EAGAIN);
        let bad = Attr { flags: 1, ..Attr::default() };
        expect_errno(libc::syscall(libc::SYS_mq_getsetattr, id, &bad, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_mq_getsetattr, 0, 0usize, &mut seen), libc::EBADF);
    }
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn notify_by_signal() {
    #[repr(C)]
    struct Event {
        value: u64,
        signo: i32,
        notify: i32,
        rest: [u64; 6],
    }
    let id = queue(4, 16, 0);
    // SAFETY: installs a handler that is safe in signal context; locals live across the calls.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = count as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, null_mut());
        let event = Event { value: 0, signo: libc::SIGUSR1, notify: 0, rest: [0; 6] };
        assert_eq!(libc::syscall(libc::SYS_mq_notify, id, &event), 0);
        expect_errno(libc::syscall(libc::SYS_mq_notify, id, &event), libc::EBUSY);
        assert_eq!(send(id, b"1", 0, None), 0);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), 1);
        assert_eq!(send(id, b"2", 0, None), 0);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), 1, "only once, and only into the empty queue");
        assert_eq!(libc::syscall(libc::SYS_mq_notify, id, &event), 0);
        assert_eq!(libc::syscall(libc::SYS_mq_notify, id, 0usize), 0);
        let bad = Event { value: 0, signo: 65, notify: 0, rest: [0; 6] };
        expect_errno(libc::syscall(libc::SYS_mq_notify, id, &bad), libc::EINVAL);
    }
}
