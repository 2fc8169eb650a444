//! Reference-counted 4 KiB page frames: the only handle on physical memory the kernel proper has.
//!
//! A [`Frame`] may be mapped into user programs on other CPUs while the kernel reads or writes it, so its bytes are never
//! a Rust reference: they are copied in and out.

use crate::OutOfMemory;
use base::addr::{PhysAddr, UserAddr};

/// A counted reference to one page frame: `clone` counts up, `drop` counts down and frees at zero.
pub struct Frame {
    _private: (),
}

impl Frame {
    /// A frame whose content is unspecified (old data!): for callers that overwrite all of it.
    pub fn alloc_uninit() -> Result<Frame, OutOfMemory> {
        todo!()
    }
    pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
        todo!()
    }
    /// The shared frame of zeroes; never write it.
    pub fn zero_page() -> Frame {
        todo!()
    }
    pub fn phys(&self) -> PhysAddr {
        todo!()
    }
    /// How many references there are, page-table entries included.
    pub fn ref_count(&self) -> u32 {
        todo!()
    }
    pub fn is_zero_page(&self) -> bool {
        todo!()
    }
    /// Copies out `dst.len()` bytes at `offset`; panics beyond the page.
    pub fn read(&self, _offset: usize, _dst: &mut [u8]) {
        todo!()
    }
    /// Copies `src` in at `offset`; panics beyond the page.
    pub fn write(&self, _offset: usize, _src: &[u8]) {
        todo!()
    }
    /// Zeroes `len` bytes at `offset`.
    pub fn zero(&self, _offset: usize, _len: usize) {
        todo!()
    }
    /// Copies the whole page from `other`.
    pub fn copy_from(&self, _other: &Frame) {
        todo!()
    }
    /// Copies `len` bytes from user memory to `offset`; faults are resolved. Returns how many bytes were copied before an
    /// unresolvable fault.
    pub fn write_from_user(&self, _offset: usize, _src: UserAddr, _len: usize) -> usize {
        todo!()
    }
    /// Copies `len` bytes at `offset` to user memory, as above.
    pub fn read_to_user(&self, _offset: usize, _dst: UserAddr, _len: usize) -> usize {
        todo!()
    }
    /// Makes instructions written to the page visible to fetches on all CPUs.
    pub fn sync_instruction_cache(&self) {
        todo!()
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        todo!()
    }
}

/// Frames in use and free.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameStats {
    pub total: usize,
    pub free: usize,
    /// Held by the kernel heap and kernel stacks.
    pub kernel: usize,
    /// Held by page tables.
    pub page_tables: usize,
}

pub fn stats() -> FrameStats {
    todo!()
}

/// Physically contiguous, zeroed memory for device rings: freed on drop.
pub struct DmaRegion {
    _private: (),
}

impl DmaRegion {
    /// `nr_pages` contiguous frames, rounded up to a power of two.
    pub fn alloc(_nr_pages: usize) -> Result<Self, OutOfMemory> {
        todo!()
    }
    pub fn phys(&self) -> PhysAddr {
        todo!()
    }
    pub fn virt(&self) -> core::ptr::NonNull<u8> {
        todo!()
    }
}
