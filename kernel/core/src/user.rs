//! Typed access to user memory.
//!
//! [`UserPtr<T>`] is a structure a program named; [`UserReader`] and [`UserWriter`] are the byte streams behind read(2),
//! write(2) and their vectored forms: objects copy straight between their pages and the program, or between their pages and
//! kernel memory when the kernel itself does the I/O.

use crate::prelude::*;
use base::addr::USER_END;
use core::marker::PhantomData;
use hal::frame::Frame;
use hal::user::{self, UserFault};
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A `T` (or an array of them) in user memory.
pub struct UserPtr<T> {
    addr: UserAddr,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    pub const fn new(addr: UserAddr) -> Self {
        Self { addr, _type: PhantomData }
    }
    pub const fn addr(self) -> UserAddr {
        self.addr
    }
    pub const fn is_null(self) -> bool {
        self.addr.is_null()
    }
    /// `Some(self)` unless NULL.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }
    /// The `index`th element.
    pub fn at(self, index: usize) -> Result<Self, Errno> {
        let bytes = (index as u64).checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        Ok(Self::new(self.addr.checked_add(bytes).ok_or(Errno::EFAULT)?))
    }
    pub fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.addr)
    }
}

impl<T: FromBytes + IntoBytes> UserPtr<T> {
    /// Copies the structure in (EFAULT).
    pub fn read(self) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        user::copy_from_user(value.as_mut_bytes(), self.addr)?;
        Ok(value)
    }
    /// Copies `count` elements in (EFAULT); the caller has bounded `count`.
    pub fn read_vec(self, count: usize) -> Result<Vec<T>, Errno>
    where
        T: Clone,
    {
        let mut values = Vec::new();
        values.try_room(count)?;
        for index in 0..count {
            values.push(self.at(index)?.read()?);
        }
        Ok(values)
    }
}

impl<T: IntoBytes + Immutable> UserPtr<T> {
    /// Copies the structure out (EFAULT).
    pub fn write(self, value: &T) -> Result<(), Errno> {
        Ok(user::copy_to_user(self.addr, value.as_bytes())?)
    }
    pub fn write_slice(self, values: &[T]) -> Result<(), Errno> {
        Ok(user::copy_to_user(self.addr, values.as_bytes())?)
    }
    /// Writes unless the pointer is NULL.
    pub fn write_opt(self, value: &T) -> Result<(), Errno> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }
}

/// A NUL-terminated string of at most `max` bytes without its NUL: EFAULT, or `too_long` when no NUL comes in time.
pub fn read_cstring(addr: UserAddr, max: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
    // Room for most names at once; what is longer takes more turns.
    let mut out = Vec::new();
    let mut room = 128;
    loop {
        room = room.min(max + 1 - out.len());
        out.try_room(room)?;
        let from = addr.checked_add(out.len() as u64).ok_or(Errno::EFAULT)?;
        if user::append_cstr(&mut out, room, from)? {
            return Ok(out);
        }
        if out.len() > max {
            return Err(too_long);
        }
        room = 1024;
    }
}

/// A path name: ENAMETOOLONG beyond PATH_MAX (4096 with the NUL).
pub fn read_path(addr: UserAddr) -> Result<Vec<u8>, Errno> {
    read_cstring(addr, 4095, Errno::ENAMETOOLONG)
}

/// `struct iovec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IoVec {
    pub base: u64,
    pub len: u64,
}

/// The most segments of one vectored call.
pub const IOV_MAX: usize = 1024;
/// The most bytes one read or write moves, as on Linux.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;

type Segments = SmallVec<[(UserAddr, usize); 2]>;

