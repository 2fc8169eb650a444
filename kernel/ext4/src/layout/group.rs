//! Group descriptors: where a group's bitmaps and inode table are, and its counts.

use super::superblock::{Geometry, ro_compat};
use super::*;

pub const INODE_UNINIT: u16 = 1;
pub const BLOCK_UNINIT: u16 = 2;
pub const INODE_TABLE_ZEROED: u16 = 4;

const CHECKSUM: usize = 0x1E;

/// One group descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_blocks: u32,
    pub free_inodes: u32,
    pub used_dirs: u32,
    /// Inodes at the end of the table that were never used: not even read by e2fsck.
    pub unused_inodes: u32,
    pub flags: u16,
    pub block_bitmap_csum: u32,
    pub inode_bitmap_csum: u32,
}

impl Descriptor {
    pub fn parse(geometry: &Geometry, desc: &[u8]) -> Descriptor {
        let wide = geometry.desc_size >= 64;
        let high32 = |at: usize| if wide { u64::from(le32(desc, at)) << 32 } else { 0 };
        let high16 = |at: usize| if wide { u32::from(le16(desc, at)) << 16 } else { 0 };
        Descriptor {
            block_bitmap: u64::from(le32(desc, 0)) | high32(0x20),
            inode_bitmap: u64::from(le32(desc, 4)) | high32(0x24),
            inode_table: u64::from(le32(desc, 8)) | high32(0x28),
            free_blocks: u32::from(le16(desc, 0xC)) | high16(0x2C),
            free_inodes: u32::from(le16(desc, 0xE)) | high16(0x2E),
            used_dirs: u32::from(le16(desc, 0x10)) | high16(0x30),
            unused_inodes: u32::from(le16(desc, 0x1C)) | high16(0x32),
            flags: le16(desc, 0x12),
            block_bitmap_csum: u32::from(le16(desc, 0x18)) | high16(0x38),
            inode_bitmap_csum: u32::from(le16(desc, 0x1A)) | high16(0x3A),
        }
    }

    /// Writes what changes (not where the bitmaps are) and the checksum.
    pub fn store(&self, geometry: &Geometry, group: u32, desc: &mut [u8], crc: impl Fn(u32, &[u8]) -> u32) {
        let fields = [
            (0xC, 0x2C, self.free_blocks),
            (0xE, 0x2E, self.free_inodes),
            (0x10, 0x30, self.used_dirs),
            (0x1C, 0x32, self.unused_inodes),
            (0x18, 0x38, self.block_bitmap_csum),
            (0x1A, 0x3A, self.inode_bitmap_csum),
        ];
        for (low, high, value) in fields {
            put16(desc, low, value as u16);
            if geometry.desc_size >= 64 {
                put16(desc, high, (value >> 16) as u16);
            }
        }
        put16(desc, 0x12, self.flags);
        if let Some(sum) = checksum(geometry, group, desc, crc) {
            put16(desc, CHECKSUM, sum);
        }
    }
}

/// The checksum a descriptor should have; `None` where the file system has none.
pub fn checksum(geometry: &Geometry, group: u32, desc: &[u8], crc: impl Fn(u32, &[u8]) -> u32) -> Option<u16> {
    let number = group.to_le_bytes();
    let (front, back) = (desc.get(..CHECKSUM)?, desc.get(CHECKSUM + 2..)?);
    if geometry.has_csum() {
        let sum = crc(crc(crc(geometry.csum_seed, &number), front), &[0, 0]);
        Some(crc(sum, back) as u16)
    } else if geometry.ro_compat & ro_compat::GDT_CSUM != 0 {
        let sum = crate::checksum::crc16(crate::checksum::crc16(!0, &geometry.uuid), &number);
        Some(crate::checksum::crc16(crate::checksum::crc16(sum, front), back))
    } else {
        None
    }
}

pub fn is_valid(geometry: &Geometry, group: u32, desc: &[u8], crc: impl Fn(u32, &[u8]) -> u32) -> bool {
    checksum(geometry, group, desc, crc).is_none_or(|sum| sum == le16(desc, CHECKSUM))
}
