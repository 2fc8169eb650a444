//! Reset and power-off, by the watchdog of the power management block.
//!
//! There is no switch for power: the firmware, started anew, reads a boot partition number from six scattered bits of RSTS, and
//! 63 tells it to stay down.

use crate::mmio::{Mmio, ReadWrite, RegisterBlock, Registers};
use crate::traits::PowerControl;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;

register_structs! {
    #[allow(non_snake_case)]
    PmRegisters {
        (0x00 => _reserved0),
        (0x1c => RSTC: ReadWrite<u32>),
        (0x20 => RSTS: ReadWrite<u32>),
        (0x24 => WDOG: ReadWrite<u32>),
        (0x28 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for PmRegisters {}

/// A register that can be read without effect, to see whether the block is there.
pub const RSTC_OFFSET: usize = 0x1c;
/// In the top byte of every write that counts.
const PASSWORD: u32 = 0x5a00_0000;
const VALUE: u32 = 0x00ff_ffff;
/// RSTC: what the watchdog does when it runs out; 2 is a full reset.
const WRCFG: u32 = 3 << 4;
const FULL_RESET: u32 = 2 << 4;
/// RSTS: the boot partition.
const PARTITION: u32 = 0x555;
const HALT: u32 = 0x555;
/// Watchdog count in units of 1/65536 s: about 150 us.
const SOON: u32 = 10;

pub struct Pm(Registers<PmRegisters>);

impl Pm {
    pub fn new(registers: Mmio) -> Self {
        Self(registers.registers(0))
    }

    fn restart(&self, partition: u32) {
        let status = self.0.RSTS.get() & VALUE & !PARTITION;
        self.0.RSTS.set(PASSWORD | status | partition);
        self.0.WDOG.set(PASSWORD | SOON);
        let control = self.0.RSTC.get() & VALUE & !WRCFG;
        self.0.RSTC.set(PASSWORD | control | FULL_RESET);
    }
}

impl PowerControl for Pm {
    fn off(&self) {
        self.restart(HALT);
    }
    fn reset(&self) {
        self.restart(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    const RSTC: usize = RSTC_OFFSET;
    const RSTS: usize = 0x20;
    const WDOG: usize = 0x24;

    #[test]
    fn power_off_is_a_reset_into_partition_63() {
        let bank = Bank::new(0x1000);
        bank.set(RSTC, 0x0000_0112);
        bank.set(RSTS, 0x0000_1020);
        Pm::new(bank.mmio()).off();
        assert_eq!(bank.get(RSTS), 0x5a00_1575, "other status bits stay");
        assert_eq!(bank.get(WDOG), 0x5a00_000a);
        assert_eq!(bank.get(RSTC), 0x5a00_0122, "full reset, other control bits stay");
    }

    #[test]
    fn reset_boots_from_the_usual_partition() {
        let bank = Bank::new(0x1000);
        bank.set(RSTS, 0x0000_1555);
        Pm::new(bank.mmio()).reset();
        assert_eq!(bank.get(RSTS), 0x5a00_1000);
        assert_eq!(bank.get(RSTC), 0x5a00_0020);
    }
}
