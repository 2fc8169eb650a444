//! What the three kinds of System V IPC share: who asks, permissions as programs see them. The identifier table is
//! `base::sysv`.

use crate::prelude::*;
use crate::task::Credentials;
use crate::task::credentials::cap;
use base::sysv::Caller;
pub use base::sysv::{Get, IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IdTable, Permissions};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const IPC_RMID: i32 = 0;
pub const IPC_SET: i32 = 1;
pub const IPC_STAT: i32 = 2;
pub const IPC_INFO: i32 = 3;

/// What may be written to kernel.*_next_id: EINVAL.
pub fn read_next_id(text: &str) -> Result<i32, Errno> {
    text.parse().ok().filter(|id| *id >= 0).ok_or(Errno::EINVAL)
}

/// `struct ipc64_perm` of arm64.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IpcPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: u16,
    pub pad2: u32,
    pub unused: [u64; 2],
}

impl IpcPerm {
    /// As IPC_STAT shows it; `extra_mode` are the kind's own mode bits.
    pub fn new(permissions: &Permissions, id: i32, key: i32, extra_mode: u32) -> Self {
        Self {
            key,
            uid: permissions.uid,
            gid: permissions.gid,
            cuid: permissions.creator_uid,
            cgid: permissions.creator_gid,
            mode: permissions.mode | extra_mode,
            seq: IdTable::<()>::sequence_of(id),
            ..Self::default()
        }
    }

    /// IPC_SET: owner and mode from the program. EINVAL for ids that do not exist (-1).
    pub fn apply(&self, permissions: &mut Permissions) -> Result<(), Errno> {
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        permissions.uid = self.uid;
        permissions.gid = self.gid;
        permissions.mode = self.mode & 0o777;
        Ok(())
    }
}

impl Caller for Credentials {
    fn euid(&self) -> u32 {
        self.euid
    }
    fn egid(&self) -> u32 {
        self.egid
    }
    fn groups(&self) -> &[u32] {
        &self.groups
    }
    fn is_owner_capable(&self) -> bool {
        self.has_cap(cap::IPC_OWNER)
    }
    fn is_admin(&self) -> bool {
        self.has_cap(cap::SYS_ADMIN)
    }
}

/// Runs `f`, which must not sleep, with the calling thread as the one who asks.
#[inline(always)]
pub fn with_caller<R>(f: impl FnOnce(&Credentials) -> R) -> R {
    current().credentials.with(f)
}

/// Whole seconds since 1970, as the *_ds structures count.
pub fn now_seconds() -> i64 {
    (crate::time::realtime_ns() / crate::time::NSEC_PER_SEC) as i64
}

/// Which object a *_STAT command is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// IPC_STAT: by its number.
    Id(i32),
    /// *_STAT: by its place in the table.
    Index(i32),
    /// *_STAT_ANY: by its place, without a right to read it.
    AnyIndex(i32),
}

impl Which {
    /// Its number: EINVAL.
    pub fn id<T>(self, table: &IdTable<T>) -> Result<i32, Errno> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Index(index) | Self::AnyIndex(index) => Ok(table.at_index(index)?.0),
        }
    }
    pub fn needs_right(self) -> bool {
        !matches!(self, Self::AnyIndex(_))
    }
}
