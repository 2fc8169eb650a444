//! Cache maintenance by address.

use aarch64_cpu::asm::barrier;

/// Makes what was written there visible to instruction fetches of all CPUs.
pub(crate) fn sync_instruction_cache(start: *const u8, len: usize) {
    let ctr: u64;
    // SAFETY: cache maintenance by address on mapped memory.
    unsafe {
        core::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack));
        let end = start as u64 + len as u64;
        let dline = 4u64 << (ctr >> 16 & 0xf);
        let iline = 4u64 << (ctr & 0xf);
        let mut at = start as u64 & !(dline - 1);
        while at < end {
            core::arch::asm!("dc cvau, {}", in(reg) at, options(nostack));
            at += dline;
        }
        core::arch::asm!("dsb ish", options(nostack));
        let mut at = start as u64 & !(iline - 1);
        while at < end {
            core::arch::asm!("ic ivau, {}", in(reg) at, options(nostack));
            at += iline;
        }
        core::arch::asm!("dsb ish", "isb", options(nostack));
    }
}

/// Writes memory back to the point of coherency, for CPUs whose caches are off.
pub(crate) fn clean_data_cache(start: *const u8, len: usize) {
    let mut at = start as u64 & !63;
    while at < start as u64 + len as u64 {
        // SAFETY: cache maintenance by address on mapped memory.
        unsafe { core::arch::asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += 64;
    }
    barrier::dsb(barrier::SY);
}
