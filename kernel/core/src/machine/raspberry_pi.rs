//! The devices every Raspberry Pi 3 and 4 has, whether a device tree names them or not: interrupt controller and console.
//!
//! Runs before the probes of the device tree, which leave alone what is there already.

use super::{console, irq};
use crate::prelude::*;
use base::addr::PhysAddr;
use drivers::bcm::interrupt::{Bcm2836, PERIPHERAL};
use drivers::bcm::mailbox::Clock;
use drivers::bcm::{Block, Soc};
use drivers::gicv2::GicV2;
use drivers::mmio::Mmio;
use drivers::pl011::Pl011;
use drivers::traits::{Irq, Trigger};
use hal::boot::raspberry_pi::with_firmware;

const BAUD: u32 = 115_200;
/// What the boards' firmware sets PL011's clock to, when it does not say.
const UART_CLOCK_HZ: u32 = 48_000_000;

fn map((address, len): Block) -> Mmio {
    hal::mmio::map(PhysAddr(address), len)
}

pub(super) fn init() {
    let Some(soc) = hal::boot::raspberry_pi::soc() else { return };
    let uart_irq = match soc {
        Soc::Bcm2837 => {
            let (local, arm) = (map(soc.local()), map(soc.arm_control()));
            irq::set_controller(Box::new(Bcm2836::new(local, arm, hal::cpu::id, hal::smp::mpidr)));
            Irq(PERIPHERAL + 57)
        }
        Soc::Bcm2711 => {
            let (distributor, cpu) = soc.gic();
            irq::set_controller(Box::new(GicV2::new(map(distributor), map(cpu), hal::cpu::id)));
            Irq(32 + 121)
        }
    };
    let clock_hz = with_firmware(|firmware| firmware.clock_hz(Clock::Uart).ok()).flatten().unwrap_or(UART_CLOCK_HZ);
    console::set_port(Box::new(Pl011::new(map(soc.uart0()), BAUD, clock_hz)), uart_irq, Trigger::Level);
}
