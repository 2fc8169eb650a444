//! A block of a directory's index as bytes: the root (in block 0, behind "." and ".."), or a node (behind one unused entry). Entry
//! 0 has no hash: its place holds limit and count.

use crate::layout::{le16, le32, put16, put32};

/// Where the entries begin.
pub const ROOT: usize = 32;
pub const NODE: usize = 8;

/// Where the entries of this block begin, by its look.
pub fn start(block: &[u8]) -> usize {
    if usize::from(le16(block, 4)) == block.len() { NODE } else { ROOT }
}

pub fn limit(block_size: usize, start: usize, has_csum: bool) -> usize {
    (block_size - start - if has_csum { 8 } else { 0 }) / 8
}
pub fn count(block: &[u8], start: usize) -> usize {
    usize::from(le16(block, start + 2))
}
pub fn set_counts(block: &mut [u8], start: usize, limit: usize, count: usize) {
    put16(block, start, limit as u16);
    put16(block, start + 2, count as u16);
}
pub fn hash(block: &[u8], start: usize, index: usize) -> u32 {
    if index == 0 { 0 } else { le32(block, start + index * 8) }
}
pub fn child(block: &[u8], start: usize, index: usize) -> u32 {
    le32(block, start + index * 8 + 4) & 0x0FFF_FFFF
}
pub fn set_child(block: &mut [u8], start: usize, index: usize, child: u32) {
    put32(block, start + index * 8 + 4, child);
}

pub fn levels(root: &[u8]) -> usize {
    usize::from(root.get(30).copied().unwrap_or(0))
}
pub fn version(root: &[u8]) -> u8 {
    root.get(28).copied().unwrap_or(0)
}

pub fn is_valid(block: &[u8], start: usize, has_csum: bool) -> bool {
    let limit = limit(block.len(), start, has_csum);
    let root_fine = start == NODE || (le32(block, 24) == 0 && block.get(29) == Some(&8) && levels(block) <= 1);
    let count = count(block, start);
    root_fine
        && usize::from(le16(block, start)) == limit
        && (1..=limit).contains(&count)
        && (2..count).all(|i| hash(block, start, i - 1) <= hash(block, start, i))
}

/// The last entry whose hash is at most `wanted`.
pub fn search(block: &[u8], start: usize, wanted: u32) -> usize {
    let (mut low, mut high) = (1, count(block, start));
    while low < high {
        let middle = (low + high) / 2;
        if hash(block, start, middle) > wanted { high = middle } else { low = middle + 1 }
    }
    low - 1
}

/// Adds (hash, child) at `index`, which is not 0. There is room.
pub fn insert(block: &mut [u8], start: usize, index: usize, hash: u32, child: u32) {
    let count = count(block, start);
    let (from, end) = (start + index * 8, start + count * 8);
    if from <= end && end + 8 <= block.len() {
        block.copy_within(from..end, from + 8);
        put32(block, from, hash);
        put32(block, from + 4, child);
        put16(block, start + 2, count as u16 + 1);
    }
}

pub fn seal(block: &mut [u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) {
    if let Some((tail, sum)) = checksum(block, seed, crc) {
        put32(block, tail + 4, sum);
    }
}

pub fn seal_is_valid(block: &[u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) -> bool {
    checksum(block, seed, crc).is_some_and(|(tail, sum)| le32(block, tail + 4) == sum)
}

fn checksum(block: &[u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) -> Option<(usize, u32)> {
    let start = start(block);
    let tail = start + usize::from(le16(block, start)) * 8;
    let used = block.get(..start + count(block, start) * 8)?;
    let reserved = block.get(tail..tail + 4)?;
    block.get(tail + 4..tail + 8)?;
    Some((tail, crc(crc(crc(seed, used), reserved), &[0; 4])))
}
