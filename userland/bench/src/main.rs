//! Times system calls and inter-process communication: `bench [FILTER...]` prints one line `NAME VALUE` for each item whose name
//! contains a filter. The value is the median over batches of CLOCK_MONOTONIC nanoseconds for one operation.
//!
//! Under QEMU's `-icount shift=0,sleep=off` one nanosecond is one guest instruction, and the values repeat exactly;
//! `scripts/bench` runs it so on Debian's Linux and on Crannog. Items: [`calls`] files, polling, plain calls · [`ipc`] round trips of
//! two processes or threads · [`net`] sockets over loopback · [`process`] processes, threads, page faults. `bench growth` says what one
//! operation costs among many objects instead: [`growth`].

mod calls;
mod growth;
mod ipc;
mod net;
mod process;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// An item measures itself: `measure` is called once with the operation.
type Item = fn(&mut Meter) -> io::Result<()>;

const ITEMS: [&[(&str, Item)]; 4] = [calls::ITEMS, ipc::ITEMS, net::ITEMS, process::ITEMS];

/// Batches of which the median is taken.
const BATCHES: usize = 11;

struct Meter {
    name: &'static str,
}

impl Meter {
    /// Times `op`, `count` times a batch, after a few turns that warm everything up.
    fn measure(&mut self, count: u32, mut op: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        for _ in 0..count.min(20) {
            op()?;
        }
        let mut batches = [0.0; BATCHES];
        for batch in &mut batches {
            let start = now_ns();
            for _ in 0..count {
                op()?;
            }
            *batch = (now_ns() - start) as f64 / f64::from(count);
        }
        self.report(batches);
        Ok(())
    }

    fn report(&self, mut batches: [f64; BATCHES]) {
        batches.sort_by(f64::total_cmp);
        println!("{} {:.0}", self.name, batches[BATCHES / 2]);
    }
}

fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A system call's answer: -1 is an error.
fn check<T: Into<i64> + Copy>(answer: T) -> io::Result<T> {
    if answer.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Runs `peer` in a child until `body` is done.
fn with_child(peer: impl FnOnce() -> io::Result<()>, body: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        let _ = peer();
        unsafe { libc::_exit(0) };
    }
    let result = body();
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    result
}

/// CNTVCT_EL0 when the program began.
static START: AtomicU64 = AtomicU64::new(0);

fn main() {
    let counter: u64;
    unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) counter) };
    START.store(counter, Ordering::Relaxed);
    let filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.first().is_some_and(|first| first == process::NOTHING) {
        return;
    }
    if filters.first().is_some_and(|first| first == "growth") {
        if let Err(error) = growth::run(&filters[1..]) {
            println!("growth failed: {error}");
            std::process::exit(1);
        }
        return;
    }
    for &(name, item) in ITEMS.iter().copied().flatten() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        // Each item in a process of its own: descriptors and memory of one do not slow down the next.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = match item(&mut Meter { name }) {
                Ok(()) => 0,
                Err(error) => {
                    println!("{name} failed: {error}");
                    1
                }
            };
            std::process::exit(status);
        }
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
}
