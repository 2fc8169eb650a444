//! The devices of this machine, found in the device tree: interrupt controller, console and log ports, clock.

use crate::prelude::*;
use drivers::traits::{Ipi, Irq, Trigger};

/// Probes everything; after this `log` reaches the port and interrupts can be enabled.
pub fn init() {
    todo!()
}

/// Prepares the calling secondary CPU's interrupt interface and timer.
pub fn init_cpu() {
    todo!()
}

/// Calls `handler` (IRQ context, on any CPU) whenever `irq` fires.
pub fn register_irq(_irq: Irq, _trigger: Trigger, _name: &'static str, _handler: Box<dyn Fn() + Send + Sync>) {
    todo!()
}

/// `hal::trap::Hooks::irq`: takes all pending interrupts.
pub fn handle_irq() {
    todo!()
}

pub fn send_ipi(_cpu: usize, _ipi: Ipi) {
    todo!()
}

/// Seconds since 1970 from the RTC, if there is one.
pub fn rtc_seconds() -> Option<u64> {
    todo!()
}

/// One line per interrupt for /proc/interrupts: number, per-CPU counts, name.
pub fn interrupt_counts() -> Vec<(u32, [u64; hal::cpu::MAX_CPUS], &'static str)> {
    todo!()
}

/// The console device under the terminal: what the UART received goes to `set_console_input`'s sink (IRQ context).
pub mod console {
    /// Registers the receiver of console input, called in IRQ context with the bytes; answers how many it took. When it takes
    /// fewer, reception stops until [`resume_input`].
    pub fn set_input_sink(_sink: fn(&[u8]) -> usize) {
        todo!()
    }
    pub fn resume_input() {
        todo!()
    }
    /// Queues as much as fits; answers how many bytes were taken. The transmit interrupt drains the queue.
    pub fn write(_bytes: &[u8]) -> usize {
        todo!()
    }
    /// Room in the transmit queue, in bytes.
    pub fn write_room() -> usize {
        todo!()
    }
    /// Registers a function called (IRQ context) when room came back.
    pub fn set_room_notifier(_notify: fn()) {
        todo!()
    }
    /// Waits, polling, until everything queued was sent (before power-off).
    pub fn flush() {
        todo!()
    }
}
