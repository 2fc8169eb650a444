//! Revision codes: which Raspberry Pi this is ("new-style" codes, all 64-bit boards have one).

/// A board model that has a 64-bit chip we drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    ThreeB,
    ThreeBPlus,
    ThreeAPlus,
    Compute3,
    Zero2W,
    FourB,
    Four00,
    Compute4,
    Other,
}

/// A revision code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revision(pub u32);

impl Revision {
    fn is_new_style(self) -> bool {
        self.0 >> 23 & 1 == 1
    }
    pub fn model(self) -> Model {
        if !self.is_new_style() {
            return Model::Other;
        }
        match self.0 >> 4 & 0xff {
            0x08 => Model::ThreeB,
            0x0a | 0x10 => Model::Compute3,
            0x0d => Model::ThreeBPlus,
            0x0e => Model::ThreeAPlus,
            0x11 => Model::FourB,
            0x12 => Model::Zero2W,
            0x13 => Model::Four00,
            0x14 => Model::Compute4,
            _ => Model::Other,
        }
    }
    /// The name that device trees give it.
    pub fn name(self) -> &'static str {
        match self.model() {
            Model::ThreeB => "Raspberry Pi 3 Model B",
            Model::ThreeBPlus => "Raspberry Pi 3 Model B Plus",
            Model::ThreeAPlus => "Raspberry Pi 3 Model A Plus",
            Model::Compute3 => "Raspberry Pi Compute Module 3",
            Model::Zero2W => "Raspberry Pi Zero 2 W",
            Model::FourB => "Raspberry Pi 4 Model B",
            Model::Four00 => "Raspberry Pi 400",
            Model::Compute4 => "Raspberry Pi Compute Module 4",
            Model::Other => "Raspberry Pi",
        }
    }
    /// Number of the board's revision: the 2 of "Rev 1.2".
    pub fn minor(self) -> u32 {
        self.0 & 0xf
    }
    /// All of its RAM in MiB, the VideoCore's part included.
    pub fn memory_mib(self) -> Option<u32> {
        self.is_new_style().then(|| 256 << (self.0 >> 20 & 7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_known_boards() {
        for (code, model, minor, mib) in [
            (0xa0_2082, Model::ThreeB, 2, 1024),
            (0xa0_20d3, Model::ThreeBPlus, 3, 1024),
            (0x90_20e0, Model::ThreeAPlus, 0, 512),
            (0x90_2120, Model::Zero2W, 0, 512),
            (0xb0_3115, Model::FourB, 5, 2048),
            (0xd0_3114, Model::FourB, 4, 8192),
            (0xc0_3130, Model::Four00, 0, 4096),
        ] {
            let revision = Revision(code);
            assert_eq!((revision.model(), revision.minor()), (model, minor), "{code:x}");
            assert_eq!(revision.memory_mib(), Some(mib), "{code:x}");
        }
    }

    #[test]
    fn unknown_codes_are_no_board() {
        assert_eq!(Revision(0x10).model(), Model::Other);
        assert_eq!(Revision(0x10).memory_mib(), None);
        assert_eq!(Revision(0x80_0ff0).name(), "Raspberry Pi");
    }
}
