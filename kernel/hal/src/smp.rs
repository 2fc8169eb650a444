//! Starting the secondary CPUs (PSCI or spin table).

/// Starts every CPU the device tree names, up to `limit`; each enters [`crate::trap::Hooks::secondary_main`]. Returns how
/// many CPUs are online, the caller included.
pub fn start_secondaries(_limit: usize) -> usize {
    todo!()
}
