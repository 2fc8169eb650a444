//! Character devices: which object stands behind a device number.

use super::{FileOps, OpenFlags};
use crate::prelude::*;

/// Opens the character device `rdev` (Linux's 12:20 encoding: major << 8 | minor for small numbers) as the calling thread.
/// ENXIO for a device that does not exist. devfs and mknod(2) nodes call this from `Inode::open`.
pub fn open_char(_rdev: u64, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    Err(Errno::ENXIO)
}

/// The devices devfs offers at start-up: name below /dev, device number, permission bits.
pub const NODES: &[(&str, u64, u32)] = &[
    ("null", makedev(1, 3), 0o666),
    ("zero", makedev(1, 5), 0o666),
    ("full", makedev(1, 7), 0o666),
    ("random", makedev(1, 8), 0o666),
    ("urandom", makedev(1, 9), 0o666),
    ("kmsg", makedev(1, 11), 0o644),
    ("tty", makedev(5, 0), 0o666),
    ("console", makedev(5, 1), 0o600),
    ("ptmx", makedev(5, 2), 0o666),
    ("ttyAMA0", makedev(204, 64), 0o620),
];

/// A device number in the kernel's encoding.
pub const fn makedev(major: u32, minor: u32) -> u64 {
    (minor as u64 & 0xff) | (major as u64 & 0xfff) << 8 | (minor as u64 & !0xff) << 12
}
