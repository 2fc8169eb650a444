//! Typed addresses and page arithmetic.
//!
//! Physical, kernel-virtual and user-virtual addresses never mix: each is a newtype, and converting between them is
//! `hal`'s business alone.

use core::fmt;

pub const PAGE_SHIFT: usize = 12;
/// Bytes in one page (the 4 KiB granule).
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
pub const PAGE_MASK: u64 = (PAGE_SIZE as u64) - 1;
/// One past the last user address: 48-bit lower half, as on Linux arm64 with 4-level tables.
pub const USER_END: u64 = 1 << 48;

/// Rounds `value` down to a page boundary.
pub const fn page_down(value: u64) -> u64 {
    value & !PAGE_MASK
}

/// Rounds `value` up to a page boundary; `None` on overflow.
pub const fn page_up(value: u64) -> Option<u64> {
    match value.checked_add(PAGE_MASK) {
        Some(v) => Some(v & !PAGE_MASK),
        None => None,
    }
}

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// An address in a user program's address space: an allegation, to be used only through the user-copy functions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct UserAddr(pub u64);

impl PhysAddr {
    /// Page frame number.
    pub const fn frame(self) -> usize {
        (self.0 >> PAGE_SHIFT) as usize
    }
}

impl UserAddr {
    pub const NULL: Self = Self(0);

    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `self + bytes`, or `None` when the sum leaves the 64-bit space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Whether `len` bytes starting here lie wholly inside the user half.
    pub fn range_ok(self, len: usize) -> bool {
        self.0.checked_add(len as u64).is_some_and(|end| end <= USER_END)
    }

    /// Drops the top-byte tag (TBI is on for user addresses, as on Linux).
    pub const fn untagged(self) -> Self {
        Self(self.0 & 0x00ff_ffff_ffff_ffff)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pa:{:#x}", self.0)
    }
}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ua:{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_rounding_stops_at_the_end_of_the_address_space() {
        assert_eq!(page_up(1), Some(4096));
        assert_eq!(page_up(4096), Some(4096));
        assert_eq!(page_up(u64::MAX), None);
        assert_eq!(page_down(8191), 4096);
    }

    #[test]
    fn user_ranges_end_at_the_user_half() {
        assert!(UserAddr(USER_END - 1).range_ok(1));
        assert!(!UserAddr(USER_END - 1).range_ok(2));
        assert!(!UserAddr(u64::MAX).range_ok(1));
    }
}
