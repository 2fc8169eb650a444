//! Credentials: user and group ids, supplementary groups, capabilities.

use crate::prelude::*;
use core::sync::atomic::Ordering;

/// Capability bits (linux/capability.h) that the kernel tests.
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const IPC_OWNER: u32 = 15;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_BOOT: u32 = 22;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const SYS_TTY_CONFIG: u32 = 26;
    pub const MKNOD: u32 = 27;
    pub const LEASE: u32 = 28;
    pub const SETFCAP: u32 = 31;
    pub const SYSLOG: u32 = 34;
    pub const WAKE_ALARM: u32 = 35;
    pub const BLOCK_SUSPEND: u32 = 36;
    pub const LAST: u32 = 40;
}

/// An immutable set of credentials, shared by reference count; changing them makes a new set.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Arc<[u32]>,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Credentials {
    /// Root with every capability.
    pub fn root() -> Self {
        let all = (1u64 << (cap::LAST + 1)) - 1;
        Self {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Arc::from([] as [u32; 0]),
            cap_effective: all,
            cap_permitted: all,
            cap_inheritable: 0,
            cap_bounding: all,
            cap_ambient: 0,
            securebits: 0,
            no_new_privs: false,
        }
    }

    pub fn has_cap(&self, cap: u32) -> bool {
        self.cap_effective >> cap & 1 == 1
    }

    /// Whether `gid` is the file-system group or one of the supplementary groups.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}

/// The calling thread has `new` credentials from now on. As with Linux's commit_creds(), what was arranged with the old ones ends
/// when ids change or capabilities are gained: the process may not be dumped, and its parent's death is no longer told. Returns
/// whether nothing of that kind changed.
pub fn install(new: impl Into<Arc<Credentials>>) -> bool {
    let new = new.into();
    let task = current();
    let old = task.creds();
    let ids = |of: &Credentials| (of.euid, of.egid, of.fsuid, of.fsgid);
    let is_same = ids(&old) == ids(&new) && new.cap_permitted & !old.cap_permitted == 0;
    if !is_same {
        task.process.life.dumpable.store(0, Ordering::Relaxed);
        task.process.life.parent_death_signal.store(0, Ordering::Relaxed);
    }
    if old.uid != new.uid {
        task.process.signal.set_user(new.uid);
    }
    task.signal.set_ids(new.uid, new.suid);
    drop(task.credentials.replace(new));
    is_same
}
