//! splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2).

use crate::file::pipe::PipeEnd;
use crate::file::splice::{self, Mode};
use crate::prelude::*;
use crate::user::{IoVec, MAX_RW_COUNT};
use crate::vfs::FileType;
use crate::vfs::table::file;
use crate::vfs::{Advance, OpenFile, OpenFlags, PollEvents};

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_ALL: u32 = 15;
/// A read would not wait.
const HAS_NEWS: PollEvents = PollEvents::IN.union(PollEvents::HUP).union(PollEvents::ERR);

/// A file offset in user memory: EFAULT, EINVAL when negative.
fn read_offset(at: UserAddr) -> Result<u64, Errno> {
    u64::try_from(UserPtr::<i64>::new(at).read()?).map_err(|_| Errno::EINVAL)
}

/// Runs `transfer` from where the call says: the offset at `at`, or the file's own position; the new one goes back there.
fn at_offset(file: &OpenFile, at: UserAddr, transfer: impl FnOnce(u64) -> Result<(usize, u64), Errno>) -> SysResult {
    if at.is_null() {
        if file.advance != Advance::Position {
            return Ok(transfer(0)?.0);
        }
        // As on Linux: the position is read, and written back when all is done. A transfer may wait for ever.
        let start = *file.position.lock();
        let (n, end) = transfer(start)?;
        if n != 0 {
            *file.position.lock() = end;
        }
        return Ok(n);
    }
    let (n, end) = transfer(read_offset(at)?)?;
    UserPtr::<u64>::new(at).write(&end)?;
    Ok(n)
}

pub fn sys_sendfile(out_fd: i32, in_fd: i32, offset: UserAddr, count: usize) -> SysResult {
    let input = file(in_fd)?;
    if !input.is_readable() {
        return Err(Errno::EBADF);
    }
    if !offset.is_null() && input.advance == Advance::Stream {
        return Err(Errno::ESPIPE);
    }
    let output = file(out_fd)?;
    if !output.is_writable() {
        return Err(Errno::EBADF);
    }
    if count > isize::MAX as usize || input.advance == Advance::Stream {
        return Err(Errno::EINVAL);
    }
    if output.flags().contains(OpenFlags::APPEND) && output.downcast::<PipeEnd>().is_none() {
        return Err(Errno::EINVAL);
    }
    let count = count.min(MAX_RW_COUNT);
    if !input.ops.can_splice() || !output.ops.can_splice() {
        return Err(Errno::EINVAL);
    }
    at_offset(&input, offset, |start| {
        let n = match output.downcast::<PipeEnd>() {
            Some(end) => splice::file_to_pipe(&input, start, end.pipe(), count, Mode::of(&output, false))?,
            None => at_offset(&output, UserAddr(0), |to| {
                let n = splice::copy(&input, start, count, |done, bytes| {
                    output.ops.write(&output, to + done as u64, &mut UserReader::kernel(bytes))
                })?;
                Ok((n, to + n as u64))
            })?,
        };
        Ok((n, start + n as u64))
    })
}

