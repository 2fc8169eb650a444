//! Mapping device registers into the kernel.

use base::addr::PhysAddr;

/// Maps `len` bytes of device registers at `phys` (nGnRE, never executable), for ever. Panics only when the kernel's
/// own tables cannot grow.
pub fn map(_phys: PhysAddr, _len: usize) -> drivers::mmio::Mmio {
    todo!()
}
