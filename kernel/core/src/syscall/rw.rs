//! read(2), write(2), their vectored and positioned forms, lseek(2).

use crate::prelude::*;
use crate::user::IoVec;
use crate::vfs::table::file;
use crate::vfs::{Advance, OpenFile, OpenFlags, SeekFrom};
use core::sync::atomic::Ordering;

bitflags! {
    /// preadv2/pwritev2 flags.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct RwFlags: u32 {
        const HIPRI = 1;
        const DSYNC = 2;
        const SYNC = 4;
        const NOWAIT = 8;
        const APPEND = 16;
    }
}

/// Reads at the file's position, advancing it.
#[inline]
pub fn read_file(file: &OpenFile, dst: &mut UserWriter<'_>) -> SysResult {
    match file.advance {
        Advance::Position => read_on(file, dst),
        _ => file.ops.read(file, 0, dst),
    }
}

fn read_on(file: &OpenFile, dst: &mut UserWriter<'_>) -> SysResult {
    let mut position = file.lock_position();
    let n = file.ops.read(file, *position, dst)?;
    *position += n as u64;
    Ok(n)
}

/// Writes at the file's position (or its end, with O_APPEND), advancing it.
#[inline]
pub fn write_file(file: &OpenFile, src: &mut UserReader<'_>) -> SysResult {
    match file.advance {
        Advance::Position => write_on(file, src),
        _ => file.ops.write(file, 0, src),
    }
}

fn write_on(file: &OpenFile, src: &mut UserReader<'_>) -> SysResult {
    let mut position = file.lock_position();
    let n = file.ops.write(file, *position, src)?;
    if file.flags().contains(OpenFlags::APPEND) {
        if n != 0 {
            *position = file.append_position.load(Ordering::Relaxed);
        }
    } else {
        *position += n as u64;
    }
    drop(position);
    written(file, n)
}

/// The end of a write of `n` bytes: with O_SYNC or O_DSYNC it is on the disk.
#[inline]
fn written(file: &OpenFile, n: usize) -> SysResult {
    if file.flags().contains(OpenFlags::DSYNC) && n != 0 {
        file.ops.fsync(file, !file.flags().contains(OpenFlags::SYNC_BIT))?;
    }
    Ok(n)
}

#[inline]
fn readable(fd: i32) -> Result<Arc<OpenFile>, Errno> {
    let file = file(fd)?;
    if file.is_readable() { Ok(file) } else { Err(Errno::EBADF) }
}

#[inline]
fn writable(fd: i32) -> Result<Arc<OpenFile>, Errno> {
    let file = file(fd)?;
    if file.is_writable() { Ok(file) } else { Err(Errno::EBADF) }
}

