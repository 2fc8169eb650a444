//! ext4 with its journal (JBD2), for a kernel and for the host: no I/O of its own, no threads, no `unsafe`.
//!
//! # How a VFS uses it
//!
//! [`Ext4::mount`] takes a [`Disk`] (synchronous, may sleep, many callers at once) and gives a file system every method of which takes
//! `&self` and may be called by many threads: there is no lock for the whole mount. Errors are errnos; what a disk holds that
//! cannot be is EUCLEAN (EBADMSG for a checksum) and one line through [`Disk::log`], and then the file system does what `errors=`
//! says. Nothing on a disk and no lack of memory makes it panic.
//!
//! | wanted | method |
//! |---|---|
//! | mount, remount, sync(2), freeze, umount | [`Ext4::mount`], [`Ext4::remount`], [`Ext4::sync`], [`Ext4::freeze`], [`Ext4::unmount`] |
//! | an inode by number; the root | [`Ext4::inode`], [`Ext4::root`]: an `Arc<Inode>`, the same one for everybody while anybody has it |
//! | names | [`Ext4::lookup`], [`Ext4::create`] (also mkdir, mknod, O_TMPFILE), [`Ext4::symlink`], [`Ext4::link`], [`Ext4::unlink`], [`Ext4::rmdir`], [`Ext4::rename`], [`Ext4::readdir`], [`Ext4::read_link`] |
//! | attributes | [`Ext4::stat`], [`Ext4::set_attr`], [`Ext4::truncate`], [`Ext4::flags`], [`Ext4::set_flags`], [`Ext4::touch`] |
//! | extended attributes | [`Ext4::get_xattr`], [`Ext4::set_xattr`], [`Ext4::list_xattr`] |
//! | page cache: load | [`Ext4::map`] (runs of blocks; the caller reads them), or [`Ext4::read`] |
//! | page cache: a page becomes dirty | [`Ext4::reserve`], [`Ext4::unreserve`] |
//! | page cache: write back | [`Ext4::write_back`] with a [`PageIo`]; [`Ext4::write`] does all of it for bytes in memory |
//! | fsync, fdatasync, O_SYNC | [`Ext4::fsync`] |
//! | fallocate(2), FIEMAP, SEEK_HOLE | [`Ext4::fallocate`], [`Ext4::map`], [`Ext4::seek`] |
//! | statfs, FITRIM | [`Ext4::statfs`], [`Ext4::trim`] |
//! | each 5 s; memory is short | [`Ext4::tick`], [`Ext4::shrink`] |
//! | the last user of an unlinked inode has gone | [`Ext4::release`] (from a worker: it truncates) |
//!
//! The VFS keeps what is its own: permission checks, the order of changes to one directory, and pages. It owes these:
//! - a directory's operations that change it are called one at a time (they lock inodes anyway, so a breach is no corruption);
//! - before [`Ext4::truncate`], [`Ext4::fallocate`] with a mode that takes blocks away: no loading and no write-back of the pages of
//!   that range (the page that holds the new end among them) is under way, and none starts before it returns;
//! - a page's blocks are written back by one caller at a time.
//!
//! # The rule
//!
//! Metadata never names a block whose data is not written: blocks are chosen in memory only, the data is written, and then one
//! handle records bitmap, extent, size and times. So there is no list of ordered data, and a crash shows no stale bytes. What is
//! freed is given out again only when the transaction that freed it has committed.
//!
//! # Locks, in their order
//!
//! inodes (several: by number) → the journal's rooms (a handle) → a group or a buffer or the journal's state (leaves: never two).
//! A commit takes the log, then all rooms for as long as it takes to note the blocks; a handle never waits for a commit while open.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod allocator;
mod cache;
pub mod checksum;
mod dir;
mod extents;
mod fs;
mod inode;
mod journal;
pub mod layout;
mod ops;
mod orphan;
mod xattr;

pub use base::errno::Errno;
pub use dir::{Listed, hash};
pub use extents::{Mapping, State};
pub use fs::{ErrorPolicy, Ext4, MountOptions, StatFs};
pub use inode::{Inode, Stat};
pub use ops::{FallocateMode, NewInode, PageIo, RenameMode, Seek, SetAttr};

pub type Result<T, E = Errno> = core::result::Result<T, E>;

/// What every module of the crate uses.
mod prelude {
    pub use crate::cache::{Buffer, Seal};
    pub use crate::fs::Ext4;
    pub use crate::inode::Inode;
    pub use crate::journal::Handle;
    pub use crate::layout::superblock::Geometry;
    pub use crate::{Disk, Errno, Result, Time};
    pub use alloc::sync::Arc;
    pub use alloc::vec::Vec;
    pub use hashbrown::HashMap;
    pub use lock_api::{Mutex, RawMutex};
}

/// A point in time: seconds and nanoseconds (below 10^9) since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// One write of a batch.
pub struct Write<'a> {
    pub sector: u64,
    pub bytes: &'a [u8],
}

/// What the file system lies on, and the little it needs to know about the world. Sectors are of 512 bytes; every access is a
/// multiple of the block size (1 KiB before the superblock is known) and aligned to it. Called by many threads; may sleep.
pub trait Disk: Send + Sync {
    fn sectors(&self) -> u64;
    fn read_only(&self) -> bool;
    /// Fills `bytes`. EIO.
    fn read(&self, sector: u64, bytes: &mut [u8]) -> Result<()>;
    /// Writes the pieces one after the other; with `fua` they are durable when it returns (but nothing else is). EIO, ENOSPC.
    fn write(&self, sector: u64, pieces: &[&[u8]], fua: bool) -> Result<()>;
    /// Several writes, in any order, all done when it returns.
    fn write_batch(&self, writes: &[Write<'_>]) -> Result<()> {
        writes.iter().try_for_each(|write| self.write(write.sector, &[write.bytes], false))
    }
    /// Makes every write that has returned durable.
    fn flush(&self) -> Result<()>;
    /// Tells that the content is not needed. EOPNOTSUPP.
    fn discard(&self, _sector: u64, _sectors: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The real-time clock, for times in inodes.
    fn now(&self) -> Time;
    /// Any number: inode generations.
    fn random(&self) -> u32;
    /// One line of the kernel's log, without a line end.
    fn log(&self, line: core::fmt::Arguments<'_>);
    /// CRC-32C without inversions; a machine with instructions for it has a quicker one.
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        checksum::crc32c(crc, bytes)
    }
}
