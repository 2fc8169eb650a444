//! The polled console of boot and panic: ten lines that need nothing else.

use core::sync::atomic::{AtomicU64, Ordering};
use drivers::mmio::Mmio;
use drivers::traits::Uart;
use spin::Mutex;

/// A port's registers, tagged in bit 0 for the mini-UART; 0 is no port.
static CONSOLE: AtomicU64 = AtomicU64::new(0);
static LOG: AtomicU64 = AtomicU64::new(0);

const MINI_UART: u64 = 1;

/// A mapped serial port that is set up.
pub(crate) struct Port(u64);

impl Port {
    fn address(registers: &Mmio) -> u64 {
        registers.base().as_ptr() as u64
    }
    pub fn pl011(registers: Mmio) -> Self {
        Self(Self::address(&registers))
    }
    /// A PL011 nobody has set up yet: 8 bits, FIFOs on, transmitter on (UARTLCR_H, UARTCR).
    pub fn new_pl011(registers: Mmio) -> Self {
        // SAFETY: PL011 registers, mapped by `mmio::map`; before any driver owns them.
        unsafe {
            let base = registers.base().as_ptr();
            base.add(0x2c).cast::<u32>().write_volatile(0x70);
            base.add(0x30).cast::<u32>().write_volatile(0x301);
        }
        Self::pl011(registers)
    }
    /// The mini-UART of a Raspberry Pi's auxiliary block.
    pub fn mini_uart(aux: Mmio) -> Self {
        Self(Self::address(&aux) | MINI_UART)
    }
}

pub(crate) fn init(console: Port, log: Option<Port>) {
    CONSOLE.store(console.0, Ordering::Release);
    if let Some(log) = log {
        LOG.store(log.0, Ordering::Release);
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

/// PL011: UARTFR at 0x18, TXFF is bit 5; UARTDR at 0. Mini-UART: LSR at 0x54, bit 5 is room; IO at 0x40.
fn put(port: u64, bytes: &[u8]) {
    if port == 0 {
        return;
    }
    let base = (port & !MINI_UART) as *mut u32;
    let (data, flags, full) = if port & MINI_UART == 0 { (0, 6, 0x20) } else { (16, 21, 0) };
    for &byte in bytes {
        // SAFETY: a mapped port of that kind. Writing data while a driver also writes can only interleave bytes.
        unsafe {
            let mut spins = 0u32;
            while base.add(flags).read_volatile() & 0x20 == full && spins < 1_000_000 {
                spins += 1;
            }
            base.add(data).write_volatile(u32::from(byte));
        }
    }
}

/// Waits until all that was written has left the ports, or for as long as a full FIFO may take: what is switched off loses it.
/// PL011: BUSY is bit 3 of UARTFR. Mini-UART: bit 6 of LSR is idle.
pub fn drain() {
    for port in [&CONSOLE, &LOG].map(|port| port.load(Ordering::Acquire)) {
        if port == 0 {
            continue;
        }
        let base = (port & !MINI_UART) as *const u32;
        let (flags, mask, idle) = if port & MINI_UART == 0 { (6, 1 << 3, 0) } else { (21, 1 << 6, 1 << 6) };
        let mut spins = 0u32;
        // SAFETY: a mapped port of that kind; reading its flags changes nothing.
        while unsafe { base.add(flags).read_volatile() } & mask != idle && spins < 1_000_000 {
            spins += 1;
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
