//! Interrupt dispatch: controller, handlers, counts.

use crate::prelude::*;
use core::sync::atomic::{AtomicU64, Ordering};
use drivers::traits::{InterruptController, Ipi, Irq, Pending, Trigger};
use hal::cpu::MAX_CPUS;
use spin::Once;

static CONTROLLER: Once<Box<dyn InterruptController>> = Once::new();

struct Handler {
    irq: Irq,
    name: &'static str,
    call: Box<dyn Fn() + Send + Sync>,
    counts: [AtomicU64; MAX_CPUS],
}

/// Registered at boot, read in every interrupt: an append-only list behind a lock that is only ever held shortly.
static HANDLERS: spin::RwLock<Vec<Arc<Handler>>> = spin::RwLock::new(Vec::new());
/// What [`Ipi::Call`] asks for.
static CALL: Once<fn()> = Once::new();
static IPI_COUNTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static TIMER_COUNTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

pub(super) fn set_controller(controller: Box<dyn InterruptController>) {
    CONTROLLER.call_once(|| controller);
}

pub(super) fn controller() -> Option<&'static dyn InterruptController> {
    CONTROLLER.get().map(|controller| &**controller)
}

/// Prepares the calling CPU's interrupt interface and timer.
pub fn init_cpu() {
    if let Some(controller) = controller() {
        controller.init_cpu();
        controller.enable(hal::time::irq(), Trigger::Level);
    }
}

/// Calls `handler` (IRQ context, on any CPU) whenever `irq` fires.
pub fn register_irq(irq: Irq, trigger: Trigger, name: &'static str, handler: Box<dyn Fn() + Send + Sync>) {
    let entry = Handler { irq, name, call: handler, counts: [const { AtomicU64::new(0) }; MAX_CPUS] };
    let _irq = hal::cpu::IrqGuard::new();
    HANDLERS.write().push(Arc::new(entry));
    if let Some(controller) = controller() {
        controller.enable(irq, trigger);
    }
}

/// `hal::trap::Hooks::irq`: takes all pending interrupts.
pub fn handle_irq() {
    let Some(controller) = controller() else { return };
    let cpu = hal::cpu::id();
    controller.dispatch(&mut |pending| match pending {
        Pending::Device(irq) if irq == hal::time::irq() => {
            TIMER_COUNTS[cpu].fetch_add(1, Ordering::Relaxed);
            crate::time::handle_timer_irq();
        }
        Pending::Device(irq) => {
            let handlers = HANDLERS.read();
            for handler in handlers.iter().filter(|handler| handler.irq == irq) {
                handler.counts[cpu].fetch_add(1, Ordering::Relaxed);
                (handler.call)();
            }
        }
        Pending::Ipi(ipi) => {
            IPI_COUNTS[cpu].fetch_add(1, Ordering::Relaxed);
            // Nothing that the sender has stored is read before the message was.
            core::sync::atomic::fence(Ordering::Acquire);
            match ipi {
                Ipi::Reschedule => crate::sched::handle_reschedule_ipi(),
                Ipi::Stop => hal::power::park_cpu(),
                Ipi::Call => {
                    if let Some(call) = CALL.get() {
                        call();
                    }
                }
            }
        }
        Pending::Spurious => {}
    });
}

/// Says what a CPU does when another sends it [`Ipi::Call`]; the first word counts.
pub fn set_call_handler(handler: fn()) {
    CALL.call_once(|| handler);
}

pub fn send_ipi(cpu: usize, ipi: Ipi) {
    if let Some(controller) = controller() {
        // The receiver looks for what was stored before this.
        hal::cpu::publish_stores();
        controller.send_ipi(cpu, ipi);
    }
}

fn snapshot(counts: &[AtomicU64; MAX_CPUS]) -> [u64; MAX_CPUS] {
    core::array::from_fn(|cpu| counts[cpu].load(Ordering::Relaxed))
}

/// One line per interrupt for /proc/interrupts: number, per-CPU counts, name.
pub fn interrupt_counts() -> Vec<(u32, [u64; MAX_CPUS], &'static str)> {
    let _irq = hal::cpu::IrqGuard::new();
    let mut lines = vec![
        (hal::time::irq().0, snapshot(&TIMER_COUNTS), "arch_timer"),
        (0, snapshot(&IPI_COUNTS), "Rescheduling interrupts"),
    ];
    lines.extend(HANDLERS.read().iter().map(|handler| (handler.irq.0, snapshot(&handler.counts), handler.name)));
    lines
}

use alloc::vec;
