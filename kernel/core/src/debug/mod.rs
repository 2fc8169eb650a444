//! What the kernel says about itself: log, panics, who waits for what, deadlocks, system calls as they happen.

pub mod deadlock;
mod log;
mod panic;
mod symbols;
pub mod trace;
pub mod waits;

pub use log::{Level, dmesg, log, set_console_level};
pub use symbols::symbol;

#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Error, format_args!($($t)*)) } }
#[macro_export]
macro_rules! warn { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Warn, format_args!($($t)*)) } }
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Info, format_args!($($t)*)) } }
#[macro_export]
macro_rules! debug { ($($t:tt)*) => { $crate::debug::log($crate::debug::Level::Debug, format_args!($($t)*)) } }
