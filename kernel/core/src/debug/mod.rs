//! The kernel log and panics.

use core::fmt;

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

/// Writes one line to the log ring and, if the console level allows, to the log port. Safe in any context.
pub fn log(_level: Level, _args: fmt::Arguments<'_>) {
    todo!()
}

#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Error, format_args!($($t)*)) } }
#[macro_export]
macro_rules! warn { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Warn, format_args!($($t)*)) } }
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Info, format_args!($($t)*)) } }
#[macro_export]
macro_rules! debug { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Debug, format_args!($($t)*)) } }

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    hal::power::off(101)
}
