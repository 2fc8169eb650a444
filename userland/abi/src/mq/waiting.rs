//! Threads that wait, in order of priority; notification in all its ways; storms.

use super::*;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// `struct sigevent`.
#[repr(C)]
struct Event {
    value: u64,
    signo: i32,
    notify: i32,
    rest: [u64; 6],
}

fn event(notify: i32, signo: i32, value: u64) -> Event {
    Event { value, signo, notify, rest: [0; 6] }
}

fn notify(id: i64, event: Option<&Event>) -> i64 {
    let event = event.map_or(null(), std::ptr::from_ref);
    // SAFETY: the event lives across the call.
    unsafe { libc::syscall(libc::SYS_mq_notify, id, event) }
}

/// Starts threads of these real-time priorities one after the other, each asleep in `body` before the next one comes.
fn sleepers(priorities: &[i32], body: impl Fn(usize) + Send + Sync + 'static) -> Vec<std::thread::JoinHandle<()>> {
    let body = Arc::new(body);
    let start = |(index, priority): (usize, &i32)| {
        let (body, priority) = (body.clone(), *priority);
        let thread = std::thread::spawn(move || {
            if priority != 0 {
                // SAFETY: plain call on a local.
                assert_eq!(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, 1, &priority) }, 0);
            }
            body(index);
        });
        crate::harness::others_asleep();
        thread
    };
    priorities.iter().enumerate().map(start).collect()
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < crate::harness::PATIENCE);
        std::thread::yield_now();
    }
}

/// Receivers and senders are served by priority, then in the order they came.
pub fn waiters_by_priority() {
    let id = queue(1, 16, 0);
    let order = Arc::new(Mutex::new(Vec::new()));
    let got = order.clone();
    let threads = sleepers(&[0, 10, 20, 10], move |index| {
        receive(id, 16, None).unwrap();
        got.lock().unwrap().push(index);
    });
    for count in 1..=4 {
        send(id, b"x", 0, None);
        until(|| order.lock().unwrap().len() == count);
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*order.lock().unwrap(), [2, 1, 3, 0]);
    send(id, b"full", 0, None);
    let threads = sleepers(&[0, 10, 20, 10], move |index| assert_eq!(send(id, &[index as u8], 0, None), 0));
    let texts: Vec<Vec<u8>> = (0..5).map(|_| receive(id, 16, None).unwrap().0).collect();
    assert_eq!(texts, [&b"full"[..], &[2], &[1], &[3], &[0]]);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A message goes to a thread that waits for one, and not to the process to be notified; that stays registered.
pub fn receiver_before_notification() {
    let id = queue(4, 16, 0);
    assert_eq!(notify(id, Some(&event(1, 0, 0))), 0);
    let receiver = std::thread::spawn(move || receive(id, 16, None).unwrap());
    crate::harness::others_asleep();
    send(id, b"x", 0, None);
    receiver.join().unwrap();
    expect_errno(notify(id, Some(&event(1, 0, 0))), libc::EBUSY);
    send(id, b"x", 0, None);
    assert_eq!(notify(id, Some(&event(1, 0, 0))), 0);
}

pub fn notify_errors() {
    let id = queue(4, 16, 0);
    expect_errno(notify(id, Some(&event(0, 65, 0))), libc::EINVAL);
    expect_errno(notify(id, Some(&event(0, -1, 0))), libc::EINVAL);
    expect_errno(notify(id, Some(&event(7, 1, 0))), libc::EINVAL);
    expect_errno(notify(0, Some(&event(1, 1, 0))), libc::EBADF);
    expect_errno(notify(999, None), libc::EBADF);
    expect_errno(notify(id, Some(&event(2, 0, 8))), libc::EFAULT);
    let cookie = [0u8; 32];
    expect_errno(notify(id, Some(&event(2, 999, cookie.as_ptr() as u64))), libc::EBADF);
    expect_errno(notify(id, Some(&event(2, id as i32, cookie.as_ptr() as u64))), libc::ENOTSOCK);
    // SAFETY: plain calls; a bad address is the point.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0);
        expect_errno(notify(id, Some(&event(2, socket, cookie.as_ptr() as u64))), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_mq_notify, id, 8usize), libc::EFAULT);
    }
    // Another process's registration is not ended by this one; its own end does that.
    let mut ends = [0; 2];
    // SAFETY: plain calls on locals.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let pid = libc::fork();
        if pid == 0 {
            assert_eq!(notify(id, Some(&event(1, 0, 0))), 0);
            libc::write(ends[1], b"x".as_ptr().cast(), 1);
            libc::pause();
            libc::_exit(1);
        }
        let mut byte = 0u8;
        libc::read(ends[0], (&raw mut byte).cast(), 1);
        assert_eq!(notify(id, None), 0);
        expect_errno(notify(id, Some(&event(1, 0, 0))), libc::EBUSY);
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, null_mut(), 0);
    }
    assert_eq!(notify(id, Some(&event(1, 0, 0))), 0);
}

