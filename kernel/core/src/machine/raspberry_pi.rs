//! The devices every Raspberry Pi 3 and 4 has, whether a device tree names them or not, and what the firmware says of the board.
//!
//! Runs before the probes of the device tree, which leave alone what is there already. Each block is read once with care before
//! its driver touches it: emulators lack some, and an abort is then a message.

use super::probe::{self, Device};
use super::{console, entropy, led};
use crate::irq;
use crate::prelude::*;
use base::addr::PhysAddr;
use base::bus;
use core::fmt::Write;
use drivers::bcm::board::Revision;
use drivers::bcm::gpio::Gpio;
use drivers::bcm::interrupt::{Bcm2836, PERIPHERAL};
use drivers::bcm::mailbox::Clock;
use drivers::bcm::rng::Rng;
use drivers::bcm::{Block, Blocks, Soc};
use drivers::gicv2::GicV2;
use drivers::mmio::Mmio;
use drivers::pl011::Pl011;
use drivers::traits::{Irq, Trigger};
use dtoolkit::standard::NodeStandard;
use hal::boot::raspberry_pi::{board, with_firmware};
use spin::Once;

const BAUD: u32 = 115_200;
/// What the boards' firmware sets PL011's clock to, when it does not say.
const UART_CLOCK_HZ: u32 = 48_000_000;

/// What the firmware and the device tree say of the board.
pub struct Identity {
    pub model: String,
    pub revision: Option<Revision>,
    pub serial: Option<u64>,
    /// Of the on-board Ethernet.
    pub mac: Option<[u8; 6]>,
}

static IDENTITY: Once<Identity> = Once::new();

/// The board, if this is a Raspberry Pi.
pub fn identity() -> Option<&'static Identity> {
    IDENTITY.get()
}

/// Maps a block that may not be there; the register at `offset` can be read without effect.
fn probe(name: &str, block: Option<Block>, offset: usize) -> Option<Mmio> {
    let (address, len) = block?;
    let registers = hal::mmio::map(PhysAddr(address), len)
        .inspect_err(|error| crate::warn!("{name} at {address:#x} left alone: {error:?}"))
        .ok()?;
    if hal::mmio::probe_read32(&registers, offset).is_none() {
        crate::warn!("{name} at {address:#x}: nothing answers there (external abort), left alone");
        return None;
    }
    Some(registers)
}

pub(super) fn init() {
    let Some(board) = board() else { return };
    let (soc, blocks) = (board.soc, &board.blocks);
    init_controller(soc, blocks);
    init_console(soc, blocks);
    init_identity();
    let gpio = probe("GPIO", blocks.gpio, 0).map(|registers| Gpio::new(registers, soc));
    led::init(gpio, identity().and_then(|identity| identity.revision));
    let name = match soc {
        Soc::Bcm2837 => "bcm2835-rng",
        Soc::Bcm2711 => "iproc-rng200",
    };
    if let Some(registers) = probe(name, blocks.rng, 0) {
        entropy::register(name, Arc::new(Rng::new(registers, soc)));
    }
    // SYS_REV_CTRL: the generation in bits 27 to 24.
    if let Some(registers) = probe("GENET", blocks.genet, 0)
        && let Some(revision) = hal::mmio::probe_read32(&registers, 0)
    {
        crate::info!("GENET Ethernet of generation {}: there is no driver for it yet", revision >> 24 & 0xf);
    }
}

fn init_controller(soc: Soc, blocks: &Blocks) {
    match soc {
        Soc::Bcm2837 => {
            let (local, arm) = (probe("local interrupts", blocks.local, 0), probe("interrupts", blocks.armctrl, 0));
            if let (Some(local), Some(arm)) = (local, arm) {
                irq::set_controller(Box::new(Bcm2836::new(local, arm, hal::cpu::id, hal::smp::mpidr)));
            }
        }
        Soc::Bcm2711 => {
            let Some((distributor, cpu)) = blocks.gic else { return };
            let (distributor, cpu) = (probe("GIC-400", Some(distributor), 0), probe("GIC-400", Some(cpu), 0));
            if let (Some(distributor), Some(cpu)) = (distributor, cpu) {
                irq::set_controller(Box::new(GicV2::new(distributor, cpu, hal::cpu::id)));
            }
        }
    }
}

/// The console's interrupt: as the device tree has it, else the chip's.
fn console_irq(soc: Soc, address: u64) -> (Irq, Trigger) {
    let named = probe::tree().and_then(|fdt| {
        bus::visit(fdt, &mut |place| {
            let is_it = place.node.is_compatible("arm,pl011") && place.reg(0)?.0 == address;
            if is_it { Device::new(place.clone(), fdt).interrupt() } else { None }
        })
    });
    let of_chip = match soc {
        Soc::Bcm2837 => Irq(PERIPHERAL + 57),
        Soc::Bcm2711 => Irq(32 + 121),
    };
    named.unwrap_or((of_chip, Trigger::Level))
}

fn init_console(soc: Soc, blocks: &Blocks) {
    // UARTFR.
    let (Some((address, _)), Some(registers)) = (blocks.uart0, probe("PL011", blocks.uart0, 0x18)) else { return };
    let clock_hz = with_firmware(|firmware| firmware.clock_hz(Clock::Uart).ok()).flatten().unwrap_or(UART_CLOCK_HZ);
    let (irq, trigger) = console_irq(soc, address);
    console::set_port(Box::new(Pl011::new(registers, BAUD, clock_hz)), irq, trigger, "uart-pl011");
}

/// Asks the firmware who the board is, and says so in the log.
fn init_identity() {
    let asked = with_firmware(|firmware| {
        (firmware.revision().ok(), firmware.serial_number().ok(), firmware.mac_address().ok())
    });
    let (revision, serial, mac) = asked.unwrap_or((None, None, None));
    let revision = revision.map(Revision);
    // The boards' firmware puts the revision's number into the tree's model; trees that nobody filled in have none.
    let of_tree = || probe::tree()?.root().model().ok().flatten().map(String::from);
    let of_code = || revision.map(|revision| alloc::format!("{} Rev 1.{}", revision.name(), revision.minor()));
    let model = of_tree().or_else(of_code).unwrap_or_else(|| String::from("Raspberry Pi"));
    let mut text = model.clone();
    if let Some(revision) = revision {
        let _ = write!(text, ", revision {:x}", revision.0);
    }
    if let Some(serial) = serial {
        let _ = write!(text, ", serial number {serial:016x}");
    }
    if let Some([a, b, c, d, e, f]) = mac {
        let _ = write!(text, ", Ethernet {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    crate::info!("{text}");
    IDENTITY.call_once(|| Identity { model, revision, serial, mac });
}
