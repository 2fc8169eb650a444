//! [`Attributes`]: mode, owner and times of an object that is a file without a file system (sockets, pipes, memfds).

use crate::prelude::*;
use crate::time::{Timespec, file_time};
use crate::vfs::Stat;
use crate::vfs::inode::SetAttr;

/// What fchmod(2), fchown(2) and futimens(3) change, and fstat(2) tells.
pub struct Attributes {
    kept: SpinLock<Kept>,
}

#[derive(Clone, Copy, Default)]
struct Kept {
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

impl Attributes {
    /// Root's, with no times.
    pub fn new(mode: u32) -> Self {
        Self { kept: SpinLock::new(Kept { mode, ..Kept::default() }) }
    }

    /// The caller has made the object.
    pub fn give_to_caller(&self) {
        let (uid, gid) = current().credentials.with(|own| (own.fsuid, own.fsgid));
        let mut kept = self.kept.lock();
        (kept.uid, kept.gid) = (uid, gid);
    }

    /// All times are now: it has been made.
    pub fn start_times(&self) {
        let now = file_time();
        let mut kept = self.kept.lock();
        (kept.atime, kept.mtime, kept.ctime) = (now, now, now);
    }

    pub fn mode(&self) -> u32 {
        self.kept.lock().mode
    }

    /// All but the size, which an object has or has not by itself.
    pub fn set(&self, change: SetAttr) {
        let mut kept = self.kept.lock();
        kept.mode = change.mode.map_or(kept.mode, |mode| mode & 0o7777);
        kept.uid = change.uid.unwrap_or(kept.uid);
        kept.gid = change.gid.unwrap_or(kept.gid);
        kept.atime = change.atime.unwrap_or(kept.atime);
        kept.mtime = change.mtime.unwrap_or(kept.mtime);
        kept.ctime = file_time();
    }

    /// What it holds has changed.
    pub fn touch_modified(&self) {
        let now = file_time();
        let mut kept = self.kept.lock();
        (kept.mtime, kept.ctime) = (now, now);
    }

    /// Completes `stat`, whose mode has the type alone.
    pub fn complete(&self, stat: Stat) -> Stat {
        let Kept { mode, uid, gid, atime, mtime, ctime } = *self.kept.lock();
        Stat { mode: stat.mode | mode, uid, gid, atime, mtime, ctime, btime: ctime, ..stat }
    }
}
