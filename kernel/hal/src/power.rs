//! Power-off and reset: PSCI, else the board's way; then stop.

/// Ends the machine. `status` reaches the host where the platform has a way (semihosting when asked for on the command
/// line); the kernel has already written it to the log port.
pub fn off(_status: u8) -> ! {
    todo!()
}
pub fn reset() -> ! {
    todo!()
}
/// Stops the calling CPU for good (another CPU panicked).
pub fn park_cpu() -> ! {
    todo!()
}
