//! Memory for device rings and buffers.

use crate::frame::{Use, alloc_run, zero_page_at};
use crate::layout::linear;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use core::ptr::NonNull;
use drivers::dma::Dma;

/// `len` bytes of contiguous zeroed RAM, for ever (`drivers::dma::DmaSource`). `None` without memory.
pub fn alloc(len: usize) -> Option<Dma> {
    let order = len.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two()?.trailing_zeros();
    let phys = alloc_run(order, Use::Kernel).ok()?;
    for page in 0..1u64 << order {
        zero_page_at(linear(PhysAddr(phys + (page << PAGE_SHIFT))));
    }
    let base = NonNull::new(linear(PhysAddr(phys)))?;
    // SAFETY: just allocated, zeroed, never freed; the linear map reaches it.
    Some(unsafe { Dma::new(base, len, phys) })
}
