//! Random numbers from the CPU (FEAT_RNG) and from timing jitter.

/// One RNDR value, where the CPU has it.
pub fn cpu_random() -> Option<u64> {
    todo!()
}