fn import_iovec(iov: UserPtr<IoVec>, count: usize) -> Result<(Segments, usize), Errno> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut segments = Segments::new();
    let mut total = 0usize;
    for index in 0..count {
        let entry = iov.at(index)?.read()?;
        if entry.len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let base = hal::user::accessible(UserAddr(entry.base));
        if entry.len != 0 && !base.range_ok(entry.len as usize) {
            return Err(Errno::EFAULT);
        }
        let len = (entry.len as usize).min(MAX_RW_COUNT - total);
        total += len;
        if len != 0 {
            segments.push((base, len));
        }
    }
    Ok((segments, total))
}

/// Runs `copy(address, bytes before it, length)` over the next `len` bytes of `segments`, until one is not copied whole; answers how
/// many were. Out of line, so that the usual case of one buffer is short.
#[inline(never)]
fn each_segment(
    segments: &Segments,
    index: &mut usize,
    offset: &mut usize,
    len: usize,
    copy: &mut dyn FnMut(UserAddr, usize, usize) -> usize,
) -> usize {
    let mut moved = 0;
    while moved < len {
        let (base, segment_len) = segments[*index];
        let n = (segment_len - *offset).min(len - moved);
        let copied = copy(UserAddr(base.0 + *offset as u64), moved, n);
        moved += copied;
        *offset += copied;
        if *offset == segment_len {
            *index += 1;
            *offset = 0;
        }
        if copied < n {
            break;
        }
    }
    moved
}

/// EFAULT when it is not in the user half.
#[inline]
fn one_buffer(addr: UserAddr, len: usize) -> Result<(UserAddr, usize), Errno> {
    let addr = hal::user::accessible(addr);
    if addr.range_ok(len) { Ok((addr, len.min(MAX_RW_COUNT))) } else { Err(Errno::EFAULT) }
}

enum Target<'a> {
    /// One buffer, by its start.
    User(UserAddr),
    Segments {
        segments: Segments,
        index: usize,
        offset: usize,
    },
    Kernel(&'a mut [u8]),
}

/// Where a read puts its bytes: the program's buffers, or kernel memory.
pub struct UserWriter<'a> {
    target: Target<'a>,
    done: usize,
    total: usize,
}

