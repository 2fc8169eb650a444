//! Moving bytes between files and pipes inside the kernel.
//!
//! Pages of files and of other pipes are moved by reference; everything else passes one buffer. A pipe's lock is never held
//! while another file is read or written.

use super::pipe::{Buffer, Pipe, broken_pipe};
use crate::mm::MemObject;
use crate::prelude::*;
use crate::vfs::{Advance, OpenFile, OpenFlags};
use base::ring::Slot;
use hal::frame::Frame;

/// How a transfer behaves when it would have to wait.
#[derive(Clone, Copy)]
pub struct Mode {
    nonblocking: bool,
}

impl Mode {
    pub const NONBLOCKING: Self = Self { nonblocking: true };
    pub const BLOCKING: Self = Self { nonblocking: false };
    pub fn of(file: &OpenFile, nonblocking: bool) -> Self {
        Self { nonblocking: nonblocking || file.flags().contains(OpenFlags::NONBLOCK) }
    }
}

/// Bytes moved at a time through the buffer.
const CHUNK: usize = 4 * PAGE_SIZE;

/// Reads `input` from `start` and gives it to `write`, with how many bytes went before, piece by piece, up to `count` bytes or the
/// end of file. What `write` takes is what counts. An error counts only when nothing was moved.
pub fn copy(input: &OpenFile, start: u64, count: usize, mut write: impl FnMut(usize, &[u8]) -> SysResult) -> SysResult {
    let mut buffer = Vec::new();
    buffer.try_room(count.min(CHUNK))?;
    buffer.resize(count.min(CHUNK), 0);
    let mut done = 0;
    while done < count {
        let want = buffer.len().min(count - done);
        let step = input
            .read_at(start + done as u64, &mut buffer[..want])
            .and_then(|n| Ok((n, if n == 0 { 0 } else { write(done, &buffer[..n])? })));
        match step {
            Ok((read, written)) => {
                done += written;
                if read == 0 || written < read {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        if current().is_dying() {
            break;
        }
        crate::sched::cond_resched();
    }
    Ok(done)
}

/// The page cache of a regular file or memfd, where there is one.
fn pages_of(file: &OpenFile) -> Option<Arc<MemObject>> {
    if file.advance != Advance::Position {
        return None;
    }
    file.ops.mem_object(file).ok()
}

/// Waits until `to` has room: EAGAIN, EPIPE with SIGPIPE, ERESTARTSYS.
pub fn wait_for_room(to: &Pipe, mode: Mode) -> Result<(), Errno> {
    loop {
        if !to.has_readers() {
            broken_pipe()?;
        }
        if !to.lock().ring.is_full() {
            return Ok(());
        }
        if mode.nonblocking {
            return Err(Errno::EAGAIN);
        }
        to.wait_writable()?;
    }
}

/// Moves up to `count` bytes of `input` from `start` into the pipe: as many as it has slots for.
pub fn file_to_pipe(input: &OpenFile, start: u64, to: &Pipe, count: usize, mode: Mode) -> SysResult {
    wait_for_room(to, mode)?;
    let mut done = 0;
    let object = pages_of(input);
    while done < count {
        if done != 0 && to.lock().ring.is_full() {
            break;
        }
        let at = start + done as u64;
        let slot = match &object {
            Some(object) => page_slot(object, at, count - done),
            None => read_slot(input, at, count - done),
        };
        let slot = match slot {
            Ok(Some(slot)) => slot,
            Ok(None) => break,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        done += slot.len;
        let mut buffer = to.lock();
        buffer.ring.push_over(slot); // another writer may have been faster: what was read must not be lost
        to.publish(&buffer);
        drop(buffer);
        if object.is_none() && input.advance == Advance::Stream {
            break; // the next read of a stream might wait
        }
    }
    if done != 0 {
        to.after_write();
    }
    Ok(done)
}

/// A reference to the page of `object` at `offset`: `None` at the end.
fn page_slot(object: &MemObject, offset: u64, max: usize) -> Result<Option<Slot<Frame>>, Errno> {
    let left = object.len().saturating_sub(offset);
    if left == 0 {
        return Ok(None);
    }
    let within = (offset % PAGE_SIZE as u64) as usize;
    let len = (PAGE_SIZE - within).min(max).min(usize::try_from(left).unwrap_or(usize::MAX));
    let page = object.page(offset / PAGE_SIZE as u64, false)?;
    Ok(Some(Slot { page, offset: within, len, can_merge: false, packet: false }))
}

fn read_slot(input: &OpenFile, offset: u64, max: usize) -> Result<Option<Slot<Frame>>, Errno> {
    let page = crate::mm::oom::alloc_uninit()?;
    let mut bytes = Vec::new();
    bytes.try_resize(PAGE_SIZE.min(max), 0u8)?;
    let len = input.read_at(offset, &mut bytes)?;
    if len == 0 {
        return Ok(None);
    }
    page.write(0, &bytes[..len]);
    Ok(Some(Slot { page, offset: 0, len, can_merge: false, packet: false }))
}

/// Waits until `from` has something: `Ok(false)` is its end. EAGAIN, ERESTARTSYS.
fn wait_for_bytes(from: &Pipe, mode: Mode) -> Result<bool, Errno> {
    loop {
        if !from.lock().ring.is_empty() {
            return Ok(true);
        }
        if !from.has_writers() {
            return Ok(false);
        }
        if mode.nonblocking {
            return Err(Errno::EAGAIN);
        }
        from.wait_readable()?;
    }
}

/// Runs `change` on the ring of a pipe that is being read, with the wakes that follow.
fn reading<R>(pipe: &Pipe, change: impl FnOnce(&mut Buffer) -> R) -> R {
    let mut buffer = pipe.lock();
    let was_full = buffer.ring.is_full();
    let result = change(&mut buffer);
    let is_full = buffer.ring.is_full();
    pipe.publish(&buffer);
    drop(buffer);
    pipe.after_read(was_full && !is_full);
    result
}

/// Moves up to `count` bytes out of the pipe into a file at `start` (or wherever a stream puts them).
pub fn pipe_to_file(from: &Pipe, output: &OpenFile, start: u64, count: usize, mode: Mode) -> SysResult {
    let mut bytes = Vec::new();
    bytes.try_resize(PAGE_SIZE, 0u8)?;
    let mut done = 0;
    while done < count {
        if done == 0 && !wait_for_bytes(from, mode)? {
            return Ok(0);
        }
        let Some(mut slot) = reading(from, |buffer| buffer.ring.pop()) else {
            if done == 0 {
                continue;
            }
            break;
        };
        let len = slot.len.min(count - done);
        slot.page.read(slot.offset, &mut bytes[..len]);
        let written = output.ops.write(output, start + done as u64, &mut UserReader::kernel(&bytes[..len]));
        let n = *written.as_ref().unwrap_or(&0);
        done += n;
        if n < slot.len {
            slot.offset += n;
            slot.len -= n;
            reading(from, |buffer| buffer.ring.unpop(slot));
        }
        match written {
            Err(error) if done == 0 => return Err(error),
            Ok(_) if n == len => {}
            _ => break,
        }
    }
    Ok(done)
}

/// Moves (or with `copy` duplicates, tee) up to `count` bytes from pipe to pipe, page references only.
pub fn pipe_to_pipe(from: &Pipe, to: &Pipe, count: usize, mode: Mode, copy: bool) -> SysResult {
    loop {
        if !wait_for_bytes(from, mode)? {
            return Ok(0);
        }
        wait_for_room(to, mode)?;
        // Both locks, the older pipe's first.
        let (mut source, mut target);
        if from.id < to.id {
            source = from.lock();
            target = to.lock();
        } else {
            target = to.lock();
            source = from.lock();
        }
        let was_full = source.ring.is_full();
        let mut done = 0;
        let mut index = 0;
        while done < count && !target.ring.is_full() {
            let Some(slot) = source.ring.get(if copy { index } else { 0 }) else { break };
            let len = slot.len.min(count - done);
            let part =
                Slot { page: slot.page.clone(), offset: slot.offset, len, can_merge: false, packet: slot.packet };
            if target.ring.push(part).is_err() {
                break;
            }
            done += len;
            if copy {
                index += 1;
            } else {
                drop(source.ring.consume(len));
            }
        }
        let is_full = source.ring.is_full();
        from.publish(&source);
        to.publish(&target);
        drop(source);
        drop(target);
        if done == 0 {
            continue; // others were faster on either side
        }
        if !copy {
            from.after_read(was_full && !is_full);
        }
        to.after_write();
        return Ok(done);
    }
}
