//! The green activity LED: which pin it is on, on each board.

use super::board::{Model, Revision};

/// The pin the LED hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// One of the chip's own.
    Chip(u32),
    /// One of the GPIO expander's, by the number the firmware gives it: 128 and on.
    Expander(u32),
}

/// Where the LED hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    pub pin: Pin,
    /// Lit when the pin is low.
    pub is_active_low: bool,
}

impl Led {
    /// The LED of a board, when there is no device tree to say so; `None` for boards that have none or that we do not know (a
    /// Raspberry Pi 400 has only a light for its power).
    pub fn of(revision: Revision) -> Option<Self> {
        let (pin, is_active_low) = match revision.model() {
            Model::ThreeB => (Pin::Expander(130), false),
            Model::ThreeBPlus | Model::ThreeAPlus => (Pin::Chip(29), false),
            Model::Zero2W => (Pin::Chip(29), true),
            Model::FourB | Model::Compute4 => (Pin::Chip(42), false),
            Model::Compute3 | Model::Four00 | Model::Other => return None,
        };
        Some(Self { pin, is_active_low })
    }
    /// The pin's level that lights it, or not.
    pub fn level(self, lit: bool) -> bool {
        lit != self.is_active_low
    }
}

/// How long the LED stays as it is, in ms, after `step` changes; even steps are lit. A heartbeat: two beats, then a rest.
pub const fn heartbeat_ms(step: u32) -> (bool, u64) {
    match step % 4 {
        0 => (true, 70),
        1 => (false, 130),
        2 => (true, 70),
        _ => (false, 1230),
    }
}

/// Half a period of the blinking that says a panic: five times a second.
pub const PANIC_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_board_has_its_own_pin() {
        let pin = |code| Led::of(Revision(code)).map(|led| led.pin);
        assert_eq!(pin(0xa0_2082), Some(Pin::Expander(130)));
        assert_eq!(pin(0xa0_20d3), Some(Pin::Chip(29)));
        assert_eq!(pin(0xb0_3115), Some(Pin::Chip(42)));
        assert_eq!((pin(0xc0_3130), pin(0)), (None, None));
    }

    #[test]
    fn one_board_lights_it_with_a_low_level() {
        let [three, zero] = [0xa0_20d3, 0x90_2120].map(|code| Led::of(Revision(code)).unwrap());
        assert_eq!((three.level(true), three.level(false)), (true, false));
        assert_eq!((zero.level(true), zero.level(false)), (false, true));
    }

    #[test]
    fn a_heart_beats_twice_and_rests() {
        let cycle: Vec<_> = (0..4).map(heartbeat_ms).collect();
        assert_eq!(cycle.iter().map(|(_, ms)| ms).sum::<u64>(), 1500);
        assert_eq!(cycle.iter().map(|(lit, _)| *lit).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(heartbeat_ms(4), heartbeat_ms(0));
        assert!(!heartbeat_ms(u32::MAX).0);
    }
}
