//! Pins: what each is connected to, levels, pulls.

use super::Soc;
use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers, WriteOnly};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;

register_structs! {
    #[allow(non_snake_case)]
    GpioRegisters {
        /// Function select: three bits a pin.
        (0x00 => GPFSEL: [ReadWrite<u32>; 6]),
        (0x18 => _reserved0),
        (0x1c => GPSET: [WriteOnly<u32>; 2]),
        (0x24 => _reserved1),
        (0x28 => GPCLR: [WriteOnly<u32>; 2]),
        (0x30 => _reserved2),
        (0x34 => GPLEV: [ReadOnly<u32>; 2]),
        (0x3c => _reserved3),
        /// BCM2837: pull to apply, and the pins that take it over.
        (0x94 => GPPUD: ReadWrite<u32>),
        (0x98 => GPPUDCLK: [ReadWrite<u32>; 2]),
        (0xa0 => _reserved4),
        /// BCM2711: pulls, two bits a pin.
        (0xe4 => PUP_PDN: [ReadWrite<u32>; 4]),
        (0xf4 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for GpioRegisters {}

/// What a pin is connected to (the FSEL encoding).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Function {
    Input = 0,
    Output = 1,
    Alt0 = 4,
    Alt3 = 7,
    Alt5 = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull {
    None,
    Up,
    Down,
}

/// Pins of the first two banks: 0..54.
pub const PINS: u32 = 54;

pub struct Gpio {
    registers: Registers<GpioRegisters>,
    soc: Soc,
}

impl Gpio {
    pub fn new(registers: Mmio, soc: Soc) -> Self {
        Self { registers: registers.registers(0), soc }
    }

    /// Connects a pin; numbers that no pin has are ignored, here and below.
    pub fn set_function(&self, pin: u32, function: Function) {
        if pin < PINS {
            let word = &self.registers.GPFSEL[pin as usize / 10];
            let shift = pin % 10 * 3;
            word.set(word.get() & !(7 << shift) | (function as u32) << shift);
        }
    }

    /// The FSEL encoding of what a pin is connected to.
    pub fn function(&self, pin: u32) -> u32 {
        if pin < PINS { self.registers.GPFSEL[pin as usize / 10].get() >> (pin % 10 * 3) & 7 } else { 0 }
    }

    pub fn set_level(&self, pin: u32, high: bool) {
        if pin < PINS {
            let (word, bit) = (pin as usize / 32, 1 << (pin % 32));
            if high {
                self.registers.GPSET[word].set(bit);
            } else {
                self.registers.GPCLR[word].set(bit);
            }
        }
    }

    pub fn set_pull(&self, pin: u32, pull: Pull) {
        if pin >= PINS {
            return;
        }
        match self.soc {
            Soc::Bcm2837 => {
                // The signal needs 150 cycles before and after the clock; a read of a register takes at least one.
                let settle = || {
                    for _ in 0..300 {
                        let _ = self.registers.GPLEV[0].get();
                    }
                };
                let bits = match pull {
                    Pull::None => 0,
                    Pull::Down => 1,
                    Pull::Up => 2,
                };
                let clock = &self.registers.GPPUDCLK[pin as usize / 32];
                self.registers.GPPUD.set(bits);
                settle();
                clock.set(1 << (pin % 32));
                settle();
                self.registers.GPPUD.set(0);
                clock.set(0);
            }
            Soc::Bcm2711 => {
                let bits = match pull {
                    Pull::None => 0,
                    Pull::Up => 1,
                    Pull::Down => 2,
                };
                let word = &self.registers.PUP_PDN[pin as usize / 16];
                let shift = pin % 16 * 2;
                word.set(word.get() & !(3 << shift) | bits << shift);
            }
        }
    }

    /// Brings PL011 out on header pins 8 and 10 (GPIO 14 and 15). The firmware had it at the Bluetooth chip (GPIO 30 to 33),
    /// which loses it: two sources would meet at one receiver.
    pub fn connect_uart0(&self) {
        for pin in 30..34 {
            if self.function(pin) == Function::Alt3 as u32 {
                self.set_function(pin, Function::Input);
            }
        }
        self.set_function(14, Function::Alt0);
        self.set_function(15, Function::Alt0);
        self.set_pull(14, Pull::None);
        self.set_pull(15, Pull::Up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    fn gpio(soc: Soc) -> (Bank, Gpio) {
        let bank = Bank::new(0x1000);
        let gpio = Gpio::new(bank.mmio(), soc);
        (bank, gpio)
    }

    #[test]
    fn a_function_changes_its_own_three_bits() {
        let (bank, gpio) = gpio(Soc::Bcm2711);
        bank.set(0x04, u32::MAX);
        gpio.set_function(14, Function::Alt0);
        assert_eq!(bank.get(0x04), !(3 << 12));
        assert_eq!(gpio.function(14), 4);
        gpio.set_function(42, Function::Output);
        assert_eq!(bank.get(0x10), 1 << 6);
        gpio.set_function(54, Function::Output);
        gpio.set_function(u32::MAX, Function::Output);
        assert_eq!(bank.get(0x14), 0, "there is no pin 54");
    }

    #[test]
    fn levels_have_a_register_to_set_and_one_to_clear() {
        let (bank, gpio) = gpio(Soc::Bcm2711);
        gpio.set_level(42, true);
        assert_eq!((bank.get(0x20), bank.get(0x2c)), (1 << 10, 0));
        gpio.set_level(42, false);
        assert_eq!(bank.get(0x2c), 1 << 10);
        gpio.set_level(4, true);
        assert_eq!(bank.get(0x1c), 1 << 4);
        gpio.set_level(64, true);
    }

    #[test]
    fn the_console_is_taken_from_bluetooth() {
        for soc in [Soc::Bcm2837, Soc::Bcm2711] {
            let (bank, gpio) = gpio(soc);
            // GPIO 30 to 33 at ALT3, 34 at ALT3 too (that is the SD slot of the wireless chip).
            bank.set(0x0c, 0o77777);
            // GPIO 14, 15 at ALT5.
            bank.set(0x04, 0o22 << 12);
            gpio.connect_uart0();
            assert_eq!(bank.get(0x0c), 0o70000);
            assert_eq!(bank.get(0x04), 0o44 << 12);
        }
    }

    #[test]
    fn pulls_are_set_the_chips_own_way() {
        let (bank, gpio4) = gpio(Soc::Bcm2711);
        bank.set(0xe4, u32::MAX);
        gpio4.set_pull(15, Pull::Up);
        gpio4.set_pull(14, Pull::None);
        assert_eq!(bank.get(0xe4), 0x4fff_ffff);
        assert_eq!(bank.get(0x94), 0);
        let (bank, gpio3) = gpio(Soc::Bcm2837);
        bank.set(0x98, 7);
        gpio3.set_pull(15, Pull::Up);
        assert_eq!((bank.get(0x94), bank.get(0x98)), (0, 0), "the clock is taken away again");
        assert_eq!(bank.get(0xe4), 0);
    }
}
