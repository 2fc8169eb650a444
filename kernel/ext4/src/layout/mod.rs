//! The disk's format: byte order, feature bits, the superblock and group descriptors ([`superblock`], [`group`]), inodes
//! ([`inode`]) and directory entries. Source: Linux's Documentation/filesystems/ext4.
//!
//! Fields are read and written by offset in a byte slice. A field that lies outside its slice reads as zero and is not written:
//! nothing on a disk makes these functions panic.

pub mod group;
pub mod inode;
pub mod superblock;

use crate::prelude::*;

pub fn le16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at.wrapping_add(2)) {
        Some(&[a, b]) => u16::from_le_bytes([a, b]),
        _ => 0,
    }
}

pub fn le32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at.wrapping_add(4)) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// The 64-bit number whose halves lie apart.
pub fn le64_halves(bytes: &[u8], low: usize, high: usize) -> u64 {
    u64::from(le32(bytes, low)) | u64::from(le32(bytes, high)) << 32
}

pub fn put8(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(place) = bytes.get_mut(at) {
        *place = value;
    }
}

pub fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_le_bytes());
}

pub fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.wrapping_add(value.len())) {
        place.copy_from_slice(value);
    }
}

pub fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}

pub fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    put32(bytes, at, value.swap_bytes());
}

/// `len` zero bytes, or ENOMEM.
pub fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// A copy, or ENOMEM.
pub fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Appends, or ENOMEM.
pub fn push<T>(list: &mut Vec<T>, value: T) -> Result<()> {
    list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    list.push(value);
    Ok(())
}

/// The extended attributes' magic number, in blocks and in inodes.
pub const XATTR_MAGIC: u32 = 0xEA02_0000;
