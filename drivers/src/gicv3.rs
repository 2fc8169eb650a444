//! Arm Generic Interrupt Controller v3, on the `arm-gic` crate. LPIs are not used; shared lines go to the first CPU.

use crate::mmio::{Mmio, ReadOnly};
use crate::traits::{InterruptController, Ipi, Irq, Pending, Trigger};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use spin::Mutex;
use tock_registers::interfaces::Readable;

const PRIORITY: u8 = 0xa0;

/// A GICv3 whose redistributors lie in one region.
pub struct Gic3 {
    gic: Mutex<GicV3<'static>>,
    /// The calling CPU's redistributor.
    current_frame: fn() -> usize,
    /// MPIDR affinity of a logical CPU.
    affinity: fn(usize) -> Option<u64>,
}

fn intid(irq: Irq) -> Option<IntId> {
    match irq.0 {
        0..16 => Some(IntId::sgi(irq.0)),
        16..32 => Some(IntId::ppi(irq.0 - 16)),
        32..1020 => Some(IntId::spi(irq.0 - 32)),
        _ => None,
    }
}

impl Gic3 {
    /// Sets the distributor up with every line off. `None` when the registers are not a GICv3's, or when there is no redistributor
    /// for each of the `cpus` CPUs in the region.
    pub fn new(
        distributor: Mmio,
        redistributors: Mmio,
        cpus: usize,
        current_frame: fn() -> usize,
        affinity: fn(usize) -> Option<u64>,
    ) -> Option<Self> {
        // A redistributor has two frames of 64 KiB, and two more where it has virtual LPIs (IHI 0069H, 12.10).
        const TYPER: usize = 0x8;
        const VLPIS: u64 = 1 << 1;
        if distributor.len() < size_of::<Gicd>() || redistributors.len() < size_of::<GicrSgi>() {
            return None;
        }
        let has_vlpis = redistributors.registers::<ReadOnly<u64>>(TYPER).get() & VLPIS != 0;
        let stride = size_of::<GicrSgi>() * if has_vlpis { 2 } else { 1 };
        if cpus == 0 || cpus > redistributors.len() / stride {
            return None;
        }
        // SAFETY: both blocks are mapped device memory used for nothing else (Mmio's contract), the first as long as its registers,
        // the second with a redistributor for each of `cpus` CPUs by the checks above; the driver checks CPU numbers against `cpus`.
        let mut gic = unsafe {
            GicV3::new(
                UniqueMmioPointer::new(distributor.base().cast::<Gicd>()),
                redistributors.base().cast::<GicrSgi>(),
                cpus,
            )
        }
        .ok()?;
        gic.setup(0);
        Some(Self { gic: Mutex::new(gic), current_frame, affinity })
    }
}

impl InterruptController for Gic3 {
    fn init_cpu(&self) {
        let frame = (self.current_frame)();
        let mut gic = self.gic.lock();
        gic.init_cpu(frame);
        for sgi in 0..16 {
            let id = IntId::sgi(sgi);
            // Each of these can only fail for a CPU without a redistributor, which then gets no interrupts.
            let _ = gic.set_interrupt_priority(id, Some(frame), PRIORITY);
            let _ = gic.enable_interrupt(id, Some(frame), true);
        }
        drop(gic);
        GicCpuInterface::set_priority_mask(0xf0);
        GicCpuInterface::enable_group1(true);
    }

    fn enable(&self, irq: Irq, trigger: Trigger) {
        let Some(id) = intid(irq) else { return };
        let cpu = Some((self.current_frame)());
        let trigger = match trigger {
            Trigger::Edge => arm_gic::Trigger::Edge,
            Trigger::Level => arm_gic::Trigger::Level,
        };
        let mut gic = self.gic.lock();
        let _ = gic.set_interrupt_priority(id, cpu, PRIORITY);
        if irq.0 >= 16 {
            let _ = gic.set_trigger(id, cpu, trigger);
        }
        let _ = gic.enable_interrupt(id, cpu, true);
    }

    fn disable(&self, irq: Irq) {
        if let Some(id) = intid(irq) {
            let _ = self.gic.lock().enable_interrupt(id, Some((self.current_frame)()), false);
        }
    }

    fn dispatch(&self, handle: &mut dyn FnMut(Pending)) {
        while let Some(id) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1) {
            handle(match id.sgi_index() {
                Some(0) => Pending::Ipi(Ipi::Reschedule),
                Some(1) => Pending::Ipi(Ipi::Stop),
                Some(2) => Pending::Ipi(Ipi::Call),
                Some(_) => Pending::Spurious,
                None => Pending::Device(Irq(id.raw_value())),
            });
            GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
        }
    }

    fn send_ipi(&self, cpu: usize, ipi: Ipi) {
        let Some(affinity) = (self.affinity)(cpu) else { return };
        let target = SgiTarget::List {
            affinity3: (affinity >> 32) as u8,
            affinity2: (affinity >> 16) as u8,
            affinity1: (affinity >> 8) as u8,
            target_list: 1 << (affinity & 0xf),
        };
        let _ = GicCpuInterface::send_sgi(IntId::sgi(ipi as u32), target, SgiTargetGroup::CurrentGroup1);
    }

    fn translate(&self, cells: &[u32]) -> Option<(Irq, Trigger)> {
        crate::gicv2::translate(cells)
    }
}
