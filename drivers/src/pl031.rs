//! PL031 real-time clock (DDI 0224).

use crate::mmio::{Mmio, Registers};
use crate::traits::Rtc;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite};

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
