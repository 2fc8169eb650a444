//! Nodes of an extent tree as bytes: a header, then entries of 12 bytes. Leaves hold extents, the others (first block, child).

use crate::layout::{le16, le32, put16, put32};

pub const MAGIC: u16 = 0xF30A;
pub const HEADER: usize = 12;
pub const ENTRY: usize = 12;
/// Entries the root in the inode has room for.
pub const ROOT_MAX: usize = 4;
/// Levels below the root that Linux allows.
pub const MAX_DEPTH: usize = 5;
/// Blocks of an extent that is written, and of one that is not.
pub const MAX_WRITTEN: u32 = 32768;
pub const MAX_UNWRITTEN: u32 = 32767;

/// A run of a file's blocks that is one run of the disk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub logical: u32,
    pub block: u64,
    pub len: u32,
    pub unwritten: bool,
}

impl Extent {
    /// The first block of the file after it.
    pub fn end(&self) -> u64 {
        u64::from(self.logical) + u64::from(self.len)
    }
    /// The part of it in `from..to`.
    pub fn part(&self, from: u64, to: u64) -> Option<Extent> {
        let (from, to) = (from.max(u64::from(self.logical)), to.min(self.end()));
        (from < to).then(|| Extent {
            logical: from as u32,
            block: self.block + (from - u64::from(self.logical)),
            len: (to - from) as u32,
            unwritten: self.unwritten,
        })
    }
    /// Both as one, if they can be.
    pub fn joined(&self, next: &Extent) -> Option<Extent> {
        let most = if self.unwritten { MAX_UNWRITTEN } else { MAX_WRITTEN };
        let fits = self.end() == u64::from(next.logical)
            && self.block + u64::from(self.len) == next.block
            && self.unwritten == next.unwritten
            && self.len + next.len <= most;
        fits.then(|| Extent { len: self.len + next.len, ..*self })
    }
}

pub fn entries(node: &[u8]) -> usize {
    usize::from(le16(node, 2))
}
pub fn max(node: &[u8]) -> usize {
    usize::from(le16(node, 4))
}
pub fn depth(node: &[u8]) -> usize {
    usize::from(le16(node, 6))
}
pub fn set_entries(node: &mut [u8], count: usize) {
    put16(node, 2, count as u16);
}

/// A header; the generation stays 0.
pub fn init(node: &mut [u8], count: usize, max: usize, depth: usize) {
    put16(node, 0, MAGIC);
    put16(node, 2, count as u16);
    put16(node, 4, max as u16);
    put16(node, 6, depth as u16);
    put32(node, 8, 0);
}

pub fn offset(index: usize) -> usize {
    HEADER + ENTRY * index
}

/// The first block of the file that entry `index` speaks of; for both kinds of nodes.
pub fn key(node: &[u8], index: usize) -> u32 {
    le32(node, offset(index))
}
pub fn set_key(node: &mut [u8], index: usize, key: u32) {
    put32(node, offset(index), key);
}

pub fn extent(node: &[u8], index: usize) -> Extent {
    let at = offset(index);
    let len = u32::from(le16(node, at + 4));
    let unwritten = len > MAX_WRITTEN;
    Extent {
        logical: le32(node, at),
        block: u64::from(le16(node, at + 6)) << 32 | u64::from(le32(node, at + 8)),
        len: if unwritten { len - MAX_WRITTEN } else { len },
        unwritten,
    }
}

pub fn set_extent(node: &mut [u8], index: usize, extent: &Extent) {
    let at = offset(index);
    put32(node, at, extent.logical);
    put16(node, at + 4, (extent.len + if extent.unwritten { MAX_WRITTEN } else { 0 }) as u16);
    put16(node, at + 6, (extent.block >> 32) as u16);
    put32(node, at + 8, extent.block as u32);
}

pub fn child(node: &[u8], index: usize) -> u64 {
    let at = offset(index);
    u64::from(le32(node, at + 4)) | u64::from(le16(node, at + 8)) << 32
}

pub fn set_child(node: &mut [u8], index: usize, key: u32, child: u64) {
    let at = offset(index);
    put32(node, at, key);
    put32(node, at + 4, child as u32);
    put16(node, at + 8, (child >> 32) as u16);
    put16(node, at + 10, 0);
}

/// The last entry whose key is at most `logical`.
pub fn search(node: &[u8], logical: u32) -> Option<usize> {
    let (mut low, mut high) = (0, entries(node));
    while low < high {
        let middle = (low + high) / 2;
        if key(node, middle) <= logical { low = middle + 1 } else { high = middle }
    }
    low.checked_sub(1)
}

/// Replaces `count` entries at `at` with room for `new` ones.
pub fn shift_entries(node: &mut [u8], at: usize, count: usize, new: usize) {
    let all = entries(node);
    let (from, to, end) = (offset(at + count), offset(at + new), offset(all));
    if from <= end && end <= node.len() && to + (end - from) <= node.len() {
        node.copy_within(from..end, to);
        set_entries(node, all + new - count);
    }
}

/// Whether a node is as it must be: `cap` is the most entries that fit, `is_free` says whether blocks may belong to a file.
pub fn is_valid(node: &[u8], want_depth: usize, cap: usize, may_hold: impl Fn(u64, u32) -> bool) -> bool {
    let count = entries(node);
    if le16(node, 0) != MAGIC || depth(node) != want_depth || max(node) == 0 || max(node) > cap || count > max(node) {
        return false;
    }
    let mut next = 0;
    (0..count).all(|i| {
        if want_depth == 0 {
            let extent = extent(node, i);
            let fine = extent.len != 0
                && u64::from(extent.logical) >= next
                && extent.end() <= 1 << 32
                && may_hold(extent.block, extent.len);
            next = extent.end();
            fine
        } else {
            let fine = (i == 0 || u64::from(key(node, i)) >= next) && may_hold(child(node, i), 1);
            next = u64::from(key(node, i)) + 1;
            fine
        }
    })
}
