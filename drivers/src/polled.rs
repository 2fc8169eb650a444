//! Serial ports as boot and panics use them: bytes out, by polling, with no state but the port's own. A port may be used this way while
//! a driver has it too: only its data and status registers are touched, one access at a time, and bytes may interleave.

use crate::bcm::mini_uart::{AuxRegisters, LSR};
use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers};
use crate::ns16550::{Layout, Port};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    FR [BUSY 3, TXFF 5],
    LCR_H [FEN OFFSET(4) NUMBITS(1) [], WLEN OFFSET(5) NUMBITS(2) [Bits8 = 3]],
    CR [UARTEN 0, TXE 8, RXE 9],
}

register_structs! {
    /// PL011 (DDI 0183, 3.2). The generic UART has the first two.
    #[allow(non_snake_case)]
    Pl011Registers {
        (0x00 => DR: ReadWrite<u32>),
        (0x04 => _reserved0),
        (0x18 => FR: ReadOnly<u32, FR::Register>),
        (0x1c => _reserved1),
        (0x2c => LCR_H: ReadWrite<u32, LCR_H::Register>),
        (0x30 => CR: ReadWrite<u32, CR::Register>),
        (0x34 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for Pl011Registers {}

/// Looks at a status register before a port is given up: a FIFO at 9600 baud is empty long before.
const PATIENCE: u32 = 1_000_000;

/// A mapped serial port that is set up.
pub enum Polled {
    /// And the generic UART.
    Pl011(Pl011),
    Ns16550(Ns16550),
    /// That of a Raspberry Pi's auxiliary block.
    MiniUart(MiniUart),
}

pub struct Ns16550(Port);

pub struct Pl011(Registers<Pl011Registers>);
pub struct MiniUart(Registers<AuxRegisters>);

impl Polled {
    pub fn pl011(registers: &Mmio) -> Self {
        Self::Pl011(Pl011(registers.registers(0)))
    }
    /// A PL011 that nobody has set up yet: 8 bits, FIFOs on, at the rate it has.
    pub fn new_pl011(registers: &Mmio) -> Self {
        let port: Registers<Pl011Registers> = registers.registers(0);
        port.LCR_H.write(LCR_H::WLEN::Bits8 + LCR_H::FEN::SET);
        port.CR.write(CR::UARTEN::SET + CR::TXE::SET + CR::RXE::SET);
        Self::Pl011(Pl011(port))
    }
    /// A 16550A as the firmware or the hypervisor left it.
    pub fn ns16550(registers: Mmio, layout: Layout) -> Self {
        Self::Ns16550(Ns16550(Port::new(registers, layout)))
    }
    /// The mini-UART, which [`crate::bcm::mini_uart`] has set up.
    pub fn mini_uart(aux: &Mmio) -> Self {
        Self::MiniUart(MiniUart(aux.registers(0)))
    }

    fn has_room(&self) -> bool {
        match self {
            Self::Pl011(port) => !port.0.FR.is_set(FR::TXFF),
            Self::Ns16550(port) => port.0.has_room(),
            Self::MiniUart(port) => port.0.LSR.is_set(LSR::TX_ROOM),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Pl011(port) => !port.0.FR.is_set(FR::BUSY),
            Self::Ns16550(port) => port.0.is_idle(),
            Self::MiniUart(port) => port.0.LSR.is_set(LSR::TX_IDLE),
        }
    }

    /// Writes all of `bytes`; gives a byte up when the port takes none for long.
    pub fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            wait(|| self.has_room());
            match self {
                Self::Pl011(port) => port.0.DR.set(u32::from(byte)),
                Self::Ns16550(port) => port.0.put(byte),
                Self::MiniUart(port) => port.0.IO.set(u32::from(byte)),
            }
        }
    }

    /// Waits until all that was written has left the port, or for as long as a full FIFO may take.
    pub fn drain(&self) {
        wait(|| self.is_idle());
    }
}

fn wait(ready: impl Fn() -> bool) {
    let mut turns = 0;
    while !ready() && turns < PATIENCE {
        turns += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    #[test]
    fn a_pl011_is_told_its_line_and_sends() {
        let bank = Bank::new(0x1000);
        let port = Polled::new_pl011(&bank.mmio());
        assert_eq!((bank.get(0x2c), bank.get(0x30)), (0x70, 0x301));
        port.write(b"ab");
        port.drain();
        assert_eq!(bank.get(0), u32::from(b'b'));
    }

    #[test]
    fn a_port_that_never_has_room_hangs_nothing() {
        let bank = Bank::new(0x1000);
        let port = Polled::pl011(&bank.mmio());
        bank.set(0x18, 1 << 5 | 1 << 3);
        port.write(b"x");
        port.drain();
        assert_eq!(bank.get(0), u32::from(b'x'));
        let port = Polled::ns16550(bank.mmio(), Layout { shift: 2, width: 4 });
        bank.set(5 << 2, 0);
        port.write(b"z");
        port.drain();
        assert_eq!(bank.get(0), u32::from(b'z'));
        let port = Polled::mini_uart(&bank.mmio());
        port.write(b"y");
        port.drain();
        assert_eq!(bank.get(0x40), u32::from(b'y'));
    }
}
