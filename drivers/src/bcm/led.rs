//! The green activity LED: which pin it is on, on each board.

use super::board::{Model, Revision};

/// Where the LED hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Led {
    /// A pin of the chip's own; lit when high.
    Pin(u32),
    /// A pin of the GPIO expander, by the number the firmware gives it; lit when high.
    Expander(u32),
}

impl Led {
    /// The LED of a board; `None` for boards we do not know.
    pub fn of(revision: Revision) -> Option<Self> {
        match revision.model() {
            Model::ThreeB => Some(Self::Expander(130)),
            Model::ThreeBPlus | Model::ThreeAPlus => Some(Self::Pin(29)),
            Model::FourB | Model::Four00 | Model::Compute4 => Some(Self::Pin(42)),
            Model::Compute3 | Model::Other => None,
        }
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
        assert_eq!(Led::of(Revision(0xa0_2082)), Some(Led::Expander(130)));
        assert_eq!(Led::of(Revision(0xa0_20d3)), Some(Led::Pin(29)));
        assert_eq!(Led::of(Revision(0xb0_3115)), Some(Led::Pin(42)));
        assert_eq!(Led::of(Revision(0)), None);
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