/// SIGEV_THREAD as the kernel has it: a cookie comes back through a netlink socket.
pub fn notify_by_netlink() {
    const AF_NETLINK: i32 = 16;
    let id = queue(4, 16, 0);
    let mut cookie = *b"a cookie of thirty-two bytes....";
    // SAFETY: plain calls on locals.
    unsafe {
        let socket = libc::socket(AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let receive_cookie = || {
            let mut bytes = [0u8; 64];
            match libc::recv(socket, bytes.as_mut_ptr().cast(), 64, libc::MSG_DONTWAIT) {
                32 => Some(bytes[..32].to_vec()),
                other => {
                    assert_eq!((other, errno()), (-1, libc::EAGAIN));
                    None
                }
            }
        };
        let thread = event(2, socket, cookie.as_ptr() as u64);
        assert_eq!(notify(id, Some(&thread)), 0);
        assert_eq!(receive_cookie(), None);
        send(id, b"x", 0, None);
        cookie[31] = 1;
        assert_eq!(receive_cookie(), Some(cookie.to_vec()));
        send(id, b"x", 0, None);
        assert_eq!(receive_cookie(), None);
        // Ending the registration says so too.
        assert_eq!(notify(id, Some(&thread)), 0);
        assert_eq!(notify(id, None), 0);
        cookie[31] = 2;
        assert_eq!(receive_cookie(), Some(cookie.to_vec()));
        assert_eq!(notify(id, Some(&thread)), 0);
        libc::close(id as i32);
        assert_eq!(receive_cookie(), Some(cookie.to_vec()));
    }
}

static THREADS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_message(value: libc::sigval) {
    THREADS.fetch_add(value.sival_ptr as u32, Ordering::SeqCst);
}

/// SIGEV_THREAD as programs use it, through the C library.
pub fn notify_by_thread() {
    let id = queue(4, 16, 0);
    let mut thread = event(2, 0, 5);
    thread.rest[0] = on_message as *const () as u64;
    for round in 1..=3 {
        // SAFETY: the event lives across the call.
        assert_eq!(unsafe { libc::mq_notify(id as i32, std::ptr::from_ref(&thread).cast()) }, 0);
        send(id, b"x", 0, None);
        until(|| THREADS.load(Ordering::SeqCst) == 5 * round);
        receive(id, 16, None).unwrap();
    }
}

extern "C" fn ignore(_signal: i32) {}

/// Senders, receivers, time-outs and signals at once: every message sent is received exactly once.
pub fn storm() {
    let rounds = crate::stress::rounds() * 50;
    let id = queue(3, 16, 0);
    // SAFETY: installs a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, null_mut());
    }
    let totals = Arc::new([const { AtomicU32::new(0) }; 4]);
    let worker = |sends: bool, number: u32, totals: Arc<[AtomicU32; 4]>| {
        std::thread::spawn(move || {
            for round in 0..rounds {
                let time = after(i64::from((round + number) % 3));
                if sends {
                    if send(id, &1u32.to_ne_bytes(), round % 5, Some(&time)) == 0 {
                        totals[0].fetch_add(1, Ordering::SeqCst);
                    } else {
                        assert!([libc::ETIMEDOUT, libc::EINTR].contains(&errno()));
                    }
                } else if let Ok((text, _)) = receive(id, 16, Some(&time)) {
                    assert_eq!(text, 1u32.to_ne_bytes());
                    totals[1].fetch_add(1, Ordering::SeqCst);
                } else {
                    assert!([libc::ETIMEDOUT, libc::EINTR].contains(&errno()));
                }
            }
            totals[2].fetch_add(1, Ordering::SeqCst);
        })
    };
    let threads: Vec<_> = (0..6).map(|number| worker(number % 2 == 0, number, totals.clone())).collect();
    while totals[2].load(Ordering::SeqCst) < 6 {
        for thread in threads.iter().filter(|thread| !thread.is_finished()) {
            use std::os::unix::thread::JoinHandleExt;
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut left = 0;
    while receive(id, 16, Some(&libc::timespec { tv_sec: 0, tv_nsec: 0 })).is_ok() {
        left += 1;
    }
    assert_eq!(totals[0].load(Ordering::SeqCst), totals[1].load(Ordering::SeqCst) + left);
}

/// A process that waits is killed at any moment: no message is lost to it.
pub fn killed_receivers() {
    let id = queue(8, 16, 0);
    for round in 0..crate::stress::rounds() {
        // SAFETY: the child only receives and leaves.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(receive(id, 16, None).is_err().into());
            }
            std::thread::sleep(Duration::from_micros(u64::from(round % 10) * 200));
            let killer = std::thread::spawn(move || libc::kill(pid, libc::SIGKILL));
            send(id, b"message", 0, None);
            killer.join().unwrap();
            let mut status = 0;
            libc::waitpid(pid, &mut status, 0);
            let left = receive(id, 16, Some(&libc::timespec { tv_sec: 0, tv_nsec: 0 }));
            // A child that ended by itself has it; one that was killed may have had it in its hands.
            assert!(status != 0 || left.is_err(), "a message came twice");
            let mut after = Attr::default();
            assert_eq!(libc::syscall(libc::SYS_mq_getsetattr, id, 0usize, &mut after), 0);
            assert_eq!(after.messages, 0);
        }
    }
    assert_eq!(send(id, b"x", 0, None), 0);
    assert_eq!(receive(id, 16, None).unwrap().0, b"x");
}
