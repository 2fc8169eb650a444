//! A disk's partitions: read from its table (at first sight, BLKRRPART), added and taken away one by one (BLKPG).

use super::registry::{self, Change};
use super::{Disk, Piece, SECTOR_SHIFT, Volume};
use crate::prelude::*;
use base::partition::{self, Id, Partition};
use drivers::traits::BlockOp;
use hal::frame::Frame;

/// A disk as the reader of tables sees it.
struct Table<'a> {
    whole: &'a Volume,
    frame: Frame,
}

impl partition::Blocks for Table<'_> {
    type Error = Errno;
    fn block_bytes(&self) -> usize {
        self.whole.logical_bytes() as usize
    }
    fn nr_blocks(&self) -> u64 {
        self.whole.len_bytes() / u64::from(self.whole.logical_bytes())
    }
    fn read(&self, block: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let per_block = u64::from(self.whole.logical_bytes()) >> SECTOR_SHIFT;
        let mut sector = block * per_block;
        for part in bytes.chunks_mut(PAGE_SIZE) {
            let mut piece = core::iter::once(Piece { sector, frame: &self.frame, offset: 0, len_bytes: part.len() });
            self.whole.transfer(BlockOp::Read, &mut piece)?;
            self.frame.read(0, part);
            sector += (part.len() as u64) >> SECTOR_SHIFT;
        }
        Ok(())
    }
}

fn whole(disk: &Disk) -> Result<Arc<Volume>, Errno> {
    disk.volumes.lock().first().cloned().ok_or(Errno::ENXIO)
}

/// Reads the table and puts its partitions in place of those that are known. EBUSY while one is in use, EIO, ENOMEM.
pub fn reread(disk: &Arc<Disk>) -> Result<(), Errno> {
    let _table = disk.table.lock();
    let whole = whole(disk)?;
    if disk.volumes.lock().iter().skip(1).any(|volume| volume.is_open() || volume.is_claimed()) {
        return Err(Errno::EBUSY);
    }
    // Blocks larger than a page are read in pieces.
    let table = Table { whole: &whole, frame: Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)? };
    let found = partition::read(&table)?;
    let old: Vec<Arc<Volume>> = disk.volumes.lock().drain(1..).collect();
    for volume in old {
        volume.remove();
        registry::announce(Change::Removed(&volume));
    }
    for partition in found {
        insert(disk, partition)?;
    }
    Ok(())
}

/// Puts a partition into the list; the caller holds the table.
fn insert(disk: &Arc<Disk>, partition: Partition) -> Result<(), Errno> {
    let number = registry::partition_number(disk, partition.number);
    let volume = Volume::part(disk, number, partition);
    let mut volumes = disk.volumes.lock();
    volumes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let order = |volume: &Arc<Volume>| volume.partition.as_ref().map_or(0, |partition| partition.number);
    let at = volumes.partition_point(|other| order(other) < order(&volume));
    volumes.insert(at, volume.clone());
    drop(volumes);
    registry::announce(Change::Added(&volume));
    Ok(())
}

fn find(disk: &Disk, number: u32) -> Option<Arc<Volume>> {
    let volumes = disk.volumes.lock();
    volumes.iter().find(|volume| volume.partition.as_ref().is_some_and(|part| part.number == number)).cloned()
}

/// Whether bytes `start..start+len` are free for partition `number`.
fn check_place(disk: &Disk, number: u32, start: u64, len: u64) -> Result<(), Errno> {
    let block = u64::from(disk.info().logical_bytes);
    let end = start.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
    if len == 0 || !start.is_multiple_of(block) || !len.is_multiple_of(block) || end > whole(disk)?.len_bytes() {
        return Err(Errno::EINVAL);
    }
    let volumes = disk.volumes.lock();
    let overlaps = volumes.iter().skip(1).any(|volume| {
        let first = volume.first_sector() << SECTOR_SHIFT;
        let is_other = volume.partition.as_ref().is_some_and(|part| part.number != number);
        is_other && start < first + volume.len_bytes() && first < end
    });
    if overlaps { Err(Errno::EBUSY) } else { Ok(()) }
}

/// BLKPG_ADD_PARTITION: bytes `start..start+len` become partition `number`. EBUSY (taken, or overlaps another), EINVAL.
pub fn add(disk: &Arc<Disk>, number: u32, start: u64, len: u64) -> Result<(), Errno> {
    let _table = disk.table.lock();
    if number == 0 || number as usize > partition::MAX_PARTITIONS {
        return Err(Errno::EINVAL);
    }
    if find(disk, number).is_some() {
        return Err(Errno::EBUSY);
    }
    check_place(disk, number, start, len)?;
    let block = u64::from(disk.info().logical_bytes);
    let id = Id::Dos { signature: 0, number };
    insert(disk, Partition { number, first_block: start / block, nr_blocks: len / block, id, name: Vec::new() })
}

/// BLKPG_DEL_PARTITION. ENXIO, EBUSY (in use).
pub fn delete(disk: &Arc<Disk>, number: u32) -> Result<(), Errno> {
    let _table = disk.table.lock();
    let volume = find(disk, number).ok_or(Errno::ENXIO)?;
    if volume.is_open() || volume.is_claimed() {
        return Err(Errno::EBUSY);
    }
    disk.volumes.lock().retain(|other| !Arc::ptr_eq(other, &volume));
    volume.remove();
    registry::announce(Change::Removed(&volume));
    Ok(())
}

/// BLKPG_RESIZE_PARTITION: `len` bytes from the same `start` on. ENXIO, EINVAL, EBUSY (would overlap another).
pub fn resize(disk: &Arc<Disk>, number: u32, start: u64, len: u64) -> Result<(), Errno> {
    let _table = disk.table.lock();
    let volume = find(disk, number).ok_or(Errno::ENXIO)?;
    if volume.first_sector() << SECTOR_SHIFT != start {
        return Err(Errno::EINVAL);
    }
    check_place(disk, number, start, len)?;
    volume.set_nr_sectors(len >> SECTOR_SHIFT);
    Ok(())
}
