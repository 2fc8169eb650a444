//! Rules of attributes that several calls share: set-user-id bits, the file-size limit, ownership of new files.

use super::path::Path;
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use crate::task::task::attention;

pub const S_ISUID: u32 = 0o4000;
pub const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;

/// A write by a program without CAP_FSETID takes the set-user-id bit, and the set-group-id bit of an executable.
pub fn drop_suid(mode: &mut u32) {
    let keeps = crate::task::task::CURRENT.is_set() && current().credentials.with(|c| c.has_cap(cap::FSETID));
    if keeps {
        return;
    }
    *mode &= !S_ISUID;
    if *mode & S_IXGRP != 0 {
        *mode &= !S_ISGID;
    }
}

/// RLIMIT_FSIZE: cuts a write short at the limit; at or beyond it SIGXFSZ and EFBIG.
pub fn limit_write(offset: u64, src: &mut UserReader<'_>) -> Result<(), Errno> {
    let limit = current().process.limit(rlimit::FSIZE).min(i64::MAX as u64);
    if src.remaining() as u64 > limit.saturating_sub(offset) {
        if offset >= limit && src.remaining() > 0 {
            return Err(too_large(limit));
        }
        src.truncate((limit - offset) as usize);
    }
    Ok(())
}

/// RLIMIT_FSIZE for truncate(2) and fallocate(2).
pub fn limit_size(len: u64) -> Result<(), Errno> {
    let limit = current().process.limit(rlimit::FSIZE);
    if len > limit { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: u64) -> Errno {
    if limit < i64::MAX as u64 {
        // The signal is the main loop's affair.
        current().set_attention(attention::FILE_SIZE);
    }
    Errno::EFBIG
}

/// Mode, owner and group of a new object in `directory`: umask, set-group-id directories.
pub fn for_new(directory: &Path, mode: u32, is_directory: bool) -> (u32, u32, u32) {
    let task = current();
    let umask = task.fs.with(|fs| fs.umask());
    let (dir_mode, _, dir_gid) = directory.inode().access();
    let mut mode = mode & 0o7777 & !umask;
    let (uid, mut gid) = task.credentials.with(|credentials| (credentials.fsuid, credentials.fsgid));
    if dir_mode & S_ISGID != 0 {
        gid = dir_gid;
        if is_directory {
            mode |= S_ISGID;
        } else if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
            let may =
                task.credentials.with(|credentials| credentials.in_group(gid) || credentials.has_cap(cap::FSETID));
            if !may {
                mode &= !S_ISGID;
            }
        }
    }
    (mode, uid, gid)
}
