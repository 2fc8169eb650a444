//! The 16550A serial port with its registers in memory ("ns16550a"): what kvmtool, Firecracker and crosvm give a machine, and many boards.
//!
//! Registers are a byte each, `1 << shift` bytes apart, and reached by accesses of one byte or of four, as the device tree says
//! (`reg-shift`, `reg-io-width`). Source: National Semiconductor PC16550D data sheet.

use crate::mmio::{Mmio, ReadWrite};
use crate::traits::Uart;
use tock_registers::interfaces::{Readable, Writeable};

/// Receive buffer and transmit holding register; with DLAB, the divisor's low byte.
const DATA: usize = 0;
/// Interrupt enable; with DLAB, the divisor's high byte.
const IER: usize = 1;
/// Interrupt identification (read) and FIFO control (write).
const IIR: usize = 2;
const FCR: usize = 2;
const LCR: usize = 3;
const MCR: usize = 4;
const LSR: usize = 5;
const MSR: usize = 6;
pub const REGISTERS: usize = 8;

const IER_RECEIVED: u8 = 1 << 0;
const IER_EMPTY: u8 = 1 << 1;
/// No interrupt is pending.
const IIR_NONE: u8 = 1 << 0;
/// Both: the FIFOs are on, and work.
const IIR_FIFOS: u8 = 3 << 6;
const FCR_ON_AND_EMPTY: u8 = 0x07;
const LCR_8N1: u8 = 0x03;
const LCR_DLAB: u8 = 1 << 7;
/// DTR, RTS and OUT2, which lets the interrupt out on PCs.
const MCR_READY: u8 = 0x0b;
const LSR_RECEIVED: u8 = 1 << 0;
/// Parity, framing, break.
const LSR_ERRORS: u8 = 7 << 2;
/// The transmitter's FIFO is empty; and its shifter.
const LSR_EMPTY: u8 = 1 << 5;
const LSR_IDLE: u8 = 1 << 6;
const FIFO_BYTES: usize = 16;

/// How far apart the registers are, and how wide an access to one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub shift: u32,
    pub width: u32,
}

impl Layout {
    /// By `reg-shift` and `reg-io-width`, if they are among those that exist.
    pub fn new(shift: Option<u32>, width: Option<u32>) -> Option<Self> {
        let layout = Self { shift: shift.unwrap_or(0), width: width.unwrap_or(1) };
        let fits = layout.shift <= 3 && matches!(layout.width, 1 | 4) && layout.width <= 1 << layout.shift;
        fits.then_some(layout)
    }
    /// Bytes of all registers.
    pub const fn len(self) -> usize {
        REGISTERS << self.shift
    }
}

/// The registers, one access at a time.
pub(crate) struct Port {
    registers: Mmio,
    layout: Layout,
}

impl Port {
    pub(crate) fn new(registers: Mmio, layout: Layout) -> Self {
        assert!(registers.len() >= layout.len(), "a 16550 has eight registers");
        Self { registers, layout }
    }
    fn get(&self, register: usize) -> u8 {
        let at = register << self.layout.shift;
        match self.layout.width {
            4 => self.registers.registers::<ReadWrite<u32>>(at).get() as u8,
            _ => self.registers.registers::<ReadWrite<u8>>(at).get(),
        }
    }
    fn set(&self, register: usize, value: u8) {
        let at = register << self.layout.shift;
        match self.layout.width {
            4 => self.registers.registers::<ReadWrite<u32>>(at).set(u32::from(value)),
            _ => self.registers.registers::<ReadWrite<u8>>(at).set(value),
        }
    }
    pub(crate) fn has_room(&self) -> bool {
        self.get(LSR) & LSR_EMPTY != 0
    }
    pub(crate) fn is_idle(&self) -> bool {
        self.get(LSR) & LSR_IDLE != 0
    }
    pub(crate) fn put(&self, byte: u8) {
        self.set(DATA, byte);
    }
}

pub struct Ns16550 {
    port: Port,
    /// What IER holds: it is written only when it changes, for a write may be an event of its own.
    enabled: u8,
    fifo_bytes: usize,
}

impl Ns16550 {
    /// Takes the port over: 8N1, FIFOs on, no interrupt on yet. The rate is set where the clock is known (16 clocks a bit).
    pub fn new(registers: Mmio, layout: Layout, baud: u32, clock_hz: Option<u32>) -> Self {
        let port = Port::new(registers, layout);
        // What boot wrote must leave the shifter before the FIFOs are emptied.
        let mut spins = 0;
        while !port.is_idle() && spins < 1_000_000 {
            spins += 1;
        }
        port.set(IER, 0);
        let divisor = clock_hz.unwrap_or(0) / (16 * baud.max(1));
        if (1..=0xffff).contains(&divisor) {
            port.set(LCR, LCR_8N1 | LCR_DLAB);
            port.set(DATA, divisor as u8);
            port.set(IER, (divisor >> 8) as u8);
        }
        port.set(LCR, LCR_8N1);
        port.set(FCR, FCR_ON_AND_EMPTY);
        port.set(MCR, MCR_READY);
        let fifo_bytes = if port.get(IIR) & IIR_FIFOS == IIR_FIFOS { FIFO_BYTES } else { 1 };
        Self { port, enabled: 0, fifo_bytes }
    }

    fn enable(&mut self, bit: u8, on: bool) {
        let enabled = if on { self.enabled | bit } else { self.enabled & !bit };
        if enabled != self.enabled {
            self.enabled = enabled;
            self.port.set(IER, enabled);
        }
    }
}

