//! Permission checks by file-system user and group, supplementary groups and capabilities (path_resolution(7)).

use super::{FileType, Inode};
use crate::prelude::*;
use crate::task::Credentials;
use crate::task::credentials::cap;

pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

/// EACCES unless `credentials` may do all of `wanted` (READ | WRITE | EXECUTE) with `inode`.
pub fn check(inode: &dyn Inode, wanted: u32, credentials: &Credentials) -> Result<(), Errno> {
    check_access(inode.access(), wanted, credentials)
}

/// The same, of mode (with type bits), user and group.
fn check_access((mode, uid, gid): (u32, u32, u32), wanted: u32, credentials: &Credentials) -> Result<(), Errno> {
    let granted = if credentials.fsuid == uid {
        mode >> 6
    } else if credentials.in_group(gid) {
        mode >> 3
    } else {
        mode
    } & 7;
    if wanted & !granted == 0 {
        return Ok(());
    }
    let directory = mode >> 12 == FileType::Directory as u32;
    // Execution of a file needs at least one execute bit, also for root.
    if credentials.has_cap(cap::DAC_OVERRIDE) && (wanted & EXECUTE == 0 || directory || mode & 0o111 != 0) {
        return Ok(());
    }
    if credentials.has_cap(cap::DAC_READ_SEARCH) && (wanted == READ || directory && wanted & WRITE == 0) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// As [`check`], for the calling thread.
pub fn check_current(inode: &dyn Inode, wanted: u32) -> Result<(), Errno> {
    // Asked before the credentials are locked: some inodes answer by the caller's own.
    let access = inode.access();
    if access.0 & 0o111 == 0o111 && wanted == EXECUTE {
        return Ok(());
    }
    let result = current().credentials.with(|credentials| check_access(access, wanted, credentials));
    if result.is_err() && inode.is_own() { Ok(()) } else { result }
}

/// ENOTDIR unless `inode` is a directory, EACCES unless the calling thread may look names up in it.
pub fn check_search(inode: &dyn Inode) -> Result<(), Errno> {
    let access = inode.access();
    if access.0 >> 12 != FileType::Directory as u32 {
        return Err(Errno::ENOTDIR);
    }
    if access.0 & 0o111 == 0o111 {
        return Ok(());
    }
    let result = current().credentials.with(|credentials| check_access(access, EXECUTE, credentials));
    if result.is_err() && inode.is_own() { Ok(()) } else { result }
}

/// EPERM unless the caller owns `inode` or has CAP_FOWNER.
pub fn check_owner(inode: &dyn Inode) -> Result<(), Errno> {
    let (_, uid, _) = inode.access();
    current().credentials.with(|credentials| {
        if credentials.fsuid == uid || credentials.has_cap(cap::FOWNER) { Ok(()) } else { Err(Errno::EPERM) }
    })
}

/// Whether the sticky bit of `directory` keeps the caller from removing `victim`: EPERM.
pub fn check_sticky(directory: &dyn Inode, victim: &dyn Inode) -> Result<(), Errno> {
    const S_ISVTX: u32 = 0o1000;
    let (mode, owner, _) = directory.access();
    if mode & S_ISVTX == 0 {
        return Ok(());
    }
    let (_, uid, _) = victim.access();
    current().credentials.with(|credentials| {
        if credentials.fsuid == uid || credentials.fsuid == owner || credentials.has_cap(cap::FOWNER) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    })
}
