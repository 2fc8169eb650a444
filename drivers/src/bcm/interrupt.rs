//! The BCM2837's interrupts: the BCM2836 local controller (timers and mailboxes of each core) and, behind its GPU line, the
//! BCM2835 controller of the peripherals.
//!
//! Numbers ([`Irq`]) are our own and flat: the generic timers have the numbers they have on every GIC (26, 27, 29, 30), the
//! BCM2835's 8 basic interrupts are 32 to 39, its 64 peripheral ones 64 to 127. Inter-processor interrupts are bits of mailbox 0
//! of each core.

use crate::mmio::{Mmio, ReadOnly, ReadWrite, RegisterBlock, Registers, WriteOnly};
use crate::traits::{InterruptController, Ipi, Irq, Pending, Trigger};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;

register_structs! {
    #[allow(non_snake_case)]
    LocalRegisters {
        /// What the generic timers count: 0 is the crystal.
        (0x00 => CONTROL: ReadWrite<u32>),
        (0x04 => _reserved0),
        /// In units of 2^-31.
        (0x08 => TIMER_PRESCALER: ReadWrite<u32>),
        /// The core that the peripherals' interrupts go to.
        (0x0c => GPU_ROUTING: ReadWrite<u32>),
        (0x10 => _reserved1),
        (0x40 => TIMER_CONTROL: [ReadWrite<u32>; 4]),
        (0x50 => MAILBOX_CONTROL: [ReadWrite<u32>; 4]),
        (0x60 => IRQ_SOURCE: [ReadOnly<u32>; 4]),
        (0x70 => FIQ_SOURCE: [ReadOnly<u32>; 4]),
        /// Four mailboxes a core.
        (0x80 => MAILBOX_SET: [WriteOnly<u32>; 16]),
        (0xc0 => MAILBOX_CLEAR: [ReadWrite<u32>; 16]),
        (0x100 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for LocalRegisters {}

register_structs! {
    #[allow(non_snake_case)]
    ArmRegisters {
        (0x00 => BASIC_PENDING: ReadOnly<u32>),
        (0x04 => PENDING: [ReadOnly<u32>; 2]),
        (0x0c => FIQ_CONTROL: ReadWrite<u32>),
        (0x10 => ENABLE: [WriteOnly<u32>; 2]),
        (0x18 => ENABLE_BASIC: WriteOnly<u32>),
        (0x1c => DISABLE: [WriteOnly<u32>; 2]),
        (0x24 => DISABLE_BASIC: WriteOnly<u32>),
        (0x28 => @END),
    }
}

// SAFETY: registers and reserved bytes, laid out by the macro.
unsafe impl RegisterBlock for ArmRegisters {}

const CORES: usize = 4;
/// The GIC's numbers of the timers in the order of the local controller's bits: secure, non-secure, hypervisor, virtual.
const TIMERS: [u32; 4] = [29, 30, 26, 27];
const BASIC: u32 = 32;
/// First of the peripherals' numbers.
pub const PERIPHERAL: u32 = 64;
/// Bits of a core's interrupt source.
const MAILBOX_0: u32 = 1 << 4;
const GPU: u32 = 1 << 8;
/// Basic pending bits 10 to 20 are copies of these peripherals'; their banks' own summary bits may not be set for them.
const COPIES: [u32; 11] = [7, 9, 10, 18, 19, 53, 54, 55, 56, 57, 62];
const TIMER_PRESCALER_1: u32 = 1 << 31;
const IPIS: [Ipi; 3] = [Ipi::Reschedule, Ipi::Stop, Ipi::Call];

pub struct Bcm2836 {
    local: Registers<LocalRegisters>,
    arm: Registers<ArmRegisters>,
    /// Logical number of the calling CPU.
    current_cpu: fn() -> usize,
    /// MPIDR of a logical CPU.
    affinity: fn(usize) -> Option<u64>,
}

impl Bcm2836 {
    /// Masks everything; the peripherals' interrupts go to the calling CPU.
    pub fn new(local: Mmio, armctrl: Mmio, current_cpu: fn() -> usize, affinity: fn(usize) -> Option<u64>) -> Self {
        let own = Self { local: local.registers(0), arm: armctrl.registers(0), current_cpu, affinity };
        for bank in 0..2 {
            own.arm.DISABLE[bank].set(u32::MAX);
        }
        own.arm.DISABLE_BASIC.set(0xff);
        own.arm.FIQ_CONTROL.set(0);
        for core in 0..CORES {
            own.local.TIMER_CONTROL[core].set(0);
            own.local.MAILBOX_CONTROL[core].set(0);
        }
        own.local.GPU_ROUTING.set(own.core() as u32);
        // The firmware leaves them so, other loaders may not: CNTFRQ_EL0 says the crystal's rate.
        own.local.CONTROL.set(0);
        own.local.TIMER_PRESCALER.set(TIMER_PRESCALER_1);
        own
    }

    fn core_of(&self, cpu: usize) -> Option<usize> {
        (self.affinity)(cpu).map(|affinity| affinity as usize & (CORES - 1))
    }

    fn core(&self) -> usize {
        self.core_of((self.current_cpu)()).unwrap_or(0)
    }

    fn dispatch_mailbox(&self, core: usize, handle: &mut dyn FnMut(Pending)) {
        let clear = &self.local.MAILBOX_CLEAR[4 * core];
        let bits = clear.get();
        // Cleared before it is acted on: what comes meanwhile raises the line anew.
        clear.set(bits);
        for ipi in IPIS.into_iter().filter(|ipi| bits >> *ipi as u32 & 1 == 1) {
            handle(Pending::Ipi(ipi));
        }
    }

    fn dispatch_peripherals(&self, handle: &mut dyn FnMut(Pending)) {
        let basic = self.arm.BASIC_PENDING.get();
        let mut banks = [0u32; 2];
        for (bank, bits) in banks.iter_mut().enumerate() {
            if basic >> (8 + bank) & 1 == 1 {
                *bits = self.arm.PENDING[bank].get();
            }
        }
        for (bit, number) in COPIES.into_iter().enumerate() {
            if basic >> (10 + bit) & 1 == 1 {
                banks[number as usize / 32] |= 1 << (number % 32);
            }
        }
        let mut each = |first: u32, mut bits: u32| {
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                handle(Pending::Device(Irq(first + bit)));
            }
        };
        each(BASIC, basic & 0xff);
        each(PERIPHERAL, banks[0]);
        each(PERIPHERAL + 32, banks[1]);
    }
}

impl InterruptController for Bcm2836 {
    fn init_cpu(&self) {
        let core = self.core();
        self.local.MAILBOX_CLEAR[4 * core].set(u32::MAX);
        self.local.MAILBOX_CONTROL[core].set(1);
    }

    fn enable(&self, irq: Irq, _trigger: Trigger) {
        match irq.0 {
            number @ BASIC..40 => self.arm.ENABLE_BASIC.set(1 << (number - BASIC)),
            number @ PERIPHERAL..128 => self.arm.ENABLE[(number as usize - 64) / 32].set(1 << (number % 32)),
            number => {
                if let Some(bit) = TIMERS.iter().position(|timer| *timer == number) {
                    let control = &self.local.TIMER_CONTROL[self.core()];
                    control.set(control.get() | 1 << bit);
                }
            }
        }
    }

    fn disable(&self, irq: Irq) {
        match irq.0 {
            number @ BASIC..40 => self.arm.DISABLE_BASIC.set(1 << (number - BASIC)),
            number @ PERIPHERAL..128 => self.arm.DISABLE[(number as usize - 64) / 32].set(1 << (number % 32)),
            number => {
                if let Some(bit) = TIMERS.iter().position(|timer| *timer == number) {
                    let control = &self.local.TIMER_CONTROL[self.core()];
                    control.set(control.get() & !(1 << bit));
                }
            }
        }
    }

    fn dispatch(&self, handle: &mut dyn FnMut(Pending)) {
        let core = self.core();
        loop {
            let source = self.local.IRQ_SOURCE[core].get();
            if source & (0xf | MAILBOX_0 | GPU) == 0 {
                return;
            }
            for (bit, number) in TIMERS.into_iter().enumerate() {
                if source >> bit & 1 == 1 {
                    handle(Pending::Device(Irq(number)));
                }
            }
            if source & MAILBOX_0 != 0 {
                self.dispatch_mailbox(core, handle);
            }
            if source & GPU != 0 {
                self.dispatch_peripherals(handle);
            }
        }
    }

    fn send_ipi(&self, cpu: usize, ipi: Ipi) {
        if let Some(core) = self.core_of(cpu) {
            self.local.MAILBOX_SET[4 * core].set(1 << ipi as u32);
        }
    }

    /// The BCM2835 controller's two cells: bank (0 basic, 1, 2), number in it.
    fn translate(&self, cells: &[u32]) -> Option<(Irq, Trigger)> {
        let &[bank, number, ..] = cells else { return None };
        let first = match bank {
            0 if number < 8 => BASIC,
            1 | 2 if number < 32 => PERIPHERAL + 32 * (bank - 1),
            _ => return None,
        };
        Some((Irq(first + number), Trigger::Level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::testing::Bank;

    const SOURCE: usize = 0x60;

    /// Logical CPU 0 is core 1.
    fn affinity(cpu: usize) -> Option<u64> {
        [1, 0, 2, 3].get(cpu).copied()
    }

    fn machine() -> (Bank, Bank, Bcm2836) {
        let (local, arm) = (Bank::new(0x1000), Bank::new(0x1000));
        local.set(0x44, 0xf);
        let controller = Bcm2836::new(local.mmio(), arm.mmio(), || 0, affinity);
        (local, arm, controller)
    }

    /// Everything seen with this core's source at `source`, which the first handled interrupt takes away.
    fn dispatch(source: u32, prepare: impl Fn(&Bank, &Bank)) -> (Vec<Pending>, Bank) {
        let (local, arm, controller) = machine();
        local.set(SOURCE + 4, source);
        prepare(&local, &arm);
        let mut seen = Vec::new();
        controller.dispatch(&mut |pending| {
            seen.push(pending);
            local.set(SOURCE + 4, 0);
        });
        (seen, local)
    }

    #[test]
    fn set_up_masks_everything_and_routes_to_the_boot_core() {
        let (local, arm, controller) = machine();
        assert_eq!((arm.get(0x1c), arm.get(0x20), arm.get(0x24)), (u32::MAX, u32::MAX, 0xff));
        assert_eq!(local.get(0x44), 0);
        assert_eq!(local.get(0x0c), 1, "core 1 booted");
        assert_eq!((local.get(0x00), local.get(0x08)), (0, 0x8000_0000), "the timers count the crystal");
        controller.init_cpu();
        assert_eq!(local.get(0x54), 1, "mailbox 0 interrupts this core");
        assert_eq!(local.get(0x50), 0, "and no other");
    }

    #[test]
    fn timers_are_the_calling_cores_own() {
        let (local, _arm, controller) = machine();
        controller.enable(Irq(27), Trigger::Level);
        controller.enable(Irq(30), Trigger::Level);
        assert_eq!(local.get(0x44), 0b1010);
        controller.disable(Irq(27));
        assert_eq!(local.get(0x44), 0b0010);
        assert_eq!(local.get(0x40), 0);
    }

    #[test]
    fn peripherals_have_an_enable_and_a_disable_register() {
        let (_local, arm, controller) = machine();
        controller.enable(Irq(PERIPHERAL + 57), Trigger::Level);
        assert_eq!((arm.get(0x10), arm.get(0x14)), (0, 1 << 25));
        controller.enable(Irq(PERIPHERAL + 9), Trigger::Level);
        assert_eq!(arm.get(0x10), 1 << 9);
        controller.disable(Irq(PERIPHERAL + 57));
        assert_eq!(arm.get(0x20), 1 << 25);
        controller.enable(Irq(BASIC + 1), Trigger::Level);
        assert_eq!(arm.get(0x18), 2);
        for number in [0, 25, 28, 40, 63, 128, u32::MAX] {
            arm.set(0x10, 0);
            controller.enable(Irq(number), Trigger::Level);
            controller.disable(Irq(number));
            assert_eq!(arm.get(0x10), 0, "{number} is no interrupt");
        }
    }

    #[test]
    fn dispatch_finds_every_kind() {
        assert_eq!(dispatch(0, |_, _| ()).0, []);
        assert_eq!(dispatch(1 << 3, |_, _| ()).0, [Pending::Device(Irq(27))]);
        let (seen, _) = dispatch(GPU, |_, arm| {
            arm.set(0, 1 << 9 | 1 << 1);
            arm.set(0x08, 1 << 25 | 1);
            arm.set(0x04, 1 << 29); // not summed up in the basic register: not looked at
        });
        let device = |number| Pending::Device(Irq(number));
        assert_eq!(seen, [device(BASIC + 1), device(PERIPHERAL + 32), device(PERIPHERAL + 57)]);
    }

    #[test]
    fn copies_in_the_basic_register_count_once() {
        // 57 as a copy (bit 19) alone, then with its bank.
        let (seen, _) = dispatch(GPU, |_, arm| arm.set(0, 1 << 19));
        assert_eq!(seen, [Pending::Device(Irq(PERIPHERAL + 57))]);
        let (seen, _) = dispatch(GPU, |_, arm| {
            arm.set(0, 1 << 19 | 1 << 9 | 1 << 11);
            arm.set(0x08, 1 << 25);
        });
        assert_eq!(seen, [Pending::Device(Irq(PERIPHERAL + 9)), Pending::Device(Irq(PERIPHERAL + 57))]);
    }

    #[test]
    fn ipis_are_bits_of_the_target_cores_mailbox() {
        let (local, _arm, controller) = machine();
        controller.send_ipi(1, Ipi::Call);
        assert_eq!(local.get(0x80), 1 << 2, "CPU 1 is core 0");
        controller.send_ipi(3, Ipi::Stop);
        assert_eq!(local.get(0x80 + 16 * 3), 1 << 1);
        controller.send_ipi(4, Ipi::Stop);
        let (seen, local) = dispatch(MAILBOX_0, |local, _| local.set(0xc0 + 16, 0b101));
        assert_eq!(seen, [Pending::Ipi(Ipi::Reschedule), Pending::Ipi(Ipi::Call)]);
        assert_eq!(local.get(0xc0 + 16), 0b101, "exactly what was seen is cleared");
    }

    #[test]
    fn specifiers_are_checked() {
        let (_local, _arm, controller) = machine();
        assert_eq!(controller.translate(&[2, 25, 4]), Some((Irq(PERIPHERAL + 57), Trigger::Level)));
        assert_eq!(controller.translate(&[0, 1]), Some((Irq(BASIC + 1), Trigger::Level)));
        assert_eq!(controller.translate(&[0, 8]), None);
        assert_eq!(controller.translate(&[1, 32]), None);
        assert_eq!(controller.translate(&[3, 0]), None);
        assert_eq!(controller.translate(&[1]), None);
    }
}
