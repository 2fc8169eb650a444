//! The console terminal: /dev/console, /dev/ttyAMA0.
//!
//! The device's interrupt puts received bytes into a ring; a kernel thread takes them through the line discipline. When the
//! ring is full the device stops receiving and the sender waits, so that nothing pasted is lost.

use super::{Port, Tty, open};
use crate::machine::console as device;
use crate::prelude::*;
use crate::sync::WaitKind;
use alloc::collections::VecDeque;
use base::termios::{Termios, WinSize, cflag};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;

/// Bytes between interrupt and thread.
const RING: usize = 16 * 1024;

static CONSOLE: Once<Arc<Tty>> = Once::new();
static RECEIVED: IrqSpinLock<VecDeque<u8>> = IrqSpinLock::new(VecDeque::new());
static RECEIVED_WAIT: WaitQueue = WaitQueue::new();
/// The ring refused bytes: the device is stopped.
static HELD: AtomicBool = AtomicBool::new(false);
static ROOM_CAME: AtomicBool = AtomicBool::new(false);

/// The console terminal, after `init`.
pub fn tty() -> Option<&'static Arc<Tty>> {
    CONSOLE.get()
}

/// Brings up the console terminal (after `machine::init`, when kernel threads can start).
pub fn init() {
    let window = WinSize { rows: 24, columns: 80, x_pixels: 0, y_pixels: 0 };
    CONSOLE.call_once(|| Tty::new(open::DEV_SERIAL, Port::Console, Termios::new(cflag::B115200, 115_200), window));
    // Infallible: once, at boot.
    RECEIVED.lock().reserve_exact(RING);
    crate::process::spawn_kernel_thread("console", serve);
    device::set_input_sink(received);
    device::set_room_notifier(room_came);
}

/// Interrupt context: takes what fits.
fn received(bytes: &[u8]) -> usize {
    let mut ring = RECEIVED.lock();
    let taken = bytes.len().min(RING - ring.len());
    ring.extend(&bytes[..taken]);
    drop(ring);
    if taken < bytes.len() {
        HELD.store(true, Ordering::Release);
    }
    RECEIVED_WAIT.wake_one();
    taken
}

/// Interrupt context: the transmit queue drained.
fn room_came() {
    if let Some(tty) = CONSOLE.get() {
        ROOM_CAME.store(true, Ordering::Release);
        tty.port_has_room();
    }
    RECEIVED_WAIT.wake_one();
}

/// The discipline has room again.
pub fn input_has_room() {
    if !RECEIVED.lock().is_empty() {
        RECEIVED_WAIT.wake_one();
    }
}

/// The console thread: ring to discipline, waiting echo to device.
fn serve() {
    let Some(tty) = CONSOLE.get() else { return };
    let mut chunk = [0u8; 512];
    loop {
        let len = {
            let room = tty.input_room();
            let mut ring = RECEIVED.lock();
            let len = ring.len().min(chunk.len()).min(room);
            for (slot, byte) in chunk.iter_mut().zip(ring.drain(..len)) {
                *slot = byte;
            }
            len
        };
        if HELD.load(Ordering::Acquire) && RECEIVED.lock().len() <= RING / 2 && HELD.swap(false, Ordering::AcqRel) {
            device::resume_input();
        }
        if len != 0 {
            tty.receive(&chunk[..len]);
            continue;
        }
        if ROOM_CAME.swap(false, Ordering::AcqRel) {
            tty.send_waiting_echo();
        }
        RECEIVED_WAIT.wait_uninterruptible(WaitKind::ConsoleInput, || {
            let something = !RECEIVED.lock().is_empty() && tty.input_room() != 0;
            (something || ROOM_CAME.load(Ordering::Acquire)).then_some(())
        });
    }
}
