//! open(2): what the flags ask for, checked in Linux's order.

use super::notify::{self, Event};
use super::path::{MountFlags, Path};
use super::permission::{self, EXECUTE, READ, WRITE};
use super::walk::{self, Walk};
use super::{FileType, attributes, change, protected};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::vfs::{OpenFile, OpenFlags};

/// O_TMPFILE is O_DIRECTORY and a bit of its own.
const TMPFILE: OpenFlags = OpenFlags::TMPFILE_BIT.union(OpenFlags::DIRECTORY);
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;

/// open(2) as the calling thread, without installing a descriptor.
pub fn open(dirfd: i32, path: &[u8], flags: OpenFlags, mode: u32) -> Result<Arc<OpenFile>, Errno> {
    open_with(dirfd, path, flags, mode, Walk::empty())
}

/// As [`open`], with openat2(2)'s RESOLVE_* flags.
pub fn open_with(dirfd: i32, path: &[u8], flags: OpenFlags, mode: u32, resolve: Walk) -> Result<Arc<OpenFile>, Errno> {
    if flags.contains(OpenFlags::PATH) {
        return open_path(dirfd, path, flags, resolve);
    }
    if flags.contains(TMPFILE) {
        return open_tmpfile(dirfd, path, flags, mode, resolve);
    }
    let create = flags.contains(OpenFlags::CREAT);
    let exclusive = create && flags.contains(OpenFlags::EXCL);
    let mut how = resolve;
    how.set(Walk::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW) && !exclusive);
    if !create {
        let target = walk::find(dirfd, path, how)?;
        return open_found(target, flags, false);
    }
    let found = walk::walk(dirfd, path, how)?;
    if let Some(target) = found.target {
        if exclusive {
            return Err(Errno::EEXIST);
        }
        if found.wants_directory || target.inode().file_type() == FileType::Directory {
            return Err(Errno::EISDIR);
        }
        protected::may_find(&**found.parent.inode(), &**target.inode())?;
        return open_found(target, flags, false);
    }
    if found.wants_directory {
        return Err(Errno::EISDIR);
    }
    match change::create(&found, FileType::Regular, mode, 0) {
        Ok(target) => open_found(target, flags, true),
        // Somebody else was faster.
        Err(Errno::EEXIST) if !exclusive => open_found(walk::find(dirfd, path, how)?, flags, false),
        Err(errno) => Err(errno),
    }
}

fn open_path(dirfd: i32, path: &[u8], flags: OpenFlags, resolve: Walk) -> Result<Arc<OpenFile>, Errno> {
    let mut how = resolve;
    how.set(Walk::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW));
    let target = walk::find(dirfd, path, how)?;
    if flags.contains(OpenFlags::DIRECTORY) && target.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    // Only these count beside O_PATH.
    let flags = flags & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC);
    Ok(OpenFile::new(Arc::new(PathOnly), Some(target), flags))
}

fn open_tmpfile(dirfd: i32, path: &[u8], flags: OpenFlags, mode: u32, resolve: Walk) -> Result<Arc<OpenFile>, Errno> {
    if !flags.writable() {
        return Err(Errno::EINVAL);
    }
    let directory = walk::find(dirfd, path, resolve | Walk::FOLLOW)?;
    if directory.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if directory.is_read_only() {
        return Err(Errno::EROFS);
    }
    permission::check_current(&**directory.inode(), WRITE | EXECUTE)?;
    let (mode, uid, gid) = attributes::for_new(&directory, mode, false);
    let inode = directory.inode().create_unnamed(mode, uid, gid)?;
    let ops = inode.clone().open(flags)?;
    if let Some(object) = inode.mem_object() {
        object.get_write_access()?;
    }
    let dentry = super::path::Dentry::new(b"", Some(directory.dentry.clone()), inode);
    dentry.deleted.store(true, core::sync::atomic::Ordering::Release);
    Ok(OpenFile::new(ops, Some(Path { mount: directory.mount, dentry }), flags))
}

