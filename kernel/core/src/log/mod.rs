//! The log: a ring for syslog(2) and /dev/kmsg, and the log port for what the console level lets through.

mod symbols;

pub use symbols::symbol;

#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::log::log($crate::log::Level::Error, format_args!($($t)*)) } }
#[macro_export]
macro_rules! warn { ($($t:tt)*) => { $crate::log::log($crate::log::Level::Warn, format_args!($($t)*)) } }
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::log::log($crate::log::Level::Info, format_args!($($t)*)) } }
#[macro_export]
macro_rules! debug { ($($t:tt)*) => { $crate::log::log($crate::log::Level::Debug, format_args!($($t)*)) } }

use crate::prelude::*;
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// kernel.dmesg_restrict: the log is for who has CAP_SYSLOG. 1 as Debian has it.
pub static DMESG_RESTRICT: AtomicUsize = AtomicUsize::new(1);

/// Severity, as in syslog(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    Error = 3,
    Warn = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

/// Bytes the ring keeps.
const RING_BYTES: usize = 64 << 10;
/// Bytes of one line; longer ones are cut.
const LINE_BYTES: usize = 512;

static RING: IrqSpinLock<VecDeque<u8>> = IrqSpinLock::new(VecDeque::new());
/// Messages more severe than this reach the port (console_loglevel).
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(7);

struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            // What programs name themselves may be in it: nothing that ends the line, or that a terminal obeys.
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
            match byte {
                0..0x20 | 0x7f => self.push(&[b'\\', b'x', hex(byte >> 4), hex(byte)]),
                _ => self.push(&[byte]),
            }
        }
        Ok(())
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() < LINE_BYTES {
            self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// A name as it may be printed where the host reads what the machine says of itself: one line, no controls.
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| out.write_char(if c.is_control() { '?' } else { c }))
    }
}

/// Writes one line to the log ring and, if the console level allows, to the log port. Safe in any context.
pub fn log(level: Level, args: fmt::Arguments<'_>) {
    let now = hal::time::now_ns();
    let mut line = Line { bytes: [0; LINE_BYTES], len: 0 };
    let _ = write!(line, "<{}>[{:5}.{:06}] {args}", level as u8, now / 1_000_000_000, now % 1_000_000_000 / 1000);
    line.bytes[line.len] = b'\n';
    let bytes = &line.bytes[..line.len + 1];
    let mut ring = RING.lock();
    if ring.capacity() == 0 {
        // Infallible: once, at boot.
        ring.reserve_exact(RING_BYTES);
    }
    while ring.len() + bytes.len() > RING_BYTES {
        ring.pop_front();
    }
    ring.extend(bytes);
    if (level as u8) < CONSOLE_LEVEL.load(Ordering::Relaxed) {
        // Under the ring's lock, so that lines do not mix. The "<level>" prefix stays off the port.
        hal::early::write_log(&bytes[3..]);
    }
}

/// Sets the console level: 1 only panics, 8 everything (`loglevel=`, syslog(2)).
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level, Ordering::Relaxed);
}

/// The ring's content.
pub fn dmesg() -> Vec<u8> {
    RING.lock().iter().copied().collect()
}
