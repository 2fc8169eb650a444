//! Arm Generic Interrupt Controller v2 (GIC-400; IHI 0048B): distributor and CPU interfaces.

use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers, WriteOnly};
use crate::traits::{InterruptController, Ipi, Irq, Pending, Trigger};
use core::sync::atomic::{AtomicU8, Ordering};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    CTLR [ENABLE 0],
    TYPER [IT_LINES OFFSET(0) NUMBITS(5) []],
    PMR [PRIORITY OFFSET(0) NUMBITS(8) []],
    IAR [ID OFFSET(0) NUMBITS(10) [], CPU OFFSET(10) NUMBITS(3) []],
    SGIR [ID OFFSET(0) NUMBITS(4) [], TARGETS OFFSET(16) NUMBITS(8) [], FILTER OFFSET(24) NUMBITS(2) []],
}

register_structs! {
    #[allow(non_snake_case)]
    Distributor {
        (0x000 => CTLR: ReadWrite<u32, CTLR::Register>),
        (0x004 => TYPER: ReadOnly<u32, TYPER::Register>),
        (0x008 => _reserved0),
        (0x080 => IGROUPR: [ReadWrite<u32>; 32]),
        (0x100 => ISENABLER: [ReadWrite<u32>; 32]),
        (0x180 => ICENABLER: [ReadWrite<u32>; 32]),
        (0x200 => ISPENDR: [ReadWrite<u32>; 32]),
        (0x280 => ICPENDR: [ReadWrite<u32>; 32]),
        (0x300 => _reserved1),
        (0x400 => IPRIORITYR: [ReadWrite<u8>; 1024]),
        (0x800 => ITARGETSR: [ReadWrite<u8>; 1024]),
        (0xc00 => ICFGR: [ReadWrite<u32>; 64]),
        (0xd00 => _reserved2),
        (0xf00 => SGIR: WriteOnly<u32, SGIR::Register>),
        (0xf04 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for Distributor {}

register_structs! {
    #[allow(non_snake_case)]
    CpuInterface {
        (0x00 => CTLR: ReadWrite<u32, CTLR::Register>),
        (0x04 => PMR: ReadWrite<u32, PMR::Register>),
        (0x08 => BPR: ReadWrite<u32>),
        (0x0c => IAR: ReadOnly<u32, IAR::Register>),
        (0x10 => EOIR: WriteOnly<u32>),
        (0x14 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for CpuInterface {}

/// Lowest priority the CPU interface lets through is above this.
const PRIORITY_MASK: u32 = 0xf0;
const PRIORITY: u8 = 0xa0;

/// A GICv2. Shared lines go to the CPU that enabled them.
pub struct GicV2 {
    distributor: Registers<Distributor>,
    cpu: Registers<CpuInterface>,
    /// Interface bit of each logical CPU, learned in `init_cpu`; 0 is not up.
    targets: [AtomicU8; 8],
    /// Logical number of the calling CPU.
    current_cpu: fn() -> usize,
}

impl GicV2 {
    /// Resets the distributor: all lines off, all to the calling CPU, level triggered.
    pub fn new(distributor: Mmio, cpu: Mmio, current_cpu: fn() -> usize) -> Self {
        let gic = Self {
            distributor: distributor.registers(0),
            cpu: cpu.registers(0),
            targets: [const { AtomicU8::new(0) }; 8],
            current_cpu,
        };
        let d = &gic.distributor;
        d.CTLR.set(0);
        let lines = 32 * (d.TYPER.read(TYPER::IT_LINES) as usize + 1).min(32);
        for word in 1..lines / 32 {
            d.ICENABLER[word].set(u32::MAX);
            d.ICPENDR[word].set(u32::MAX);
        }
        // To somebody: hypervisors complain of a line that goes to nobody.
        let target = own_target(d);
        for line in 32..lines.min(1020) {
            d.IPRIORITYR[line].set(PRIORITY);
            d.ITARGETSR[line].set(target);
        }
        d.CTLR.write(CTLR::ENABLE::SET);
        gic
    }
}

/// The calling CPU's interface bit, which ITARGETSR0 to 7 read as; a GIC with one CPU may have them zero (IHI 0048B, 4.3.12).
fn own_target(distributor: &Distributor) -> u8 {
    match distributor.ITARGETSR[0].get() {
        0 => 1,
        target => target,
    }
}

impl InterruptController for GicV2 {
    fn init_cpu(&self) {
        let d = &self.distributor;
        if let Some(slot) = self.targets.get((self.current_cpu)()) {
            slot.store(own_target(d), Ordering::Release);
        }
        d.ICENABLER[0].set(0xffff_0000);
        d.ISENABLER[0].set(0x0000_ffff);
        for line in 0..32 {
            d.IPRIORITYR[line].set(PRIORITY);
        }
        self.cpu.PMR.set(PRIORITY_MASK);
        self.cpu.BPR.set(0);
        self.cpu.CTLR.write(CTLR::ENABLE::SET);
    }

    fn enable(&self, irq: Irq, trigger: Trigger) {
        let line = irq.0 as usize;
        if line >= 1020 {
            return;
        }
        let d = &self.distributor;
        if line >= 16 {
            let word = &d.ICFGR[line / 16];
            let bit = 2 << (line % 16 * 2);
            let old = word.get();
            word.set(if trigger == Trigger::Edge { old | bit } else { old & !bit });
        }
        if line >= 32 {
            let target = self.targets.get((self.current_cpu)()).map_or(1, |slot| slot.load(Ordering::Acquire));
            d.ITARGETSR[line].set(target.max(1));
        }
        d.ISENABLER[line / 32].set(1 << (line % 32));
    }

    fn disable(&self, irq: Irq) {
        let line = irq.0 as usize;
        if line < 1020 {
            self.distributor.ICENABLER[line / 32].set(1 << (line % 32));
        }
    }

    fn dispatch(&self, handle: &mut dyn FnMut(Pending)) {
        loop {
            let raw = self.cpu.IAR.extract();
            let id = raw.read(IAR::ID);
            match id {
                // 1020-1023: nothing pending (for us).
                1020.. => return,
                0 => handle(Pending::Ipi(Ipi::Reschedule)),
                1 => handle(Pending::Ipi(Ipi::Stop)),
                2 => handle(Pending::Ipi(Ipi::Call)),
                3..16 => handle(Pending::Spurious),
                _ => handle(Pending::Device(Irq(id))),
            }
            // The raw value: for a software interrupt the source CPU must come back too.
            self.cpu.EOIR.set(raw.get());
        }
    }

    fn send_ipi(&self, cpu: usize, ipi: Ipi) {
        let Some(target) = self.targets.get(cpu).map(|slot| slot.load(Ordering::Acquire)) else { return };
        self.distributor.SGIR.write(SGIR::TARGETS.val(u32::from(target)) + SGIR::ID.val(ipi as u32));
    }

    fn translate(&self, cells: &[u32]) -> Option<(Irq, Trigger)> {
        translate(cells)
    }
}

/// The three-cell GIC interrupt specifier: type (0 shared, 1 private), number, flags.
pub fn translate(cells: &[u32]) -> Option<(Irq, Trigger)> {
    let &[kind, number, flags, ..] = cells else { return None };
    let base = match kind {
        0 => 32,
        1 => 16,
        _ => return None,
    };
    let line = number.checked_add(base).filter(|line| *line < 1020)?;
    Some((Irq(line), if flags & 3 != 0 { Trigger::Edge } else { Trigger::Level }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    const IAR: usize = 0x0c;
    const EOIR: usize = 0x10;
    const SGIR: usize = 0xf00;
    const ITARGETSR: usize = 0x800;

    fn machine() -> (Bank, Bank, GicV2) {
        let (distributor, cpu) = (Bank::new(0x1000), Bank::new(0x1000));
        // 96 lines.
        distributor.set(0x004, 2);
        // This CPU's interface is number 2.
        distributor.set(ITARGETSR, 0x0404_0404);
        let gic = GicV2::new(distributor.mmio(), cpu.mmio(), || 0);
        gic.init_cpu();
        (distributor, cpu, gic)
    }

    #[test]
    fn set_up_masks_shared_lines_and_opens_the_interface() {
        let (distributor, cpu, _gic) = machine();
        assert_eq!(distributor.get(0x000), 1);
        assert_eq!(distributor.get(0x184), u32::MAX);
        assert_eq!(distributor.get(0x188), u32::MAX);
        assert_eq!(distributor.get(0x18c), 0, "lines that do not exist are left alone");
        assert_eq!(distributor.get(0x100), 0xffff, "software interrupts are on");
        assert_eq!(distributor.get(ITARGETSR + 32), 0x0404_0404, "no line goes to nobody");
        assert_eq!(distributor.get(ITARGETSR + 92), 0x0404_0404);
        assert_eq!(distributor.get(ITARGETSR + 96), 0);
        assert_eq!(cpu.get(0x00), 1);
        assert_eq!(cpu.get(0x04), 0xf0);
    }

    #[test]
    fn a_shared_line_goes_to_the_cpu_that_enables_it() {
        let (distributor, _cpu, gic) = machine();
        distributor.set(ITARGETSR + 32, 0);
        gic.enable(Irq(33), Trigger::Edge);
        assert_eq!(distributor.get(ITARGETSR + 32), 0x0000_0400);
        assert_eq!(distributor.get(0x104), 1 << 1);
        assert_eq!(distributor.get(0xc08), 2 << 2, "edge");
        gic.enable(Irq(33), Trigger::Level);
        assert_eq!(distributor.get(0xc08), 0, "level");
        gic.disable(Irq(33));
        assert_eq!(distributor.get(0x184), 1 << 1);
    }

    #[test]
    fn lines_beyond_the_last_are_ignored() {
        let (distributor, _cpu, gic) = machine();
        gic.enable(Irq(1020), Trigger::Edge);
        gic.disable(Irq(u32::MAX));
        assert_eq!(distributor.get(0x100 + 31 * 4), 0);
    }

    #[test]
    fn an_ipi_names_the_interface_not_the_cpu_number() {
        let (distributor, _cpu, gic) = machine();
        gic.send_ipi(0, Ipi::Call);
        assert_eq!(distributor.get(SGIR), 0x0004_0002);
        distributor.set(SGIR, 0);
        gic.send_ipi(5, Ipi::Stop);
        gic.send_ipi(99, Ipi::Stop);
        // A CPU that is not up is no target; a number that no CPU has does nothing.
        assert_eq!(distributor.get(SGIR) & 0x00ff_0000, 0);
    }

    /// Acknowledges `raw` once, then spurious.
    fn dispatch_one(raw: u32) -> (Vec<Pending>, u32) {
        let (_distributor, cpu, gic) = machine();
        cpu.set(IAR, raw);
        let mut seen = Vec::new();
        gic.dispatch(&mut |pending| {
            seen.push(pending);
            cpu.set(IAR, 1023);
        });
        (seen, cpu.get(EOIR))
    }

    #[test]
    fn dispatch_ends_what_it_took_with_the_source_cpu() {
        assert_eq!(dispatch_one(33), (vec![Pending::Device(Irq(33))], 33));
        assert_eq!(dispatch_one(3 << 10 | 1), (vec![Pending::Ipi(Ipi::Stop)], 3 << 10 | 1));
        assert_eq!(dispatch_one(7), (vec![Pending::Spurious], 7));
        // Neither 1022 nor 1023 is ended.
        assert_eq!(dispatch_one(1022), (vec![], 0));
        assert_eq!(dispatch_one(1023), (vec![], 0));
    }

    #[test]
    fn specifiers_are_checked() {
        assert_eq!(translate(&[0, 1, 4]), Some((Irq(33), Trigger::Level)));
        assert_eq!(translate(&[1, 11, 0xf04]), Some((Irq(27), Trigger::Level)));
        assert_eq!(translate(&[0, 2, 1]), Some((Irq(34), Trigger::Edge)));
        assert_eq!(translate(&[2, 1, 4]), None);
        assert_eq!(translate(&[0, u32::MAX, 4]), None);
        assert_eq!(translate(&[0, 1000, 4]), None);
        assert_eq!(translate(&[0, 1]), None);
    }
}
