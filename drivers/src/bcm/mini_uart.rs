//! The mini-UART of the auxiliary block, polled, transmitting only: the log's port where the console has the PL011.

use crate::mmio::{Mmio, ReadWrite, RegisterBlock, Registers};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    ENABLES [MINI_UART 0],
    pub(crate) LSR [TX_ROOM 5, TX_IDLE 6],
    CNTL [RX_ENABLE 0, TX_ENABLE 1],
}

register_structs! {
    #[allow(non_snake_case)]
    pub(crate) AuxRegisters {
        (0x00 => IRQ: ReadWrite<u32>),
        (0x04 => ENABLES: ReadWrite<u32, ENABLES::Register>),
        (0x08 => _reserved0),
        (0x40 => pub(crate) IO: ReadWrite<u32>),
        (0x44 => IER: ReadWrite<u32>),
        (0x48 => IIR: ReadWrite<u32>),
        (0x4c => LCR: ReadWrite<u32>),
        (0x50 => MCR: ReadWrite<u32>),
        (0x54 => pub(crate) LSR: ReadWrite<u32, LSR::Register>),
        (0x58 => _reserved1),
        (0x60 => CNTL: ReadWrite<u32, CNTL::Register>),
        (0x64 => STAT: ReadWrite<u32>),
        (0x68 => BAUD: ReadWrite<u32>),
        (0x6c => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for AuxRegisters {}

pub struct MiniUart(Registers<AuxRegisters>);

impl MiniUart {
    /// 8N1 at `baud` from the core clock, no interrupts.
    pub fn new(aux: Mmio, baud: u32, core_clock_hz: u32) -> Self {
        let registers: Registers<AuxRegisters> = aux.registers(0);
        registers.ENABLES.modify(ENABLES::MINI_UART::SET);
        registers.CNTL.set(0);
        registers.IER.set(0);
        // Both low bits for 8 data bits: one is not enough, as the errata of the data sheet say.
        registers.LCR.set(3);
        registers.MCR.set(0);
        // Both FIFOs emptied.
        registers.IIR.set(0xc6);
        let divisor = core_clock_hz / (8 * baud.max(1));
        registers.BAUD.set(divisor.saturating_sub(1).min(0xffff));
        registers.CNTL.write(CNTL::TX_ENABLE::SET);
        Self(registers)
    }

    /// Writes all of `bytes`; gives a byte up when the port takes none for long.
    pub fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            let mut spins = 0u32;
            while !self.0.LSR.is_set(LSR::TX_ROOM) && spins < 1_000_000 {
                spins += 1;
            }
            self.0.IO.set(u32::from(byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    #[test]
    fn set_up_leaves_the_blocks_neighbours_alone() {
        let bank = Bank::new(0x1000);
        // SPI1 is on.
        bank.set(0x04, 2);
        let _port = MiniUart::new(bank.mmio(), 115_200, 250_000_000);
        assert_eq!(bank.get(0x04), 3);
        assert_eq!(bank.get(0x4c), 3);
        assert_eq!(bank.get(0x44), 0);
        // 250 MHz / (8 * 115200) - 1
        assert_eq!(bank.get(0x68), 270);
        assert_eq!(bank.get(0x60), 2, "transmitter only");
    }

    #[test]
    fn a_stuck_port_and_a_mad_clock_hang_nothing() {
        let bank = Bank::new(0x1000);
        let port = MiniUart::new(bank.mmio(), 0, 0);
        assert_eq!(bank.get(0x68), 0);
        port.write(b"x");
        assert_eq!(bank.get(0x40), u32::from(b'x'));
        bank.set(0x54, 1 << 5);
        port.write(b"yz");
        assert_eq!(bank.get(0x40), u32::from(b'z'));
    }
}
