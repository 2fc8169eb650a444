//! Cache maintenance by address (Arm ARM D7.5.9). Lines are as long as CTR_EL0 says: the smallest of all caches of the machine.

use aarch64_cpu::asm::barrier;
use core::arch::asm;

/// Bytes of the smallest data and instruction cache lines.
fn line_bytes() -> (u64, u64) {
    let ctr: u64;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    // DminLine and IminLine: the logarithm of the number of words.
    (4 << (ctr >> 16 & 0xf), 4 << (ctr & 0xf))
}

/// Calls `each` with the address of every line that `len` bytes at `start` touch.
#[inline(always)]
fn for_each_line(start: *const u8, len: usize, line: u64, each: impl Fn(u64)) {
    let end = start as u64 + len as u64;
    let mut at = start as u64 & !(line - 1);
    while at < end {
        each(at);
        at += line;
    }
}

macro_rules! maintain {
    ($instruction:literal, $at:expr) => {
        // SAFETY: the callers' ranges are mapped in the linear map or the image, where these instructions change no memory that the
        // program can see (and fault for no address); a line that is invalidated is written back first.
        unsafe { asm!(concat!($instruction, ", {}"), in(reg) $at, options(nostack, preserves_flags)) }
    };
}

/// Makes what was written there visible to instruction fetches of all CPUs (D7.5.10.2).
pub(crate) fn sync_instruction_cache(start: *const u8, len: usize) {
    let (data, instruction) = line_bytes();
    for_each_line(start, len, data, |at| maintain!("dc cvau", at));
    barrier::dsb(barrier::ISH);
    for_each_line(start, len, instruction, |at| maintain!("ic ivau", at));
    barrier::dsb(barrier::ISH);
    barrier::isb(barrier::SY);
}

/// Writes memory back to the point of coherency: for CPUs whose caches are off and devices that do not look into ours. What is cached
/// stays so.
pub(crate) fn clean_data_cache(start: *const u8, len: usize) {
    for_each_line(start, len, line_bytes().0, |at| maintain!("dc cvac", at));
    barrier::dsb(barrier::SY);
}

/// As [`clean_data_cache`], and drops the lines, so that what a device writes there is read from memory. Whoever reads the answer calls
/// it again after the device has written: a line may have been fetched meanwhile without being asked for.
pub(crate) fn clean_and_invalidate_data_cache(start: *const u8, len: usize) {
    for_each_line(start, len, line_bytes().0, |at| maintain!("dc civac", at));
    barrier::dsb(barrier::SY);
}
