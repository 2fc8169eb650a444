//! The superblock: where everything is ([`Geometry`]), what the file system has (feature bits), and the few fields that change.

use super::*;

pub const MAGIC: u16 = 0xEF53;
/// Where the superblock lies, in bytes from the start of the disk, and how long it is.
pub const OFFSET: u64 = 1024;
pub const LEN: usize = 1024;

// Offsets of fields that change.
pub const FREE_BLOCKS_LO: usize = 0x0C;
pub const FREE_INODES: usize = 0x10;
pub const MOUNT_TIME: usize = 0x2C;
pub const WRITE_TIME: usize = 0x30;
pub const MOUNT_COUNT: usize = 0x34;
pub const STATE: usize = 0x3A;
pub const ERRORS: usize = 0x3C;
pub const INCOMPAT: usize = 0x60;
pub const RO_COMPAT: usize = 0x64;
pub const LAST_ORPHAN: usize = 0xE8;
pub const FREE_BLOCKS_HI: usize = 0x158;
pub const ERROR_COUNT: usize = 0x194;
pub const FIRST_ERROR_TIME: usize = 0x198;
pub const LAST_ERROR_TIME: usize = 0x1CC;
pub const CHECKSUM: usize = 0x3FC;

pub const STATE_VALID: u16 = 1;
pub const STATE_ERROR: u16 = 2;

pub mod compat {
    pub const HAS_JOURNAL: u32 = 4;
    pub const DIR_INDEX: u32 = 0x20;
    pub const SPARSE_SUPER2: u32 = 0x200;
    pub const ORPHAN_FILE: u32 = 0x1000;
}

pub mod incompat {
    pub const FILETYPE: u32 = 2;
    pub const RECOVER: u32 = 4;
    pub const EXTENTS: u32 = 0x40;
    pub const BIT64: u32 = 0x80;
    pub const FLEX_BG: u32 = 0x200;
    pub const CSUM_SEED: u32 = 0x2000;
    pub const SUPPORTED: u32 = FILETYPE | RECOVER | EXTENTS | BIT64 | FLEX_BG | CSUM_SEED;
    /// Names of the bits, for the message that refuses one.
    pub const NAMES: [(u32, &str); 13] = [
        (1, "compression"),
        (8, "journal_dev"),
        (0x10, "meta_bg"),
        (0x100, "mmp"),
        (0x400, "ea_inode"),
        (0x1000, "dirdata"),
        (0x4000, "large_dir"),
        (0x8000, "inline_data"),
        (0x1_0000, "encrypt"),
        (0x2_0000, "casefold"),
        (FILETYPE, "filetype"),
        (EXTENTS, "extent"),
        (BIT64, "64bit"),
    ];
}

pub mod ro_compat {
    pub const SPARSE_SUPER: u32 = 1;
    pub const LARGE_FILE: u32 = 2;
    pub const HUGE_FILE: u32 = 8;
    pub const GDT_CSUM: u32 = 0x10;
    pub const DIR_NLINK: u32 = 0x20;
    pub const EXTRA_ISIZE: u32 = 0x40;
    pub const METADATA_CSUM: u32 = 0x400;
    pub const ORPHAN_PRESENT: u32 = 0x1_0000;
    /// Those with which the file system may be written; 4 is a name nothing ever used.
    pub const SUPPORTED: u32 =
        SPARSE_SUPER | LARGE_FILE | 4 | HUGE_FILE | GDT_CSUM | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM | ORPHAN_PRESENT;
    pub const NAMES: [(u32, &str); 7] = [
        (0x80, "snapshot"),
        (0x100, "quota"),
        (0x200, "bigalloc"),
        (0x1000, "read-only"),
        (0x2000, "project"),
        (0x4000, "shared_blocks"),
        (0x8000, "verity"),
    ];
}