impl<'a> UserWriter<'a> {
    /// The buffer of read(2): EFAULT when it is not in the user half.
    #[inline]
    pub fn new(addr: UserAddr, len: usize) -> Result<Self, Errno> {
        let (start, total) = one_buffer(addr, len)?;
        Ok(Self { target: Target::User(start), done: 0, total })
    }
    /// The buffers of readv(2): EINVAL for bad counts, EFAULT.
    pub fn from_iovec(iov: UserPtr<IoVec>, count: usize) -> Result<Self, Errno> {
        let (segments, total) = import_iovec(iov, count)?;
        Ok(Self { target: Target::Segments { segments, index: 0, offset: 0 }, done: 0, total })
    }
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        let total = buffer.len();
        Self { target: Target::Kernel(buffer), done: 0, total }
    }
    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.total - self.done
    }
    /// Bytes written so far.
    pub fn done(&self) -> usize {
        self.done
    }
    /// Limits what still fits to `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.total = self.total.min(self.done + len);
    }

    /// Runs `copy(address or kernel slice piece, source offset, length)` over the next `len` bytes.
    #[inline]
    fn advance(
        &mut self,
        len: usize,
        mut to_user: impl FnMut(UserAddr, usize, usize) -> usize,
        mut to_kernel: impl FnMut(&mut [u8], usize),
    ) -> Result<usize, UserFault> {
        let len = len.min(self.remaining());
        let moved = match &mut self.target {
            Target::User(start) => to_user(UserAddr(start.0 + self.done as u64), 0, len),
            Target::Kernel(buffer) => {
                to_kernel(&mut buffer[self.done..self.done + len], 0);
                len
            }
            Target::Segments { segments, index, offset } => each_segment(segments, index, offset, len, &mut to_user),
        };
        self.done += moved;
        if moved == 0 && len != 0 { Err(UserFault) } else { Ok(moved) }
    }

    /// Copies a prefix of `src`; EFAULT only when nothing could be copied. May sleep.
    pub fn write(&mut self, src: &[u8]) -> Result<usize, Errno> {
        Ok(self.advance(
            src.len(),
            |addr, at, n| user::copy_to_user_partial(addr, &src[at..at + n]),
            |dst, at| {
                let n = dst.len();
                dst.copy_from_slice(&src[at..at + n]);
            },
        )?)
    }
    /// As `write`, but answers the fault at once instead of sleeping: for use under spin locks. All of `src` that fits, or
    /// nothing is counted as written.
    pub fn write_nofault(&mut self, src: &[u8]) -> Result<usize, UserFault> {
        self.advance(
            src.len(),
            |addr, at, n| if user::copy_to_user_nofault(addr, &src[at..at + n]).is_ok() { n } else { 0 },
            |dst, at| {
                let n = dst.len();
                dst.copy_from_slice(&src[at..at + n]);
            },
        )
    }
    /// Copies `len` bytes of `frame` from `offset`.
    pub fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize, Errno> {
        Ok(self.advance(
            len,
            |addr, at, n| frame.read_to_user(offset + at, addr, n),
            |dst, at| frame.read(offset + at, dst),
        )?)
    }
    /// Writes `len` zero bytes.
    pub fn write_zeros(&mut self, len: usize) -> Result<usize, Errno> {
        Ok(self.advance(
            len,
            |addr, _, n| if user::zero_user(addr, n).is_ok() { n } else { 0 },
            |dst, _| dst.fill(0),
        )?)
    }
    /// Resolves the faults of the next `len` bytes (after `write_nofault` answered a fault, with no lock held).
    pub fn fault_in(&self, len: usize) -> Result<(), Errno> {
        match &self.target {
            Target::User(start) => {
                user::fault_in(UserAddr(start.0 + self.done as u64), len.min(self.remaining()), true)?;
            }
            Target::Segments { segments, index, offset } => {
                if let Some((base, segment_len)) = segments.get(*index) {
                    user::fault_in(UserAddr(base.0 + *offset as u64), len.min(segment_len - offset), true)?;
                }
            }
            Target::Kernel(_) => {}
        }
        Ok(())
    }
}

enum Source<'a> {
    /// One buffer, by its start.
    User(UserAddr),
    Segments {
        segments: Segments,
        index: usize,
        offset: usize,
    },
    Kernel(&'a [u8]),
}

/// A run of bytes that a [`UserReader`] comes to.
enum Piece<'a> {
    User(UserAddr),
    Kernel(&'a [u8]),
}

/// Where a write takes its bytes from: the program's buffers, or kernel memory.
pub struct UserReader<'a> {
    source: Source<'a>,
    done: usize,
    total: usize,
}

