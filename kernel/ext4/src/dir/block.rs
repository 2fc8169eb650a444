//! A directory block as bytes: entries of (inode, length, name length, type, name), which fill it to the end or to the checksum.

use crate::layout::{le16, le32, put, put8, put16, put32};

/// The checksum's entry at the end of a block: nameless, of a type nothing else has.
pub const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xDE;

#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub at: usize,
    pub len: usize,
    pub inode: u32,
    pub kind: u8,
    pub name: &'a [u8],
}

/// Bytes an entry with a name of `len` bytes takes.
pub fn needed(len: usize) -> usize {
    (8 + len + 3) & !3
}

/// The entries of a block, unused ones (inode 0) among them. Ends at what cannot be one.
pub fn entries(block: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (inode, len) = (le32(block, at), usize::from(le16(block, at + 4)));
        let (&name_len, &kind) = (block.get(at + 6)?, block.get(at + 7)?);
        if len < 8 || len % 4 != 0 || at + len > block.len() || 8 + usize::from(name_len) > len {
            return None;
        }
        let name = block.get(at + 8..at + 8 + usize::from(name_len))?;
        let entry = Entry { at, len, inode, kind, name };
        at += len;
        Some(entry)
    })
}

/// Whether entries fill the block exactly and name inodes up to `inodes`.
pub fn is_valid(block: &[u8], inodes: u32) -> bool {
    let mut end = 0;
    entries(block).all(|entry| {
        end = entry.at + entry.len;
        entry.inode <= inodes
            && (entry.inode == 0 || !(entry.name.is_empty() || entry.name.contains(&0) || entry.name.contains(&b'/')))
    }) && end == block.len()
}

pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<Entry<'a>> {
    entries(block).find(|entry| entry.inode != 0 && entry.name == name)
}

pub fn write(block: &mut [u8], at: usize, len: usize, inode: u32, kind: u8, name: &[u8]) {
    put32(block, at, inode);
    put16(block, at + 4, len as u16);
    put8(block, at + 6, name.len() as u8);
    put8(block, at + 7, kind);
    put(block, at + 8, name);
}

/// The place for a name: an entry (offset, length) and the bytes of it that stay with its owner.
pub fn room(block: &[u8], name_len: usize) -> Option<(usize, usize, usize)> {
    let want = needed(name_len);
    entries(block).find_map(|entry| {
        let keep = if entry.inode == 0 { 0 } else { needed(entry.name.len()) };
        let is_tail = entry.inode == 0 && entry.kind == TAIL_TYPE;
        (!is_tail && entry.len >= keep + want).then_some((entry.at, entry.len, keep))
    })
}

/// Adds an entry at a place [`room`] found.
pub fn insert(block: &mut [u8], (at, len, keep): (usize, usize, usize), inode: u32, kind: u8, name: &[u8]) {
    if keep != 0 {
        put16(block, at + 4, keep as u16);
    }
    write(block, at + keep, len - keep, inode, kind, name);
}

/// Takes out the entry at `at`: the one before it takes its bytes.
pub fn remove(block: &mut [u8], at: usize) {
    let mut before = None;
    let mut found = None;
    for entry in entries(block) {
        if entry.at == at {
            found = Some(entry.len);
            break;
        }
        before = Some((entry.at, entry.len));
    }
    match (found, before) {
        (Some(len), Some((before, before_len))) => put16(block, before + 4, (before_len + len) as u16),
        (Some(_), None) => put32(block, at, 0),
        (None, _) => {}
    }
}

/// An empty block.
pub fn init(block: &mut [u8], has_csum: bool) {
    block.fill(0);
    let end = if has_csum { block.len() - TAIL } else { block.len() };
    put16(block, 4, end as u16);
    if has_csum {
        put16(block, end + 4, TAIL as u16);
        put8(block, end + 7, TAIL_TYPE);
    }
}

pub fn has_tail(block: &[u8]) -> bool {
    let end = block.len() - TAIL;
    le32(block, end) == 0 && le16(block, end + 4) == TAIL as u16 && le16(block, end + 6) == u16::from(TAIL_TYPE) << 8
}

pub fn seal(block: &mut [u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) {
    let end = block.len() - TAIL;
    if has_tail(block) {
        let sum = crc(seed, &block[..end]);
        put32(block, end + 8, sum);
    }
}

pub fn seal_is_valid(block: &[u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) -> bool {
    let end = block.len() - TAIL;
    has_tail(block) && crc(seed, &block[..end]) == le32(block, end + 8)
}
