//! Random numbers from the CPU (FEAT_RNG).

/// One RNDR value, where the CPU has it and it succeeded.
pub fn cpu_random() -> Option<u64> {
    if !crate::features::has_random() {
        return None;
    }
    let (value, ok): (u64, u64);
    // SAFETY: RNDR exists by the check above; NZCV says whether it succeeded (Z clear).
    unsafe {
        core::arch::asm!("mrs {}, s3_3_c2_c4_0", "cset {}, ne", out(reg) value, out(reg) ok, options(nomem, nostack))
    };
    (ok != 0).then_some(value)
}
