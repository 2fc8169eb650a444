//! Broadcom BCM2837 (Raspberry Pi 3) and BCM2711 (Raspberry Pi 4).
//!
//! - [`mailbox`]: questions to the firmware (memory, clocks, serial number)  - [`board`]: what a revision code says
//! - [`interrupt`]: the two controllers of the BCM2837 (the BCM2711 has a GIC)  - [`gpio`]: pins  - [`led`]: the activity LED
//! - [`mini_uart`]: the second serial port  - [`pm`]: reset and power-off  - [`rng`]: both random number generators
//!
//! Later drivers of these chips (SD, USB, Ethernet, framebuffer) stand here too; their addresses go into [`Blocks`].
//! Sources: "BCM2835 ARM Peripherals", "BCM2711 ARM Peripherals", "Quad-A7 control" (QA7_rev3.4).

pub mod board;
pub mod gpio;
pub mod interrupt;
pub mod led;
pub mod mailbox;
pub mod mini_uart;
pub mod pm;
pub mod rng;

/// The chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Soc {
    Bcm2837,
    Bcm2711,
}

/// An address as the Arm cores see it, and a length in bytes.
pub type Block = (u64, usize);

/// Where a chip's blocks are; `None` for what it lacks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Blocks {
    /// The firmware's mailbox.
    pub mailbox: Option<Block>,
    /// The BCM2835's interrupt controller.
    pub armctrl: Option<Block>,
    /// The BCM2836's local block: timers, inter-processor mailboxes.
    pub local: Option<Block>,
    /// GIC-400: distributor, CPU interface.
    pub gic: Option<(Block, Block)>,
    /// Power management: watchdog, reset.
    pub pm: Option<Block>,
    /// BCM2835's random number generator, or the RNG200 that took its place.
    pub rng: Option<Block>,
    pub gpio: Option<Block>,
    /// PL011: the console.
    pub uart0: Option<Block>,
    /// The auxiliary block with the mini-UART.
    pub aux: Option<Block>,
    /// Gigabit Ethernet.
    pub genet: Option<Block>,
}

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
    /// The chip's blocks by its data sheet, for boots without a device tree. The lengths are what the drivers reach.
    pub const fn blocks(self) -> Blocks {
        let base = self.peripherals();
        let common = Blocks {
            mailbox: Some((base + 0xb880, 0x40)),
            armctrl: Some((base + 0xb200, 0x200)),
            local: None,
            gic: None,
            pm: Some((base + 0x10_0000, 0x28)),
            rng: Some((base + 0x10_4000, 0x28)),
            gpio: Some((base + 0x20_0000, 0xf4)),
            uart0: Some((base + 0x20_1000, 0x200)),
            aux: Some((base + 0x21_5000, 0x80)),
            genet: None,
        };
        match self {
            Self::Bcm2837 => Blocks { local: Some((0x4000_0000, 0x100)), ..common },
            Self::Bcm2711 => Blocks {
                // There, but cut off from the cores when the firmware has turned the GIC on.
                armctrl: None,
                gic: Some(((0xff84_1000, 0x1000), (0xff84_2000, 0x2000))),
                genet: Some((0xfd58_0000, 0x1_0000)),
                ..common
            },
        }
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
        let at = |block: Option<(u64, usize)>| block.map(|(address, _)| address);
        let (old, new) = (Soc::Bcm2837.blocks(), Soc::Bcm2711.blocks());
        assert_eq!((at(old.uart0), at(new.uart0)), (Some(0x3f20_1000), Some(0xfe20_1000)));
        assert_eq!((at(old.mailbox), at(new.mailbox)), (Some(0x3f00_b880), Some(0xfe00_b880)));
        assert_eq!((at(old.local), at(new.local)), (Some(0x4000_0000), None));
        assert!(old.gic.is_none() && old.genet.is_none() && new.armctrl.is_none());
        assert_eq!(Soc::Bcm2837.spin_table(3), 0xf0);
    }
}
