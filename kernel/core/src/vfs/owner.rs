//! Whom fcntl(F_SETOWN) named to hear of a file; the signals are sent by [`crate::file::signal_io`].

use crate::prelude::*;

/// Whom F_SETOWN named, resolved so that interrupt handlers need no look-up.
#[derive(Clone, Default)]
pub enum Target {
    #[default]
    None,
    Task(Weak<Task>),
    Process(Weak<Process>),
    Group(u32),
}

/// fcntl(F_SETOWN_EX) owner and F_SETSIG signal.
#[derive(Clone, Default)]
pub struct FileOwner {
    /// F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2.
    pub kind: i32,
    pub pid: u32,
    /// 0 means SIGIO without extra information.
    pub signal: u32,
    /// Real and effective user id of who set the owner, when it did: signals are sent in its name.
    pub uid: u32,
    pub euid: u32,
    pub target: Target,
}

impl FileOwner {
    /// Whether who set the owner may signal `task`, as it is now.
    pub fn may_signal(&self, task: &Task) -> bool {
        let (uid, suid) = task.signal.ids();
        self.euid == 0 || [self.euid, self.uid].iter().any(|own| *own == uid || *own == suid)
    }
}

/// Apart from the file, so that delivery never holds (and never drops) the file itself.
pub type SharedOwner = Arc<IrqSpinLock<FileOwner>>;