/// Opens something that exists (`fresh`: this call made it, so its mode does not bind this open).
fn open_found(target: Path, flags: OpenFlags, fresh: bool) -> Result<Arc<OpenFile>, Errno> {
    let inode = target.inode().clone();
    let file_type = inode.file_type();
    if file_type == FileType::Symlink {
        return Err(Errno::ELOOP);
    }
    let directory = file_type == FileType::Directory;
    if flags.contains(OpenFlags::DIRECTORY) && !directory {
        return Err(Errno::ENOTDIR);
    }
    let truncate = flags.contains(OpenFlags::TRUNC) && file_type == FileType::Regular && !fresh;
    if directory && (flags.writable() || flags.contains(OpenFlags::CREAT | OpenFlags::TRUNC)) {
        return Err(Errno::EISDIR);
    }
    let device = matches!(file_type, FileType::Char | FileType::Block);
    if device && target.mount.flags().contains(MountFlags::NODEV) {
        return Err(Errno::EACCES);
    }
    if !fresh {
        let mut wanted = 0;
        if flags.readable() || flags.bits() & 3 == 3 {
            wanted |= READ;
        }
        if flags.writable() || flags.bits() & 3 == 3 || truncate {
            wanted |= WRITE;
        }
        permission::check_current(&*inode, wanted)?;
        let object_only = !device && !matches!(file_type, FileType::Fifo | FileType::Socket);
        if object_only && (flags.writable() || truncate) && target.is_read_only() {
            return Err(Errno::EROFS);
        }
        if flags.contains(OpenFlags::NOATIME) {
            permission::check_owner(&*inode)?;
        }
    }
    let counted = if flags.writable() || truncate { inode.mem_object() } else { None };
    if let Some(object) = &counted {
        // ETXTBSY while it is being executed.
        object.get_write_access()?;
    }
    let put = |errno: Errno| {
        if let Some(object) = &counted {
            object.put_write_access();
        }
        errno
    };
    if truncate {
        if let Some(object) = &counted {
            crate::mm::object::seals::check_resize(object, 0).map_err(put)?;
        }
        inode.set_attr(super::inode::SetAttr { size: Some(0), ..Default::default() }).map_err(put)?;
    }
    let ops = inode.clone().open(flags).map_err(put)?;
    if truncate && !flags.writable() {
        put(Errno::EIO);
    }
    if truncate {
        notify::path_event(&target, Event::MODIFY);
    }
    notify::path_event(&target, Event::OPEN);
    Ok(OpenFile::new(ops, Some(target), flags))
}

/// Opens a program for execve: regular file, execute permission (EACCES), write denied while it runs (ETXTBSY).
/// `flags` are execveat's AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW.
pub fn open_exec(dirfd: i32, path: &[u8], flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let mut how = Walk::FOLLOW;
    how.set(Walk::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    how.set(Walk::EMPTY, flags & AT_EMPTY_PATH != 0);
    let target = walk::find(dirfd, path, how)?;
    let inode = target.inode().clone();
    match inode.file_type() {
        FileType::Regular => {}
        FileType::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if target.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES);
    }
    permission::check_current(&*inode, EXECUTE)?;
    let ops = inode.clone().open(OpenFlags::empty())?;
    notify::path_event(&target, Event::OPEN);
    match inode.mem_object() {
        Some(object) => {
            object.deny_write()?;
            Ok(OpenFile::new(ops, Some(target), OpenFlags::EXEC))
        }
        None => Ok(OpenFile::new(ops, Some(target), OpenFlags::empty())),
    }
}

/// Whether the calling thread may call chroot(2).
pub fn may_chroot() -> Result<(), Errno> {
    if current().creds().has_cap(cap::SYS_CHROOT) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The object of an O_PATH descriptor: it names a place and does nothing.
struct PathOnly;

impl crate::vfs::FileOps for PathOnly {
    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}
