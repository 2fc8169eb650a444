//! PL031 real-time clock (DDI 0224).

use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers};
use crate::traits::Rtc;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;

register_structs! {
    #[allow(non_snake_case)]
    RtcRegisters {
        /// Data: seconds.
        (0x00 => DR: ReadOnly<u32>),
        (0x04 => MR: ReadWrite<u32>),
        /// Load: sets the clock.
        (0x08 => LR: ReadWrite<u32>),
        (0x0c => CR: ReadWrite<u32>),
        (0x10 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for RtcRegisters {}

pub struct Pl031(Registers<RtcRegisters>);

impl Pl031 {
    pub fn new(registers: Mmio) -> Self {
        Self(registers.registers(0))
    }
}

impl Rtc for Pl031 {
    fn seconds(&self) -> u64 {
        u64::from(self.0.DR.get())
    }
    fn set_seconds(&self, seconds: u64) {
        // A 32-bit clock: it ends in 2106.
        self.0.LR.set(seconds as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    #[test]
    fn reads_and_sets_the_clock() {
        let bank = Bank::new(0x1000);
        let rtc = Pl031::new(bank.mmio());
        bank.set(0x00, 0xffff_fff0);
        assert_eq!(rtc.seconds(), 0xffff_fff0);
        rtc.set_seconds(1_700_000_000);
        assert_eq!(bank.get(0x08), 1_700_000_000);
    }
}
