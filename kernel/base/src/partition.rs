//! Partition tables: MBR with logical partitions (as DOS and fdisk write them) and GPT (UEFI 2.10, 5).
//!
//! Everything read is the disk's word: numbers are checked against the disk's size, a chain of logical partitions is bounded, and
//! a GPT counts only with both of its checksums. Units are the disk's logical blocks, of 512 bytes or more.

use alloc::vec::Vec;

/// A part of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// From 1; logical partitions of an MBR from 5.
    pub number: u32,
    pub first_block: u64,
    pub nr_blocks: u64,
    /// GPT: the partition's own GUID, as it is on the disk. MBR: the disk's signature and the number make one.
    pub id: Id,
    /// GPT: its name, in UTF-8.
    pub name: Vec<u8>,
}

/// What `PARTUUID=` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Id {
    Guid([u8; 16]),
    Dos { signature: u32, number: u32 },
}

impl core::fmt::Display for Id {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            // The first three fields are little-endian (RFC 4122, and UEFI's appendix A).
            Id::Guid(guid) => {
                const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
                for (index, at) in ORDER.into_iter().enumerate() {
                    let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{:02x}", guid[at])?;
                }
                Ok(())
            }
            Id::Dos { signature, number } => write!(f, "{signature:08x}-{number:02x}"),
        }
    }
}

/// Where a table is read from.
pub trait Blocks {
    type Error;
    /// Bytes of a block: 512 to 65,536, a power of two.
    fn block_bytes(&self) -> usize;
    fn nr_blocks(&self) -> u64;
    /// Fills `bytes`, whole blocks, from `block` on, which are all inside the disk.
    fn read(&self, block: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// The most partitions of a disk: as many minors as Linux's virtio-blk has, but one for the whole disk.
pub const MAX_PARTITIONS: usize = 128;
/// The length of a chain of logical partitions.
const MAX_LOGICAL: u32 = 124;

const SIGNATURE_AT: usize = 510;
const DISK_ID_AT: usize = 440;
const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const TYPE_GPT: u8 = 0xee;

const GPT_SIGNATURE: &[u8; 8] = b"EFI PART";
const GPT_ENTRY_BYTES: usize = 128;
const GPT_HEADER_BYTES: usize = 92;
/// Entries of a table, at most: what is read into memory.
const GPT_MAX_ENTRIES: usize = 1024;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// CRC-32 (IEEE 802.3), bit by bit: a table is short.
fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

/// A buffer of `len` zeroes; `None` without memory.
fn buffer(len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    Some(bytes)
}

/// The partitions of a disk, in the order of their numbers; empty without a table (or without memory for it).
///
/// # Errors
/// The disk's, when its first block cannot be read; a table that cannot be read later is cut there.
pub fn read<B: Blocks>(disk: &B) -> Result<Vec<Partition>, B::Error> {
    let mut found = Vec::new();
    let size = disk.block_bytes();
    if !(512..=1 << 16).contains(&size) || !size.is_power_of_two() || disk.nr_blocks() < 2 {
        return Ok(found);
    }
    let Some(mut block) = buffer(size) else { return Ok(found) };
    disk.read(0, &mut block)?;
    if block[SIGNATURE_AT..SIGNATURE_AT + 2] != [0x55, 0xaa] {
        return Ok(found);
    }
    let entry = |block: &[u8], index: usize| Entry::at(block, index);
    if (0..4).any(|index| entry(&block, index).kind == TYPE_GPT) {
        // The copy at the end counts when the first is damaged.
        for header in [1, disk.nr_blocks() - 1] {
            if let Some(partitions) = gpt(disk, header) {
                return Ok(partitions);
            }
        }
        return Ok(found);
    }
    // A boot sector of FAT has the same signature; its entries make no sense as such.
    if (0..4).any(|index| block[ENTRIES_AT + ENTRY_BYTES * index] & 0x7f != 0) {
        return Ok(found);
    }
    let signature = u32_at(&block, DISK_ID_AT);
    // The unit of an MBR's numbers is the logical block.
    let mut extended = None;
    for index in 0..4 {
        let entry = entry(&block, index);
        let number = index as u32 + 1;
        if entry.is_extended() {
            extended.get_or_insert(entry.clone());
        }
        // Linux shows an extended partition too, with room for its boot record alone.
        let len = if entry.is_extended() { entry.len.min((1024 / size as u64).max(1)) } else { entry.len };
        push(disk, &mut found, number, entry.start, len, signature);
    }
    if let Some(extended) = extended {
        logical(disk, &mut found, &extended, signature, &mut block);
    }
    Ok(found)
}

#[derive(Clone)]
struct Entry {
    kind: u8,
    start: u64,
    len: u64,
}

impl Entry {
    fn at(block: &[u8], index: usize) -> Self {
        let at = ENTRIES_AT + ENTRY_BYTES * index;
        Self { kind: block[at + 4], start: u32_at(block, at + 8).into(), len: u32_at(block, at + 12).into() }
    }
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85) && self.len > 0
    }
}

