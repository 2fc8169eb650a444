//! PL011 UART (DDI 0183), on the `arm-pl011-uart` crate: FIFOs on, interrupt driven both ways.

use crate::mmio::Mmio;
use crate::traits::Uart as UartTrait;
use arm_pl011_uart::{DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart};
use safe_mmio::UniqueMmioPointer;

/// Bytes kept that came before the port was set up.
const EARLY_LIMIT: usize = 256;

pub struct Pl011 {
    uart: Uart<'static>,
    /// What had been received before the FIFOs were turned on, which empties them; the first `early_len` bytes.
    early: [u8; EARLY_LIMIT],
    early_len: usize,
}

impl Pl011 {
    /// Takes the port over: 8N1 at `baud` from a clock of `clock_hz`; no interrupt on yet.
    pub fn new(registers: Mmio, baud: u32, clock_hz: u32) -> Self {
        // SAFETY: mapped PL011 registers, used by this driver (and the polled panic console) alone.
        let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers.base().cast::<PL011Registers>()) });
        // What boot wrote must leave the shifter before the port is set up anew.
        let mut spins = 0;
        while uart.is_busy() && spins < 1_000_000 {
            spins += 1;
        }
        let mut port = Self { uart, early: [0; EARLY_LIMIT], early_len: 0 };
        let mut early = [0; EARLY_LIMIT];
        port.early_len = port.read(&mut early);
        port.early = early;
        let uart = &mut port.uart;
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // A clock that cannot make the baud rate leaves the port as the firmware set it.
        let _ = uart.enable(line, baud, clock_hz);
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes8);
        uart.set_interrupt_masks(Interrupts::empty());
        uart.clear_interrupts(Interrupts::all());
        port
    }

    fn mask(&mut self, bits: Interrupts, on: bool) {
        let mut masks = self.uart.interrupt_masks();
        masks.set(bits, on);
        self.uart.set_interrupt_masks(masks);
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
        self.uart.clear_interrupts(Interrupts::TXI | Interrupts::RTI | Interrupts::OEI);
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
    const ICR: usize = 0x44;

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
        uart.acknowledge();
        assert_eq!(bank.get(ICR) & 0x20, 0x20);
    }
}
