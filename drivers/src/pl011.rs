//! PL011 UART (DDI 0183) and its subset, the SBSA generic UART (DEN 0029, appendix B), on the `arm-pl011-uart` crate: FIFOs on,
//! interrupt driven both ways.
//!
//! A write to UARTIMSC or UARTICR is an event of its own for some hypervisors: their line rises at each of them, masked or not, and a
//! handler that writes in every interrupt never comes to an end. So nothing is written that changes nothing.

use crate::mmio::Mmio;
use crate::traits::Uart as UartTrait;
use arm_pl011_uart::{DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart};
use safe_mmio::UniqueMmioPointer;

/// Bytes kept that came before the port was set up.
const EARLY_LIMIT: usize = 256;

pub struct Pl011 {
    uart: Uart<'static>,
    /// What UARTIMSC holds.
    masks: Interrupts,
    /// What had been received before the FIFOs were turned on, which empties them; the first `early_len` bytes.
    early: [u8; EARLY_LIMIT],
    early_len: usize,
}

/// What goes away when it is acknowledged, and not by reading or writing data alone.
const CLEARED: Interrupts = Interrupts::TXI.union(Interrupts::RTI).union(Interrupts::OEI);
/// Bytes of the registers that are used: up to UARTICR.
const LEN: usize = 0x48;

impl Pl011 {
    /// Takes the port over: 8N1 at `baud` from a clock of `clock_hz`; no interrupt on yet.
    pub fn new(registers: Mmio, baud: u32, clock_hz: u32) -> Self {
        let mut port = Self::take(registers);
        let uart = &mut port.uart;
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // A clock that cannot make the baud rate leaves the port as the firmware set it.
        let _ = uart.enable(line, baud, clock_hz);
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes8);
        port
    }

    /// Takes a generic UART over, which is always on and has no registers for its line.
    pub fn new_generic(registers: Mmio) -> Self {
        Self::take(registers)
    }

    /// The port with no interrupt on, and what it has received.
    fn take(registers: Mmio) -> Self {
        assert!(registers.len() >= LEN, "a PL011 is longer");
        // SAFETY: mapped for ever and used by this driver alone (Mmio's contract); of the registers those below `LEN` are reached,
        // which are in the block by the check above. The polled console (hal::early) touches the data and flag registers beside it,
        // one access at a time.
        let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers.base().cast::<PL011Registers>()) });
        // What boot wrote must leave the shifter before the port is set up anew.
        let mut spins = 0;
        while uart.is_busy() && spins < 1_000_000 {
            spins += 1;
        }
        let mut port = Self { uart, masks: Interrupts::empty(), early: [0; EARLY_LIMIT], early_len: 0 };
        port.uart.set_interrupt_masks(Interrupts::empty());
        let mut early = [0; EARLY_LIMIT];
        port.early_len = port.read(&mut early);
        port.early = early;
        port.uart.clear_interrupts(Interrupts::all());
        port
    }

    fn mask(&mut self, bits: Interrupts, on: bool) {
        let mut masks = self.masks;
        masks.set(bits, on);
        if masks != self.masks {
            self.masks = masks;
            self.uart.set_interrupt_masks(masks);
        }
    }
}

