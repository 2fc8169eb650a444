//! Address space identifiers: which process a TLB entry belongs to.

use crate::OutOfMemory;
use crate::cpu::IrqGuard;
use aarch64_cpu::registers::*;
use spin::Mutex;

/// One bit per ASID; 0 is the one nobody uses. An ASID is free again only after its TLB entries were flushed.
struct Asids {
    used: [u64; 1024],
    hint: usize,
}

static ASIDS: Mutex<Asids> = Mutex::new(Asids { used: [0; 1024], hint: 0 });

fn words() -> usize {
    if ID_AA64MMFR0_EL1.matches_all(ID_AA64MMFR0_EL1::ASIDBits::Bits_16) { 1024 } else { 4 }
}

pub(super) fn alloc() -> Result<u16, OutOfMemory> {
    let _irq = IrqGuard::new();
    let mut asids = ASIDS.lock();
    let words = words();
    asids.used[0] |= 1;
    for step in 0..words {
        let word = (asids.hint + step) % words;
        let free = !asids.used[word];
        if free != 0 {
            let bit = free.trailing_zeros();
            asids.used[word] |= 1 << bit;
            asids.hint = word;
            return Ok((word * 64) as u16 + bit as u16);
        }
    }
    Err(OutOfMemory)
}

pub(super) fn free(asid: u16) {
    let _irq = IrqGuard::new();
    ASIDS.lock().used[asid as usize / 64] &= !(1 << (asid % 64));
}
