//! The console device under the terminal: received bytes go to a sink in IRQ context; sent bytes wait in a ring that the
//! transmit interrupt drains.

use crate::prelude::*;
use alloc::collections::VecDeque;
use drivers::traits::{Irq, Trigger, Uart};
use spin::Once;

/// Bytes that may wait for the transmitter.
const TX_LIMIT: usize = 4096;

struct Port {
    uart: Box<dyn Uart>,
    tx: VecDeque<u8>,
    irq: (Irq, Trigger),
    /// In /proc/interrupts.
    name: &'static str,
    /// Received bytes the sink had no room for.
    held: Vec<u8>,
    sink: Option<fn(&[u8]) -> usize>,
    notify_room: Option<fn()>,
}

static PORT: Once<IrqSpinLock<Port>> = Once::new();

pub(super) fn is_present() -> bool {
    PORT.is_completed()
}

pub(super) fn set_port(uart: Box<dyn Uart>, irq: Irq, trigger: Trigger, name: &'static str) {
    PORT.call_once(|| {
        // Infallible: once, at boot.
        let mut held = Vec::with_capacity(64);
        hal::early::take_input(|bytes| held.extend_from_slice(bytes));
        IrqSpinLock::new(Port {
            uart,
            // Infallible: once, at boot.
            tx: VecDeque::with_capacity(TX_LIMIT),
            irq: (irq, trigger),
            name,
            held,
            sink: None,
            notify_room: None,
        })
    });
}

pub(super) fn init() {
    if let Some(port) = PORT.get() {
        let (irq, trigger, name) = {
            let port = port.lock();
            (port.irq.0, port.irq.1, port.name)
        };
        crate::irq::register_irq(irq, trigger, name, Box::new(interrupt));
    }
}

impl Port {
    /// Feeds the transmitter; the interrupt stays on while bytes wait.
    fn pump(&mut self) {
        while !self.tx.is_empty() {
            let (front, _) = self.tx.as_slices();
            let sent = self.uart.write(front);
            self.tx.drain(..sent);
            if sent == 0 {
                break;
            }
        }
        self.uart.set_tx_interrupt(!self.tx.is_empty());
    }
}

fn interrupt() {
    let Some(port) = PORT.get() else { return };
    let mut port = port.lock();
    port.uart.acknowledge();
    port.pump();
    let notify = port.notify_room.filter(|_| port.tx.len() < TX_LIMIT / 2);
    drop(port);
    receive();
    if let Some(notify) = notify {
        notify();
    }
}

/// Moves received bytes to the sink; stops receiving when it is full, so that nothing is lost.
fn receive() {
    let Some(lock) = PORT.get() else { return };
    loop {
        let mut port = lock.lock();
        let Some(sink) = port.sink else { return };
        let mut bytes = core::mem::take(&mut port.held);
        if bytes.is_empty() {
            let mut chunk = [0u8; 32];
            let count = port.uart.read(&mut chunk);
            bytes.extend_from_slice(&chunk[..count]);
        }
        if bytes.is_empty() {
            port.held = bytes;
            port.uart.set_rx_interrupt(true);
            return;
        }
        drop(port);
        let taken = sink(&bytes).min(bytes.len());
        bytes.drain(..taken);
        let full = !bytes.is_empty();
        let mut port = lock.lock();
        port.held = bytes;
        if full {
            port.uart.set_rx_interrupt(false);
            return;
        }
    }
}

/// Registers the receiver of console input, called in IRQ context with the bytes; answers how many it took. When it takes
/// fewer, reception stops until [`resume_input`].
pub fn set_input_sink(sink: fn(&[u8]) -> usize) {
    if let Some(port) = PORT.get() {
        port.lock().sink = Some(sink);
        receive();
    }
}

pub fn resume_input() {
    let _irq = hal::cpu::IrqGuard::new();
    receive();
}

/// Queues as much as fits; answers how many bytes were taken. The transmit interrupt drains the queue.
pub fn write(bytes: &[u8]) -> usize {
    let Some(port) = PORT.get() else {
        hal::early::write(bytes);
        return bytes.len();
    };
    let mut port = port.lock();
    let room = TX_LIMIT - port.tx.len();
    let taken = bytes.len().min(room);
    port.tx.extend(&bytes[..taken]);
    port.pump();
    taken
}

/// Room in the transmit queue, in bytes.
pub fn write_room() -> usize {
    PORT.get().map_or(TX_LIMIT, |port| TX_LIMIT - port.lock().tx.len())
}

/// Registers a function called (IRQ context) when room came back.
pub fn set_room_notifier(notify: fn()) {
    if let Some(port) = PORT.get() {
        port.lock().notify_room = Some(notify);
    }
}

/// Waits, polling, until everything queued was sent (before power-off).
pub fn flush() {
    let Some(lock) = PORT.get() else { return };
    loop {
        let mut port = lock.lock();
        port.pump();
        if port.tx.is_empty() {
            return;
        }
    }
}
