//! Traps in directories that everybody may write to: fs.protected_symlinks, protected_hardlinks, protected_fifos and
//! protected_regular (proc_sys_fs(5)), with the values that Debian sets.

use super::inode::{FileType, Inode};
use super::permission::{self, READ, WRITE};
use crate::prelude::*;
use core::sync::atomic::{AtomicUsize, Ordering};

pub static SYMLINKS: AtomicUsize = AtomicUsize::new(1);
pub static HARDLINKS: AtomicUsize = AtomicUsize::new(1);
pub static FIFOS: AtomicUsize = AtomicUsize::new(1);
pub static REGULAR: AtomicUsize = AtomicUsize::new(2);

const S_ISVTX: u32 = 0o1000;
const S_IWOTH: u32 = 0o002;
const S_IWGRP: u32 = 0o020;
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;

fn own() -> u32 {
    current().credentials.with(|own| own.fsuid)
}

/// EACCES for a link at a path's end that a stranger laid in a sticky directory for all.
pub fn may_follow(directory: &dyn Inode, link: &dyn Inode) -> Result<(), Errno> {
    if SYMLINKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let (mode, owner, _) = directory.access();
    let (_, uid, _) = link.access();
    let is_trap = mode & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH && uid != owner && uid != own();
    if is_trap { Err(Errno::EACCES) } else { Ok(()) }
}

/// EPERM for a second name for a file that the caller neither owns nor could write, or that runs with others' rights.
pub fn may_link(inode: &dyn Inode) -> Result<(), Errno> {
    if HARDLINKS.load(Ordering::Relaxed) == 0 || permission::check_owner(inode).is_ok() {
        return Ok(());
    }
    let (mode, ..) = inode.access();
    let is_safe = inode.file_type() == FileType::Regular
        && mode & S_ISUID == 0
        && mode & (S_ISGID | S_IXGRP) != S_ISGID | S_IXGRP
        && permission::check_current(inode, READ | WRITE).is_ok();
    if is_safe { Ok(()) } else { Err(Errno::EPERM) }
}

/// EACCES for opening with O_CREAT what a stranger has put into a sticky directory instead of the file that was to be made.
pub fn may_find(directory: &dyn Inode, inode: &dyn Inode) -> Result<(), Errno> {
    let level = match inode.file_type() {
        FileType::Fifo => FIFOS.load(Ordering::Relaxed),
        FileType::Regular => REGULAR.load(Ordering::Relaxed),
        _ => 0,
    };
    let (mode, owner, _) = directory.access();
    let (_, uid, _) = inode.access();
    if level == 0 || mode & S_ISVTX == 0 || uid == owner || uid == own() {
        return Ok(());
    }
    if mode & S_IWOTH != 0 || level > 1 && mode & S_IWGRP != 0 { Err(Errno::EACCES) } else { Ok(()) }
}
