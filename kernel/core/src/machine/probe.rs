//! Device discovery: each `compatible` string names a probe function. Addresses are the CPUs' (`base::bus` translates them).

use super::{RTC, console, virtio};
use crate::irq;
use crate::prelude::*;
use base::addr::PhysAddr;
use base::bus::{self, Place};
use drivers::gicv2::GicV2;
use drivers::gicv3::Gic3;
use drivers::mmio::Mmio;
use drivers::ns16550::{self, Ns16550};
use drivers::pl011::Pl011;
use drivers::pl031::Pl031;
use drivers::traits::{Irq, Trigger, Uart};
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use hal::mmio::MapError;

type Probe = fn(&Device<'_>);

/// Interrupt controllers come first: the others translate their interrupts through them.
const CONTROLLERS: &[(&str, Probe)] = &[("arm,cortex-a15-gic", gicv2), ("arm,gic-400", gicv2), ("arm,gic-v3", gicv3)];
const DEVICES: &[(&str, Probe)] = &[
    ("arm,pl011", pl011),
    ("arm,sbsa-uart", sbsa_uart),
    ("ns16550a", ns16550),
    ("ns16550", ns16550),
    ("arm,pl031", pl031),
    ("virtio,mmio", virtio::mmio),
    ("pci-host-ecam-generic", virtio::pci_host),
];

/// A node of the tree as probes see it.
pub struct Device<'a> {
    place: Place<'a>,
    fdt: Fdt<'a>,
}

impl<'a> Device<'a> {
    pub fn new(place: Place<'a>, fdt: Fdt<'a>) -> Self {
        Self { place, fdt }
    }
    /// The `index`th register range.
    pub fn reg(&self, index: usize) -> Option<(u64, u64)> {
        self.place.reg(index)
    }
    /// The `index`th register range, mapped, when it has room for the `min_len` bytes its driver reaches. `None` for ranges
    /// no machine has: a driver never sees a block that is smaller than its registers.
    pub fn map(&self, index: usize, min_len: u64) -> Option<Mmio> {
        let (address, size) = self.reg(index)?;
        let fits = size >= min_len && size <= 64 << 20 && address & 3 == 0;
        let mapped = if fits { hal::mmio::map(PhysAddr(address), size as usize) } else { Err(MapError::OutOfRange) };
        if let Err(error) = &mapped {
            crate::warn!("{}: registers {address:#x}+{size:#x} left alone: {error:?}", self.place.node.name());
        }
        mapped.ok()
    }
    /// The first interrupt.
    pub fn interrupt(&self) -> Option<(Irq, Trigger)> {
        let mut cells = [0u32; 3];
        let mut given = bus::cells(self.place.node, "interrupts").take(cells.len()).peekable();
        given.peek()?;
        cells.iter_mut().zip(given).for_each(|(cell, value)| *cell = value);
        irq::controller()?.translate(&cells)
    }
    pub fn name(&self) -> &str {
        self.place.node.name()
    }
    /// A property's value as cells; empty when there is none.
    pub fn cells(&self, name: &str) -> Vec<u32> {
        bus::cells(self.place.node, name).collect()
    }
    /// `#address-cells` and `#interrupt-cells` of the interrupt controller that `phandle` names.
    pub fn interrupt_parent_cells(&self, phandle: u32) -> Option<(usize, usize)> {
        let parent = bus::find_phandle(self.fdt, phandle)?;
        let address = parent.cell("#address-cells").unwrap_or(0);
        let interrupt = parent.cell("#interrupt-cells")?;
        (address <= 4 && interrupt <= 8).then_some((address as usize, interrupt as usize))
    }
    /// A property of one cell.
    pub fn cell(&self, name: &str) -> Option<u32> {
        self.place.cell(name)
    }
}

/// The device tree, when there is one.
pub fn tree() -> Option<Fdt<'static>> {
    Fdt::new(hal::boot::info().dtb).ok()
}

pub(super) fn probe() {
    let Some(fdt) = tree() else { return };
    for table in [CONTROLLERS, DEVICES] {
        bus::visit(fdt, &mut |place| {
            if let Some((_, probe)) = table.iter().find(|(name, _)| place.node.is_compatible(name)) {
                probe(&Device::new(place.clone(), fdt));
            }
            None::<()>
        });
    }
}

fn gicv2(device: &Device<'_>) {
    if irq::controller().is_none()
        && let (Some(distributor), Some(cpu)) = (device.map(0, 0x1000), device.map(1, 0x1000))
    {
        irq::set_controller(Box::new(GicV2::new(distributor, cpu, hal::cpu::id)));
    }
}

fn gicv3(device: &Device<'_>) {
    let cpus = hal::boot::info().nr_cpus;
    // A frame of 128 KiB for each CPU.
    let frames = (cpus as u64) << 17;
    if irq::controller().is_none()
        && let (Some(distributor), Some(redistributors)) = (device.map(0, 0x1_0000), device.map(1, frames))
        && let Some(gic) = Gic3::new(distributor, redistributors, cpus, hal::smp::own_node, hal::smp::mpidr)
    {
        irq::set_controller(Box::new(gic));
    }
}

const BAUD: u32 = 115_200;

/// Makes the port the console's, if it is the one that hal chose (the log's port and all others stay as they are).
fn uart(device: &Device<'_>, bytes: usize, name: &'static str, make: impl FnOnce(Mmio) -> Option<Box<dyn Uart>>) {
    let is_chosen = device.reg(0).map(|(address, _)| address) == hal::boot::info().console;
    if !is_chosen || console::is_present() {
        return;
    }
    let Some((irq, trigger)) = device.interrupt() else {
        return crate::warn!("{}: a console without an interrupt has no input", device.name());
    };
    if let Some(uart) = device.map(0, bytes as u64).and_then(make) {
        console::set_port(uart, irq, trigger, name);
    }
}

fn pl011(device: &Device<'_>) {
    const CLOCK_HZ: u32 = 24_000_000;
    uart(device, 0x48, "uart-pl011", |registers| Some(Box::new(Pl011::new(registers, BAUD, CLOCK_HZ))));
}

fn sbsa_uart(device: &Device<'_>) {
    uart(device, 0x48, "sbsa-uart", |registers| Some(Box::new(Pl011::new_generic(registers))));
}

fn ns16550(device: &Device<'_>) {
    let Some(layout) = ns16550::Layout::new(device.cell("reg-shift"), device.cell("reg-io-width")) else {
        return crate::warn!("{}: registers of an unknown layout, left alone", device.name());
    };
    let clock_hz = device.cell("clock-frequency");
    uart(device, layout.len(), "ttyS", |registers| Some(Box::new(Ns16550::new(registers, layout, BAUD, clock_hz))));
}

fn pl031(device: &Device<'_>) {
    if let Some(registers) = device.map(0, 0x10) {
        RTC.call_once(|| Box::new(Pl031::new(registers)));
    }
}
