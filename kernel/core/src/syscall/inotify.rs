//! inotify(7).

use crate::file::inotify::{
    IN_ALL_EVENTS, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT, IN_ONLYDIR, Inotify,
};
use crate::prelude::*;
use crate::user::read_path;
use crate::vfs::table::{file, install};
use crate::vfs::{AT_FDCWD, FileType, lookup, permission};
use crate::vfs::{OpenFile, OpenFlags};

pub fn sys_inotify_init1(flags: u32) -> SysResult {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(flags - (OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)).is_empty() {
        return Err(Errno::EINVAL);
    }
    install(OpenFile::anonymous(Inotify::new()?, flags & OpenFlags::NONBLOCK), flags.contains(OpenFlags::CLOEXEC))
}

pub fn sys_inotify_add_watch(fd: i32, path: UserAddr, mask: u32) -> SysResult {
    const KNOWN: u32 = IN_ALL_EVENTS
        | 0xe000
        | IN_ONLYDIR
        | IN_DONT_FOLLOW
        | IN_EXCL_UNLINK
        | IN_MASK_ADD
        | IN_MASK_CREATE
        | IN_ONESHOT;
    if mask & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    let file = file(fd)?;
    if mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    let instance = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    let path = lookup(AT_FDCWD, &read_path(path)?, mask & IN_DONT_FOLLOW == 0)?;
    if mask & IN_ONLYDIR != 0 && path.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    permission::check_current(&**path.inode(), permission::READ)?;
    Ok(instance.add(&path, mask)? as usize)
}

pub fn sys_inotify_rm_watch(fd: i32, wd: i32) -> SysResult {
    let file = file(fd)?;
    let instance = file.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    if instance.remove(wd) { Ok(0) } else { Err(Errno::EINVAL) }
}
