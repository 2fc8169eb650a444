//! Virtio devices on the first bus of a PCI host bridge with a memory-mapped configuration space (ECAM).
//!
//! No firmware ran before us: base addresses are given out here, from the bridge's memory window. Interrupts are INTx; what a
//! device says of itself is checked before virtio-drivers' transport looks at it.

use super::Error;
use super::bus::{Hot, MAX_QUEUES, TransportBus};
use crate::lock::IrqLock;
use crate::mmio::{Mmio, ReadOnly, ReadWrite, Registers};
use alloc::vec::Vec;
use core::mem::size_of;
use core::ptr::NonNull;
use tock_registers::interfaces::{Readable, Writeable};
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_CAP_ISR_CFG,
    VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_VENDOR_ID, virtio_device_type,
};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Configuration space of one bus: 32 devices of 8 functions of 4 KiB.
pub const BUS_BYTES: usize = 1 << 20;
const FUNCTION_SHIFT: usize = 12;
/// Registers of a function's header.
const HEADER_TYPE: u8 = 0x0c;
const MULTI_FUNCTION: u32 = 1 << 23;
const INTERRUPT_PIN: usize = 0x3d;
/// In the common configuration: `num_queues`, `queue_select`, `queue_notify_off`, and its length.
const NUM_QUEUES: usize = 0x12;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const COMMON_BYTES: u32 = 0x38;
/// Capabilities a list may have: all of the space behind the header.
const MAX_CAPABILITIES: usize = 48;

/// Maps physical device registers; `None` for addresses no machine has.
pub type MapFn = fn(phys: u64, len: usize) -> Option<Mmio>;

/// Device memory mapped so far: address and registers.
static MAPPED: IrqLock<Vec<(u64, Mmio)>> = IrqLock::new(Vec::new());

/// The `len` bytes of device memory at `phys`, which lie in the `size` bytes at `bar` of one base address register. The register's
/// memory is mapped once and shared by the parts of this driver and of virtio-drivers' transport.
fn place(bar: u64, size: u64, phys: u64, len: usize, map: MapFn) -> Option<Mmio> {
    let mut mapped = MAPPED.lock();
    if !mapped.iter().any(|(start, _)| *start == bar) {
        mapped.push((bar, map(bar, usize::try_from(size).ok()?)?));
    }
    part_of(&mapped, phys, len)
}

fn part_of(mapped: &[(u64, Mmio)], phys: u64, len: usize) -> Option<Mmio> {
    mapped.iter().find_map(|(start, memory)| memory.part(usize::try_from(phys.checked_sub(*start)?).ok()?, len))
}

/// The configuration space of bus 0.
struct Config(Mmio);

impl Config {
    fn word(&self, function: DeviceFunction, offset: usize) -> Option<Registers<ReadWrite<u32>>> {
        let number = usize::from(function.device) << 3 | usize::from(function.function);
        let at = (number << FUNCTION_SHIFT) + (offset & !3);
        let ok = function.bus == 0 && function.valid() && at + 4 <= self.0.len();
        ok.then(|| self.0.registers(at))
    }
    /// The same registers once more: this module's parts take turns.
    fn share(&self) -> Self {
        let Some(whole) = self.0.part(0, self.0.len()) else { unreachable!("the whole is a part") };
        Self(whole)
    }
}

impl ConfigurationAccess for Config {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        self.word(function, usize::from(offset)).map_or(u32::MAX, |word| word.get())
    }
    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if let Some(word) = self.word(function, usize::from(offset)) {
            word.set(data);
        }
    }
    unsafe fn unsafe_clone(&self) -> Self {
        self.share()
    }
}

/// What virtio-drivers asks of the kernel; its transport only maps registers.
struct Glue;

// SAFETY: `mmio_phys_to_virt` answers a live mapping of `size` bytes, which `set_up` made; no DMA memory is ever given out.
unsafe impl Hal for Glue {
    fn dma_alloc(_pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        (0, NonNull::dangling())
    }
    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }
    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        match part_of(&MAPPED.lock(), paddr, size) {
            Some(mmio) => mmio.base(),
            None => unreachable!("mapped by `set_up`"),
        }
    }
    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.as_ptr() as *const u8 as PhysAddr
    }
    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// A device found on the bus.
pub struct Found {
    /// The device, or why it is left alone.
    pub bus: Result<TransportBus, Error>,
    /// Device number on the bus, and interrupt pin (1 to 4 is INTA to INTD; 0 is none): what the bridge's interrupt map asks.
    pub device: u8,
    pub pin: u8,
}

/// The bridge's window for 32-bit memory addresses; bus and CPU addresses are the same in it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start: u64,
    pub len: u64,
}

impl Window {
    fn contains(&self, start: u64, len: u64) -> bool {
        start >= self.start && start.checked_add(len).is_some_and(|end| end <= self.start + self.len)
    }
}

/// A virtio structure inside a device's memory.
#[derive(Clone, Copy)]
struct Region {
    bar: u8,
    offset: u32,
    len: u32,
    multiplier: u32,
}

/// Finds the virtio devices on the bus whose configuration space is `ecam`.
pub fn find(ecam: Mmio, window: Window, map: MapFn) -> Vec<Found> {
    let mut found = Vec::new();
    if ecam.len() < BUS_BYTES || window.start.checked_add(window.len).is_none() {
        return found;
    }
    let config = Config(ecam);
    let mut root = PciRoot::new(config.share());
    let functions: Vec<_> = root.enumerate_bus(0).collect();
    let mut next = window.start;
    for (function, info) in functions {
        if info.vendor_id != VIRTIO_VENDOR_ID || virtio_device_type(&info).is_none() {
            continue;
        }
        // A device of one function need not look at the function's number: it may answer to all of them.
        let first = DeviceFunction { function: 0, ..function };
        if function.function != 0 && config.read_word(first, HEADER_TYPE) & MULTI_FUNCTION == 0 {
            continue;
        }
        let bus = set_up(&mut root, &config, function, window, &mut next, map);
        let pin = config.read_word(function, (INTERRUPT_PIN & !3) as u8) >> 8 & 0xff;
        found.push(Found { bus, device: function.device, pin: pin as u8 });
    }
    found
}

