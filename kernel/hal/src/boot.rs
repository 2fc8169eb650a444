//! Entry from the boot loader and what it told us.

use base::addr::PhysAddr;
use core::ops::Range;

/// What the boot loader handed over, read from the device tree (or board tables) before the kernel proper starts.
pub struct BootInfo {
    /// The device tree, validated; empty when there is none.
    pub dtb: &'static [u8],
    /// `/chosen/bootargs`.
    pub cmdline: &'static str,
    /// The initial RAM file system's physical range, if any. Its frames are handed out by [`take_initrd`].
    pub initrd: Option<Range<u64>>,
    /// `/chosen/rng-seed`.
    pub rng_seed: &'static [u8],
    /// Usable RAM in bytes.
    pub memory_bytes: u64,
    pub nr_cpus: usize,
    /// CNTVCT at kernel entry.
    pub entry_ticks: u64,
}

pub fn info() -> &'static BootInfo {
    todo!()
}

/// The initramfs as an owned run of frames: read it front to back; frames wholly behind `release_before` go back to the
/// allocator, so that unpacking never doubles memory.
pub struct Initrd {
    _private: (),
}

impl Initrd {
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes at `offset..`; panics when they were released.
    pub fn bytes(&self, _offset: usize, _len: usize) -> &[u8] {
        todo!()
    }
    /// Gives back all whole frames below `offset`.
    pub fn release_before(&mut self, _offset: usize) {
        todo!()
    }
}

/// The initramfs, once.
pub fn take_initrd() -> Option<Initrd> {
    todo!()
}

/// Physical range of the kernel image, for banners and /proc/iomem.
pub fn kernel_range() -> Range<PhysAddr> {
    todo!()
}