/// Linux refuses byte counts beyond `ssize_t`.
fn check_count(count: usize) -> Result<(), Errno> {
    if count > isize::MAX as usize { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The offset of a positioned call: EINVAL when negative; ESPIPE for a stream.
fn positioned(fd: i32, offset: i64) -> Result<(Arc<OpenFile>, u64), Errno> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let file = file(fd)?;
    if file.advance == Advance::Stream {
        return Err(Errno::ESPIPE);
    }
    Ok((file, offset))
}

pub fn sys_lseek(fd: i32, offset: i64, whence: u32) -> SysResult {
    let file = file(fd)?;
    if whence > 4 {
        return Err(Errno::EINVAL);
    }
    let unsigned = || u64::try_from(offset);
    let from = match whence {
        _ if file.advance == Advance::Stream => SeekFrom::Start(0),
        // Where any position will do, so will one before the start.
        0 if file.advance == Advance::Ignored => SeekFrom::Start(0),
        0 => SeekFrom::Start(unsigned().map_err(|_| Errno::EINVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        3 => SeekFrom::Data(unsigned().map_err(|_| Errno::ENXIO)?),
        _ => SeekFrom::Hole(unsigned().map_err(|_| Errno::ENXIO)?),
    };
    if file.advance == Advance::Stream {
        return Ok(file.ops.seek(&file, 0, from)? as usize);
    }
    let mut position = file.lock_position();
    let new = file.ops.seek(&file, *position, from)?;
    *position = new;
    Ok(new as usize)
}

#[inline]
pub fn sys_read(fd: i32, buf: UserAddr, count: usize) -> SysResult {
    let file = readable(fd)?;
    check_count(count)?;
    let mut dst = UserWriter::new(buf, count)?;
    read_file(&file, &mut dst)
}

#[inline]
pub fn sys_write(fd: i32, buf: UserAddr, count: usize) -> SysResult {
    let file = writable(fd)?;
    check_count(count)?;
    let mut src = UserReader::new(buf, count)?;
    write_file(&file, &mut src)
}

pub fn sys_readv(fd: i32, iov: UserAddr, iovcnt: usize) -> SysResult {
    let file = readable(fd)?;
    let mut dst = UserWriter::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
    read_file(&file, &mut dst)
}

pub fn sys_writev(fd: i32, iov: UserAddr, iovcnt: usize) -> SysResult {
    let file = writable(fd)?;
    let mut src = UserReader::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
    write_file(&file, &mut src)
}

pub fn sys_pread64(fd: i32, buf: UserAddr, count: usize, offset: i64) -> SysResult {
    let (file, offset) = positioned(fd, offset)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    check_count(count)?;
    let mut dst = UserWriter::new(buf, count)?;
    check_end(offset, dst.remaining())?;
    file.ops.read(&file, offset, &mut dst)
}

pub fn sys_pwrite64(fd: i32, buf: UserAddr, count: usize, offset: i64) -> SysResult {
    let (file, offset) = positioned(fd, offset)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    check_count(count)?;
    let mut src = UserReader::new(buf, count)?;
    check_end(offset, src.remaining())?;
    let n = file.ops.write(&file, offset, &mut src)?;
    written(&file, n)
}

/// EOVERFLOW when the transfer would pass the largest offset.
fn check_end(offset: u64, len: usize) -> Result<(), Errno> {
    if offset.checked_add(len as u64).is_some_and(|end| end <= i64::MAX as u64) {
        Ok(())
    } else {
        Err(Errno::EOVERFLOW)
    }
}

pub fn sys_preadv(fd: i32, iov: UserAddr, iovcnt: usize, offset: i64) -> SysResult {
    let (file, offset) = positioned(fd, offset)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    let mut dst = UserWriter::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
    check_end(offset, dst.remaining())?;
    file.ops.read(&file, offset, &mut dst)
}

pub fn sys_pwritev(fd: i32, iov: UserAddr, iovcnt: usize, offset: i64) -> SysResult {
    let (file, offset) = positioned(fd, offset)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let mut src = UserReader::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
    check_end(offset, src.remaining())?;
    let n = file.ops.write(&file, offset, &mut src)?;
    written(&file, n)
}

/// EOPNOTSUPP for flags that are unknown or that cannot be honoured (RWF_NOWAIT: no object here promises not to wait).
fn rw_flags(raw: u32) -> Result<RwFlags, Errno> {
    let flags = RwFlags::from_bits(raw).ok_or(Errno::EOPNOTSUPP)?;
    if flags.contains(RwFlags::NOWAIT) { Err(Errno::EOPNOTSUPP) } else { Ok(flags) }
}

pub fn sys_preadv2(fd: i32, iov: UserAddr, iovcnt: usize, offset: i64, _offset_high: u64, flags: u32) -> SysResult {
    if offset == -1 {
        let file = readable(fd)?;
        let mut dst = UserWriter::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
        if dst.remaining() != 0 && rw_flags(flags)?.contains(RwFlags::APPEND) {
            return Err(Errno::EOPNOTSUPP);
        }
        return read_file(&file, &mut dst);
    }
    positioned(fd, offset)?;
    if rw_flags(flags)?.contains(RwFlags::APPEND) {
        return Err(Errno::EOPNOTSUPP);
    }
    sys_preadv(fd, iov, iovcnt, offset)
}

pub fn sys_pwritev2(fd: i32, iov: UserAddr, iovcnt: usize, offset: i64, _offset_high: u64, flags: u32) -> SysResult {
    let mut file = if offset == -1 { file(fd)? } else { positioned(fd, offset)?.0 };
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let mut src = UserReader::from_iovec(UserPtr::<IoVec>::new(iov), iovcnt)?;
    let flags = rw_flags(flags)?;
    let is_position = file.advance == Advance::Position;
    if flags.contains(RwFlags::APPEND) && is_position && !file.flags().contains(OpenFlags::APPEND) {
        // A description of the same object that appends, for this one call.
        let position = *file.position.lock();
        if let Some(object) = file.inode().and_then(|inode| inode.mem_object()) {
            // Each description that may write counts; this one ends with the call.
            object.get_write_access()?;
        }
        let appending = OpenFile::new(file.ops.clone(), file.path.clone(), file.flags() | OpenFlags::APPEND);
        *appending.position.lock() = position;
        let original = core::mem::replace(&mut file, appending);
        let n = write_file(&file, &mut src)?;
        if offset == -1 {
            *original.position.lock() = *file.position.lock();
        }
        return sync_after(&original, flags, n);
    }
    let n = if offset == -1 {
        write_file(&file, &mut src)?
    } else {
        check_end(offset as u64, src.remaining())?;
        let n = file.ops.write(&file, offset as u64, &mut src)?;
        written(&file, n)?
    };
    sync_after(&file, flags, n)
}

fn sync_after(file: &OpenFile, flags: RwFlags, n: usize) -> SysResult {
    if n != 0 && flags.intersects(RwFlags::SYNC | RwFlags::DSYNC) && file.advance == Advance::Position {
        file.ops.fsync(file, !flags.contains(RwFlags::SYNC))?;
    }
    Ok(n)
}
