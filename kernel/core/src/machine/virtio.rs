//! Virtio devices on mmio slots and behind the PCI host bridge: network cards, disks and the entropy source.

use super::entropy;
use super::probe::Device;
use crate::block::{self, Disk};
use crate::net::iface;
use crate::prelude::*;
use base::addr::PhysAddr;
use drivers::mmio::Mmio;
use drivers::traits::{BlockDevice, Irq, NetDevice, Trigger};
use drivers::virtio::blk::Blk;
use drivers::virtio::bus::{self, TransportBus};
use drivers::virtio::net::Net;
use drivers::virtio::pci::{self, Window};
use drivers::virtio::rng::Rng;
use drivers::virtio::{BLOCK, Bus, ENTROPY, Error, NETWORK};

/// A network device and its interrupt line, until it is attached.
struct NetPort {
    device: Arc<dyn NetDevice>,
    irq: Irq,
    trigger: Trigger,
}

static NET: SpinLock<Vec<NetPort>> = SpinLock::new(Vec::new());

/// Gives the network devices to the interface table, in the order they were found, with their interrupts.
pub fn attach_net() {
    let ports = core::mem::take(&mut *NET.lock());
    for NetPort { device, irq, trigger } in ports {
        let index = iface::attach(device.clone());
        let handler = move || {
            let events = device.acknowledge();
            if events.queue {
                // Until the bottom half has had its fill and enables it again.
                device.disable_interrupt();
            }
            if events.queue || events.config {
                iface::receive_bottom_half(index);
            }
        };
        crate::irq::register_irq(irq, trigger, "virtio-net", Box::new(handler.clone()));
        // The line may have risen before: with nobody to acknowledge it, it would stay so, and never rise again.
        handler();
    }
}

/// Hands a device to its driver.
fn adopt(name: &str, bus: TransportBus, line: Option<(Irq, Trigger)>) {
    let result = match bus.device_type() {
        NETWORK => match line {
            Some((irq, trigger)) => add_net(bus, irq, trigger),
            None => Err(Error::Malformed),
        },
        BLOCK => match line {
            Some((irq, trigger)) => add_disk(bus, irq, trigger),
            None => Err(Error::Malformed),
        },
        ENTROPY => {
            Rng::new(Box::new(bus), hal::dma::alloc).map(|device| entropy::register("virtio-rng", Arc::new(device)))
        }
        _ => return,
    };
    if let Err(error) = result {
        crate::warn!("{name}: virtio device left alone: {error:?}");
    }
}

/// Disks that were found, until they are attached.
static DISKS: SpinLock<Vec<(Arc<Disk>, Irq, Trigger)>> = SpinLock::new(Vec::new());

fn add_disk(bus: TransportBus, irq: Irq, trigger: Trigger) -> Result<(), Error> {
    let device = Blk::new(Box::new(bus), hal::dma::alloc, hal::boot::info().nr_cpus as u16)?;
    // What a page cannot hold cannot be cached.
    if device.info().logical_bytes > PAGE_SIZE as u32 {
        return Err(Error::Malformed);
    }
    let disk = block::registry::prepare_virtio(Arc::new(device));
    DISKS.lock().push((disk, irq, trigger));
    Ok(())
}

/// Shows the disks, in the order they were found, with their interrupts and partitions.
pub fn attach_disks() {
    let disks = core::mem::take(&mut *DISKS.lock());
    for (disk, irq, trigger) in disks {
        let handler = {
            let disk = disk.clone();
            move || disk.handle_irq()
        };
        crate::irq::register_irq(irq, trigger, "virtio-blk", Box::new(handler.clone()));
        // As for network cards.
        handler();
        disk.enable_interrupts();
        block::registry::add_virtio(&disk);
        let info = disk.info();
        crate::info!(
            "virtio-blk {}: {} sectors of 512 bytes, blocks of {}, {} queues{}{}",
            disk.name,
            info.nr_sectors,
            info.logical_bytes,
            info.nr_queues,
            if info.has_write_cache { ", write cache" } else { "" },
            if info.is_read_only { ", read only" } else { "" }
        );
    }
}

