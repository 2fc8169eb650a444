//! Large heap blocks out of single frames, mapped in a row: what the heap falls back to when no run of frames is free.
//!
//! Each power of two of pages has a window of its own with numbered slots and one bit a slot: nothing here allocates but frames
//! and the kernel's translation tables, which stay for the next block.

use crate::OutOfMemory;
use crate::cpu::IrqGuard;
use crate::frame::{self, Use};
use crate::kmap::{self, Kind};
use crate::layout::VMAP_BASE;
use base::addr::{PAGE_SHIFT, PAGE_SIZE};
use spin::Mutex;

/// Bytes of one window.
const WINDOW_BYTES: u64 = 1 << 40;
/// Blocks of up to `1 << MAX_ORDER` pages (1 GiB).
const MAX_ORDER: u32 = 18;
const WORDS: usize = 16;

/// One bit a slot in use, by order.
static SLOTS: Mutex<[[u64; WORDS]; MAX_ORDER as usize + 1]> = Mutex::new([[0; WORDS]; MAX_ORDER as usize + 1]);

fn order_of(nr_pages: usize) -> u32 {
    nr_pages.next_power_of_two().trailing_zeros()
}

fn take_slot(order: u32) -> Option<u64> {
    let _irq = IrqGuard::new();
    let mut slots = SLOTS.lock();
    let (index, word) = slots.get_mut(order as usize)?.iter_mut().enumerate().find(|(_, word)| **word != !0)?;
    let bit = (!*word).trailing_zeros();
    *word |= 1 << bit;
    Some((index * 64) as u64 + u64::from(bit))
}

fn address(order: u32, slot: u64) -> u64 {
    VMAP_BASE + u64::from(order) * WINDOW_BYTES + (slot << (order as usize + PAGE_SHIFT))
}

/// Whether `address` lies in a block of [`alloc`].
#[inline]
pub(crate) fn contains(address: u64) -> bool {
    (VMAP_BASE..VMAP_BASE + (u64::from(MAX_ORDER) + 1) * WINDOW_BYTES).contains(&address)
}

/// `nr_pages` pages in a row, contents unspecified, aligned to their number's next power of two.
pub(crate) fn alloc(nr_pages: usize) -> Result<*mut u8, OutOfMemory> {
    let order = order_of(nr_pages);
    let slot = take_slot(order).ok_or(OutOfMemory)?;
    let start = address(order, slot);
    for page in 0..nr_pages {
        let done = frame::alloc_raw(Use::Kernel).and_then(|phys| {
            // SAFETY: a slot of ours, and a frame just allocated, which goes back at once when it cannot be mapped.
            unsafe {
                kmap::map(start + (page * PAGE_SIZE) as u64, phys, PAGE_SIZE as u64, Kind::Data)
                    .inspect_err(|_| frame::release_raw(phys, Use::Kernel))
            }
        });
        if done.is_err() {
            // SAFETY: the pages mapped above; nobody knows of them.
            unsafe { release(start, page, order, slot) };
            return Err(OutOfMemory);
        }
    }
    Ok(start as *mut u8)
}

/// Frees a block of [`alloc`].
///
/// # Safety
/// It came from [`alloc`] with the same number of pages, and is the caller's to give up.
pub(crate) unsafe fn free(block: *mut u8, nr_pages: usize) {
    let start = block as u64;
    let order = order_of(nr_pages);
    let slot = (start - address(order, 0)) >> (order as usize + PAGE_SHIFT);
    // SAFETY: the caller's promise.
    unsafe { release(start, nr_pages, order, slot) };
}

/// # Safety
/// The slot's first `nr_pages` pages were mapped by [`alloc`], and nothing uses them any more.
unsafe fn release(start: u64, nr_pages: usize, order: u32, slot: u64) {
    // SAFETY: the caller's promise.
    unsafe { kmap::unmap(start, nr_pages) };
    let _irq = IrqGuard::new();
    SLOTS.lock()[order as usize][slot as usize / 64] &= !(1 << (slot % 64));
}
