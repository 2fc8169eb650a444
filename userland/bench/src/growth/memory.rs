//! Mappings and pages.

use super::{Entry, TIMES, each, mean, moved};
use crate::{check, now_ns};
use std::io;
use std::ptr::null_mut;

pub const ITEMS: &[Entry] = &[
    ("mmap_one", mmap_one, 30_000),
    ("mmap_file_one", mmap_file_one, 30_000),
    ("fault_among_areas", fault_among_areas, 30_000),
    ("truncate_mapped", truncate_mapped, 10_000),
    ("maps_read_each", maps_read_each, 10_000),
    ("fork_pages", fork_pages, 30_000),
    ("exit_mapped_page", exit_mapped_page, 30_000),
    ("fork_areas", fork_areas, 10_000),
    ("shm_among_segments", shm_among_segments, 3000),
];

const PAGE: usize = 4096;
const FILE: usize = 1 << 20;

fn map(len: usize, rights: i32, flags: i32, fd: i32, offset: usize) -> io::Result<*mut u8> {
    let at = unsafe { libc::mmap(null_mut(), len, rights, flags, fd, offset as i64) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Every other one with another right: neighbours do not merge.
fn rights(number: usize) -> i32 {
    if number & 1 == 1 { libc::PROT_READ } else { BOTH }
}

fn make_areas(count: usize) -> io::Result<()> {
    (0..count).try_for_each(|number| map(PAGE, rights(number), PRIVATE, -1, 0).map(drop))
}

fn memfd() -> io::Result<i32> {
    let fd = check(unsafe { libc::memfd_create(c"x".as_ptr(), 0) })?;
    check(unsafe { libc::ftruncate(fd, FILE as i64) })?;
    Ok(fd)
}

/// `count` mappings of a page each of the first `pages` of a file.
fn mapped_file(count: usize, pages: usize) -> io::Result<i32> {
    let fd = memfd()?;
    for number in 0..count {
        map(PAGE, rights(number), libc::MAP_SHARED, fd, number % pages * PAGE)?;
    }
    Ok(fd)
}

/// Written memory without huge pages.
fn written(pages: usize) -> io::Result<*mut u8> {
    let at = untouched(pages)?;
    (0..pages).for_each(|page| unsafe { at.add(page * PAGE).write_volatile(1) });
    Ok(at)
}

fn untouched(pages: usize) -> io::Result<*mut u8> {
    let at = map(pages * PAGE, BOTH, PRIVATE, -1, 0)?;
    unsafe { libc::madvise(at.cast(), pages * PAGE, libc::MADV_NOHUGEPAGE) };
    Ok(at)
}

fn mmap_one(count: usize) -> io::Result<u64> {
    make_areas(count)?;
    mean(|_| {
        let at = map(PAGE, libc::PROT_NONE, PRIVATE, -1, 0)?;
        check(unsafe { libc::munmap(at.cast(), PAGE) }).map(drop)
    })
}

fn mmap_file_one(count: usize) -> io::Result<u64> {
    let fd = mapped_file(count, FILE / PAGE)?;
    mean(|_| {
        let at = map(PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0)?;
        check(unsafe { libc::munmap(at.cast(), PAGE) }).map(drop)
    })
}

fn fault_among_areas(count: usize) -> io::Result<u64> {
    make_areas(count)?;
    let at = untouched(TIMES as usize)?;
    mean(|time| {
        unsafe { at.add(time as usize * PAGE).write_volatile(1) };
        Ok(())
    })
}

/// A file mapped `count` times loses a page that none of the mappings shows, and has it back.
fn truncate_mapped(count: usize) -> io::Result<u64> {
    let fd = mapped_file(count, 200)?;
    mean(|_| {
        check(unsafe { libc::ftruncate(fd, (FILE - PAGE) as i64) })?;
        check(unsafe { libc::ftruncate(fd, FILE as i64) }).map(drop)
    })
}

fn maps_read_each(count: usize) -> io::Result<u64> {
    make_areas(count)?;
    let mut room = [0u8; PAGE];
    each(count + 10, || {
        let fd = check(unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY) })?;
        while moved(unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) })? > 0 {}
        check(unsafe { libc::close(fd) }).map(drop)
    })
}

fn fork_pages(count: usize) -> io::Result<u64> {
    written(count)?;
    mean(|_| super::tasks::fork_and_wait())
}

fn fork_areas(count: usize) -> io::Result<u64> {
    make_areas(count)?;
    mean(|_| super::tasks::fork_and_wait())
}

/// The end of a process with `count` written pages, for each.
fn exit_mapped_page(count: usize) -> io::Result<u64> {
    let mut ends = [0; 2];
    check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        let done = written(count).is_ok();
        let start = now_ns();
        unsafe {
            libc::write(ends[1], (&raw const start).cast(), 8);
            libc::_exit(i32::from(!done));
        }
    }
    check(unsafe { libc::waitpid(child, null_mut(), 0) })?;
    let end = now_ns();
    let mut start = 0u64;
    moved(unsafe { libc::read(ends[0], (&raw mut start).cast(), 8) })?;
    Ok((end - start) / count as u64)
}

fn shm_among_segments(count: usize) -> io::Result<u64> {
    let make = || check(unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600) });
    (0..count).try_for_each(|_| make().map(drop))?;
    let id = make()?;
    mean(|_| {
        let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        moved(at as isize)?;
        check(unsafe { libc::shmdt(at) }).map(drop)
    })
}
