//! The devices of this machine, found in the device tree: interrupt controller, console and log ports, clock, virtio; a Raspberry
//! Pi's own.

pub mod console;
pub mod entropy;
pub mod led;
mod probe;
mod raspberry_pi;
mod virtio;

pub use raspberry_pi::identity;
pub use virtio::{attach_disks, attach_net};

use drivers::traits::Rtc;
use spin::Once;

static RTC: Once<Box<dyn Rtc>> = Once::new();

use crate::prelude::*;

/// Probes everything; after this `log` reaches the port and interrupts can be enabled.
pub fn init() {
    raspberry_pi::init();
    probe::probe();
    crate::irq::init_cpu();
    console::init();
}

/// Seconds since 1970 from the RTC, if there is one.
pub fn rtc_seconds() -> Option<u64> {
    RTC.get().map(|rtc| rtc.seconds())
}

/// Sets the RTC, if there is one.
pub fn set_rtc_seconds(seconds: u64) {
    if let Some(rtc) = RTC.get() {
        rtc.set_seconds(seconds);
    }
}
