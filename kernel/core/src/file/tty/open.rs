//! Opening terminals by device number, and closing them.

use super::discipline::TtyFile;
use super::{Tty, console, job, pty};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::vfs::{FileOps, OpenFlags};
use base::device::{major, makedev, minor};
use core::sync::atomic::Ordering;

/// /dev/tty: the calling process's controlling terminal.
pub const DEV_TTY: u64 = makedev(5, 0);
pub const DEV_CONSOLE: u64 = makedev(5, 1);
pub const DEV_PTMX: u64 = makedev(5, 2);
/// /dev/ttyAMA0.
pub const DEV_SERIAL: u64 = makedev(204, 64);
/// Major number of pseudo-terminal slaves.
pub const PTS_MAJOR: u32 = 136;

/// Opens a terminal device by number: ENXIO for others, EIO, EBUSY.
pub fn open_device(rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    match rdev {
        DEV_TTY => {
            let tty = job::controlling().ok_or(Errno::ENXIO)?;
            open_tty(&tty, flags | OpenFlags::NOCTTY, false)
        }
        DEV_CONSOLE => open_tty(console::tty().ok_or(Errno::ENXIO)?, flags | OpenFlags::NOCTTY, true),
        DEV_SERIAL => open_tty(console::tty().ok_or(Errno::ENXIO)?, flags, false),
        DEV_PTMX => pty::open_master(),
        _ if major(rdev) == PTS_MAJOR => open_pty_slave(minor(rdev), flags),
        _ => Err(Errno::ENXIO),
    }
}

/// Opens /dev/pts/`number`: EIO when locked or gone.
pub fn open_pty_slave(number: u32, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    let tty = pty::find(number).ok_or(Errno::EIO)?;
    if tty.pair().is_none_or(|pair| pair.is_locked() || pair.is_master_closed()) {
        return Err(Errno::EIO);
    }
    open_tty(&tty, flags, false)
}

pub fn open_tty(tty: &Arc<Tty>, flags: OpenFlags, is_console: bool) -> Result<Arc<dyn FileOps>, Errno> {
    if tty.exclusive.load(Ordering::Relaxed) && !current().creds().has_cap(cap::SYS_ADMIN) {
        return Err(Errno::EBUSY);
    }
    tty.opens.fetch_add(1, Ordering::AcqRel);
    if let Some(pair) = tty.pair() {
        pair.slave_opened();
    }
    if !flags.contains(OpenFlags::NOCTTY) && flags.readable() {
        job::take_if_free(tty);
    }
    let generation = (!is_console).then(|| tty.generation.load(Ordering::Acquire));
    Ok(Arc::new(TtyFile { tty: tty.clone(), generation }))
}

/// The last reference to an open description goes.
pub fn closed(tty: &Arc<Tty>) {
    if tty.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
        tty.exclusive.store(false, Ordering::Relaxed);
        if let Some(pair) = tty.pair() {
            pair.slave_closed();
        }
    }
}
