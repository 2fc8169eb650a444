//! Device discovery: each `compatible` string names a probe function.

use super::{RTC, console, irq, virtio};
use crate::prelude::*;
use base::addr::PhysAddr;
use drivers::gicv2::GicV2;
use drivers::gicv3::Gic3;
use drivers::mmio::Mmio;
use drivers::pl011::Pl011;
use drivers::pl031::Pl031;
use drivers::traits::{Irq, Trigger};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property};

type Probe = fn(&Device<'_>);

/// Interrupt controllers come first: the others translate their interrupts through them.
const CONTROLLERS: &[(&str, Probe)] = &[("arm,cortex-a15-gic", gicv2), ("arm,gic-400", gicv2), ("arm,gic-v3", gicv3)];
const DEVICES: &[(&str, Probe)] = &[
    ("arm,pl011", pl011),
    ("arm,pl031", pl031),
    ("virtio,mmio", virtio::mmio),
    ("pci-host-ecam-generic", virtio::pci_host),
];

/// A node of the tree as probes see it.
pub struct Device<'a> {
    node: FdtNode<'a>,
    fdt: Fdt<'a>,
}

impl Device<'_> {
    /// The `index`th register range.
    pub fn reg(&self, index: usize) -> Option<(u64, u64)> {
        let reg = self.node.reg().ok()??.nth(index)?;
        Some((reg.address::<u64>().ok()?, reg.size::<u64>().ok()?))
    }
    /// The `index`th register range, mapped, when it has room for the `min_len` bytes its driver reaches. `None` for ranges
    /// no machine has: a driver never sees a block that is smaller than its registers.
    pub fn map(&self, index: usize, min_len: u64) -> Option<Mmio> {
        let (address, size) = self.reg(index)?;
        let end = address.checked_add(size)?;
        let fits = size >= min_len && size <= 64 << 20 && end < 1 << 44 && address & 3 == 0;
        if !fits {
            crate::warn!("{}: registers {address:#x}+{size:#x} make no sense, left alone", self.node.name());
        }
        fits.then(|| hal::mmio::map(PhysAddr(address), size as usize))
    }
    /// The first interrupt.
    pub fn interrupt(&self) -> Option<(Irq, Trigger)> {
        let property = self.node.property("interrupts")?;
        let mut cells = [0u32; 3];
        for (cell, bytes) in cells.iter_mut().zip(property.value().chunks_exact(4)) {
            *cell = u32::from_be_bytes(bytes.try_into().ok()?);
        }
        irq::controller()?.translate(&cells)
    }
    pub fn name(&self) -> &str {
        self.node.name()
    }
    /// A property's value as cells; empty when there is none.
    pub fn cells(&self, name: &str) -> Vec<u32> {
        let Some(property) = self.node.property(name) else { return Vec::new() };
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        property.value().chunks_exact(4).map(word).collect()
    }
    /// `#address-cells` and `#interrupt-cells` of the interrupt controller that `phandle` names.
    pub fn interrupt_parent_cells(&self, phandle: u32) -> Option<(usize, usize)> {
        fn find<'a>(node: FdtNode<'a>, phandle: u32, depth: usize) -> Option<FdtNode<'a>> {
            node.children().find_map(|child| {
                if cell(&child, "phandle") == Some(phandle) {
                    return Some(child);
                }
                if depth > 0 { find(child, phandle, depth - 1) } else { None }
            })
        }
        let node = find(self.fdt.root(), phandle, 3)?;
        let address = cell(&node, "#address-cells").unwrap_or(0);
        let interrupt = cell(&node, "#interrupt-cells")?;
        (address <= 4 && interrupt <= 8).then_some((address as usize, interrupt as usize))
    }
    /// Whether `/aliases/NAME` names this node.
    fn is_alias(&self, name: &str) -> bool {
        let Some(aliases) = self.fdt.find_node("/aliases") else { return false };
        let Some(property) = aliases.property(name) else { return false };
        let path = property.value().split(|&b| b == 0).next().unwrap_or(&[]);
        core::str::from_utf8(path)
            .ok()
            .and_then(|path| self.fdt.find_node(path))
            .is_some_and(|node| node.name() == self.node.name())
    }
}

/// A property of one cell.
fn cell(node: &FdtNode<'_>, name: &str) -> Option<u32> {
    Some(u32::from_be_bytes(node.property(name)?.value().try_into().ok()?))
}

fn visit<'a>(fdt: Fdt<'a>, node: FdtNode<'a>, depth: usize, table: &[(&str, Probe)]) {
    for child in node.children() {
        if matches!(child.status(), Ok(Status::Disabled)) {
            continue;
        }
        if let Some((_, probe)) = table.iter().find(|(name, _)| child.is_compatible(name)) {
            probe(&Device { node: child, fdt });
        }
        if depth > 0 {
            visit(fdt, child, depth - 1, table);
        }
    }
}

pub(super) fn probe() {
    let dtb = hal::boot::info().dtb;
    let Ok(fdt) = Fdt::new(dtb) else { return };
    for table in [CONTROLLERS, DEVICES] {
        visit(fdt, fdt.root(), 3, table);
    }
}

fn gicv2(device: &Device<'_>) {
    if let (Some(distributor), Some(cpu)) = (device.map(0, 0x1000), device.map(1, 0x1000))
        && irq::controller().is_none()
    {
        irq::set_controller(Box::new(GicV2::new(distributor, cpu, hal::cpu::id)));
    }
}

fn gicv3(device: &Device<'_>) {
    let cpus = hal::boot::info().nr_cpus;
    // A frame of 128 KiB for each CPU.
    let frames = (cpus as u64) << 17;
    if let (Some(distributor), Some(redistributors)) = (device.map(0, 0x1_0000), device.map(1, frames))
        && irq::controller().is_none()
        && let Some(gic) = Gic3::new(distributor, redistributors, cpus, hal::cpu::id, hal::smp::mpidr)
    {
        irq::set_controller(Box::new(gic));
    }
}

fn pl011(device: &Device<'_>) {
    const BAUD: u32 = 115_200;
    const CLOCK_HZ: u32 = 24_000_000;
    // The second port is the log's: it stays polled (hal::early).
    if device.is_alias("serial1") || console::is_present() {
        return;
    }
    if let (Some(registers), Some((irq, trigger))) = (device.map(0, 0x48), device.interrupt()) {
        console::set_port(Box::new(Pl011::new(registers, BAUD, CLOCK_HZ)), irq, trigger);
    }
}

fn pl031(device: &Device<'_>) {
    if let Some(registers) = device.map(0, 0x10) {
        RTC.call_once(|| Box::new(Pl031::new(registers)));
    }
}
