//! Plain calls, files and polling.

use crate::{Item, Meter, check};
use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;

pub const ITEMS: &[(&str, Item)] = &[
    ("null_call", null_call),
    ("open_close", open_close),
    ("stat", stat),
    ("pread_4k", pread_4k),
    ("read_dev_zero_1", read_dev_zero),
    ("poll_1_of_1000", poll_1_of_1000),
    ("epoll_1_of_1000", epoll_1_of_1000),
    ("signal_to_self", signal_to_self),
    ("sched_yield_2_processes", sched_yield),
];

fn null_call(meter: &mut Meter) -> io::Result<()> {
    meter.measure(1000, || check(unsafe { libc::syscall(libc::SYS_getppid) }).map(drop))
}

/// A file of 4 KiB.
fn file(path: &str) -> io::Result<CString> {
    std::fs::write(path, [1; 4096])?;
    Ok(CString::new(path)?)
}

fn open_close(meter: &mut Meter) -> io::Result<()> {
    let path = file("/tmp/bench-open")?;
    meter.measure(500, || {
        let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) })?;
        check(unsafe { libc::close(fd) }).map(drop)
    })
}

fn stat(meter: &mut Meter) -> io::Result<()> {
    let path = file("/tmp/bench-stat")?;
    let mut status: libc::stat = unsafe { zeroed() };
    meter.measure(500, || check(unsafe { libc::stat(path.as_ptr(), &mut status) }).map(drop))
}

fn pread_4k(meter: &mut Meter) -> io::Result<()> {
    let path = file("/tmp/bench-pread")?;
    let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) })?;
    let mut buffer = [0u8; 4096];
    meter.measure(500, || {
        check(unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) } as i64).map(drop)
    })
}

fn read_dev_zero(meter: &mut Meter) -> io::Result<()> {
    let fd = check(unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) })?;
    let mut byte = 0u8;
    meter.measure(500, || check(unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } as i64).map(drop))
}

const MANY: usize = 1000;

/// The reading ends of [`MANY`] pipes, the last of which has a byte.
fn pipes() -> io::Result<Vec<i32>> {
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    let mut ends = Vec::new();
    let mut pipe = [0; 2];
    for _ in 0..MANY {
        check(unsafe { libc::pipe(pipe.as_mut_ptr()) })?;
        ends.push(pipe[0]);
    }
    check(unsafe { libc::write(pipe[1], [1u8].as_ptr().cast(), 1) } as i64)?;
    Ok(ends)
}

fn poll_1_of_1000(meter: &mut Meter) -> io::Result<()> {
    let mut list: Vec<_> =
        pipes()?.into_iter().map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    meter.measure(10, || check(unsafe { libc::poll(list.as_mut_ptr(), MANY as libc::nfds_t, -1) }).map(drop))
}

fn epoll_1_of_1000(meter: &mut Meter) -> io::Result<()> {
    let epoll = check(unsafe { libc::epoll_create1(0) })?;
    for fd in pipes()? {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
    }
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    meter.measure(500, || check(unsafe { libc::epoll_wait(epoll, &mut event, 1, -1) }).map(drop))
}

extern "C" fn handler(_: i32) {}

fn signal_to_self(meter: &mut Meter) -> io::Result<()> {
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    check(unsafe { libc::sigaction(libc::SIGUSR1, &action, null_mut()) })?;
    let own = unsafe { libc::getpid() };
    meter.measure(500, || check(unsafe { libc::kill(own, libc::SIGUSR1) }).map(drop))
}

fn sched_yield(meter: &mut Meter) -> io::Result<()> {
    let turn = || check(unsafe { libc::sched_yield() }).map(drop);
    let peer = || {
        loop {
            turn()?;
        }
    };
    crate::with_child(peer, || meter.measure(500, turn))
}
