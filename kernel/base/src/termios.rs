//! Terminal settings: the flags and control characters of termios(3), arm64 values and layouts.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// c_iflag.
pub mod iflag {
    pub const IGNBRK: u32 = 0o1;
    pub const BRKINT: u32 = 0o2;
    pub const IGNPAR: u32 = 0o4;
    pub const PARMRK: u32 = 0o10;
    pub const INPCK: u32 = 0o20;
    pub const ISTRIP: u32 = 0o40;
    pub const INLCR: u32 = 0o100;
    pub const IGNCR: u32 = 0o200;
    pub const ICRNL: u32 = 0o400;
    pub const IUCLC: u32 = 0o1000;
    pub const IXON: u32 = 0o2000;
    pub const IXANY: u32 = 0o4000;
    pub const IXOFF: u32 = 0o10000;
    pub const IMAXBEL: u32 = 0o20000;
    pub const IUTF8: u32 = 0o40000;
}

/// c_oflag.
pub mod oflag {
    pub const OPOST: u32 = 0o1;
    pub const OLCUC: u32 = 0o2;
    pub const ONLCR: u32 = 0o4;
    pub const OCRNL: u32 = 0o10;
    pub const ONOCR: u32 = 0o20;
    pub const ONLRET: u32 = 0o40;
    pub const TABDLY: u32 = 0o14000;
    pub const XTABS: u32 = 0o14000;
}

/// c_cflag.
pub mod cflag {
    pub const CBAUD: u32 = 0o10017;
    pub const B38400: u32 = 0o17;
    pub const B115200: u32 = 0o10002;
    pub const BOTHER: u32 = 0o10000;
    pub const CSIZE: u32 = 0o60;
    pub const CS8: u32 = 0o60;
    pub const CREAD: u32 = 0o200;
    pub const PARENB: u32 = 0o400;
    pub const HUPCL: u32 = 0o2000;
    pub const CLOCAL: u32 = 0o4000;
    /// Where the input speed stands in c_cflag.
    pub const IBSHIFT: u32 = 16;
}

/// c_lflag.
pub mod lflag {
    pub const ISIG: u32 = 0o1;
    pub const ICANON: u32 = 0o2;
    pub const XCASE: u32 = 0o4;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOPRT: u32 = 0o2000;
    pub const ECHOKE: u32 = 0o4000;
    pub const FLUSHO: u32 = 0o10000;
    pub const PENDIN: u32 = 0o40000;
    pub const IEXTEN: u32 = 0o100000;
    pub const EXTPROC: u32 = 0o200000;
}

/// Indexes of c_cc.
pub mod cc {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

/// Number of control characters.
pub const NCCS: usize = 19;

/// `struct termios2`: all that TCGETS2 moves; TCGETS moves what stands before the speeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; NCCS],
    pub ispeed: u32,
    pub ospeed: u32,
}

/// Bytes of `struct termios`, the older layout without speeds.
pub const TERMIOS_LEN: usize = 36;

/// `struct winsize`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct WinSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

const CONTROL_DEFAULTS: [u8; NCCS] =
    [3, 0o34, 0o177, 0o25, 4, 0, 1, 0, 0o21, 0o23, 0o32, 0, 0o22, 0o17, 0o27, 0o26, 0, 0, 0];

const SPEEDS: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
const FAST_SPEEDS: [u32; 15] = [
    57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000,
    3_000_000, 3_500_000, 4_000_000,
];

impl Termios {
    /// What a terminal starts with; `cflag_speed` is its B constant.
    pub const fn new(cflag_speed: u32, speed: u32) -> Self {
        Self {
            iflag: iflag::ICRNL | iflag::IXON,
            oflag: oflag::OPOST | oflag::ONLCR,
            cflag: cflag_speed | cflag::CS8 | cflag::CREAD | cflag::HUPCL,
            lflag: lflag::ISIG
                | lflag::ICANON
                | lflag::ECHO
                | lflag::ECHOE
                | lflag::ECHOK
                | lflag::ECHOCTL
                | lflag::ECHOKE
                | lflag::IEXTEN,
            line: 0,
            cc: CONTROL_DEFAULTS,
            ispeed: speed,
            ospeed: speed,
        }
    }
    /// The master side of a pseudo-terminal: nothing is processed.
    pub const fn raw() -> Self {
        let mut termios = Self::new(cflag::B38400, 38400);
        termios.iflag = 0;
        termios.oflag = 0;
        termios.lflag = 0;
        termios.cflag = cflag::B38400 | cflag::CS8 | cflag::CREAD;
        termios
    }
    pub const fn has_i(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }
    pub const fn has_o(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }
    pub const fn has_l(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }
    /// Whether lines are edited here: with EXTPROC somebody else has done it.
    pub const fn is_canonical(&self) -> bool {
        self.has_l(lflag::ICANON) && !self.has_l(lflag::EXTPROC)
    }
    /// Whether `byte` is control character `index`; 0 disables one.
    pub fn is(&self, byte: u8, index: usize) -> bool {
        byte != 0 && self.cc[index] == byte
    }
    /// Sets the numeric speeds from the bits of c_cflag (after TCSETS, which has no numbers).
    pub fn speeds_from_flags(&mut self) {
        let speed = |bits: u32, other: u32| match bits & cflag::CBAUD {
            cflag::BOTHER => other,
            low @ 0..=15 => SPEEDS[low as usize],
            high => FAST_SPEEDS.get((high & 15) as usize - 1).copied().unwrap_or(other),
        };
        self.ospeed = speed(self.cflag, self.ospeed);
        let input = self.cflag >> cflag::IBSHIFT & cflag::CBAUD;
        self.ispeed = if input == 0 { self.ospeed } else { speed(input, self.ispeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_linux() {
        assert_eq!(size_of::<Termios>(), 44);
        assert_eq!(core::mem::offset_of!(Termios, ispeed), TERMIOS_LEN);
        assert_eq!(size_of::<WinSize>(), 8);
    }

    #[test]
    fn speeds_follow_the_flag_bits() {
        let mut termios = Termios::new(cflag::B115200, 0);
        termios.speeds_from_flags();
        assert_eq!((termios.ispeed, termios.ospeed), (115_200, 115_200));
        termios.cflag = cflag::B38400 | 0o15 << cflag::IBSHIFT;
        termios.speeds_from_flags();
        assert_eq!((termios.ispeed, termios.ospeed), (9600, 38400));
    }
}
