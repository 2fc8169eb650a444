//! JBD2's blocks in the log: headers, tags, checksums. All numbers are big-endian. Source: Linux's
//! Documentation/filesystems/ext4/journal.rst.

use crate::layout::{be32, le16, put_be32};
use crate::prelude::*;

pub const MAGIC: u32 = 0xC03B_3998;
pub const DESCRIPTOR: u32 = 1;
pub const COMMIT: u32 = 2;
pub const SUPERBLOCK_V2: u32 = 4;
pub const REVOKE: u32 = 5;
/// Magic number, type, sequence.
pub const HEADER: usize = 12;

pub const INCOMPAT_REVOKE: u32 = 1;
pub const INCOMPAT_64BIT: u32 = 2;
pub const INCOMPAT_CSUM_V2: u32 = 8;
pub const INCOMPAT_CSUM_V3: u32 = 0x10;
pub const INCOMPAT_FAST_COMMIT: u32 = 0x20;
/// Asynchronous commits (4) are read: the commit block's checksum tells a whole one.
const INCOMPAT_KNOWN: u32 =
    INCOMPAT_REVOKE | INCOMPAT_64BIT | 4 | INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3 | INCOMPAT_FAST_COMMIT;

pub const TAG_ESCAPED: u32 = 1;
pub const TAG_SAME_UUID: u32 = 2;
pub const TAG_LAST: u32 = 8;

// Offsets in the journal's superblock.
pub const SEQUENCE: usize = 24;
pub const START: usize = 28;
pub const ERRNO: usize = 32;
pub const COMPAT: usize = 36;
pub const INCOMPAT: usize = 40;
pub const UUID: usize = 48;
pub const CHECKSUM_TYPE: usize = 80;
pub const FAST_COMMIT_BLOCKS: usize = 84;
pub const CHECKSUM: usize = 0xFC;
const SUPERBLOCK_LEN: usize = 1024;

/// One tag of a descriptor block.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    pub block: u64,
    pub flags: u32,
    pub checksum: u32,
}

/// The journal's own superblock and what follows from it.
pub struct Format {
    pub superblock: Vec<u8>,
    pub block_size: usize,
    /// Blocks of the log: `first..end`; block 0 is the superblock.
    pub first: u32,
    pub end: u32,
    pub seed: u32,
}