/// Adds a partition of an MBR, cut at the disk's end; nothing when it is empty or beyond.
fn push<B: Blocks>(disk: &B, found: &mut Vec<Partition>, number: u32, first: u64, len: u64, signature: u32) {
    let nr_blocks = len.min(disk.nr_blocks().saturating_sub(first));
    if nr_blocks > 0 && first > 0 && found.len() < MAX_PARTITIONS && found.try_reserve(1).is_ok() {
        let id = Id::Dos { signature, number };
        found.push(Partition { number, first_block: first, nr_blocks, id, name: Vec::new() });
    }
}

/// Follows the chain of boot records in an extended partition: each names one logical partition and the next record.
fn logical<B: Blocks>(disk: &B, found: &mut Vec<Partition>, extended: &Entry, signature: u32, block: &mut [u8]) {
    let mut at = extended.start;
    for number in 5..5 + MAX_LOGICAL {
        if at == 0 || at >= disk.nr_blocks() || disk.read(at, block).is_err() {
            return;
        }
        if block[SIGNATURE_AT..SIGNATURE_AT + 2] != [0x55, 0xaa] {
            return;
        }
        let entries: [Entry; 4] = core::array::from_fn(|index| Entry::at(block, index));
        if let Some(data) = entries.iter().find(|entry| entry.len > 0 && !entry.is_extended()) {
            push(disk, found, number, at + data.start, data.len, signature);
        }
        match entries.iter().find(|entry| entry.is_extended()) {
            Some(next) if next.start > 0 => at = extended.start + next.start,
            _ => return,
        }
    }
}

/// The GPT whose header is at `block`, if it is whole.
fn gpt<B: Blocks>(disk: &B, at: u64) -> Option<Vec<Partition>> {
    let size = disk.block_bytes();
    let mut header = buffer(size)?;
    disk.read(at, &mut header).ok()?;
    let header_bytes = u32_at(&header, 12) as usize;
    if header[..8] != *GPT_SIGNATURE || !(GPT_HEADER_BYTES..=size).contains(&header_bytes) || u64_at(&header, 24) != at
    {
        return None;
    }
    if crc32(&[&header[..16], &[0; 4], &header[20..header_bytes]]) != u32_at(&header, 16) {
        return None;
    }
    let (first_usable, last_usable) = (u64_at(&header, 40), u64_at(&header, 48));
    let (table, nr_entries, entry_bytes) =
        (u64_at(&header, 72), u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
    let sane = (GPT_ENTRY_BYTES..=size).contains(&entry_bytes)
        && entry_bytes.is_power_of_two()
        && (1..=GPT_MAX_ENTRIES).contains(&nr_entries)
        && last_usable < disk.nr_blocks();
    if !sane {
        return None;
    }
    let bytes = nr_entries * entry_bytes;
    let nr_blocks = bytes.div_ceil(size);
    if table == 0 || table.checked_add(nr_blocks as u64)? > disk.nr_blocks() {
        return None;
    }
    let mut entries = buffer(nr_blocks * size)?;
    disk.read(table, &mut entries).ok()?;
    if crc32(&[&entries[..bytes]]) != u32_at(&header, 88) {
        return None;
    }
    let mut found = Vec::new();
    for (index, entry) in entries[..bytes].chunks_exact(entry_bytes).enumerate() {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let is_used = entry[..16] != [0; 16];
        if !is_used || first < first_usable || last > last_usable || first > last || found.len() == MAX_PARTITIONS {
            continue;
        }
        let units = entry[56..128].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let mut name = Vec::new();
        for letter in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
            let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
            name.try_reserve(4).ok()?;
            name.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        found.try_reserve(1).ok()?;
        found.push(Partition {
            number: index as u32 + 1,
            first_block: first,
            nr_blocks: last - first + 1,
            id: Id::Guid(entry[16..32].try_into().ok()?),
            name,
        });
    }
    Some(found)
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
