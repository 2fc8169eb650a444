//! Modes, owners, times.

use super::path::resolve;
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::time::{Timespec, file_time};
use crate::vfs::attributes::{S_ISGID, S_ISUID};
use crate::vfs::inode::SetAttr;
use crate::vfs::notify;
use crate::vfs::notify::Event;
use crate::vfs::path::Path;
use crate::vfs::table;
use crate::vfs::{FileType, anonymous, permission};

const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;

fn place_of(fd: i32) -> Result<Path, Errno> {
    let file = table::file(fd)?;
    Ok(file.path.clone().unwrap_or_else(|| anonymous::place(file)))
}

fn check_writable(path: &Path) -> Result<(), Errno> {
    if path.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

fn chmod(path: &Path, mode: u32) -> SysResult {
    check_writable(path)?;
    let inode = path.inode();
    permission::check_owner(&**inode)?;
    let (_, _, gid) = inode.access();
    let mut mode = mode & 0o7777;
    // Only a member may make a file set-group-id.
    let member = current().credentials.with(|own| own.in_group(gid) || own.has_cap(cap::FSETID));
    if !member {
        mode &= !S_ISGID;
    }
    inode.set_attr(SetAttr { mode: Some(mode), ..SetAttr::default() })?;
    notify::path_event(path, Event::ATTRIB);
    Ok(0)
}

pub fn sys_fchmod(fd: i32, mode: u32) -> SysResult {
    chmod(&place_of(fd)?, mode)
}

pub fn sys_fchmodat(dirfd: i32, path: UserAddr, mode: u32) -> SysResult {
    chmod(&resolve(dirfd, path, 0)?, mode)
}

fn chown(path: &Path, uid: u32, gid: u32) -> SysResult {
    check_writable(path)?;
    let inode = path.inode();
    let (old_mode, old_uid, old_gid) = inode.access();
    let new_uid = (uid != u32::MAX).then_some(uid);
    let new_gid = (gid != u32::MAX).then_some(gid);
    let allowed = current().credentials.with(|own| {
        let owner = own.fsuid == old_uid;
        own.has_cap(cap::CHOWN)
            || new_uid.is_none_or(|uid| owner && uid == old_uid)
                && new_gid.is_none_or(|gid| owner && (gid == old_gid || own.in_group(gid)))
    });
    if !allowed {
        return Err(Errno::EPERM);
    }
    // A changed owner takes the set-user-id bits of a program, root's own changes included.
    let mut mode = None;
    if inode.file_type() != FileType::Directory && (new_uid.is_some() || new_gid.is_some()) {
        let mut bits = old_mode & 0o7777 & !S_ISUID;
        if bits & 0o010 != 0 {
            bits &= !S_ISGID;
        }
        mode = (bits != old_mode & 0o7777).then_some(bits);
    }
    inode.set_attr(SetAttr { mode, uid: new_uid, gid: new_gid, ..SetAttr::default() })?;
    notify::path_event(path, Event::ATTRIB);
    Ok(0)
}

pub fn sys_fchown(fd: i32, uid: u32, gid: u32) -> SysResult {
    chown(&place_of(fd)?, uid, gid)
}

pub fn sys_fchownat(dirfd: i32, path: UserAddr, uid: u32, gid: u32, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    chown(&resolve(dirfd, path, flags)?, uid, gid)
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

pub fn sys_utimensat(dirfd: i32, path: UserAddr, times: UserAddr, flags: u32) -> SysResult {
    let given = match UserPtr::<[Timespec; 2]>::new(times).non_null() {
        Some(pointer) => Some(pointer.read()?),
        None => None,
    };
    if let Some(both) = &given {
        let valid = |time: &Timespec| matches!(time.nsec, UTIME_NOW | UTIME_OMIT | 0..1_000_000_000);
        if !both.iter().all(valid) {
            return Err(Errno::EINVAL);
        }
        if both.iter().all(|time| time.nsec == UTIME_OMIT) {
            return Ok(0);
        }
    }
    // futimens(3): no path at all.
    let target = if path.is_null() && dirfd >= 0 {
        if flags & !AT_EMPTY_PATH != 0 {
            return Err(Errno::EINVAL);
        }
        place_of(dirfd)?
    } else {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        resolve(dirfd, path, flags)?
    };
    check_writable(&target)?;
    let inode = target.inode();
    let now = file_time();
    let pick = |time: &Timespec| match time.nsec {
        UTIME_NOW => Some(now),
        UTIME_OMIT => None,
        _ => Some(*time),
    };
    let (atime, mtime) = match &given {
        None => (Some(now), Some(now)),
        Some([atime, mtime]) => (pick(atime), pick(mtime)),
    };
    let all_now = given.as_ref().is_none_or(|both| both.iter().all(|time| time.nsec == UTIME_NOW));
    if all_now {
        // Whoever may write may touch.
        if permission::check_owner(&**inode).is_err() {
            permission::check_current(&**inode, permission::WRITE)?;
        }
    } else {
        permission::check_owner(&**inode)?;
    }
    inode.set_attr(SetAttr { atime, mtime, ..SetAttr::default() })?;
    notify::path_event(&target, Event::ATTRIB);
    Ok(0)
}