impl Uart for Ns16550 {
    fn write(&mut self, bytes: &[u8]) -> usize {
        if !self.port.has_room() {
            return 0;
        }
        // Empty: there is room for all of the FIFO.
        let count = bytes.len().min(self.fifo_bytes);
        bytes[..count].iter().for_each(|byte| self.port.put(*byte));
        count
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut count = 0;
        // Errors without end are no reason to stay for ever.
        for _ in 0..2 * buf.len() {
            let status = self.port.get(LSR);
            if count == buf.len() || status & LSR_RECEIVED == 0 {
                break;
            }
            let byte = self.port.get(DATA);
            // A byte with a line error is dropped, as a terminal with IGNPAR would.
            if status & LSR_ERRORS == 0 {
                buf[count] = byte;
                count += 1;
            }
        }
        count
    }

    fn set_tx_interrupt(&mut self, on: bool) {
        self.enable(IER_EMPTY, on);
    }

    fn set_rx_interrupt(&mut self, on: bool) {
        self.enable(IER_RECEIVED, on);
    }

    /// Reading IIR ends a transmitter's interrupt, reading data a receiver's. The two that are never enabled are read away all the same.
    fn acknowledge(&mut self) {
        if self.port.get(IIR) & IIR_NONE == 0 {
            let _ = (self.port.get(LSR), self.port.get(MSR));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    const WIDE: Layout = Layout { shift: 2, width: 4 };
    const NARROW: Layout = Layout { shift: 0, width: 1 };

    fn port() -> (Bank, Ns16550) {
        let bank = Bank::new(0x20);
        bank.set(LSR << 2, u32::from(LSR_EMPTY | LSR_IDLE));
        let uart = Ns16550::new(bank.mmio(), WIDE, 115_200, Some(1_843_200));
        (bank, uart)
    }

    #[test]
    fn set_up_sets_line_and_rate() {
        let (bank, _uart) = port();
        assert_eq!((bank.get(DATA << 2), bank.get(LCR << 2), bank.get(MCR << 2)), (1, 3, 0x0b));
        assert_eq!(bank.get(FCR << 2), 7);
        // Without a clock the divisor is the firmware's.
        let bank = Bank::new(0x20);
        bank.set(DATA << 2, 0xdd);
        bank.set(LSR << 2, u32::from(LSR_IDLE));
        let _ = Ns16550::new(bank.mmio(), WIDE, 115_200, None);
        assert_eq!(bank.get(DATA << 2), 0xdd);
    }

    #[test]
    fn registers_may_be_bytes_side_by_side() {
        let bank = Bank::new(8);
        bank.set(4, u32::from(LSR_EMPTY | LSR_IDLE) << 8);
        let mut uart = Ns16550::new(bank.mmio(), NARROW, 115_200, None);
        uart.set_rx_interrupt(true);
        assert_eq!(uart.write(b"x"), 1);
        assert_eq!(bank.get(0) & 0xffff, u32::from(IER_RECEIVED) << 8 | u32::from(b'x'));
        assert_eq!(bank.get(0) >> 24, 3, "LCR");
        assert_eq!(bank.get(4) & 0xff, 0x0b, "MCR, and no other register is touched with it");
    }

    #[test]
    fn a_transmitter_takes_a_fifo_when_it_is_empty() {
        let (bank, mut uart) = port();
        uart.fifo_bytes = FIFO_BYTES;
        assert_eq!(uart.write(&[b'a'; 40]), 16);
        bank.set(LSR << 2, 0);
        assert_eq!(uart.write(b"abc"), 0);
        let (_bank, mut uart) = port();
        uart.fifo_bytes = 1;
        assert_eq!(uart.write(b"abc"), 1, "no FIFO");
    }

    #[test]
    fn bytes_with_errors_are_dropped_and_end() {
        let (bank, mut uart) = port();
        let mut buf = [0; 4];
        assert_eq!(uart.read(&mut buf), 0);
        bank.set(LSR << 2, u32::from(LSR_RECEIVED));
        bank.set(DATA << 2, u32::from(b'x'));
        assert_eq!((uart.read(&mut buf), &buf), (4, b"xxxx"));
        bank.set(LSR << 2, u32::from(LSR_RECEIVED | 1 << 3));
        assert_eq!(uart.read(&mut buf), 0);
    }

    #[test]
    fn the_mask_is_written_when_it_changes() {
        let (bank, mut uart) = port();
        uart.set_rx_interrupt(true);
        uart.set_tx_interrupt(true);
        assert_eq!(bank.get(IER << 2), 3);
        bank.set(IER << 2, 0xdead);
        uart.set_rx_interrupt(true);
        uart.acknowledge();
        assert_eq!(bank.get(IER << 2), 0xdead);
        uart.set_tx_interrupt(false);
        assert_eq!(bank.get(IER << 2), 1);
    }

    #[test]
    fn layouts_that_do_not_exist_are_refused() {
        assert_eq!(Layout::new(None, None), Some(NARROW));
        assert_eq!(Layout::new(Some(2), Some(4)), Some(WIDE));
        assert_eq!(Layout::new(Some(2), None).map(Layout::len), Some(32));
        for (shift, width) in [(Some(9), None), (None, Some(4)), (Some(2), Some(3)), (Some(1), Some(4))] {
            assert_eq!(Layout::new(shift, width), None);
        }
    }
}
