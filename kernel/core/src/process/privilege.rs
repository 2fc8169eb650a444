//! What execve(2) makes of a program's ids and capabilities: set-user-ID, set-group-ID, file capabilities, ambient ones.
//!
//! The rules are Linux's (cap_bprm_creds_from_file, bprm_fill_uid, check_unsafe_exec), in its order; capabilities(7) has the formulas.
//! What is shed besides when privilege changes stands in exec.rs, at the point of no return.

use crate::prelude::*;
use crate::task::Credentials;
use crate::task::credentials::cap;
use crate::vfs::{self, OpenFile};

/// The extended attribute with a file's capabilities.
pub const CAPABILITY: &[u8] = b"security.capability";

const SECBIT_NOROOT: u32 = 1;
/// SECBIT_KEEP_CAPS.
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;
const ALL: u64 = (1 << (cap::LAST + 1)) - 1;

/// Who a program runs as.
pub struct Outcome {
    pub credentials: Credentials,
    /// AT_SECURE, and everything that goes with it.
    pub is_secure: bool,
    /// The program gets rights from the file: the caller's personality(2) must not shape it.
    pub clears_personality: bool,
    /// It gets rights that a process which shares the root directory could abuse.
    is_raised: bool,
}

/// The attribute security.capability: permitted and inheritable sets, and whether they are effective at once.
struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    is_effective: bool,
}

impl FileCapabilities {
    /// EINVAL for what is no such attribute.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Errno> {
        let word = |index: usize| match bytes.get(4 * index..4 * index + 4) {
            Some(&[a, b, c, d]) => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(Errno::EINVAL),
        };
        let magic = word(0)?;
        let (words, len) = match magic >> 24 {
            1 => (1, 12),
            2 => (2, 20),
            3 => (2, 24),
            _ => return Err(Errno::EINVAL),
        };
        if bytes.len() != len {
            return Err(Errno::EINVAL);
        }
        // The third revision belongs to a user name space; there is only the first one, whose root is 0.
        if len == 24 && word(5)? != 0 {
            return Ok(None);
        }
        let mut found = Self { permitted: 0, inheritable: 0, is_effective: magic & 1 != 0 };
        for index in 0..words {
            found.permitted |= u64::from(word(1 + 2 * index)?) << (32 * index);
            found.inheritable |= u64::from(word(2 + 2 * index)?) << (32 * index);
        }
        found.permitted &= ALL;
        found.inheritable &= ALL;
        Ok(Some(found))
    }
}

/// Checks what is to become a file's security.capability: EINVAL.
pub fn check_file_capabilities(bytes: &[u8]) -> Result<(), Errno> {
    FileCapabilities::parse(bytes).map(drop)
}

/// Whether `file` is where set-user-ID bits and file capabilities count.
fn counts(file: &OpenFile) -> bool {
    !file.path.as_ref().is_some_and(vfs::Path::is_nosuid)
}

/// Who `file` runs as when the calling thread executes it. EPERM when the file's capabilities are more than it can get.
pub fn of_program(file: &OpenFile) -> Result<Outcome, Errno> {
    let old = current().creds();
    let mut new = (*old).clone();
    let inode = file.inode();
    let (mode, uid, gid) = inode.map(|inode| inode.access()).unwrap_or_default();
    let mut clears_personality = false;
    if !old.no_new_privs && mode & (S_ISUID | S_ISGID) != 0 && counts(file) {
        if mode & S_ISUID != 0 {
            new.euid = uid;
            clears_personality = true;
        }
        if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
            new.egid = gid;
            clears_personality = true;
        }
    }
    let attribute = inode.filter(|_| counts(file)).and_then(|inode| inode.get_xattr(CAPABILITY).ok());
    let of_file = match attribute {
        Some(bytes) => FileCapabilities::parse(&bytes).ok().flatten(),
        None => None,
    };
    let mut is_effective = of_file.as_ref().is_some_and(|of_file| of_file.is_effective);
    let is_root_by_file = new.euid == 0 && new.uid != 0;
    new.cap_permitted = 0;
    if let Some(of_file) = &of_file {
        new.cap_permitted = new.cap_bounding & of_file.permitted | new.cap_inheritable & of_file.inheritable;
        // A program that does not look at its capabilities gets all it wants, or does not run.
        if of_file.is_effective && of_file.permitted & !new.cap_permitted != 0 {
            return Err(Errno::EPERM);
        }
    }
    // Root has everything, but for a set-user-ID program that says itself what it wants.
    if new.securebits & SECBIT_NOROOT == 0 && !(of_file.is_some() && is_root_by_file) {
        if new.euid == 0 || new.uid == 0 {
            new.cap_permitted = old.cap_bounding | old.cap_inheritable;
        }
        if new.euid == 0 {
            is_effective = true;
        }
    }
    let gains = new.cap_permitted & !old.cap_permitted != 0;
    clears_personality |= gains;
    let is_set_id = new.euid != old.uid || new.egid != old.gid;
    let is_raised = is_set_id || gains;
    if is_raised && old.no_new_privs {
        drop_raise(&mut new, &old);
    }
    new.suid = new.euid;
    new.fsuid = new.euid;
    new.sgid = new.egid;
    new.fsgid = new.egid;
    if of_file.is_some() || is_set_id {
        new.cap_ambient = 0;
    }
    new.cap_permitted |= new.cap_ambient;
    new.cap_effective = if is_effective { new.cap_permitted } else { new.cap_ambient };
    new.securebits &= !SECBIT_KEEP_CAPS;
    let grows = new.cap_permitted & !new.cap_ambient != 0;
    let is_secure = is_set_id || new.uid != 0 && (is_effective || grows);
    let mut outcome = Outcome { credentials: new, is_secure, clears_personality, is_raised };
    outcome.drop_if_shared();
    Ok(outcome)
}

/// Takes back what the file gave: no more than the caller had, and perhaps less.
fn drop_raise(new: &mut Credentials, old: &Credentials) {
    if !old.has_cap(cap::SETUID) || old.no_new_privs {
        new.euid = new.uid;
        new.egid = new.gid;
    }
    new.cap_permitted &= old.cap_permitted;
}

impl Outcome {
    /// A process that shares the calling one's root and working directory could lead a privileged program astray: then it gets no
    /// privilege. Asked again when the other threads, which could still make such a process, are gone.
    pub fn drop_if_shared(&mut self) {
        if !self.is_raised || !is_directory_shared() {
            return;
        }
        let old = current().creds();
        let new = &mut self.credentials;
        let was_effective = new.cap_effective == new.cap_permitted;
        drop_raise(new, &old);
        new.suid = new.euid;
        new.fsuid = new.euid;
        new.sgid = new.egid;
        new.fsgid = new.egid;
        new.cap_permitted |= new.cap_ambient;
        new.cap_effective = if was_effective { new.cap_permitted } else { new.cap_ambient };
        self.is_raised = false;
    }
}

/// Whether another process has the calling one's root, working directory and umask (CLONE_FS).
fn is_directory_shared() -> bool {
    let own = current();
    let fs = own.fs.get();
    crate::task::all_processes().iter().filter(|process| process.pid != own.process.pid).any(|process| {
        let threads = process.threads.lock().to_vec();
        threads.iter().any(|task| Arc::ptr_eq(&task.fs.get(), &fs))
    })
}
