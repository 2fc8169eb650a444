//! PL011 UART (DDI 0183), on the `arm-pl011-uart` crate: FIFOs on, interrupt driven both ways.

use crate::mmio::Mmio;
use crate::traits::Uart as UartTrait;
use arm_pl011_uart::{DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart};
use safe_mmio::UniqueMmioPointer;

pub struct Pl011 {
    uart: Uart<'static>,
}

impl Pl011 {
    /// Takes the port over: 8N1 at `baud` from a clock of `clock_hz`; no interrupt on yet.
    pub fn new(registers: Mmio, baud: u32, clock_hz: u32) -> Self {
        // SAFETY: mapped PL011 registers, used by this driver (and the polled panic console) alone.
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers.base().cast::<PL011Registers>()) });
        // What boot wrote must leave the shifter before the port is set up anew.
        let mut spins = 0;
        while uart.is_busy() && spins < 1_000_000 {
            spins += 1;
        }
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // A clock that cannot make the baud rate leaves the port as the firmware set it.
        let _ = uart.enable(line, baud, clock_hz);
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes8);
        uart.set_interrupt_masks(Interrupts::empty());
        uart.clear_interrupts(Interrupts::all());
        Self { uart }
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
        let mut count = 0;
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
