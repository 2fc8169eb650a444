//! Terminals: the console, pseudo-terminals, controlling terminals and job control.

use crate::file::device::makedev;
use crate::file::{FileOps, OpenFlags};
use crate::prelude::*;

/// /dev/tty: the calling process's controlling terminal.
pub const DEV_TTY: u64 = makedev(5, 0);
pub const DEV_CONSOLE: u64 = makedev(5, 1);
pub const DEV_PTMX: u64 = makedev(5, 2);
/// /dev/ttyAMA0.
pub const DEV_SERIAL: u64 = makedev(204, 64);
/// Major number of pseudo-terminal slaves.
const PTS_MAJOR: u32 = 136;

/// Opens a terminal device by number: ENXIO for others.
pub fn open_device(_rdev: u64, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    Err(Errno::ENXIO)
}

/// Brings up the console terminal (after `machine::init`, when kernel threads can start).
pub fn init() {}

/// The controlling terminal of session `sid`: its device number and foreground process group (0 when none).
pub fn of_session(_sid: u32) -> Option<(u64, u32)> {
    None
}

/// The session leader of `sid` exits: SIGHUP and SIGCONT to the foreground group; the terminal is free again.
pub fn session_leader_exits(_sid: u32) {}

/// The pseudo-terminals that exist, for devpts: number, owner uid, gid, permission bits.
pub fn pty_list() -> Vec<(u32, u32, u32, u32)> {
    Vec::new()
}

/// Opens /dev/pts/`number`: EIO when locked or gone.
pub fn open_pty_slave(_number: u32, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    Err(Errno::EIO)
}
