//! The kernel's global allocator: size classes over page frames with per-CPU magazines; large blocks straight from frames.

/// Bytes handed out and bytes held by the heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapStats {
    pub used_bytes: usize,
    pub held_bytes: usize,
}

pub fn stats() -> HeapStats {
    todo!()
}

struct NoHeap;

// SAFETY: never hands out memory.
unsafe impl core::alloc::GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _layout: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _pointer: *mut u8, _layout: core::alloc::Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;
