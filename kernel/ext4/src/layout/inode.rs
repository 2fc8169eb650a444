//! The inode on disk: fields by offset, times with nanoseconds, and the checksum.

use super::superblock::Geometry;
use super::*;
use crate::Time;

pub const MODE: usize = 0;
pub const ATIME: usize = 8;
pub const CTIME: usize = 0xC;
pub const MTIME: usize = 0x10;
/// When it was deleted; the next inode of the orphan list while it is on that.
pub const DTIME: usize = 0x14;
pub const LINKS: usize = 0x1A;
pub const FLAGS: usize = 0x20;
/// The root of the extent tree, or a short symlink's target: 60 bytes.
pub const BLOCK: usize = 0x28;
pub const BLOCK_LEN: usize = 60;
pub const GENERATION: usize = 0x64;
pub const CRTIME: usize = 0x90;
pub const EXTRA_ISIZE: usize = 0x80;
const CSUM_LO: usize = 0x7C;
const CSUM_HI: usize = 0x82;

/// Flags as on disk and as FS_IOC_GETFLAGS gives them.
pub mod flag {
    pub const SYNC: u32 = 8;
    pub const IMMUTABLE: u32 = 0x10;
    pub const APPEND: u32 = 0x20;
    pub const NODUMP: u32 = 0x40;
    pub const NOATIME: u32 = 0x80;
    pub const INDEX: u32 = 0x1000;
    pub const DIRSYNC: u32 = 0x1_0000;
    pub const TOPDIR: u32 = 0x2_0000;
    pub const HUGE_FILE: u32 = 0x4_0000;
    pub const EXTENTS: u32 = 0x8_0000;
    pub const EA_INODE: u32 = 0x20_0000;
    pub const INLINE_DATA: u32 = 0x1000_0000;
    /// What FS_IOC_SETFLAGS may change.
    pub const CHANGEABLE: u32 = SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC | TOPDIR;
    /// What a new file takes from its directory.
    pub const INHERITED: u32 = SYNC | NODUMP | NOATIME | DIRSYNC;
}

pub const S_IFMT: u16 = 0o170000;
pub const S_IFDIR: u16 = 0o040000;
pub const S_IFREG: u16 = 0o100000;
pub const S_IFLNK: u16 = 0o120000;
pub const S_IFCHR: u16 = 0o020000;
pub const S_IFBLK: u16 = 0o060000;
pub const S_IFIFO: u16 = 0o010000;
pub const S_IFSOCK: u16 = 0o140000;

/// The file type of a directory entry for a mode.
pub fn dirent_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFSOCK => 6,
        S_IFLNK => 7,
        _ => 0,
    }
}

/// Bytes the fields beyond the first 128 take; 0 in inodes of 128 bytes.
pub fn extra_isize(raw: &[u8]) -> usize {
    if raw.len() > 128 { usize::from(le16(raw, EXTRA_ISIZE)) } else { 0 }
}

/// Whether the four bytes at `at` are among the fields this inode has.
fn has_field(raw: &[u8], at: usize) -> bool {
    raw.len() > 128 && at + 4 <= 128 + extra_isize(raw)
}

/// Where the extra bits of the time at `at` are.
fn extra_of(at: usize) -> usize {
    match at {
        CTIME => 0x84,
        MTIME => 0x88,
        ATIME => 0x8C,
        _ => 0x94,
    }
}

/// The time at offset `at`: seconds signed and widened by two epoch bits, 30 bits of nanoseconds.
pub fn time(raw: &[u8], at: usize) -> Time {
    if at == CRTIME && !has_field(raw, CRTIME) {
        return Time::default();
    }
    let seconds = i64::from(le32(raw, at) as i32);
    if !has_field(raw, extra_of(at)) {
        return Time { seconds, nanos: 0 };
    }
    let extra = le32(raw, extra_of(at));
    Time { seconds: seconds + (i64::from(extra & 3) << 32), nanos: (extra >> 2).min(999_999_999) }
}

pub fn set_time(raw: &mut [u8], at: usize, time: Time) {
    if at == CRTIME && !has_field(raw, CRTIME) {
        return;
    }
    if has_field(raw, extra_of(at)) {
        let seconds = time.seconds.clamp(i64::from(i32::MIN), (3 << 32) + i64::from(i32::MAX));
        put32(raw, at, seconds as u32);
        let epoch = ((seconds - i64::from(seconds as i32)) >> 32) as u32 & 3;
        put32(raw, extra_of(at), epoch | time.nanos << 2);
    } else {
        put32(raw, at, time.seconds.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32);
    }
}

pub fn size(raw: &[u8]) -> u64 {
    le64_halves(raw, 4, 0x6C)
}

pub fn set_size(raw: &mut [u8], size: u64) {
    put32(raw, 4, size as u32);
    put32(raw, 0x6C, (size >> 32) as u32);
}