fn set_up(
    root: &mut PciRoot<Config>,
    config: &Config,
    function: DeviceFunction,
    window: Window,
    next: &mut u64,
    map: MapFn,
) -> Result<TransportBus, Error> {
    give_addresses(root, function, window, next)?;
    let (_, command) = root.get_status_command(function);
    root.set_command(function, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
    let [common, notify, isr, device] = regions(root, config, function)?;
    let mut region = |region: Option<Region>, least: u32| -> Result<(Mmio, u32), Error> {
        let region = region.ok_or(Error::Malformed)?;
        let bar = root.bar_info(function, region.bar).ok().flatten().ok_or(Error::Malformed)?;
        let (address, size) = bar.memory_address_size().ok_or(Error::Malformed)?;
        let end = region.offset.checked_add(region.len).ok_or(Error::Malformed)?;
        let fits =
            region.len >= least && u64::from(end) <= size && window.contains(address, size) && region.offset % 4 == 0;
        if !fits {
            return Err(Error::Malformed);
        }
        let phys = address + u64::from(region.offset);
        let mmio = place(address, size, phys, region.len as usize, map).ok_or(Error::Malformed)?;
        Ok((mmio, region.multiplier))
    };
    let (common, _) = region(common, COMMON_BYTES)?;
    let (notify, multiplier) = region(notify, 2)?;
    let (isr, _) = region(isr, 1)?;
    if device.is_some() {
        region(device, 4)?;
    }
    if multiplier % 2 != 0 {
        return Err(Error::Malformed);
    }
    let nr_queues = usize::from(common.registers::<ReadOnly<u16>>(NUM_QUEUES).get());
    let doorbells = core::array::from_fn(|queue| {
        if queue >= nr_queues {
            return None;
        }
        let offset = notify_offset(&common, queue as u16).checked_mul(multiplier as usize)?;
        (offset.checked_add(size_of::<u16>())? <= notify.len()).then(|| notify.registers(offset))
    });
    let isr = isr.registers(0);
    let transport = PciTransport::new::<Glue, _>(root, function).map_err(|_| Error::Malformed)?;
    Ok(TransportBus::new(transport.into(), Hot::Pci { isr, doorbells }))
}

/// Where queue `queue` is notified, in units of the multiplier.
fn notify_offset(common: &Mmio, queue: u16) -> usize {
    debug_assert!(usize::from(queue) < MAX_QUEUES && common.len() >= COMMON_BYTES as usize);
    common.registers::<ReadWrite<u16>>(QUEUE_SELECT).set(queue);
    usize::from(common.registers::<ReadOnly<u16>>(QUEUE_NOTIFY_OFF).get())
}

/// Gives the function's memory an address each, unless firmware did.
fn give_addresses(
    root: &mut PciRoot<Config>,
    function: DeviceFunction,
    window: Window,
    next: &mut u64,
) -> Result<(), Error> {
    let bars = root.bars(function).map_err(|_| Error::Malformed)?;
    for (index, bar) in bars.iter().enumerate() {
        let Some(BarInfo::Memory { address, size, .. }) = bar else { continue };
        if *size == 0 || !size.is_power_of_two() || *size > window.len {
            return Err(Error::Malformed);
        }
        if *address != 0 && window.contains(*address, *size) {
            *next = (*next).max(address + size);
            continue;
        }
        let start = next.next_multiple_of((*size).max(4096));
        if !window.contains(start, *size) {
            return Err(Error::NoMemory);
        }
        *next = start + size;
        if bar.as_ref().is_some_and(BarInfo::takes_two_entries) {
            root.set_bar_64(function, index as u8, start);
        } else {
            root.set_bar_32(function, index as u8, start as u32);
        }
    }
    Ok(())
}

/// The common, notify, interrupt and device structures (virtio 1.2, 4.1.4).
fn regions(root: &PciRoot<Config>, config: &Config, function: DeviceFunction) -> Result<[Option<Region>; 4], Error> {
    let mut found = [None; 4];
    let config = |offset: u8| config.read_word(function, offset);
    // A list that goes round would keep the transport for ever.
    if root.capabilities(function).nth(MAX_CAPABILITIES).is_some() {
        return Err(Error::Malformed);
    }
    for capability in root.capabilities(function) {
        let (len, kind) = (capability.private_header as u8, (capability.private_header >> 8) as u8);
        if capability.id != PCI_CAP_ID_VNDR || len < 16 || capability.offset > 0xec {
            continue;
        }
        let slot = match kind {
            VIRTIO_PCI_CAP_COMMON_CFG => 0,
            VIRTIO_PCI_CAP_NOTIFY_CFG if len >= 20 => 1,
            VIRTIO_PCI_CAP_ISR_CFG => 2,
            VIRTIO_PCI_CAP_DEVICE_CFG => 3,
            _ => continue,
        };
        let at = capability.offset;
        found[slot].get_or_insert(Region {
            bar: config(at + 4) as u8,
            offset: config(at + 8),
            len: config(at + 12),
            multiplier: if slot == 1 { config(at + 16) } else { 0 },
        });
    }
    Ok(found)
}
