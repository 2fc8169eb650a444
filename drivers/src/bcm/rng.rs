//! The chips' random number generators: BCM2835's, and the RNG200 of the BCM2711.

use super::Soc;
use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers};
use crate::traits::Entropy;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;

register_structs! {
    #[allow(non_snake_case)]
    Bcm2835Registers {
        (0x00 => CTRL: ReadWrite<u32>),
        /// Bits 31 to 24: words ready; the rest counts the warm-up.
        (0x04 => STATUS: ReadWrite<u32>),
        (0x08 => DATA: ReadOnly<u32>),
        (0x0c => _reserved0),
        (0x10 => INT_MASK: ReadWrite<u32>),
        (0x14 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for Bcm2835Registers {}

register_structs! {
    #[allow(non_snake_case)]
    Rng200Registers {
        /// Bits 12 to 0 turn it on; 15 to 13 divide its clock.
        (0x00 => CTRL: ReadWrite<u32>),
        (0x04 => _reserved0),
        /// Bits made since it was turned on.
        (0x0c => TOTAL_BITS: ReadOnly<u32>),
        /// Bits that are made before the first is given out.
        (0x10 => TOTAL_BITS_THRESHOLD: ReadWrite<u32>),
        (0x14 => _reserved1),
        (0x20 => FIFO_DATA: ReadOnly<u32>),
        /// Bits 7 to 0: words ready; 15 to 8: from how many on it interrupts.
        (0x24 => FIFO_COUNT: ReadWrite<u32>),
        (0x28 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for Rng200Registers {}

/// What both generators throw away at first: it is less random than the rest.
const WARM_UP: u32 = 0x4_0000;
const RNG200_ON: u32 = 0x1fff;
/// One million samples a second.
const RNG200_DIVIDER: u32 = 3 << 13;
const RNG200_FIFO_THRESHOLD: u32 = 2 << 8;
/// The RNG200 counts so many bits before it is warm.
const RNG200_COLD_BITS: u32 = 16;

enum Kind {
    Bcm2835(Registers<Bcm2835Registers>),
    Rng200(Registers<Rng200Registers>),
}

pub struct Rng(Kind);

impl Rng {
    /// Starts the generator of `soc`. The first words take some milliseconds.
    pub fn new(registers: Mmio, soc: Soc) -> Self {
        match soc {
            Soc::Bcm2837 => {
                let rng: Registers<Bcm2835Registers> = registers.registers(0);
                rng.INT_MASK.set(1);
                rng.STATUS.set(WARM_UP);
                rng.CTRL.set(1);
                Self(Kind::Bcm2835(rng))
            }
            Soc::Bcm2711 => {
                let rng: Registers<Rng200Registers> = registers.registers(0);
                // The firmware may have turned it on; then it is warm.
                if rng.CTRL.get() & RNG200_ON == 0 {
                    rng.TOTAL_BITS_THRESHOLD.set(WARM_UP);
                    rng.FIFO_COUNT.set(RNG200_FIFO_THRESHOLD);
                    rng.CTRL.set(RNG200_DIVIDER | RNG200_ON);
                }
                Self(Kind::Rng200(rng))
            }
        }
    }

    fn word(&self) -> Option<u32> {
        match &self.0 {
            Kind::Bcm2835(rng) => (rng.STATUS.get() >> 24 != 0).then(|| rng.DATA.get()),
            Kind::Rng200(rng) => {
                let is_ready = rng.TOTAL_BITS.get() > RNG200_COLD_BITS && rng.FIFO_COUNT.get() & 0xff != 0;
                is_ready.then(|| rng.FIFO_DATA.get())
            }
        }
    }
}

impl Entropy for Rng {
    fn fill(&self, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        for piece in buf.chunks_mut(4) {
            let Some(word) = self.word() else { break };
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
            filled += piece.len();
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    #[test]
    fn the_old_generator_warms_up_and_counts_in_its_top_byte() {
        let bank = Bank::new(0x1000);
        let rng = Rng::new(bank.mmio(), Soc::Bcm2837);
        assert_eq!((bank.get(0x00), bank.get(0x04), bank.get(0x10)), (1, 0x4_0000, 1));
        let mut buf = [0; 6];
        assert_eq!(rng.fill(&mut buf), 0, "still warming up");
        bank.set(0x04, 1 << 24);
        bank.set(0x08, 0x4433_2211);
        assert_eq!(rng.fill(&mut buf), 6);
        assert_eq!(buf, [0x11, 0x22, 0x33, 0x44, 0x11, 0x22]);
    }

    #[test]
    fn the_new_one_has_a_count_of_its_own() {
        let bank = Bank::new(0x1000);
        bank.set(0x00, 0xffff_0000);
        let rng = Rng::new(bank.mmio(), Soc::Bcm2711);
        assert_eq!((bank.get(0x10), bank.get(0x24), bank.get(0x00)), (0x4_0000, 0x200, 0x7fff));
        let mut buf = [0; 4];
        bank.set(0x0c, 17);
        assert_eq!(rng.fill(&mut buf), 0, "the other fields are thresholds");
        bank.set(0x24, 0x201);
        bank.set(0x0c, 16);
        assert_eq!(rng.fill(&mut buf), 0, "still cold");
        bank.set(0x0c, 17);
        bank.set(0x20, 0x0403_0201);
        assert_eq!(rng.fill(&mut buf), 4);
        assert_eq!(buf, [1, 2, 3, 4]);
    }

    #[test]
    fn one_that_the_firmware_has_started_is_left_as_it_is() {
        let bank = Bank::new(0x1000);
        bank.set(0x00, 0x2001);
        let _rng = Rng::new(bank.mmio(), Soc::Bcm2711);
        assert_eq!((bank.get(0x00), bank.get(0x10), bank.get(0x24)), (0x2001, 0, 0));
    }
}