pub fn sys_splice(fd_in: i32, off_in: UserAddr, fd_out: i32, off_out: UserAddr, len: usize, flags: u32) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (file(fd_in)?, file(fd_out)?);
    if !input.is_readable() || !output.is_writable() {
        return Err(Errno::EBADF);
    }
    let len = len.min(MAX_RW_COUNT);
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0;
    match (input.downcast::<PipeEnd>(), output.downcast::<PipeEnd>()) {
        (Some(from), Some(to)) => {
            if !off_in.is_null() || !off_out.is_null() {
                return Err(Errno::ESPIPE);
            }
            if Arc::ptr_eq(from.pipe(), to.pipe()) {
                return Err(Errno::EINVAL);
            }
            let mode = if input.is_nonblocking() || output.is_nonblocking() {
                Mode::NONBLOCKING
            } else {
                Mode::of(&output, nonblocking)
            };
            splice::pipe_to_pipe(from.pipe(), to.pipe(), len, mode, false)
        }
        (Some(from), None) => {
            if !off_in.is_null() {
                return Err(Errno::ESPIPE);
            }
            if !off_out.is_null() && output.advance == Advance::Stream {
                return Err(Errno::EINVAL);
            }
            if output.flags().contains(OpenFlags::APPEND) || !output.ops.can_splice() {
                return Err(Errno::EINVAL);
            }
            at_offset(&output, off_out, |start| {
                let mode = if input.is_nonblocking() { Mode::NONBLOCKING } else { Mode::of(&input, nonblocking) };
                let n = splice::pipe_to_file(from.pipe(), &output, start, len, mode)?;
                Ok((n, start + n as u64))
            })
        }
        (None, Some(to)) => {
            if !off_out.is_null() {
                return Err(Errno::ESPIPE);
            }
            if !off_in.is_null() && input.advance == Advance::Stream {
                return Err(Errno::EINVAL);
            }
            if !input.ops.can_splice() {
                return Err(Errno::EINVAL);
            }
            if nonblocking && input.advance == Advance::Stream && !input.poll(None).intersects(HAS_NEWS) {
                return Err(Errno::EAGAIN);
            }
            at_offset(&input, off_in, |start| {
                let n = splice::file_to_pipe(&input, start, to.pipe(), len, Mode::of(&output, nonblocking))?;
                Ok((n, start + n as u64))
            })
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

pub fn sys_tee(fd_in: i32, fd_out: i32, len: usize, flags: u32) -> SysResult {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (file(fd_in)?, file(fd_out)?);
    if !input.is_readable() || !output.is_writable() {
        return Err(Errno::EBADF);
    }
    let (Some(from), Some(to)) = (input.downcast::<PipeEnd>(), output.downcast::<PipeEnd>()) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(from.pipe(), to.pipe()) {
        return Err(Errno::EINVAL);
    }
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0 || input.is_nonblocking();
    splice::pipe_to_pipe(from.pipe(), to.pipe(), len.min(MAX_RW_COUNT), Mode::of(&output, nonblocking), true)
}

/// The program's pages are copied, never lent: what it does with them afterwards does not show in the pipe.
pub fn sys_vmsplice(fd: i32, iov: UserAddr, nr_segs: usize, flags: u32) -> SysResult {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(fd)?;
    let iov = UserPtr::<IoVec>::new(iov);
    let end = file.downcast::<PipeEnd>().ok_or(Errno::EBADF)?;
    // The description's O_NONBLOCK does not count here.
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0;
    if file.is_writable() {
        let mut src = UserReader::from_iovec(iov, nr_segs)?;
        if src.remaining() == 0 {
            return Ok(0);
        }
        // It waits for room, then moves what fits.
        splice::wait_for_room(end.pipe(), if nonblocking { Mode::NONBLOCKING } else { Mode::BLOCKING })?;
        end.pipe().write(true, false, &mut src)
    } else {
        end.pipe().read(nonblocking, &mut UserWriter::from_iovec(iov, nr_segs)?)
    }
}

/// Both must be regular files: EISDIR, EINVAL.
fn check_regular(file: &OpenFile) -> Result<(), Errno> {
    match file.inode().map(|inode| inode.file_type()) {
        Some(FileType::Directory) => Err(Errno::EISDIR),
        Some(FileType::Regular) => Ok(()),
        None if file.advance == Advance::Position => Ok(()), // memfd
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_copy_file_range(
    fd_in: i32,
    off_in: UserAddr,
    fd_out: i32,
    off_out: UserAddr,
    len: usize,
    flags: u32,
) -> SysResult {
    let (input, output) = (file(fd_in)?, file(fd_out)?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    check_regular(&input)?;
    check_regular(&output)?;
    if !input.is_readable() || !output.is_writable() || output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let start_in = if off_in.is_null() { *input.position.lock() } else { read_offset(off_in)? };
    let start_out = if off_out.is_null() { *output.position.lock() } else { read_offset(off_out)? };
    let ends = |start: u64| start.checked_add(len as u64).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW);
    let (end_in, end_out) = (ends(start_in)?, ends(start_out)?);
    let same = Arc::ptr_eq(&input.ops, &output.ops)
        || matches!((input.inode(), output.inode()), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
    if same && start_in < end_out && start_out < end_in {
        return Err(Errno::EINVAL);
    }
    let n = splice::copy(&input, start_in, len.min(MAX_RW_COUNT), |done, bytes| {
        output.ops.write(&output, start_out + done as u64, &mut UserReader::kernel(bytes))
    })?;
    for (file, offset, start) in [(&input, off_in, start_in), (&output, off_out, start_out)] {
        let end = start + n as u64;
        if offset.is_null() {
            *file.position.lock() = end;
        } else {
            UserPtr::<u64>::new(offset).write(&end)?;
        }
    }
    Ok(n)
}