pub fn uid(raw: &[u8]) -> u32 {
    u32::from(le16(raw, 2)) | u32::from(le16(raw, 0x78)) << 16
}

pub fn gid(raw: &[u8]) -> u32 {
    u32::from(le16(raw, 0x18)) | u32::from(le16(raw, 0x7A)) << 16
}

pub fn set_owner(raw: &mut [u8], uid: u32, gid: u32) {
    put16(raw, 2, uid as u16);
    put16(raw, 0x78, (uid >> 16) as u16);
    put16(raw, 0x18, gid as u16);
    put16(raw, 0x7A, (gid >> 16) as u16);
}

/// The block with the attributes that do not fit into the inode; 0 for none.
pub fn file_acl(raw: &[u8]) -> u64 {
    u64::from(le32(raw, 0x68)) | u64::from(le16(raw, 0x76)) << 32
}

pub fn set_file_acl(raw: &mut [u8], block: u64) {
    put32(raw, 0x68, block as u32);
    put16(raw, 0x76, (block >> 32) as u16);
}

/// Space on disk in units of 512 bytes.
pub fn sectors(geometry: &Geometry, raw: &[u8]) -> u64 {
    let count = u64::from(le32(raw, 0x1C)) | u64::from(le16(raw, 0x74)) << 32;
    if le32(raw, FLAGS) & flag::HUGE_FILE != 0 { count << (geometry.block_bits - 9) } else { count }
}

pub fn set_sectors(geometry: &Geometry, raw: &mut [u8], sectors: u64) {
    // Beyond 2^48 sectors (no disk here is) the count would have to be in blocks.
    let mut flags = le32(raw, FLAGS);
    let mut count = sectors;
    if sectors >> 48 != 0 {
        flags |= flag::HUGE_FILE;
        count = sectors >> (geometry.block_bits - 9);
    } else {
        flags &= !flag::HUGE_FILE;
    }
    put32(raw, FLAGS, flags);
    put32(raw, 0x1C, count as u32);
    put16(raw, 0x74, (count >> 32) as u16);
}

/// A device node's number, as Linux encodes dev_t for user space (major 12 bits, minor 20).
pub fn device(raw: &[u8]) -> u64 {
    let old = le32(raw, BLOCK);
    let (major, minor) = if old != 0 {
        (old >> 8 & 0xFF, old & 0xFF)
    } else {
        let new = le32(raw, BLOCK + 4);
        (new >> 8 & 0xFFF, (new & 0xFF) | (new >> 12 & 0xF_FF00))
    };
    u64::from(minor & 0xFF) | u64::from(major) << 8 | u64::from(minor >> 8) << 20
}

pub fn set_device(raw: &mut [u8], device: u64) {
    let major = (device >> 8) as u32 & 0xFFF;
    let minor = (device as u32 & 0xFF) | ((device >> 12) as u32 & 0xF_FF00);
    if major < 256 && minor < 256 {
        put32(raw, BLOCK, major << 8 | minor);
        put32(raw, BLOCK + 4, 0);
    } else {
        put32(raw, BLOCK, 0);
        put32(raw, BLOCK + 4, (minor & 0xFF) | major << 8 | (minor & !0xFF) << 12);
    }
}

/// The start value of this inode's checksums and of those of its blocks.
pub fn csum_seed(geometry: &Geometry, number: u32, raw: &[u8], crc: impl Fn(u32, &[u8]) -> u32) -> u32 {
    crc(crc(geometry.csum_seed, &number.to_le_bytes()), &le32(raw, GENERATION).to_le_bytes())
}

fn checksum(seed: u32, raw: &[u8], crc: impl Fn(u32, &[u8]) -> u32) -> u32 {
    let mut sum = crc(crc(crc(seed, &raw[..CSUM_LO]), &[0, 0]), &raw[CSUM_LO + 2..128]);
    if raw.len() > 128 {
        if has_field(raw, 0x80) {
            sum = crc(crc(crc(sum, &raw[128..CSUM_HI]), &[0, 0]), &raw[CSUM_HI + 2..]);
        } else {
            sum = crc(sum, &raw[128..]);
        }
    }
    sum
}

/// Whether the checksum agrees. `raw` is a whole inode (128 bytes or more).
pub fn is_valid(seed: u32, raw: &[u8], crc: impl Fn(u32, &[u8]) -> u32) -> bool {
    let sum = checksum(seed, raw, crc);
    if has_field(raw, 0x80) {
        sum == u32::from(le16(raw, CSUM_LO)) | u32::from(le16(raw, CSUM_HI)) << 16
    } else {
        sum as u16 == le16(raw, CSUM_LO)
    }
}

pub fn set_checksum(seed: u32, raw: &mut [u8], crc: impl Fn(u32, &[u8]) -> u32) {
    let sum = checksum(seed, raw, crc);
    put16(raw, CSUM_LO, sum as u16);
    if has_field(raw, 0x80) {
        put16(raw, CSUM_HI, (sum >> 16) as u16);
    }
}