fn add_net(bus: TransportBus, irq: Irq, trigger: Trigger) -> Result<(), Error> {
    let number = NET.lock().len() as u8;
    // Locally administered; only for devices that have no address.
    let fallback_mac = [0x02, 0x43, 0x72, 0x61, 0x6e, number];
    let device = Net::new(Box::new(bus), hal::dma::alloc, fallback_mac, hal::boot::info().nr_cpus as u16)?;
    let [a, b, c, d, e, f] = device.mac();
    let mtu = device.mtu();
    crate::info!("virtio-net {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, MTU {mtu}, {:?}", device.offloads());
    NET.lock().push(NetPort { device: Arc::new(device), irq, trigger });
    Ok(())
}

pub(super) fn mmio(device: &Device<'_>) {
    let Some(registers) = device.map(0, bus::MMIO_BYTES as u64) else { return };
    match bus::on_mmio(registers) {
        Ok(bus) => adopt(device.name(), bus, device.interrupt()),
        // Most slots are empty.
        Err(Error::NotFound) => {}
        Err(error) => crate::warn!("{}: virtio device left alone: {error:?}", device.name()),
    }
}

fn map(phys: u64, len: usize) -> Option<Mmio> {
    hal::mmio::map(PhysAddr(phys), len).inspect_err(|error| crate::warn!("PCI: {phys:#x}+{len:#x}: {error:?}")).ok()
}

/// The bridge's window of 32-bit memory addresses: `ranges` has entries of 3 bus cells, 2 CPU cells and 2 size cells.
fn window(device: &Device<'_>) -> Option<Window> {
    const MEMORY_32: u32 = 0x0200_0000;
    device.cells("ranges").chunks_exact(7).find_map(|entry| {
        let wide = |at: usize| u64::from(entry[at]) << 32 | u64::from(entry[at + 1]);
        let same = wide(1) == wide(3);
        (entry[0] & 0x0300_0000 == MEMORY_32 && same).then(|| Window { start: wide(1), len: wide(5) })
    })
}

/// The line that pin `pin` of device `number` on bus 0 is wired to, by the bridge's `interrupt-map`.
fn line(device: &Device<'_>, number: u8, pin: u8) -> Option<(Irq, Trigger)> {
    /// Cells of a bus address and an interrupt pin.
    const CHILD_CELLS: usize = 4;
    let mask = device.cells("interrupt-map-mask");
    let map = device.cells("interrupt-map");
    let wanted = [u32::from(number) << 11, 0, 0, u32::from(pin)];
    let mut rest = map.as_slice();
    while let Some((&parent, _)) = rest.get(CHILD_CELLS..)?.split_first() {
        let (address_cells, interrupt_cells) = device.interrupt_parent_cells(parent)?;
        let specifier = CHILD_CELLS + 1 + address_cells;
        let len = specifier + interrupt_cells;
        let entry = rest.get(..len)?;
        let equal = (0..CHILD_CELLS).all(|at| {
            let mask = mask.get(at).copied().unwrap_or(u32::MAX);
            entry[at] & mask == wanted[at] & mask
        });
        if equal {
            return crate::irq::controller()?.translate(&entry[specifier..]);
        }
        rest = &rest[len..];
    }
    None
}

pub(super) fn pci_host(device: &Device<'_>) {
    let (Some((address, size)), Some(window)) = (device.reg(0), window(device)) else { return };
    if size < pci::BUS_BYTES as u64 {
        return;
    }
    let Some(ecam) = map(address, pci::BUS_BYTES) else { return };
    for found in pci::find(ecam, window, map) {
        match found.bus {
            Ok(bus) => adopt("pci", bus, line(device, found.device, found.pin)),
            Err(error) => crate::warn!("PCI device {:02x}: virtio device left alone: {error:?}", found.device),
        }
    }
}