/// What the superblock says that does not change while it is mounted. Blocks are the file system's, counted from the start of the
/// disk.
#[derive(Clone, Debug)]
pub struct Geometry {
    pub block_size: usize,
    pub block_bits: u32,
    pub blocks: u64,
    pub reserved_blocks: u64,
    pub first_data_block: u64,
    pub blocks_per_group: u32,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub inode_size: usize,
    pub first_inode: u32,
    pub groups: u32,
    pub desc_size: usize,
    pub desc_blocks: u32,
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
    pub uuid: [u8; 16],
    /// The start value of metadata checksums.
    pub csum_seed: u32,
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    /// Half MD4 and TEA take the name's bytes as unsigned.
    pub hash_unsigned: bool,
    pub journal_inode: u32,
    pub orphan_file_inode: u32,
    pub want_extra_isize: u16,
    pub flex_bits: u32,
    pub reserved_gdt_blocks: u16,
    pub backup_groups: [u32; 2],
    pub overhead: u32,
}

/// Why a superblock was refused, for the log.
pub struct Refused(pub Errno, pub &'static str);

impl Geometry {
    /// Reads and checks a superblock against a disk of `disk_bytes`. `crc` is CRC-32C.
    pub fn parse(
        sb: &[u8],
        disk_bytes: u64,
        crc: impl Fn(u32, &[u8]) -> u32,
    ) -> core::result::Result<Geometry, Refused> {
        let bad = |why| Err(Refused(Errno::EUCLEAN, why));
        if sb.len() != LEN || le16(sb, 0x38) != MAGIC {
            return Err(Refused(Errno::EINVAL, "no ext4 superblock"));
        }
        let log_block_size = le32(sb, 0x18);
        if log_block_size > 2 {
            return Err(Refused(Errno::EINVAL, "block size not 1, 2 or 4 KiB"));
        }
        let block_bits = 10 + log_block_size;
        let block_size = 1usize << block_bits;
        let rev = le32(sb, 0x4C);
        let (inode_size, first_inode) =
            if rev == 0 { (128, 11) } else { (usize::from(le16(sb, 0x58)), le32(sb, 0x54)) };
        let (compat, incompat, ro_compat) =
            if rev == 0 { (0, 0, 0) } else { (le32(sb, 0x5C), le32(sb, INCOMPAT), le32(sb, RO_COMPAT)) };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&sb[0x68..0x78]);
        let csum_seed = if incompat & incompat::CSUM_SEED != 0 { le32(sb, 0x270) } else { crc(!0, &uuid) };
        if ro_compat & ro_compat::METADATA_CSUM != 0 {
            if sb[0x175] != 1 {
                return Err(Refused(Errno::EINVAL, "unknown checksum type"));
            }
            if crc(!0, &sb[..CHECKSUM]) != le32(sb, CHECKSUM) {
                return Err(Refused(Errno::EBADMSG, "superblock checksum"));
            }
        }
        if !inode_size.is_power_of_two() || !(128..=block_size).contains(&inode_size) {
            return bad("inode size");
        }
        let high = incompat & incompat::BIT64 != 0;
        let blocks = u64::from(le32(sb, 4)) | if high { u64::from(le32(sb, 0x150)) << 32 } else { 0 };
        let reserved_blocks = u64::from(le32(sb, 8)) | if high { u64::from(le32(sb, 0x154)) << 32 } else { 0 };
        let first_data_block = u64::from(le32(sb, 0x14));
        if first_data_block != u64::from(block_size == 1024) {
            return bad("first data block");
        }
        if blocks <= first_data_block || blocks >= 1 << 48 || reserved_blocks > blocks {
            return bad("count of blocks");
        }
        if blocks > disk_bytes >> block_bits {
            return Err(Refused(Errno::EINVAL, "file system larger than its disk"));
        }
        let (blocks_per_group, inodes_per_group) = (le32(sb, 0x20), le32(sb, 0x28));
        let bits = (block_size * 8) as u32;
        if blocks_per_group < 256 || blocks_per_group > bits || blocks_per_group % 8 != 0 {
            return bad("blocks per group");
        }
        if ro_compat & 0x200 == 0 && le32(sb, 0x24) != blocks_per_group {
            return bad("clusters per group");
        }
        let inodes_per_block = (block_size / inode_size) as u32;
        if inodes_per_group == 0 || inodes_per_group > bits || inodes_per_group % inodes_per_block.max(8) != 0 {
            return bad("inodes per group");
        }
        let groups = (blocks - first_data_block).div_ceil(u64::from(blocks_per_group));
        let inodes = le32(sb, 0);
        if groups * u64::from(inodes_per_group) != u64::from(inodes) {
            return bad("count of inodes");
        }
        let desc_size = if high { usize::from(le16(sb, 0xFE)) } else { 32 };
        if !desc_size.is_power_of_two() || desc_size > 1024 || (high && desc_size < 64) {
            return bad("group descriptor size");
        }
        let groups = groups as u32;
        let desc_blocks = groups.div_ceil((block_size / desc_size) as u32);
        if u64::from(desc_blocks) + first_data_block + 1 >= blocks {
            return bad("group descriptors");
        }
        if first_inode < 11 || first_inode > inodes {
            return bad("first inode");
        }
        let flags = le32(sb, 0x160);
        Ok(Geometry {
            block_size,
            block_bits,
            blocks,
            reserved_blocks,
            first_data_block,
            blocks_per_group,
            inodes,
            inodes_per_group,
            inode_size,
            first_inode,
            groups,
            desc_size,
            desc_blocks,
            compat,
            incompat,
            ro_compat,
            uuid,
            csum_seed,
            hash_seed: [le32(sb, 0xEC), le32(sb, 0xF0), le32(sb, 0xF4), le32(sb, 0xF8)],
            hash_version: sb[0xFC],
            hash_unsigned: flags & 2 != 0,
            journal_inode: le32(sb, 0xE0),
            orphan_file_inode: le32(sb, 0x280),
            want_extra_isize: le16(sb, 0x15E).clamp(32, 256),
            flex_bits: u32::from(sb[0x174]).min(16),
            reserved_gdt_blocks: le16(sb, 0xCE),
            backup_groups: [le32(sb, 0x24C), le32(sb, 0x250)],
            overhead: le32(sb, 0x248),
        })
    }

    pub fn has_csum(&self) -> bool {
        self.ro_compat & ro_compat::METADATA_CSUM != 0
    }
    pub fn has_extents(&self) -> bool {
        self.incompat & incompat::EXTENTS != 0
    }
    pub fn has_dir_index(&self) -> bool {
        self.compat & compat::DIR_INDEX != 0
    }
    pub fn inodes_per_block(&self) -> u32 {
        (self.block_size / self.inode_size) as u32
    }
    pub fn group_start(&self, group: u32) -> u64 {
        self.first_data_block + u64::from(group) * u64::from(self.blocks_per_group)
    }
    /// Blocks in `group`: the last one may be short.
    pub fn group_len(&self, group: u32) -> u32 {
        (self.blocks.saturating_sub(self.group_start(group))).min(u64::from(self.blocks_per_group)) as u32
    }
    /// The group of a block and the block's place in it. The block is inside the file system.
    pub fn group_of(&self, block: u64) -> (u32, u32) {
        let from = block.wrapping_sub(self.first_data_block);
        let per = u64::from(self.blocks_per_group);
        ((from / per) as u32, (from % per) as u32)
    }
    /// Whether all of `len` blocks from `block` are inside the file system.
    pub fn contains(&self, block: u64, len: u64) -> bool {
        block >= self.first_data_block && block < self.blocks && len <= self.blocks - block
    }
    /// Whether `group` holds a copy of the superblock and of the descriptors.
    pub fn has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & compat::SPARSE_SUPER2 != 0 {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || self.ro_compat & ro_compat::SPARSE_SUPER == 0 {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| {
            let mut power: u64 = base;
            while power < u64::from(group) {
                power *= base;
            }
            power == u64::from(group)
        })
    }
    /// Blocks at the start of `group` that the superblock's copy, descriptors and their reserve take.
    pub fn base_meta_blocks(&self, group: u32) -> u32 {
        if self.has_super(group) { 1 + self.desc_blocks + u32::from(self.reserved_gdt_blocks) } else { 0 }
    }
    /// The largest size of a file with extents, in bytes: 2^32 - 1 blocks.
    pub fn max_file_size(&self) -> u64 {
        (u64::from(u32::MAX)) << self.block_bits
    }
}
