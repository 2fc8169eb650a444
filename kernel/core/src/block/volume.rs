//! [`Volume`]: a disk as a whole, or one of its partitions: what has a device number and a node in /dev.

use super::disk::{Disk, Kind, Stats};
use super::{Piece, SECTOR_SHIFT};
use crate::prelude::*;
use base::partition::Partition;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use drivers::traits::BlockOp;
use hal::frame::Frame;

pub struct Volume {
    pub disk: Arc<Disk>,
    /// Device number, in the kernel's encoding.
    pub number: u64,
    /// "vda", "vda1", "loop0p1".
    pub name: Box<str>,
    /// The partition; `None` for the disk as a whole.
    pub partition: Option<Partition>,
    /// In sectors of 512 bytes; a partition's length may be changed (BLKPG).
    first: u64,
    nr_sectors: AtomicU64,
    /// It is there no more: its table was read again, its disk is gone.
    is_removed: AtomicBool,
    /// Mounted, or opened with O_EXCL: by how many (a file system mounted twice is one).
    pub(super) holders: AtomicUsize,
    pub(super) openers: AtomicUsize,
    /// A partition's; the whole disk's are the disk's.
    stats: Stats,
}

impl Volume {
    pub fn stats(&self) -> &Stats {
        if self.partition.is_some() { &self.stats } else { &self.disk.stats }
    }

    pub(super) fn whole(disk: &Arc<Disk>, number: u64) -> Arc<Self> {
        Self::build(disk, number, disk.name.clone(), None, 0, 0)
    }

    /// Partition `partition`, in blocks of the disk.
    pub(super) fn part(disk: &Arc<Disk>, number: u64, partition: Partition) -> Arc<Self> {
        // As on Linux: a name that ends in a digit gets a letter between.
        let between = if disk.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        let name = alloc::format!("{}{between}{}", disk.name, partition.number);
        let per_block = u64::from(disk.info().logical_bytes) >> SECTOR_SHIFT;
        let (first, nr_sectors) = (partition.first_block * per_block, partition.nr_blocks * per_block);
        Self::build(disk, number, name.into(), Some(partition), first, nr_sectors)
    }

