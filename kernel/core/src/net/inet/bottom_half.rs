//! Where received frames are worked on: a kernel thread, woken by interrupts and timers.

/// Work has come for interface `index`; callable in IRQ context.
pub fn schedule(_index: u32) {}
