//! What one operation costs with N objects there already: `bench growth [-n N,N,...] [FILTER...]` prints one line `NAME N VALUE` for
//! each item and N, or `NAME N skip ERRNO`.
//!
//! The value is CLOCK_MONOTONIC nanoseconds for one operation, the mean of a few; guest instructions under QEMU's
//! `-icount shift=0,sleep=off`. Each item and N has a child of its own, which makes the N objects first; a session and its
//! processes go with it. `scripts/bench growth` prints the table beside what Linux's were.

mod files;
mod ipc;
mod memory;
mod net;
mod tasks;

use crate::now_ns;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// Makes N objects and answers what one operation costs among them.
type Item = fn(usize) -> io::Result<u64>;
/// Name, measurement, and the largest N that makes sense.
type Entry = (&'static str, Item, usize);

const ITEMS: [&[Entry]; 5] = [memory::ITEMS, tasks::ITEMS, files::ITEMS, ipc::ITEMS, net::ITEMS];
const NUMBERS: [usize; 5] = [10, 100, 1000, 3000, 10_000];
/// Times an operation is done for one value.
const TIMES: u64 = 16;
/// An item that takes longer than this has failed.
const PATIENCE_MS: i32 = 60_000;

/// Where a child says its result.
static RESULT: AtomicI32 = AtomicI32::new(-1);

/// The mean cost of `op`, whose argument counts the times.
fn mean(mut op: impl FnMut(u64) -> io::Result<()>) -> io::Result<u64> {
    let start = now_ns();
    for time in 0..TIMES {
        op(time)?;
    }
    Ok((now_ns() - start) / TIMES)
}

/// The cost of `op` for each of `count`.
fn each(count: usize, op: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let start = now_ns();
    op()?;
    Ok((now_ns() - start) / count as u64)
}

/// The bytes that a call moved, -1 being an error.
fn moved(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A system call's answer by number, -1 being an error.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        crate::check(unsafe { libc::syscall($number $(, $argument)*) })
    };
}
use call;

fn sleep_ms(time: u32) {
    unsafe { libc::usleep(time * 1000) };
}

fn child_of(name: &str, item: Item, count: usize) -> io::Result<String> {
    let mut ends = [0; 2];
    crate::check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let child = crate::check(unsafe { libc::fork() })?;
    if child == 0 {
        unsafe {
            libc::close(ends[0]);
            libc::setsid();
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            libc::dup2(null, 0);
        }
        RESULT.store(ends[1], Ordering::Relaxed);
        let text = match item(count) {
            Ok(value) => value.to_string(),
            Err(error) => format!("skip {}", error.raw_os_error().unwrap_or(0)),
        };
        unsafe {
            libc::write(ends[1], text.as_ptr().cast(), text.len());
            libc::_exit(0);
        }
    }
    unsafe { libc::close(ends[1]) };
    let mut watch = libc::pollfd { fd: ends[0], events: libc::POLLIN, revents: 0 };
    let came = unsafe { libc::poll(&mut watch, 1, PATIENCE_MS) };
    let mut text = [0u8; 64];
    let len = if came > 0 { unsafe { libc::read(ends[0], text.as_mut_ptr().cast(), text.len()) } } else { 0 };
    unsafe {
        libc::kill(-child, libc::SIGKILL);
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
        libc::close(ends[0]);
    }
    files::clean_up();
    ipc::clean_up(name);
    Ok(match (came, len) {
        (0, _) => "late".into(),
        (_, 1..) => String::from_utf8_lossy(&text[..len as usize]).into_owned(),
        _ => "died".into(),
    })
}

/// Measures what the arguments ask for.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let (numbers, filters) = match arguments {
        [option, numbers, rest @ ..] if option == "-n" => {
            (numbers.split(',').filter_map(|number| number.parse().ok()).collect(), rest)
        }
        rest => (NUMBERS.to_vec(), rest),
    };
    files::raise_limit();
    net::bring_up_loopback();
    for &(name, item, most) in ITEMS.iter().copied().flatten() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        for &number in numbers.iter().filter(|number| **number <= most) {
            println!("{name} {number} {}", child_of(name, item, number)?);
        }
    }
    Ok(())
}
