//! Extended attributes: the name spaces user, trusted, security and system.

use crate::prelude::*;
use crate::process::privilege::{self, CAPABILITY};
use crate::task::credentials::cap;
use crate::user::{read_cstring, read_path};
use crate::vfs::AT_FDCWD;
use crate::vfs::table::file;
use crate::vfs::{FileType, Path, lookup, permission};

const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 64 << 10;
const S_ISVTX: u32 = 0o1000;
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

fn by_path(path: UserAddr) -> Result<Path, Errno> {
    lookup(AT_FDCWD, &read_path(path)?, true)
}
fn by_link(path: UserAddr) -> Result<Path, Errno> {
    lookup(AT_FDCWD, &read_path(path)?, false)
}
fn by_fd(fd: i32) -> Result<Path, Errno> {
    file(fd)?.path.clone().ok_or(Errno::EOPNOTSUPP)
}

fn read_name(name: UserAddr) -> Result<Vec<u8>, Errno> {
    let name = read_cstring(name, NAME_MAX, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// Who may touch an attribute of that name: EPERM, EACCES, EOPNOTSUPP for an unknown name space; ENODATA for hidden ones.
fn check_access(place: &Path, name: &[u8], writes: bool) -> Result<(), Errno> {
    if writes && place.is_read_only() {
        return Err(Errno::EROFS);
    }
    let inode = &**place.inode();
    let admin = || current().credentials.with(|creds| creds.has_cap(cap::SYS_ADMIN));
    if name.starts_with(b"trusted.") {
        return match (admin(), writes) {
            (true, _) => Ok(()),
            (false, true) => Err(Errno::EPERM),
            (false, false) => Err(Errno::ENODATA),
        };
    }
    if name == CAPABILITY && writes {
        return if current().credentials.with(|own| own.has_cap(cap::SETFCAP)) { Ok(()) } else { Err(Errno::EPERM) };
    }
    if name.starts_with(b"security.") {
        return if writes && !admin() { Err(Errno::EPERM) } else { Ok(()) };
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP);
    }
    if !matches!(inode.file_type(), FileType::Regular | FileType::Directory) {
        return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
    }
    if writes
        && inode.file_type() == FileType::Directory
        && inode.access().0 & S_ISVTX != 0
        && permission::check_owner(inode).is_err()
    {
        return Err(Errno::EPERM);
    }
    permission::check_current(inode, if writes { permission::WRITE } else { permission::READ })
}

fn set(place: Result<Path, Errno>, name: UserAddr, value: UserAddr, size: usize, flags: u32) -> SysResult {
    if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let place = place?;
    let name = read_name(name)?;
    if size > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    let value = UserReader::new(value, size)?.read_all()?;
    if name == CAPABILITY {
        privilege::check_file_capabilities(&value)?;
    }
    check_access(&place, &name, true)?;
    place.inode().set_xattr(&name, Some(&value), flags)?;
    Ok(0)
}

/// Copies out unless only the length is asked for: ERANGE when it does not fit.
fn copy_out(bytes: &[u8], buffer: UserAddr, size: usize) -> SysResult {
    if size != 0 {
        if bytes.len() > size {
            return Err(Errno::ERANGE);
        }
        UserPtr::<u8>::new(buffer).write_slice(bytes)?;
    }
    Ok(bytes.len())
}

fn get(place: Result<Path, Errno>, name: UserAddr, value: UserAddr, size: usize) -> SysResult {
    let place = place?;
    let name = read_name(name)?;
    check_access(&place, &name, false)?;
    copy_out(&place.inode().get_xattr(&name)?, value, size)
}

fn list(place: Result<Path, Errno>, buffer: UserAddr, size: usize) -> SysResult {
    let place = place?;
    let mut names = place.inode().list_xattr()?;
    if !current().credentials.with(|creds| creds.has_cap(cap::SYS_ADMIN)) {
        let shown: Vec<u8> = names
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| !name.starts_with(b"trusted."))
            .flatten()
            .copied()
            .collect();
        names = shown;
    }
    copy_out(&names, buffer, size)
}

fn remove(place: Result<Path, Errno>, name: UserAddr) -> SysResult {
    let place = place?;
    let name = read_name(name)?;
    check_access(&place, &name, true)?;
    place.inode().set_xattr(&name, None, 0)?;
    Ok(0)
}

pub fn sys_setxattr(path: UserAddr, name: UserAddr, value: UserAddr, size: usize, flags: u32) -> SysResult {
    set(by_path(path), name, value, size, flags)
}

pub fn sys_lsetxattr(path: UserAddr, name: UserAddr, value: UserAddr, size: usize, flags: u32) -> SysResult {
    set(by_link(path), name, value, size, flags)
}

pub fn sys_fsetxattr(fd: i32, name: UserAddr, value: UserAddr, size: usize, flags: u32) -> SysResult {
    set(by_fd(fd), name, value, size, flags)
}

pub fn sys_getxattr(path: UserAddr, name: UserAddr, value: UserAddr, size: usize) -> SysResult {
    get(by_path(path), name, value, size)
}

pub fn sys_lgetxattr(path: UserAddr, name: UserAddr, value: UserAddr, size: usize) -> SysResult {
    get(by_link(path), name, value, size)
}

pub fn sys_fgetxattr(fd: i32, name: UserAddr, value: UserAddr, size: usize) -> SysResult {
    get(by_fd(fd), name, value, size)
}

pub fn sys_listxattr(path: UserAddr, buffer: UserAddr, size: usize) -> SysResult {
    list(by_path(path), buffer, size)
}

pub fn sys_llistxattr(path: UserAddr, buffer: UserAddr, size: usize) -> SysResult {
    list(by_link(path), buffer, size)
}

pub fn sys_flistxattr(fd: i32, buffer: UserAddr, size: usize) -> SysResult {
    list(by_fd(fd), buffer, size)
}

pub fn sys_removexattr(path: UserAddr, name: UserAddr) -> SysResult {
    remove(by_path(path), name)
}

pub fn sys_lremovexattr(path: UserAddr, name: UserAddr) -> SysResult {
    remove(by_link(path), name)
}

pub fn sys_fremovexattr(fd: i32, name: UserAddr) -> SysResult {
    remove(by_fd(fd), name)
}
