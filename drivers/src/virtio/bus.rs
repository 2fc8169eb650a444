//! A virtio device on its mmio registers or PCI function: virtio-drivers' transport for setting up, and the two registers
//! of every day (notify, interrupt status) reached directly, without a lock.

use super::{Bus, Error, Events, Layout};
use crate::lock::IrqLock;
use crate::mmio::{Mmio, ReadOnly, RegisterBlock, Registers, WriteOnly};
use core::mem::ManuallyDrop;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use virtio_drivers::transport::mmio::{MmioTransport, MmioVersion};
use virtio_drivers::transport::{DeviceStatus, SomeTransport, Transport};

register_structs! {
    /// The mmio registers of every day (virtio 1.2, 4.2.2).
    #[allow(non_snake_case)]
    pub(super) MmioRegisters {
        (0x00 => _setup),
        (0x50 => QueueNotify: WriteOnly<u32>),
        (0x54 => _reserved),
        (0x60 => InterruptStatus: ReadOnly<u32>),
        (0x64 => InterruptACK: WriteOnly<u32>),
        (0x68 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for MmioRegisters {}

/// Queues of a device that its driver can notify.
pub const MAX_QUEUES: usize = 8;

pub(super) enum Hot {
    Mmio(Registers<MmioRegisters>),
    /// Interrupt status (reading it clears it), and where each queue is notified.
    Pci {
        isr: Registers<ReadOnly<u8>>,
        doorbells: [Option<Registers<WriteOnly<u16>>>; MAX_QUEUES],
    },
}

/// A device on virtio-drivers' transport.
pub struct TransportBus {
    device_type: u32,
    /// Never dropped: its drop waits for the device.
    transport: IrqLock<ManuallyDrop<SomeTransport<'static>>>,
    hot: Hot,
}

/// Bytes of an mmio device's registers with its configuration.
pub const MMIO_BYTES: usize = 0x200;

/// The device behind mmio registers; `NotFound`: an empty slot.
pub fn on_mmio(registers: Mmio) -> Result<TransportBus, Error> {
    if registers.len() < MMIO_BYTES {
        return Err(Error::Malformed);
    }
    let hot = registers.registers(0);
    // SAFETY: `Mmio` is mapped for ever and this driver's alone; the size was checked above, and the alignment by `registers`. What
    // `hot` reaches beside the transport are single accesses to registers that it does not reach.
    let transport = unsafe { MmioTransport::new(registers.base().cast(), registers.len()) };
    let transport = transport.map_err(|_| Error::NotFound)?;
    if transport.version() != MmioVersion::Modern {
        return Err(Error::Legacy);
    }
    Ok(TransportBus::new(transport.into(), Hot::Mmio(hot)))
}

impl TransportBus {
    pub(super) fn new(transport: SomeTransport<'static>, hot: Hot) -> Self {
        Self { device_type: transport.device_type() as u32, transport: IrqLock::new(ManuallyDrop::new(transport)), hot }
    }
}

impl Bus for TransportBus {
    fn device_type(&self) -> u32 {
        self.device_type
    }

    fn begin(&self) -> u64 {
        let mut transport = self.transport.lock();
        transport.set_status(DeviceStatus::empty());
        // A PCI device may take its time.
        for _ in 0..1_000_000 {
            if transport.get_status().is_empty() {
                break;
            }
            core::hint::spin_loop();
        }
        transport.set_status(DeviceStatus::ACKNOWLEDGE);
        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        transport.read_device_features()
    }

    fn accept(&self, features: u64) -> bool {
        let mut transport = self.transport.lock();
        transport.write_driver_features(features);
        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK);
        transport.get_status().contains(DeviceStatus::FEATURES_OK)
    }

    fn max_queue_size(&self, queue: u16) -> u16 {
        let mut transport = self.transport.lock();
        let reachable = match &self.hot {
            Hot::Mmio(_) => usize::from(queue) < MAX_QUEUES,
            Hot::Pci { doorbells, .. } => matches!(doorbells.get(usize::from(queue)), Some(Some(_))),
        };
        if reachable { transport.max_queue_size(queue).min(1 << 15) as u16 } else { 0 }
    }

    fn set_queue(&self, queue: u16, size: u16, layout: Layout) {
        self.transport.lock().queue_set(queue, u32::from(size), layout.descriptors, layout.avail, layout.used);
    }

    fn start(&self) {
        self.transport.lock().finish_init();
    }

    fn fail(&self) {
        self.transport.lock().set_status(DeviceStatus::FAILED);
    }

    fn needs_reset(&self) -> bool {
        self.transport.lock().get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
    }

    fn notify(&self, queue: u16) {
        match &self.hot {
            Hot::Mmio(registers) => registers.QueueNotify.set(u32::from(queue)),
            Hot::Pci { doorbells, .. } => {
                if let Some(Some(doorbell)) = doorbells.get(usize::from(queue)) {
                    doorbell.set(queue);
                }
            }
        }
    }

    fn acknowledge(&self) -> Events {
        let status = match &self.hot {
            Hot::Mmio(registers) => {
                let status = registers.InterruptStatus.get();
                if status != 0 {
                    registers.InterruptACK.set(status);
                }
                status
            }
            Hot::Pci { isr, .. } => u32::from(isr.get()),
        };
        Events { queue: status & 1 != 0, config: status & 2 != 0 }
    }

    fn config(&self, offset: usize) -> u8 {
        self.transport.lock().read_config_space::<u8>(offset).unwrap_or(0)
    }

    fn config_generation(&self) -> u32 {
        self.transport.lock().read_config_generation()
    }
}
