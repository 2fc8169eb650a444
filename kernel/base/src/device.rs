//! Device numbers.

/// A device number in the kernel's encoding: 12 bits of major, 20 of minor.
pub const fn makedev(major: u32, minor: u32) -> u64 {
    (minor as u64 & 0xff) | (major as u64 & 0xfff) << 8 | (minor as u64 & !0xff) << 12
}
/// The major number of `rdev`.
pub const fn major(rdev: u64) -> u32 {
    (rdev >> 8 & 0xfff) as u32
}
/// The minor number of `rdev`.
pub const fn minor(rdev: u64) -> u32 {
    (rdev & 0xff | rdev >> 12 & 0xf_ff00) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_apart_again() {
        for (first, second) in [(1, 3), (4095, 0), (0, 0xf_ffff), (136, 256), (10, 183)] {
            assert_eq!((major(makedev(first, second)), minor(makedev(first, second))), (first, second));
        }
        assert_eq!(makedev(8, 1), 0x801);
    }
}
