//! Processes, threads and page faults.

use crate::{BATCHES, Item, Meter, check, now_ns};
use std::io;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;

pub const ITEMS: &[(&str, Item)] = &[
    ("boot_to_program", boot),
    ("fork_exit_wait", fork_exit_wait),
    ("fork_exec_wait", fork_exec_wait),
    ("thread_create_join", thread),
    ("anonymous_fault", anonymous_fault),
    ("copy_on_write_fault", copy_on_write_fault),
];

/// The argument with which this program ends at once.
pub const NOTHING: &str = "--nothing";

/// The counter since the machine was switched on, which is boot and init until this program; with `-icount` and a counter of 1 GHz
/// that is instructions.
fn boot(meter: &mut Meter) -> io::Result<()> {
    meter.report([crate::START.load(Ordering::Relaxed) as f64; BATCHES]);
    Ok(())
}

fn wait_for(child: i32) -> io::Result<()> {
    check(unsafe { libc::waitpid(child, null_mut(), 0) }).map(drop)
}

fn fork_exit_wait(meter: &mut Meter) -> io::Result<()> {
    meter.measure(20, || {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            unsafe { libc::_exit(0) };
        }
        wait_for(child)
    })
}

/// What is executed is this program itself, with an argument that ends it at once.
fn fork_exec_wait(meter: &mut Meter) -> io::Result<()> {
    let arguments = [c"bench".as_ptr(), c"--nothing".as_ptr(), null()];
    meter.measure(20, || {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            unsafe {
                libc::execv(c"/proc/self/exe".as_ptr(), arguments.as_ptr());
                libc::_exit(127);
            }
        }
        wait_for(child)
    })
}

extern "C" fn nothing(_: *mut libc::c_void) -> *mut libc::c_void {
    null_mut()
}

fn thread(meter: &mut Meter) -> io::Result<()> {
    meter.measure(50, || {
        let mut thread = 0;
        match unsafe { libc::pthread_create(&mut thread, null(), nothing, null_mut()) } {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        unsafe { libc::pthread_join(thread, null_mut()) };
        Ok(())
    })
}

const PAGES: usize = 256;
const PAGE: usize = 4096;

fn fresh_pages() -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let start = unsafe { libc::mmap(null_mut(), PAGES * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Huge pages would make it another measurement.
    unsafe { libc::madvise(start, PAGES * PAGE, libc::MADV_NOHUGEPAGE) };
    Ok(start.cast())
}

/// Writes to each page; answers ns for one.
fn touch(start: *mut u8) -> f64 {
    let begin = now_ns();
    for page in 0..PAGES {
        unsafe { start.add(page * PAGE).write_volatile(1) };
    }
    (now_ns() - begin) as f64 / PAGES as f64
}

fn anonymous_fault(meter: &mut Meter) -> io::Result<()> {
    let mut batches = [0.0; BATCHES];
    for batch in &mut batches {
        let start = fresh_pages()?;
        *batch = touch(start);
        unsafe { libc::munmap(start.cast(), PAGES * PAGE) };
    }
    meter.report(batches);
    Ok(())
}

/// The child's writes to what it shares with its parent.
fn copy_on_write_fault(meter: &mut Meter) -> io::Result<()> {
    let start = fresh_pages()?;
    touch(start);
    let mut ends = [0; 2];
    check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let mut batches = [0.0; BATCHES];
    for batch in &mut batches {
        let child = check(unsafe { libc::fork() })?;
        if child == 0 {
            let time = touch(start).to_ne_bytes();
            unsafe {
                libc::write(ends[1], time.as_ptr().cast(), time.len());
                libc::_exit(0);
            }
        }
        let mut time = [0; 8];
        check(unsafe { libc::read(ends[0], time.as_mut_ptr().cast(), time.len()) } as i64)?;
        *batch = f64::from_ne_bytes(time);
        wait_for(child)?;
    }
    meter.report(batches);
    Ok(())
}
