//! Mapping device registers into the kernel.

use crate::kmap::{self, Kind};
use crate::layout::{MMIO_BASE, PHYS_LIMIT};
use base::addr::{PAGE_SIZE, PhysAddr, page_down, page_up};
use core::ptr::NonNull;
use drivers::mmio::Mmio;

/// Maps `len` bytes of device registers at `phys` (nGnRE, never executable), for ever. Panics only when the kernel's
/// own tables cannot grow, or for addresses no machine has.
pub fn map(phys: PhysAddr, len: usize) -> Mmio {
    let start = page_down(phys.0);
    let end = match page_up(phys.0.saturating_add(len as u64)) {
        Some(end) if end <= PHYS_LIMIT && len > 0 => end,
        _ => panic!("device registers out of range"),
    };
    let mut page = start;
    while page < end {
        if kmap::lookup(MMIO_BASE + page).is_none() {
            let mapped = kmap::map(MMIO_BASE + page, page, PAGE_SIZE as u64, Kind::Device);
            assert!(mapped.is_ok(), "no memory to map device registers");
        }
        page += PAGE_SIZE as u64;
    }
    let Some(base) = NonNull::new((MMIO_BASE + phys.0) as *mut u8) else {
        unreachable!("the MMIO window is far from zero")
    };
    // SAFETY: mapped above as device memory and never unmapped; device ranges are not RAM handed to anything else.
    unsafe { Mmio::new(base, len) }
}

unsafe extern "C" {
    fn mmio_probe32_asm(address: *const u32) -> u64;
}

/// Reads a register that may not be there: `None` when the bus answers with an abort. For 32-bit registers without side
/// effects of reading.
pub fn probe_read32(registers: &Mmio, offset: usize) -> Option<u32> {
    assert!(offset & 3 == 0 && offset + 4 <= registers.len(), "probe outside of the block");
    // SAFETY: an aligned word of a mapped block; an abort has a fix-up (trap.rs), which answers bit 32.
    let value = unsafe { mmio_probe32_asm(registers.base().as_ptr().add(offset).cast()) };
    (value >> 32 == 0).then_some(value as u32)
}
