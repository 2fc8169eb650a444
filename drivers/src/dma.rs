//! Memory that a device reads and writes beside us.
//!
//! A *coherent* device looks into the CPUs' caches: virtio's, and every one whose node in the device tree says `dma-coherent`. For it
//! order is all that matters, and its drivers' own barriers see to that. The others, a Raspberry Pi's, see RAM alone: what the CPU wrote
//! is written back before the device reads it, and what the device wrote is read from RAM again ([`Dma::give`], [`Dma::take`]). Drivers
//! that may meet both call the two always; for coherent memory they do nothing.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// `len` bytes of contiguous, zeroed RAM that a device may reach at `phys`; never given back. Words are reached by atomics
/// and bytes by copies: the device may change them at any moment, so no reference to them exists.
pub struct Dma {
    base: NonNull<u8>,
    len: usize,
    phys: u64,
    coherence: Coherence,
}

/// How the device sees the memory.
#[derive(Clone, Copy)]
pub enum Coherence {
    /// As the CPUs do.
    Coherent,
    /// Without their caches. The function writes the cache lines of so many bytes back to RAM and drops them.
    Streaming(fn(NonNull<u8>, usize)),
}

#[cfg(target_os = "none")]
unsafe extern "C" {
    /// A copy that the compiler knows nothing of (hal's `copy.S`).
    fn copy_shared_asm(dst: *mut u8, src: *const u8, len: usize);
}

/// # Safety
/// Both sides are `len` bytes, valid for the access, and do not overlap.
#[cfg(not(target_os = "none"))]
unsafe fn copy_shared_asm(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise; a test's device is the test itself.
    unsafe { core::ptr::copy_nonoverlapping(src, dst, len) }
}

// SAFETY: plain memory, reached by atomic accesses and copies only.
unsafe impl Send for Dma {}
// SAFETY: as above; racing byte copies tear, no more.
unsafe impl Sync for Dma {}

/// Where drivers get such memory: so many bytes, page-aligned.
pub type DmaSource = fn(len: usize) -> Option<Dma>;

impl Dma {
    /// # Safety
    /// `base..base+len` must be zeroed, page-aligned RAM at physical address `phys`, valid for the rest of the program and
    /// used for nothing else.
    pub const unsafe fn new(base: NonNull<u8>, len: usize, phys: u64, coherence: Coherence) -> Self {
        Self { base, len, phys, coherence }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// The device's address of the byte at `offset`.
    pub const fn phys(&self, offset: usize) -> u64 {
        self.phys + offset as u64
    }

    /// Before the device gets `len` bytes at `offset`, to read or to write: what the CPU wrote there is in RAM, and no cache holds them.
    /// For streaming memory the range is whole cache lines, or nobody else writes to its first and last; panics beyond the block.
    pub fn give(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset);
        if let Coherence::Streaming(sync) = self.coherence {
            // SAFETY: inside the block by the check above.
            sync(unsafe { self.base.add(offset) }, len);
        }
    }

    /// After the device has given them back: what it wrote is read from RAM. The CPU wrote nothing there meanwhile.
    pub fn take(&self, offset: usize, len: usize) {
        self.give(offset, len);
    }

    fn at<T>(&self, offset: usize) -> NonNull<T> {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset <= self.len && self.len - offset >= size_of::<T>());
        // SAFETY: inside the block by the check above.
        unsafe { self.base.add(offset).cast() }
    }

    pub fn u16(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: aligned (the block is page-aligned), inside, and valid for ever; any bytes make a u16.
        unsafe { self.at(offset).as_ref() }
    }

    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.at(offset).as_ref() }
    }

    pub fn set_u64(&self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.at::<AtomicU64>(offset).as_ref() }.store(value, Ordering::Relaxed);
    }

    /// Copies `bytes` in at `offset`; panics beyond the block.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: inside the block by the check above; `bytes` is not in it, as no reference into it exists. The device may access the
        // block meanwhile.
        unsafe { copy_shared_asm(self.base.as_ptr().add(offset), bytes.as_ptr(), bytes.len()) }
    }

    /// Copies `bytes.len()` bytes out from `offset`; panics beyond the block.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: as in `write`.
        unsafe { copy_shared_asm(bytes.as_mut_ptr(), self.base.as_ptr().add(offset), bytes.len()) }
    }

    /// Appends the `count` bytes at `offset` to `bytes`, which has room for them; panics beyond the block or the room.
    pub fn append(&self, offset: usize, count: usize, bytes: &mut Vec<u8>) {
        assert!(offset <= self.len && count <= self.len - offset && count <= bytes.capacity() - bytes.len());
        let end = bytes.len() + count;
        // SAFETY: inside the block and inside the vector's allocation by the check above, which are not one another as in
        // `write`; the bytes up to `end` are initialized then.
        unsafe {
            copy_shared_asm(bytes.as_mut_ptr().add(bytes.len()), self.base.as_ptr().add(offset), count);
            bytes.set_len(end);
        }
    }
}

/// DMA memory of tests: leaked host memory whose "physical" address is its own.
#[cfg(test)]
pub mod testing {
    use super::{Coherence, Dma};
    use core::ptr::NonNull;

    #[repr(align(4096))]
    #[derive(Clone, Copy)]
    struct Page(#[expect(dead_code, reason = "reached by address only")] [u8; 4096]);

    pub fn alloc(len: usize) -> Option<Dma> {
        let pages: &'static mut [Page] = vec![Page([0; 4096]); len.div_ceil(4096)].leak();
        let base = NonNull::from(pages).cast::<u8>();
        // SAFETY: leaked, zeroed, page-aligned, and the block is its only user.
        Some(unsafe { Dma::new(base, len, base.as_ptr() as u64, Coherence::Coherent) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local!(static SYNCED: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) });

    #[test]
    fn streaming_memory_is_synced_on_the_way_out_and_in() {
        let plain = testing::alloc(4096).unwrap();
        plain.give(0, 4096);
        let note = |at: NonNull<u8>, len| SYNCED.with_borrow_mut(|synced| synced.push((at.as_ptr() as usize, len)));
        // SAFETY: the test's own block, once more.
        let streaming = unsafe { Dma::new(plain.base, plain.len, plain.phys, Coherence::Streaming(note)) };
        streaming.give(64, 128);
        streaming.take(128, 64);
        let base = plain.base.as_ptr() as usize;
        assert_eq!(SYNCED.take(), [(base + 64, 128), (base + 128, 64)]);
    }
}
