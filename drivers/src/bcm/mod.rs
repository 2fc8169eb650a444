//! Broadcom BCM2837 (Raspberry Pi 3) and BCM2711 (Raspberry Pi 4).
//!
//! - [`mailbox`]: questions to the firmware (memory, clocks, serial number)  - [`board`]: what a revision code says
//! - [`interrupt`]: the two controllers of the BCM2837 (the BCM2711 has a GIC)  - [`gpio`]: pins  - [`led`]: the activity LED
//! - [`mini_uart`]: the second serial port  - [`pm`]: reset and power-off  - [`rng`]: both random number generators
//!
//! Later drivers of these chips (SD, USB, Ethernet, framebuffer) stand here too; their addresses go into [`Soc`].
//! Sources: "BCM2835 ARM Peripherals", "BCM2711 ARM Peripherals", "Quad-A7 control" (QA7_rev3.4).

pub mod board;
pub mod gpio;
pub mod interrupt;
pub mod led;
pub mod mailbox;
pub mod mini_uart;
pub mod pm;
pub mod rng;

/// The chip, and where its blocks are as the Arm cores see them (a chip's addresses never change, so that they need no device
/// tree).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Soc {
    Bcm2837,
    Bcm2711,
}

/// An address and a length in bytes.
pub type Block = (u64, usize);

impl Soc {
    /// The chip a CPU is part of, by MIDR_EL1: Cortex-A53 or Cortex-A72. Only for machines known to be a Raspberry Pi.
    pub const fn from_midr(midr: u64) -> Option<Self> {
        match (midr >> 24 & 0xff, midr >> 4 & 0xfff) {
            (0x41, 0xd03) => Some(Self::Bcm2837),
            (0x41, 0xd08) => Some(Self::Bcm2711),
            _ => None,
        }
    }
    /// The peripherals that all chips of the family have, at 0x7e000000 on their own bus.
    pub const fn peripherals(self) -> u64 {
        match self {
            Self::Bcm2837 => 0x3f00_0000,
            Self::Bcm2711 => 0xfe00_0000,
        }
    }
    const fn block(self, offset: u64, len: usize) -> Block {
        (self.peripherals() + offset, len)
    }
    /// Legacy interrupt controller (+0x200) and mailbox (+0x880).
    pub const fn arm_control(self) -> Block {
        self.block(0xb000, 0x1000)
    }
    /// Power management: watchdog, reset.
    pub const fn pm(self) -> Block {
        self.block(0x10_0000, 0x1000)
    }
    /// BCM2835's random number generator, or the RNG200 that took its place.
    pub const fn rng(self) -> Block {
        self.block(0x10_4000, 0x1000)
    }
    pub const fn gpio(self) -> Block {
        self.block(0x20_0000, 0x1000)
    }
    /// PL011: the console.
    pub const fn uart0(self) -> Block {
        self.block(0x20_1000, 0x1000)
    }
    /// The auxiliary block with the mini-UART.
    pub const fn aux(self) -> Block {
        self.block(0x21_5000, 0x1000)
    }
    /// The BCM2836 local block of the BCM2837: timers, inter-processor mailboxes.
    pub const fn local(self) -> Block {
        (0x4000_0000, 0x1000)
    }
    /// The GIC-400 of the BCM2711: distributor, CPU interface.
    pub const fn gic(self) -> (Block, Block) {
        ((0xff84_1000, 0x1000), (0xff84_2000, 0x2000))
    }
    /// The release word of core `core` where the firmware's stub waits.
    pub const fn spin_table(self, core: u64) -> u64 {
        0xd8 + 8 * core
    }
}

#[cfg(test)]
mod tests {
    use super::Soc;

    #[test]
    fn chips_are_told_apart_by_their_cores() {
        assert_eq!(Soc::from_midr(0x410f_d034), Some(Soc::Bcm2837));
        assert_eq!(Soc::from_midr(0x410f_d083), Some(Soc::Bcm2711));
        assert_eq!(Soc::from_midr(0x410f_d0c1), None);
        assert_eq!(Soc::from_midr(0x610f_d034), None);
    }

    #[test]
    fn blocks_lie_where_the_data_sheets_say() {
        assert_eq!(Soc::Bcm2837.uart0(), (0x3f20_1000, 0x1000));
        assert_eq!(Soc::Bcm2711.uart0(), (0xfe20_1000, 0x1000));
        assert_eq!(Soc::Bcm2711.arm_control().0, 0xfe00_b000);
        assert_eq!(Soc::Bcm2837.spin_table(3), 0xf0);
    }
}
