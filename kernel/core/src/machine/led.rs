//! The activity LED of a Raspberry Pi: it beats like a heart while the kernel runs, and blinks fast after a panic.

use super::probe;
use crate::prelude::*;
use crate::process::spawn_kernel_thread;
use crate::sync::{Park, WaitKind, WaitReason};
use base::bus;
use core::convert::Infallible;
use drivers::bcm::board::Revision;
use drivers::bcm::gpio::{Function, Gpio};
use drivers::bcm::led::{Led, PANIC_MS, Pin, heartbeat_ms};
use dtoolkit::fdt::FdtNode;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use hal::boot::raspberry_pi::with_firmware;
use spin::Once;

/// First number of the GPIO expander's pins.
const EXPANDER: u32 = 128;
const NS_PER_MS: u64 = 1_000_000;

struct Light {
    led: Led,
    gpio: Option<Gpio>,
}

static LIGHT: Once<Light> = Once::new();

impl Light {
    /// Whether it could be done.
    fn set(&self, lit: bool) -> bool {
        let level = self.led.level(lit);
        match (self.led.pin, &self.gpio) {
            (Pin::Chip(pin), Some(gpio)) => {
                gpio.set_level(pin, level);
                true
            }
            (Pin::Chip(_), None) => false,
            (Pin::Expander(pin), _) => with_firmware(|firmware| firmware.set_pin(pin, level)) == Some(Ok(())),
        }
    }
    /// Makes the pin an output, dark at first.
    fn prepare(&self) -> bool {
        let dark = self.led.level(false);
        match (self.led.pin, &self.gpio) {
            (Pin::Chip(pin), Some(gpio)) => {
                gpio.set_level(pin, dark);
                gpio.set_function(pin, Function::Output);
                true
            }
            (Pin::Chip(_), None) => false,
            (Pin::Expander(pin), _) => with_firmware(|firmware| firmware.configure_output(pin, dark)) == Some(Ok(())),
        }
    }
}

/// The LED that the device tree calls the activity LED: `/leds/led-act`, or the one with the label "ACT".
fn of_tree() -> Option<Led> {
    let fdt = probe::tree()?;
    let is_act = |led: &FdtNode<'_>| {
        let is_labelled = led.property("label").is_some_and(|label| label.value() == b"ACT\0");
        is_labelled || matches!(led.name(), "led-act" | "act")
    };
    let cells = bus::visit(fdt, &mut |place| {
        if !place.node.is_compatible("gpio-leds") {
            return None;
        }
        place.node.children().find(is_act).map(|led| bus::cells(led, "gpios").collect::<Vec<_>>())
    })?;
    let &[controller, pin, flags, ..] = cells.as_slice() else { return None };
    let controller = bus::find_phandle(fdt, controller)?.node;
    let is = |name| controller.is_compatible(name);
    let pin = if is("brcm,bcm2835-gpio") || is("brcm,bcm2711-gpio") {
        Pin::Chip(pin)
    } else if is("raspberrypi,firmware-gpio") {
        Pin::Expander(EXPANDER.checked_add(pin)?)
    } else {
        return None;
    };
    Some(Led { pin, is_active_low: flags & 1 == 1 })
}

/// Takes the LED over. `gpio` is the chip's pins.
pub(super) fn init(gpio: Option<Gpio>, revision: Option<Revision>) {
    let led = if probe::tree().is_some() { of_tree() } else { revision.and_then(Led::of) };
    let Some(led) = led else { return crate::info!("no activity LED is known on this board") };
    let light = Light { led, gpio };
    if light.prepare() {
        LIGHT.call_once(|| light);
    } else {
        crate::info!("activity LED: {:?} cannot be driven here", led.pin);
    }
}

/// Starts the heartbeat, if there is an LED.
pub fn start() {
    if LIGHT.is_completed() {
        spawn_kernel_thread("led", beat);
    }
}

fn beat() {
    let Some(light) = LIGHT.get() else { return };
    let mut step = 0u32;
    loop {
        let (lit, ms) = heartbeat_ms(step);
        if !light.set(lit) {
            return crate::warn!("activity LED: the firmware does not answer");
        }
        let deadline = crate::time::now_ns() + ms * NS_PER_MS;
        let never = || None::<Infallible>;
        let _ = Park::park_until(WaitMode::Uninterruptible, Some(deadline), WaitReason::new(WaitKind::Led), never);
        step = step.wrapping_add(1);
    }
}

/// After a panic, the calling CPU alone and with interrupts masked: blinks until `deadline_ns`, or for ever.
pub fn blink_until(deadline_ns: Option<u64>) {
    if deadline_ns.is_none() && !LIGHT.is_completed() {
        hal::power::park_cpu();
    }
    let mut lit = false;
    loop {
        let now = hal::time::now_ns();
        if deadline_ns.is_some_and(|deadline| now >= deadline) {
            return;
        }
        lit = !lit;
        if let Some(light) = LIGHT.get() {
            light.set(lit);
        }
        while hal::time::now_ns() < now + PANIC_MS * NS_PER_MS {
            hal::cpu::relax();
        }
    }
}
