//! The vDSO's image: an ELF shared object in assembly (`asm/vdso.S`) that programs call to read the clock without entering the
//! kernel. It reads the page before its own: [`Data`].

use core::arch::global_asm;

global_asm!(include_str!("asm/vdso.S"));

unsafe extern "C" {
    static __vdso_start: u8;
    static __vdso_end: u8;
    static __vdso_sigreturn: u8;
}

/// The start of the data page, as the code reads it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Data {
    /// `ns = (ticks * mult) >> shift`, in 128 bits.
    pub mult: u64,
    /// 1..=32.
    pub shift: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC in ns; one aligned word, so it may change at any time.
    pub realtime_offset: i64,
}

impl Data {
    /// The bytes of the data page's start.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.mult.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.shift.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.realtime_offset.to_ne_bytes());
        bytes
    }
}

/// The shared object: at most a page.
pub fn image() -> &'static [u8] {
    let start = &raw const __vdso_start;
    let len = (&raw const __vdso_end).addr() - start.addr();
    // SAFETY: the two symbols bound one read-only object of the kernel image.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Where `__kernel_rt_sigreturn` is in the image.
pub fn sigreturn_offset() -> usize {
    (&raw const __vdso_sigreturn).addr() - (&raw const __vdso_start).addr()
}
