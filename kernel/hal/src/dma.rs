//! Memory for device rings and buffers.

use crate::frame::{Use, alloc_run, zero_page_at};
use crate::layout::linear;
use base::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use core::ptr::NonNull;
use drivers::dma::{Coherence, Dma};

/// `len` bytes of contiguous zeroed RAM for a coherent device, for ever (`drivers::dma::DmaSource`). `None` without memory.
pub fn alloc(len: usize) -> Option<Dma> {
    alloc_for(len, Coherence::Coherent)
}

/// The same for a device that does not look into the CPUs' caches.
pub fn alloc_streaming(len: usize) -> Option<Dma> {
    let dma = alloc_for(len, Coherence::Streaming(sync))?;
    // The zeroes.
    dma.give(0, len);
    Some(dma)
}

fn sync(start: NonNull<u8>, len: usize) {
    crate::cache::clean_and_invalidate_data_cache(start.as_ptr(), len);
}

fn alloc_for(len: usize, coherence: Coherence) -> Option<Dma> {
    let order = len.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two()?.trailing_zeros();
    let phys = alloc_run(order, Use::Kernel).ok()?;
    for page in 0..1u64 << order {
        // SAFETY: just allocated: nobody else has it.
        unsafe { zero_page_at(linear(PhysAddr(phys + (page << PAGE_SHIFT)))) };
    }
    let base = NonNull::new(linear(PhysAddr(phys)))?;
    // SAFETY: just allocated, zeroed, never freed; the linear map reaches it.
    Some(unsafe { Dma::new(base, len, phys, coherence) })
}
