//! Memory that a device reads and writes beside us.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// `len` bytes of contiguous, zeroed RAM that a device may reach at `phys`; never given back. Words are reached by atomics
/// and bytes by copies: the device may change them at any moment, so no reference to them exists.
pub struct Dma {
    base: NonNull<u8>,
    len: usize,
    phys: u64,
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
    pub const unsafe fn new(base: NonNull<u8>, len: usize, phys: u64) -> Self {
        Self { base, len, phys }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// The device's address of the byte at `offset`.
    pub const fn phys(&self, offset: usize) -> u64 {
        self.phys + offset as u64
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
        // SAFETY: inside the block by the check above; `bytes` is not in it, as no reference into it exists.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(offset), bytes.len()) }
    }

    /// Copies `bytes.len()` bytes out from `offset`; panics beyond the block.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset <= self.len && bytes.len() <= self.len - offset);
        // SAFETY: as in `write`.
        unsafe { core::ptr::copy_nonoverlapping(self.base.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Appends the `count` bytes at `offset` to `bytes`, which has room for them; panics beyond the block or the room.
    pub fn append(&self, offset: usize, count: usize, bytes: &mut Vec<u8>) {
        assert!(offset <= self.len && count <= self.len - offset && count <= bytes.capacity() - bytes.len());
        let end = bytes.len() + count;
        // SAFETY: inside the block and inside the vector's allocation by the check above, which are not one another as in
        // `write`; the bytes up to `end` are initialized then.
        unsafe {
            core::ptr::copy_nonoverlapping(self.base.as_ptr().add(offset), bytes.as_mut_ptr().add(bytes.len()), count);
            bytes.set_len(end);
        }
    }
}

/// DMA memory of tests: leaked host memory whose "physical" address is its own.
#[cfg(test)]
pub mod testing {
    use super::Dma;
    use core::ptr::NonNull;

    #[repr(align(4096))]
    #[derive(Clone, Copy)]
    struct Page(#[expect(dead_code, reason = "reached by address only")] [u8; 4096]);

    pub fn alloc(len: usize) -> Option<Dma> {
        let pages: &'static mut [Page] = vec![Page([0; 4096]); len.div_ceil(4096)].leak();
        let base = NonNull::from(pages).cast::<u8>();
        // SAFETY: leaked, zeroed, page-aligned, and the block is its only user.
        Some(unsafe { Dma::new(base, len, base.as_ptr() as u64) })
    }
}
