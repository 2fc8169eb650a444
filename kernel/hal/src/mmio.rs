//! Mapping device registers into the kernel.
//!
//! Addresses come from device trees and from devices, and are not trusted: a block that overlaps RAM or one that is mapped already is
//! refused, so that an [`Mmio`] is what it promises, registers that nobody else has.

use crate::boot::tree;
use crate::cpu::IrqGuard;
use crate::kmap::{self, Kind};
use crate::layout::{MMIO_BASE, PHYS_LIMIT};
use alloc::vec::Vec;
use base::addr::{PAGE_SIZE, PhysAddr, page_down, page_up};
use core::ops::Range;
use core::ptr::NonNull;
use drivers::mmio::Mmio;
use spin::Mutex;

/// Why registers cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No machine has them there, or they are too few for their driver.
    OutOfRange,
    /// They overlap RAM.
    Ram,
    /// They overlap registers that are mapped already.
    Taken,
    OutOfMemory,
}

/// What [`map`] has given out.
static TAKEN: Mutex<Vec<Range<u64>>> = Mutex::new(Vec::new());

/// Maps `len` bytes of device registers at `phys` (Device-nGnRE, never executable), for ever. Nobody gets them a second time.
pub fn map(phys: PhysAddr, len: usize) -> Result<Mmio, MapError> {
    let range = check(phys, len)?;
    let _irq = IrqGuard::new();
    let mut taken = TAKEN.lock();
    if taken.iter().any(|other| other.start < range.end && range.start < other.end) {
        return Err(MapError::Taken);
    }
    taken.try_reserve(1).map_err(|_| MapError::OutOfMemory)?;
    map_pages(&range)?;
    taken.push(range);
    drop(taken);
    // SAFETY: mapped above as device memory and never unmapped; by the checks no RAM, and given to nobody before.
    Ok(unsafe { window(phys, len) })
}

/// As [`map`], for the polled console alone: the port's driver may [`map`] the same registers.
pub(crate) fn map_console(phys: PhysAddr, len: usize) -> Result<Mmio, MapError> {
    let range = check(phys, len)?;
    map_pages(&range)?;
    // SAFETY: mapped above as device memory and never unmapped; no RAM. A polled port touches its data and status registers alone,
    // beside whoever else has them (`drivers::polled`).
    Ok(unsafe { window(phys, len) })
}

/// The range, if a machine can have registers there.
fn check(phys: PhysAddr, len: usize) -> Result<Range<u64>, MapError> {
    let end = phys.0.checked_add(len as u64).filter(|end| *end <= PHYS_LIMIT && len > 0).ok_or(MapError::OutOfRange)?;
    // RAM is whole pages.
    if tree::is_ram(&(page_down(phys.0)..page_up(end).unwrap_or(PHYS_LIMIT))) {
        return Err(MapError::Ram);
    }
    Ok(phys.0..end)
}

fn map_pages(range: &Range<u64>) -> Result<(), MapError> {
    let mut page = page_down(range.start);
    while page < range.end {
        if kmap::lookup(MMIO_BASE + page).is_none() {
            // SAFETY: in the window, and no RAM: the callers have `check`ed the range.
            let mapped = unsafe { kmap::map(MMIO_BASE + page, page, PAGE_SIZE as u64, Kind::Device) };
            mapped.map_err(|_| MapError::OutOfMemory)?;
        }
        page += PAGE_SIZE as u64;
    }
    Ok(())
}

/// # Safety
/// The range is mapped in the device window for ever, holds no RAM, and nobody else has its registers.
pub(crate) unsafe fn window(phys: PhysAddr, len: usize) -> Mmio {
    let Some(base) = NonNull::new((MMIO_BASE + phys.0) as *mut u8) else {
        unreachable!("the MMIO window is far from zero")
    };
    // SAFETY: the caller's promise.
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