impl UartTrait for Pl011 {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() && !self.uart.is_tx_fifo_full() {
            self.uart.write_word(bytes[sent]);
            sent += 1;
        }
        sent
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut count = self.early_len.min(buf.len());
        buf[..count].copy_from_slice(&self.early[..count]);
        self.early.copy_within(count..self.early_len, 0);
        self.early_len -= count;
        while count < buf.len() {
            match self.uart.read_word() {
                Ok(Some(byte)) => {
                    buf[count] = byte;
                    count += 1;
                }
                Ok(None) => break,
                // A byte with a line error is dropped, as a terminal with IGNPAR would.
                Err(_) => {}
            }
        }
        count
    }

    fn set_tx_interrupt(&mut self, on: bool) {
        self.mask(Interrupts::TXI, on);
    }

    fn set_rx_interrupt(&mut self, on: bool) {
        self.mask(Interrupts::RXI | Interrupts::RTI, on);
    }

    fn acknowledge(&mut self) {
        let raised = self.uart.masked_interrupt_status() & CLEARED;
        if !raised.is_empty() {
            self.uart.clear_interrupts(raised);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    const DR: usize = 0x00;
    const FR: usize = 0x18;
    const RX_EMPTY: u32 = 1 << 4;
    const TX_FULL: u32 = 1 << 5;
    const IMSC: usize = 0x38;
    const MIS: usize = 0x40;
    const ICR: usize = 0x44;
    /// UARTRSR, UARTILPR, UARTIBRD, UARTFBRD, UARTLCR_H, UARTCR, UARTIFLS, UARTDMACR.
    const LINE: [usize; 8] = [0x04, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x48];

    fn port() -> (Bank, Pl011) {
        let bank = Bank::new(0x1000);
        bank.set(FR, RX_EMPTY);
        let uart = Pl011::new(bank.mmio(), 115_200, 24_000_000);
        (bank, uart)
    }

    #[test]
    fn set_up_divides_the_clock_and_turns_the_port_on() {
        let (bank, _uart) = port();
        // 24 MHz / (16 * 115200) = 13 + 1/64.
        assert_eq!((bank.get(0x24), bank.get(0x28)), (13, 1));
        assert_eq!(bank.get(0x2c) & 0x70, 0x70, "8 bits, FIFOs on");
        assert_eq!(bank.get(0x30) & 0x301, 0x301, "port, transmitter and receiver on");
        assert_eq!(bank.get(IMSC), 0);
    }

    #[test]
    fn a_full_transmitter_takes_nothing() {
        let (bank, mut uart) = port();
        assert_eq!(uart.write(b"abc"), 3);
        assert_eq!(bank.get(DR), u32::from(b'c'));
        bank.set(FR, TX_FULL | RX_EMPTY);
        assert_eq!(uart.write(b"abc"), 0);
    }

    #[test]
    fn an_empty_receiver_gives_nothing_and_a_full_one_fills_the_buffer() {
        let (bank, mut uart) = port();
        let mut buf = [0; 4];
        assert_eq!(uart.read(&mut buf), 0);
        bank.set(FR, 0);
        bank.set(DR, u32::from(b'x'));
        assert_eq!(uart.read(&mut buf), 4);
        assert_eq!(&buf, b"xxxx");
    }

    #[test]
    fn what_came_before_the_set_up_is_read_first() {
        let bank = Bank::new(0x1000);
        bank.set(FR, 0);
        bank.set(DR, u32::from(b'e'));
        let mut uart = Pl011::new(bank.mmio(), 115_200, 24_000_000);
        bank.set(DR, u32::from(b'l'));
        let mut first = [0; 3];
        assert_eq!(uart.read(&mut first), 3);
        assert_eq!(&first, b"eee");
        let mut rest = [0; EARLY_LIMIT];
        assert_eq!(uart.read(&mut rest), EARLY_LIMIT);
        assert_eq!((&rest[..EARLY_LIMIT - 3], &rest[EARLY_LIMIT - 3..]), (&[b'e'; EARLY_LIMIT - 3][..], &b"lll"[..]));
    }

    #[test]
    fn each_direction_has_its_own_mask() {
        let (bank, mut uart) = port();
        uart.set_rx_interrupt(true);
        assert_eq!(bank.get(IMSC), 0x50, "receive and receive time-out");
        uart.set_tx_interrupt(true);
        assert_eq!(bank.get(IMSC), 0x70);
        uart.set_rx_interrupt(false);
        assert_eq!(bank.get(IMSC), 0x20);
    }

    #[test]
    fn an_interrupt_of_nothing_writes_nothing() {
        let (bank, mut uart) = port();
        uart.set_rx_interrupt(true);
        // Whatever is written now shows.
        bank.set(IMSC, 0xdead);
        bank.set(ICR, 0xdead);
        for _ in 0..3 {
            uart.acknowledge();
            uart.set_rx_interrupt(true);
            uart.set_tx_interrupt(false);
        }
        assert_eq!((bank.get(IMSC), bank.get(ICR)), (0xdead, 0xdead));
    }

    #[test]
    fn only_what_was_raised_is_acknowledged() {
        let (bank, mut uart) = port();
        bank.set(MIS, 0x20);
        uart.acknowledge();
        assert_eq!(bank.get(ICR), 0x20);
        // A received byte's interrupt goes when the byte is read.
        bank.set(ICR, 0);
        bank.set(MIS, 0x10);
        uart.acknowledge();
        assert_eq!(bank.get(ICR), 0);
    }

    #[test]
    fn a_generic_uart_has_no_line_registers() {
        let bank = Bank::new(0x1000);
        bank.set(FR, RX_EMPTY);
        for offset in LINE {
            bank.set(offset, 0xdead);
        }
        let mut uart = Pl011::new_generic(bank.mmio());
        uart.set_rx_interrupt(true);
        assert_eq!(uart.write(b"x"), 1);
        uart.acknowledge();
        assert!(
            LINE.iter().all(|offset| bank.get(*offset) == 0xdead),
            "nothing but DR, FR, IMSC, RIS, MIS and ICR is there"
        );
        assert_eq!((bank.get(DR), bank.get(IMSC)), (u32::from(b'x'), 0x50));
    }
}
