//! The kernel's half of the address space.
//!
//! | from | what |
//! |---|---|
//! | `LINEAR_BASE` | all RAM, at `LINEAR_BASE + physical` (read-write, never executable) |
//! | `KIMAGE_VA` | the kernel image (text R-X, rodata R, data RW) |
//! | `MMIO_BASE` | device registers, at `MMIO_BASE + physical` |
//! | `STACK_BASE` | kernel stacks: 32 KiB slots, the lower half a guard |
//! | `VMAP_BASE` | large heap blocks made of single frames: 1 TiB for each power of two of pages |

use base::addr::PhysAddr;

pub const LINEAR_BASE: u64 = 0xffff_0000_0000_0000;
pub const KIMAGE_VA: u64 = 0xffff_8000_0000_0000;
pub const MMIO_BASE: u64 = 0xffff_a000_0000_0000;
pub const STACK_BASE: u64 = 0xffff_b000_0000_0000;
pub const VMAP_BASE: u64 = 0xffff_c000_0000_0000;
/// Physical addresses the linear map and MMIO windows can hold.
pub const PHYS_LIMIT: u64 = 1 << 44;

/// The linear-map address of RAM.
#[inline(always)]
pub fn linear(phys: PhysAddr) -> *mut u8 {
    (LINEAR_BASE + phys.0) as *mut u8
}

/// The physical address of a linear-map pointer.
#[inline(always)]
pub fn linear_to_phys(pointer: *const u8) -> PhysAddr {
    PhysAddr(pointer as u64 - LINEAR_BASE)
}
