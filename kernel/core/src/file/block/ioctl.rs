//! ioctl(2) of block devices (linux/fs.h, linux/blkpg.h, linux/hdreg.h).

use super::BlockFile;
use crate::block::{SECTOR_SHIFT, partitions};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::vfs::OpenFile;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const HDIO_GETGEO: u32 = 0x0301;
const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKFRASET: u32 = 0x1264;
const BLKFRAGET: u32 = 0x1265;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKPG: u32 = 0x1269;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKSECDISCARD: u32 = 0x127d;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKGETDISKSEQ: u32 = 0x8008_1280;

/// `struct hd_geometry`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Geometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    _pad: u32,
    start: u64,
}

/// `struct blkpg_ioctl_arg`, `struct blkpg_partition`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PartitionRequest {
    op: i32,
    flags: i32,
    len: i32,
    _pad: i32,
    data: u64,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PartitionArgument {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
    _pad: i32,
}

/// Sectors that are read ahead, as BLKRAGET says (what the page cache reads at most).
const READ_AHEAD_SECTORS: i64 = 1024;

fn privileged() -> Result<(), Errno> {
    if current().creds().has_cap(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EACCES) }
}

pub(super) fn ioctl(block: &BlockFile, file: &OpenFile, command: u32, argument: u64) -> SysResult {
    let volume = block.volume();
    let disk = &volume.disk;
    let info = disk.info();
    let at = UserAddr(argument);
    let int = |value: u32| UserPtr::<u32>::new(at).write(&value);
    let long = |value: i64| UserPtr::<i64>::new(at).write(&value);
    match command {
        BLKROGET => int(volume.is_read_only().into())?,
        BLKROSET => {
            privileged()?;
            let on = UserPtr::<i32>::new(at).read()? != 0;
            volume.disk.set_read_only(on);
        }
        BLKGETSIZE => long(volume.nr_sectors() as i64)?,
        BLKGETSIZE64 => UserPtr::<u64>::new(at).write(&volume.len_bytes())?,
        BLKSSZGET => int(info.logical_bytes)?,
        BLKPBSZGET => int(info.physical_bytes)?,
        BLKBSZGET => int(PAGE_SIZE as u32)?,
        BLKBSZSET => {
            privileged()?;
            let size = UserPtr::<u32>::new(at).read()?;
            if !size.is_power_of_two() || !(info.logical_bytes.max(512)..=PAGE_SIZE as u32).contains(&size) {
                return Err(Errno::EINVAL);
            }
        }
        BLKIOMIN => int(info.io_min_bytes.max(info.physical_bytes))?,
        BLKIOOPT => int(info.io_opt_bytes)?,
        BLKALIGNOFF => int(0)?,
        BLKSECTGET => {
            UserPtr::<u16>::new(at).write(&(u32::from(info.max_segments).saturating_mul(8).min(0xffff) as u16))?
        }
        BLKROTATIONAL => UserPtr::<u16>::new(at).write(&0)?,
        BLKDISCARDZEROES => int(0)?,
        BLKRAGET | BLKFRAGET => long(READ_AHEAD_SECTORS)?,
        BLKRASET | BLKFRASET => privileged()?,
        BLKGETDISKSEQ => UserPtr::<u64>::new(at).write(&disk.sequence)?,
        BLKFLSBUF => {
            privileged()?;
            block.node.object.invalidate(0, u64::MAX)?;
            volume.flush()?;
        }
        BLKDISCARD | BLKSECDISCARD | BLKZEROOUT => return range(block, file, command, at),
        BLKRRPART => {
            privileged()?;
            if volume.partition.is_some() {
                return Err(Errno::EINVAL);
            }
            // The table may be in the cache.
            block.node.object.sync(0, u64::MAX)?;
            partitions::reread(disk)?;
        }
        BLKPG => return change_partition(block, at),
        HDIO_GETGEO => {
            // The geometry that everything without one has: 255 heads, 63 sectors.
            let cylinders = (disk.info().nr_sectors / (255 * 63)).min(u64::from(u16::MAX)) as u16;
            let start = volume.first_sector();
            UserPtr::new(at).write(&Geometry { heads: 255, sectors: 63, cylinders, _pad: 0, start })?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// BLKDISCARD, BLKSECDISCARD and BLKZEROOUT of the byte range that two numbers at `at` name.
fn range(block: &BlockFile, file: &OpenFile, command: u32, at: UserAddr) -> SysResult {
    let volume = block.volume();
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    if command != BLKZEROOUT && (command == BLKSECDISCARD || volume.disk.info().max_discard_sectors == 0) {
        return Err(Errno::EOPNOTSUPP);
    }
    let [start, len] = UserPtr::<[u64; 2]>::new(at).read()?;
    let align = u64::from(volume.logical_bytes());
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if start % align != 0 || len % align != 0 || end > volume.len_bytes() {
        return Err(Errno::EINVAL);
    }
    if volume.is_read_only() {
        return Err(Errno::EPERM);
    }
    let _order = block.node.order.lock();
    block.node.object.invalidate(start, len)?;
    let (sector, nr_sectors) = (start >> SECTOR_SHIFT, len >> SECTOR_SHIFT);
    if command == BLKZEROOUT {
        volume.zero(sector, nr_sectors, false, true)?;
    } else {
        volume.discard(sector, nr_sectors)?;
    }
    block.node.object.invalidate(start, len)?;
    Ok(0)
}

fn change_partition(block: &BlockFile, at: UserAddr) -> SysResult {
    const ADD: i32 = 1;
    const DELETE: i32 = 2;
    const RESIZE: i32 = 3;
    let volume = block.volume();
    privileged()?;
    let request = UserPtr::<PartitionRequest>::new(at).read()?;
    if volume.partition.is_some() {
        return Err(Errno::EINVAL);
    }
    let argument = UserPtr::<PartitionArgument>::new(UserAddr(request.data)).read()?;
    let number = u32::try_from(argument.number).ok().filter(|number| *number > 0).ok_or(Errno::EINVAL)?;
    let place = || -> Result<(u64, u64), Errno> {
        let start = u64::try_from(argument.start).map_err(|_| Errno::EINVAL)?;
        Ok((start, u64::try_from(argument.length).map_err(|_| Errno::EINVAL)?))
    };
    match request.op {
        ADD => {
            let (start, len) = place()?;
            partitions::add(&volume.disk, number, start, len)?;
        }
        DELETE => partitions::delete(&volume.disk, number)?,
        RESIZE => {
            let (start, len) = place()?;
            partitions::resize(&volume.disk, number, start, len)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

impl crate::block::Disk {
    /// BLKROSET.
    fn set_read_only(&self, on: bool) {
        self.is_set_read_only.store(on, Ordering::Relaxed);
    }
}