impl<'a> UserReader<'a> {
    #[inline]
    pub fn new(addr: UserAddr, len: usize) -> Result<Self, Errno> {
        let (start, total) = one_buffer(addr, len)?;
        Ok(Self { source: Source::User(start), done: 0, total })
    }
    pub fn from_iovec(iov: UserPtr<IoVec>, count: usize) -> Result<Self, Errno> {
        let (segments, total) = import_iovec(iov, count)?;
        Ok(Self { source: Source::Segments { segments, index: 0, offset: 0 }, done: 0, total })
    }
    pub fn kernel(bytes: &'a [u8]) -> Self {
        Self { source: Source::Kernel(bytes), done: 0, total: bytes.len() }
    }
    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.total - self.done
    }
    pub fn done(&self) -> usize {
        self.done
    }
    pub fn truncate(&mut self, len: usize) {
        self.total = self.total.min(self.done + len);
    }

    /// Runs `copy(where the bytes are, bytes before them, length)` over the next `len` bytes; `copy` answers how many it could.
    #[inline]
    fn advance(
        &mut self,
        len: usize,
        mut copy: impl FnMut(Piece<'_>, usize, usize) -> usize,
    ) -> Result<usize, UserFault> {
        let len = len.min(self.remaining());
        let moved = match &mut self.source {
            Source::User(start) => copy(Piece::User(UserAddr(start.0 + self.done as u64)), 0, len),
            Source::Kernel(bytes) => copy(Piece::Kernel(&bytes[self.done..self.done + len]), 0, len),
            Source::Segments { segments, index, offset } => {
                each_segment(segments, index, offset, len, &mut |addr, at, n| copy(Piece::User(addr), at, n))
            }
        };
        self.done += moved;
        if moved == 0 && len != 0 { Err(UserFault) } else { Ok(moved) }
    }

    /// Fills a prefix of `dst`; EFAULT only when nothing could be copied. May sleep.
    pub fn read(&mut self, dst: &mut [u8]) -> Result<usize, Errno> {
        Ok(self.advance(dst.len(), |piece, at, n| {
            let dst = &mut dst[at..at + n];
            match piece {
                Piece::User(addr) => user::copy_from_user_partial(dst, addr),
                Piece::Kernel(src) => {
                    dst.copy_from_slice(src);
                    n
                }
            }
        })?)
    }
    /// Appends up to `len` bytes to `out`, which has room for them; EFAULT only when nothing could be copied. May sleep.
    pub fn append_to(&mut self, out: &mut Vec<u8>, len: usize) -> Result<usize, Errno> {
        Ok(self.advance(len, |piece, _, n| match piece {
            Piece::User(addr) => user::append_from_user(out, addr, n),
            Piece::Kernel(src) => {
                out.extend_from_slice(src);
                n
            }
        })?)
    }
    /// As `read`, but answers the fault at once: for use under spin locks.
    pub fn read_nofault(&mut self, dst: &mut [u8]) -> Result<usize, UserFault> {
        self.advance(dst.len(), |piece, at, n| {
            let dst = &mut dst[at..at + n];
            match piece {
                Piece::User(addr) if user::copy_from_user_nofault(dst, addr).is_ok() => n,
                Piece::User(_) => 0,
                Piece::Kernel(src) => {
                    dst.copy_from_slice(src);
                    n
                }
            }
        })
    }
    /// Copies `len` bytes into `frame` at `offset`.
    pub fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize, Errno> {
        Ok(self.advance(len, |piece, at, n| match piece {
            Piece::User(addr) => frame.write_from_user(offset + at, addr, n),
            Piece::Kernel(src) => {
                frame.write(offset, src);
                n
            }
        })?)
    }
    /// Everything that is left, as a vector (bounded by the caller with `truncate`).
    pub fn read_all(&mut self) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        out.try_room(self.remaining())?;
        self.append_to(&mut out, self.remaining())?;
        if self.remaining() != 0 { Err(Errno::EFAULT) } else { Ok(out) }
    }
    pub fn fault_in(&self, len: usize) -> Result<(), Errno> {
        match &self.source {
            Source::User(start) => {
                user::fault_in(UserAddr(start.0 + self.done as u64), len.min(self.remaining()), false)?;
            }
            Source::Segments { segments, index, offset } => {
                if let Some((base, segment_len)) = segments.get(*index) {
                    user::fault_in(UserAddr(base.0 + *offset as u64), len.min(segment_len - offset), false)?;
                }
            }
            Source::Kernel(_) => {}
        }
        Ok(())
    }
    /// Puts the last `len` bytes back (nothing is consumed before the operation as a whole succeeded).
    pub fn rewind(&mut self, len: usize) {
        let to = self.done.saturating_sub(len);
        if let Source::Segments { segments, index, offset } = &mut self.source {
            let mut left = to;
            *index = 0;
            *offset = 0;
            while *index < segments.len() && left >= segments[*index].1 {
                left -= segments[*index].1;
                *index += 1;
            }
            *offset = left;
        }
        self.done = to;
    }
}

const _: () = assert!(USER_END > MAX_RW_COUNT as u64);
