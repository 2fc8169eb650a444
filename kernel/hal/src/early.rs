//! The polled console of boot and panic: ten lines that need nothing else.

/// Writes bytes to the boot console, polling; usable from the first Rust instruction and in a panic.
pub fn write(_bytes: &[u8]) {
    todo!()
}
/// Writes bytes to the log port (the second serial port where there is one, else the console), polling.
pub fn write_log(_bytes: &[u8]) {
    todo!()
}
