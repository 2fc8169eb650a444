//! The polled console of boot and panic: ten lines that need nothing else.

use core::sync::atomic::{AtomicU64, Ordering};
use drivers::mmio::Mmio;

static CONSOLE: AtomicU64 = AtomicU64::new(0);
static LOG: AtomicU64 = AtomicU64::new(0);

pub(crate) fn init(console: Mmio, log: Option<Mmio>) {
    let address = |port: &Mmio| port.base().as_ptr() as u64;
    CONSOLE.store(address(&console), Ordering::Release);
    if let Some(log) = log {
        // A port nobody has set up yet: 8 bits, FIFOs on, transmitter on (UARTLCR_H, UARTCR).
        // SAFETY: PL011 registers, mapped by `mmio::map`; before any driver owns them.
        unsafe {
            let base = log.base().as_ptr();
            base.add(0x2c).cast::<u32>().write_volatile(0x70);
            base.add(0x30).cast::<u32>().write_volatile(0x301);
        }
        LOG.store(address(&log), Ordering::Release);
    }
}

/// PL011: UARTFR at 0x18, TXFF is bit 5; UARTDR at 0.
fn put(port: u64, bytes: &[u8]) {
    if port == 0 {
        return;
    }
    let base = port as *mut u32;
    for &byte in bytes {
        // SAFETY: a mapped PL011. Writing data while a driver also writes can only interleave bytes.
        unsafe {
            let mut spins = 0u32;
            while base.add(6).read_volatile() & 0x20 != 0 && spins < 1_000_000 {
                spins += 1;
            }
            base.write_volatile(u32::from(byte));
        }
    }
}

/// Writes bytes to the boot console, polling; usable as soon as the device tree was read, and in a panic.
pub fn write(bytes: &[u8]) {
    put(CONSOLE.load(Ordering::Acquire), bytes);
}

/// Whether there is a log port apart from the console.
pub fn has_log_port() -> bool {
    LOG.load(Ordering::Acquire) != 0
}

/// Writes bytes to the log port (the second serial port where there is one, else the console), polling.
pub fn write_log(bytes: &[u8]) {
    match LOG.load(Ordering::Acquire) {
        0 => write(bytes),
        port => put(port, bytes),
    }
}
