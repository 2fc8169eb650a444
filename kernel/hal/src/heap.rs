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
