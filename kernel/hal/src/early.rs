//! The polled consoles of boot and panic: they need no driver, no lock and no interrupt.

use drivers::polled::Polled;
use drivers::traits::Uart;
use spin::{Mutex, Once};

static CONSOLE: Once<Polled> = Once::new();
static LOG: Once<Polled> = Once::new();

pub(crate) fn init(console: Option<Polled>, log: Option<Polled>) {
    if let Some(console) = console {
        CONSOLE.call_once(|| console);
    }
    if let Some(log) = log {
        LOG.call_once(|| log);
    }
}

/// What was received before the console's driver is there: bytes and how many of them.
static RECEIVED: Mutex<([u8; 32], usize)> = Mutex::new(([0; 32], 0));

/// Keeps what `uart` has received so far for the driver that takes the port over.
pub(crate) fn keep_input(uart: &mut impl Uart) {
    let mut received = RECEIVED.lock();
    received.1 = uart.read(&mut received.0);
}

/// Gives what came before anybody could receive it to `take`, once.
pub fn take_input(take: impl FnOnce(&[u8])) {
    let (bytes, count) = core::mem::take(&mut *RECEIVED.lock());
    take(&bytes[..count]);
}

/// Waits until all that was written has left the ports: what is switched off loses it.
pub fn drain() {
    for port in [&CONSOLE, &LOG].into_iter().filter_map(Once::get) {
        port.drain();
    }
}

/// Writes bytes to the boot console, polling; usable as soon as the device tree was read, and in a panic.
pub fn write(bytes: &[u8]) {
    if let Some(port) = CONSOLE.get() {
        port.write(bytes);
    }
}

/// Writes bytes to the log port (the second serial port where there is one, else the console), polling.
pub fn write_log(bytes: &[u8]) {
    match LOG.get() {
        Some(port) => port.write(bytes),
        None => write(bytes),
    }
}
