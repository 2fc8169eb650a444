//! Virtio devices: virtio-drivers' transports (mmio and PCI) under a device layer of our own.
//!
//! [`queue::Bus`] is what a device driver sees of its transport (virtio-mmio, [`pci`]); [`queue`] the virtqueue; [`net`] the network
//! card; [`blk`] the disk; [`rng`] the entropy source. Only modern devices (VERSION_1): QEMU's `virtio-mmio.force-legacy=false`.

pub mod blk;
pub mod bus;
#[cfg(test)]
mod model;
pub mod net;
pub mod pci;
pub(crate) mod queue;
pub mod rng;

pub use queue::Layout;

/// Device numbers (virtio 1.2, 5).
pub const NETWORK: u32 = 1;
pub const BLOCK: u32 = 2;
pub const ENTROPY: u32 = 4;

/// Features of every device (6).
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const VERSION_1: u64 = 1 << 32;

/// Why a device is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No such device, or not one of ours.
    NotFound,
    /// A device of before virtio 1.0.
    Legacy,
    /// The device took back what it offered.
    Features,
    /// A queue that must be there is not.
    NoQueue,
    NoMemory,
    /// Registers or configuration that cannot be.
    Malformed,
}

/// What an interrupt of a virtio device means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    pub queue: bool,
    pub config: bool,
}

/// A device on its transport.
pub trait Bus: Send + Sync {
    fn device_type(&self) -> u32;
    /// Resets the device and answers what it offers.
    fn begin(&self) -> u64;
    /// Accepts features; false: the device does not agree.
    fn accept(&self, features: u64) -> bool;
    /// The largest size of a queue; 0: there is none.
    fn max_queue_size(&self, queue: u16) -> u16;
    fn set_queue(&self, queue: u16, size: u16, layout: Layout);
    /// The device may begin.
    fn start(&self);
    /// Gives the device up.
    fn fail(&self);
    /// Whether the device says that it cannot go on, or is there no more.
    fn needs_reset(&self) -> bool;
    /// Tells the device that there is something in `queue`.
    fn notify(&self, queue: u16);
    /// Clears the interrupt and says what it was.
    fn acknowledge(&self) -> Events;
    /// A byte of the device's configuration; 0 beyond its end.
    fn config(&self, offset: usize) -> u8;
    /// Changes whenever the configuration does.
    fn config_generation(&self) -> u32;
}

/// `N` bytes of configuration, read until they belong together (a device that never settles gets its last word).
fn config<const N: usize>(bus: &dyn Bus, offset: usize) -> [u8; N] {
    let mut value = [0; N];
    for _ in 0..16 {
        let before = bus.config_generation();
        value = core::array::from_fn(|index| bus.config(offset + index));
        if bus.config_generation() == before {
            break;
        }
    }
    value
}

pub fn config_u16(bus: &dyn Bus, offset: usize) -> u16 {
    u16::from_le_bytes(config(bus, offset))
}

pub fn config_u32(bus: &dyn Bus, offset: usize) -> u32 {
    u32::from_le_bytes(config(bus, offset))
}

pub fn config_u64(bus: &dyn Bus, offset: usize) -> u64 {
    u64::from_le_bytes(config(bus, offset))
}

/// Resets the device and agrees on VERSION_1 and those of `wanted` that `choose` keeps of what is offered.
pub fn negotiate(bus: &dyn Bus, choose: impl FnOnce(u64) -> u64) -> Result<u64, Error> {
    let offered = bus.begin();
    if offered & VERSION_1 == 0 {
        bus.fail();
        return Err(Error::Legacy);
    }
    let features = (choose(offered) & offered) | VERSION_1;
    if !bus.accept(features) {
        bus.fail();
        return Err(Error::Features);
    }
    Ok(features)
}
