//! O_DIRECT: between a program and a disk past the page cache.
//!
//! The bytes go through pages of the kernel's own: what the program (or another of its threads, or a child after fork) does with
//! its memory meanwhile reaches neither disk nor checksum half-way, and no address space is locked during I/O.

use crate::mm::oom;
use crate::prelude::*;
use arrayvec::ArrayVec;
use hal::frame::Frame;

/// Pages of one transfer: 256 KiB.
const MOST_PAGES: usize = 64;

/// Pages for up to `len` bytes; ENOMEM.
fn pages(len: usize) -> Result<ArrayVec<Frame, MOST_PAGES>, Errno> {
    let mut frames = ArrayVec::new();
    for _ in 0..len.div_ceil(PAGE_SIZE).min(MOST_PAGES) {
        match oom::alloc_uninit() {
            Ok(frame) => frames.push(frame),
            // Fewer will do.
            Err(_) if !frames.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(frames)
}

/// EINVAL for an offset or length that is not in whole blocks.
pub fn check(offset: u64, len: usize, block_bytes: u32) -> Result<(), Errno> {
    let block = u64::from(block_bytes);
    if offset.is_multiple_of(block) && (len as u64).is_multiple_of(block) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Reads from `offset` on, up to `end`: `io(offset, pages, bytes)` fills the pages.
pub fn read(
    offset: u64,
    end: u64,
    dst: &mut UserWriter<'_>,
    io: &mut dyn FnMut(u64, &[Frame], usize) -> Result<(), Errno>,
) -> SysResult {
    let mut at = offset;
    let mut done = 0;
    let result = loop {
        let want = (end.saturating_sub(at)).min(dst.remaining() as u64) as usize;
        if want == 0 || current().is_dying() {
            break Ok(());
        }
        let frames = match pages(want) {
            Ok(frames) => frames,
            Err(errno) => break Err(errno),
        };
        let want = want.min(frames.len() * PAGE_SIZE);
        if let Err(errno) = io(at, &frames, want) {
            break Err(errno);
        }
        let mut copied = 0;
        for frame in &frames {
            let part = (want - copied).min(PAGE_SIZE);
            match dst.write_frame(frame, 0, part) {
                Ok(n) => {
                    copied += n;
                    if n < part {
                        return Ok(done + copied);
                    }
                }
                Err(errno) if done + copied == 0 => return Err(errno),
                Err(_) => return Ok(done + copied),
            }
        }
        done += copied;
        at += copied as u64;
    };
    if done > 0 { Ok(done) } else { result.map(|()| 0) }
}

/// Writes from `offset` on: `io(offset, pages, bytes)` writes the pages.
pub fn write(
    offset: u64,
    src: &mut UserReader<'_>,
    block_bytes: u32,
    io: &mut dyn FnMut(u64, &[Frame], usize) -> Result<(), Errno>,
) -> SysResult {
    let block = block_bytes as usize;
    let mut at = offset;
    let mut done = 0;
    let result = loop {
        let want = src.remaining();
        if want == 0 || current().is_dying() {
            break Ok(());
        }
        let frames = match pages(want) {
            Ok(frames) => frames,
            Err(errno) => break Err(errno),
        };
        let want = want.min(frames.len() * PAGE_SIZE);
        let mut copied = 0;
        let mut fault = None;
        for frame in &frames {
            let part = (want - copied).min(PAGE_SIZE);
            match src.read_frame(frame, 0, part) {
                Ok(n) => copied += n,
                Err(errno) => fault = Some(errno),
            }
            if copied % PAGE_SIZE != 0 || fault.is_some() {
                break;
            }
        }
        // What faulted in the middle of a block is not written.
        let whole = copied - copied % block;
        if whole > 0
            && let Err(errno) = io(at, &frames, whole)
        {
            break Err(errno);
        }
        done += whole;
        at += whole as u64;
        if whole < want {
            break Err(fault.unwrap_or(Errno::EFAULT));
        }
    };
    if done > 0 { Ok(done) } else { result.map(|()| 0) }
}