    fn build(
        disk: &Arc<Disk>,
        number: u64,
        name: Box<str>,
        partition: Option<Partition>,
        first: u64,
        nr_sectors: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk: disk.clone(),
            number,
            name,
            partition,
            first,
            nr_sectors: AtomicU64::new(nr_sectors),
            is_removed: AtomicBool::new(false),
            holders: AtomicUsize::new(0),
            openers: AtomicUsize::new(0),
            stats: Stats::default(),
        })
    }

    /// Where it begins on the disk, in sectors.
    pub fn first_sector(&self) -> u64 {
        self.first
    }

    pub fn nr_sectors(&self) -> u64 {
        if self.is_removed.load(Ordering::Relaxed) {
            return 0;
        }
        match self.partition {
            Some(_) => self.nr_sectors.load(Ordering::Relaxed),
            None => self.disk.info().nr_sectors,
        }
    }

    pub fn len_bytes(&self) -> u64 {
        self.nr_sectors() << SECTOR_SHIFT
    }

    pub fn set_nr_sectors(&self, nr_sectors: u64) {
        self.nr_sectors.store(nr_sectors, Ordering::Relaxed);
    }

    pub fn logical_bytes(&self) -> u32 {
        self.disk.info().logical_bytes
    }

    pub fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }

    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
    }

    /// One more has it open; [`Volume::close`] ends that.
    pub fn open(&self) {
        self.openers.fetch_add(1, Ordering::AcqRel);
    }
    pub fn close(&self) {
        self.openers.fetch_sub(1, Ordering::AcqRel);
    }
    pub fn is_open(&self) -> bool {
        self.openers.load(Ordering::Acquire) != 0
    }

    /// Claims it for one user alone (a mount, O_EXCL): EBUSY when it, its disk or (of a whole disk) one of its partitions is
    /// claimed.
    pub fn claim(&self) -> Result<(), Errno> {
        let volumes = self.disk.volumes.lock();
        let conflicts = volumes.iter().any(|other| {
            let overlaps = self.partition.is_none() || other.partition.is_none() || other.number == self.number;
            overlaps && other.holders.load(Ordering::Acquire) != 0
        });
        if conflicts || self.holders.load(Ordering::Acquire) != 0 {
            return Err(Errno::EBUSY);
        }
        self.holders.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
    pub fn unclaim(&self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
    }
    pub fn is_claimed(&self) -> bool {
        self.holders.load(Ordering::Acquire) != 0
    }

    /// EIO beyond the end, EPERM for changes of what is read-only.
    fn check(&self, op: BlockOp, sector: u64, nr_sectors: u64) -> Result<(), Errno> {
        let end = sector.checked_add(nr_sectors).ok_or(Errno::EIO)?;
        if end > self.nr_sectors() {
            return Err(Errno::EIO);
        }
        if op != BlockOp::Read && self.is_read_only() {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Reads or writes pieces of memory, whose sectors count from the volume's start. May sleep; returns when the device has
    /// none of the memory any more.
    ///
    /// # Errors
    /// EIO (the device, or beyond the end), EPERM (read-only).
    pub fn transfer(&self, op: BlockOp, pieces: &mut dyn Iterator<Item = Piece<'_>>) -> Result<(), Errno> {
        let mut refused = Ok(());
        let mut checked = pieces.map_while(|piece| {
            refused = self.check(op, piece.sector, (piece.len_bytes as u64) >> SECTOR_SHIFT);
            refused.ok().map(|()| Piece { sector: piece.sector + self.first, ..piece })
        });
        if self.partition.is_none() {
            let result = self.disk.transfer(op, &mut checked);
            return result.and(refused);
        }
        // The disk counts requests; a partition counts what it was asked for.
        let mut nr_sectors = 0;
        let mut checked = checked.inspect(|piece| nr_sectors += (piece.len_bytes as u64) >> SECTOR_SHIFT);
        let began = crate::time::now_ns();
        self.stats.begin(began);
        let result = self.disk.transfer(op, &mut checked);
        self.stats.end(Kind::of(op), began, nr_sectors, crate::time::now_ns());
        result.and(refused)
    }

    /// As [`Volume::transfer`], of the whole pages `frames` from byte `offset` on; what passes the end is left out (a read zeroes
    /// it).
    pub fn transfer_pages(&self, op: BlockOp, offset: u64, frames: &[Frame]) -> Result<(), Errno> {
        let end = self.len_bytes();
        let page = PAGE_SIZE as u64;
        let mut at = offset;
        let mut pieces = frames.iter().filter_map(|frame| {
            let len_bytes = end.saturating_sub(at).min(page) as usize;
            let sector = at >> SECTOR_SHIFT;
            at += page;
            if len_bytes < PAGE_SIZE && op == BlockOp::Read {
                frame.zero(len_bytes, PAGE_SIZE - len_bytes);
            }
            (len_bytes > 0).then_some(Piece { sector, frame, offset: 0, len_bytes })
        });
        self.transfer(op, &mut pieces)
    }

    /// Makes what was written survive the power.
    pub fn flush(&self) -> Result<(), Errno> {
        if self.is_read_only() { Ok(()) } else { self.disk.plain(BlockOp::Flush, 0, 0) }
    }

    /// Tells the device that nobody needs the content of these sectors: EOPNOTSUPP where it cannot be told.
    pub fn discard(&self, sector: u64, nr_sectors: u64) -> Result<(), Errno> {
        self.check(BlockOp::Discard, sector, nr_sectors)?;
        if nr_sectors == 0 {
            return Ok(());
        }
        self.disk.plain(BlockOp::Discard, sector + self.first, nr_sectors)
    }

    /// Zeroes sectors: by the device where it can, else by writing; EOPNOTSUPP without that `fallback`.
    pub fn zero(&self, sector: u64, nr_sectors: u64, may_unmap: bool, fallback: bool) -> Result<(), Errno> {
        let op = BlockOp::WriteZeroes { may_unmap };
        self.check(op, sector, nr_sectors)?;
        if nr_sectors == 0 {
            return Ok(());
        }
        match self.disk.plain(op, sector + self.first, nr_sectors) {
            Err(Errno::EOPNOTSUPP) if fallback => {}
            result => return result,
        }
        let zeroes = Frame::zero_page();
        let per_page = PAGE_SIZE as u64 >> SECTOR_SHIFT;
        let mut at = sector;
        // A megabyte at a time, for the sake of others.
        while at < sector + nr_sectors {
            let end = (at + 256 * per_page).min(sector + nr_sectors);
            let mut pieces = (at..end).step_by(per_page as usize).map(|sector| Piece {
                sector,
                frame: &zeroes,
                offset: 0,
                len_bytes: ((end - sector).min(per_page) << SECTOR_SHIFT) as usize,
            });
            self.transfer(BlockOp::Write { fua: false }, &mut pieces)?;
            at = end;
            if current().is_dying() {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }
}
