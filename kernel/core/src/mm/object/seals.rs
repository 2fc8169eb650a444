//! Seals of memfd_create(2): what may no longer be done to an object.

use super::MemObject;
use crate::mm::area::AreaFlags;
use crate::prelude::*;
use core::sync::atomic::Ordering;

pub const F_SEAL_SEAL: u32 = 0x1;
pub const F_SEAL_SHRINK: u32 = 0x2;
pub const F_SEAL_GROW: u32 = 0x4;
pub const F_SEAL_WRITE: u32 = 0x8;
pub const F_SEAL_FUTURE_WRITE: u32 = 0x10;
pub const ALL_SEALS: u32 = 0x1f;
/// Seal word of an object that takes no seals.
pub(super) const NONE: u32 = 1 << 31;

/// The seals of an object, or [`NONE`].
fn seals(object: &MemObject) -> u32 {
    object.seals.load(Ordering::Acquire)
}

/// A file that takes no seals, and says so by the seal on seals, as those of tmpfs do.
pub fn seal_seals(object: &MemObject) {
    object.set_seals(F_SEAL_SEAL);
}

/// EPERM when writing (up to `end`) is sealed.
pub fn check_write(object: &MemObject, end: u64) -> Result<(), Errno> {
    let seals = seals(object);
    if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 || seals & F_SEAL_GROW != 0 && end > object.len() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// EPERM when growing or shrinking to `len` is sealed.
pub fn check_resize(object: &MemObject, len: u64) -> Result<(), Errno> {
    let (seals, old) = (seals(object), object.len());
    if seals & F_SEAL_SHRINK != 0 && len < old || seals & F_SEAL_GROW != 0 && len > old {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// A shared mapping of a sealed file: EPERM for a writable one; a read-only one stays so.
pub fn check_mapping(object: &MemObject, write: bool, may: &mut AreaFlags) -> Result<(), Errno> {
    if seals(object) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
        if write {
            return Err(Errno::EPERM);
        }
        may.remove(AreaFlags::MAY_WRITE);
    }
    Ok(())
}

impl MemObject {
    /// The seals it has; `None` when it takes none.
    pub fn seals(&self) -> Option<u32> {
        Some(seals(self)).filter(|seals| *seals != NONE)
    }
    /// Adds seals.
    pub fn add_seals(&self, new: u32) {
        self.seals.fetch_or(new, Ordering::AcqRel);
    }
    /// Lets a new object take seals, beginning with `seals`.
    pub fn set_seals(&self, seals: u32) {
        self.seals.store(seals, Ordering::Release);
    }
}