impl Format {
    /// Checks block 0 of the journal, which has `blocks` blocks.
    pub fn parse<D: Disk>(
        disk: &D,
        block: &[u8],
        blocks: u64,
        block_size: usize,
    ) -> core::result::Result<Format, &'static str> {
        if be32(block, 0) != MAGIC || be32(block, 4) != SUPERBLOCK_V2 {
            return Err("journal superblock");
        }
        if be32(block, 12) as usize != block_size {
            return Err("journal block size");
        }
        // The whole block, as it is written; the superblock is its first KiB.
        let superblock = crate::layout::copied(block).map_err(|_| "no memory for the journal")?;
        if superblock.len() != block_size || block_size < SUPERBLOCK_LEN {
            return Err("journal block size");
        }
        let incompat = be32(&superblock, INCOMPAT);
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err("unknown journal feature");
        }
        let uuid = &superblock[UUID..UUID + 16];
        let seed = disk.crc32c(!0, uuid);
        let mut end = be32(&superblock, 16);
        let first = be32(&superblock, 20);
        if incompat & INCOMPAT_FAST_COMMIT != 0 {
            end = end.saturating_sub(be32(&superblock, FAST_COMMIT_BLOCKS).max(1));
        }
        if first == 0 || u64::from(end) > blocks || end <= first || end - first < 256 {
            return Err("journal length");
        }
        let start = be32(&superblock, START);
        if start != 0 && !(first..end).contains(&start) {
            return Err("journal start");
        }
        let format = Format { superblock, block_size, first, end, seed };
        if format.has_csum() {
            if format.superblock[CHECKSUM_TYPE] != 4 {
                return Err("journal checksum type");
            }
            if format.superblock_checksum(disk) != be32(&format.superblock, CHECKSUM) {
                return Err("journal superblock checksum");
            }
        }
        Ok(format)
    }

    pub fn incompat(&self) -> u32 {
        be32(&self.superblock, INCOMPAT)
    }
    pub fn has_csum(&self) -> bool {
        self.incompat() & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0
    }
    fn has_v3(&self) -> bool {
        self.incompat() & INCOMPAT_CSUM_V3 != 0
    }
    pub fn start(&self) -> u32 {
        be32(&self.superblock, START)
    }
    pub fn sequence(&self) -> u32 {
        be32(&self.superblock, SEQUENCE)
    }

    fn superblock_checksum<D: Disk>(&self, disk: &D) -> u32 {
        let sum = disk.crc32c(!0, &self.superblock[..CHECKSUM]);
        disk.crc32c(disk.crc32c(sum, &[0; 4]), &self.superblock[CHECKSUM + 4..SUPERBLOCK_LEN])
    }

    /// Puts the checksum into the superblock, before it is written.
    pub fn seal<D: Disk>(&mut self, disk: &D) {
        if self.has_csum() {
            let sum = self.superblock_checksum(disk);
            put_be32(&mut self.superblock, CHECKSUM, sum);
        }
    }

    /// The block of the log after `position`.
    pub fn next(&self, position: u32) -> u32 {
        if position + 1 >= self.end { self.first } else { position + 1 }
    }
    /// Blocks the log can hold.
    pub fn capacity(&self) -> u32 {
        self.end - self.first
    }

    fn tag_len(&self) -> usize {
        if self.has_v3() {
            return 16;
        }
        let len = if self.incompat() & INCOMPAT_CSUM_V2 != 0 { 14 } else { 12 };
        if self.incompat() & INCOMPAT_64BIT != 0 { len } else { len - 4 }
    }
    /// Bytes of a descriptor or revoke block before its checksum.
    fn room(&self) -> usize {
        self.block_size - if self.has_csum() { 4 } else { 0 }
    }
    /// Tags that surely fit into one descriptor.
    pub fn tags_per_block(&self) -> usize {
        (self.room() - HEADER - 16) / self.tag_len()
    }
    fn revoke_len(&self) -> usize {
        if self.incompat() & INCOMPAT_64BIT != 0 { 8 } else { 4 }
    }
    pub fn revokes_per_block(&self) -> usize {
        (self.room() - HEADER - 4) / self.revoke_len()
    }

    /// The tags of a descriptor block, in order.
    pub fn tags(&self, block: &[u8], mut each: impl FnMut(Tag) -> Result<()>) -> Result<()> {
        let mut at = HEADER;
        let wide = self.incompat() & INCOMPAT_64BIT != 0;
        while at + self.tag_len() <= self.room() {
            let tag = if self.has_v3() {
                Tag {
                    block: u64::from(be32(block, at)) | u64::from(be32(block, at + 8)) << 32,
                    flags: be32(block, at + 4),
                    checksum: be32(block, at + 12),
                }
            } else {
                let high = if wide { u64::from(be32(block, at + 8)) << 32 } else { 0 };
                Tag {
                    block: u64::from(be32(block, at)) | high,
                    flags: u32::from(le16(block, at + 6).swap_bytes()),
                    checksum: u32::from(le16(block, at + 4).swap_bytes()),
                }
            };
            at += self.tag_len();
            each(tag)?;
            if tag.flags & TAG_SAME_UUID == 0 {
                at += 16;
            }
            if tag.flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(())
    }

    /// Whether the log's copy of a block is the one its tag speaks of.
    pub fn tag_is_valid<D: Disk>(&self, disk: &D, tag: &Tag, sequence: u32, block: &[u8]) -> bool {
        if !self.has_csum() {
            return true;
        }
        let sum = self.block_checksum(disk, sequence, block);
        if self.has_v3() { sum == tag.checksum } else { sum as u16 == tag.checksum as u16 }
    }

    fn block_checksum<D: Disk>(&self, disk: &D, sequence: u32, block: &[u8]) -> u32 {
        disk.crc32c(disk.crc32c(self.seed, &sequence.to_be_bytes()), block)
    }

    /// A descriptor block for `blocks` (home, the log's copy, escaped?).
    pub fn descriptor<D: Disk>(&self, disk: &D, sequence: u32, blocks: &[(u64, &[u8], bool)], out: &mut [u8]) {
        self.header(out, DESCRIPTOR, sequence);
        let mut at = HEADER;
        for (i, (block, bytes, escaped)) in blocks.iter().enumerate() {
            let mut flags = if *escaped { TAG_ESCAPED } else { 0 };
            if i != 0 {
                flags |= TAG_SAME_UUID;
            }
            if i + 1 == blocks.len() {
                flags |= TAG_LAST;
            }
            put_be32(out, at, *block as u32);
            if self.has_v3() {
                put_be32(out, at + 4, flags);
                put_be32(out, at + 8, (*block >> 32) as u32);
                put_be32(out, at + 12, self.block_checksum(disk, sequence, bytes));
            } else {
                let sum = if self.has_csum() { self.block_checksum(disk, sequence, bytes) } else { 0 };
                put_be32(out, at + 4, sum << 16 | flags);
                if self.incompat() & INCOMPAT_64BIT != 0 {
                    put_be32(out, at + 8, (*block >> 32) as u32);
                }
            }
            at += self.tag_len();
            if i == 0 {
                crate::layout::put(out, at, &self.superblock[UUID..UUID + 16]);
                at += 16;
            }
        }
        self.seal_tail(disk, out);
    }

    pub fn revoke<D: Disk>(&self, disk: &D, sequence: u32, blocks: &[u64], out: &mut [u8]) {
        self.header(out, REVOKE, sequence);
        let mut at = HEADER + 4;
        for block in blocks {
            if self.revoke_len() == 8 {
                put_be32(out, at, (*block >> 32) as u32);
            }
            put_be32(out, at + self.revoke_len() - 4, *block as u32);
            at += self.revoke_len();
        }
        put_be32(out, HEADER, at as u32);
        self.seal_tail(disk, out);
    }

    /// The blocks a revoke block names.
    pub fn revoked(&self, block: &[u8], mut each: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let end = (be32(block, HEADER) as usize).min(self.room());
        let mut at = HEADER + 4;
        while at + self.revoke_len() <= end {
            let high = if self.revoke_len() == 8 { u64::from(be32(block, at)) << 32 } else { 0 };
            each(high | u64::from(be32(block, at + self.revoke_len() - 4)))?;
            at += self.revoke_len();
        }
        Ok(())
    }

    pub fn commit<D: Disk>(&self, disk: &D, sequence: u32, now: Time, out: &mut [u8]) {
        self.header(out, COMMIT, sequence);
        put_be32(out, 48, (now.seconds >> 32) as u32);
        put_be32(out, 52, now.seconds as u32);
        put_be32(out, 56, now.nanos);
        if self.has_csum() {
            let sum = disk.crc32c(self.seed, out);
            put_be32(out, 16, sum);
        }
    }

    pub fn commit_is_valid<D: Disk>(&self, disk: &D, block: &[u8]) -> bool {
        if !self.has_csum() || block.len() < 64 {
            return block.len() >= 64;
        }
        let sum = disk.crc32c(disk.crc32c(self.seed, &block[..16]), &[0; 4]);
        disk.crc32c(sum, &block[20..]) == be32(block, 16)
    }

    /// The checksum at the end of descriptor and revoke blocks.
    pub fn tail_is_valid<D: Disk>(&self, disk: &D, block: &[u8]) -> bool {
        let end = self.block_size - 4;
        !self.has_csum() || disk.crc32c(disk.crc32c(self.seed, &block[..end]), &[0; 4]) == be32(block, end)
    }

    fn seal_tail<D: Disk>(&self, disk: &D, out: &mut [u8]) {
        if self.has_csum() {
            let end = self.block_size - 4;
            let sum = disk.crc32c(disk.crc32c(self.seed, &out[..end]), &[0; 4]);
            put_be32(out, end, sum);
        }
    }

    fn header(&self, out: &mut [u8], kind: u32, sequence: u32) {
        put_be32(out, 0, MAGIC);
        put_be32(out, 4, kind);
        put_be32(out, 8, sequence);
    }
}
