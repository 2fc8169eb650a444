//! Path and directory calls.

use crate::prelude::*;
use crate::task::credentials::cap;
use crate::user::read_path;
use crate::vfs::OpenFlags;
use crate::vfs::notify;
use crate::vfs::notify::Event;
use crate::vfs::path::Path;
use crate::vfs::permission;
use crate::vfs::permission::EXECUTE;
use crate::vfs::table;
use crate::vfs::table::install;
use crate::vfs::walk;
use crate::vfs::walk::Walk;
use crate::vfs::{AT_FDCWD, FileType, attributes, change, open as fs_open};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_REMOVEDIR: u32 = 0x200;
const AT_EACCESS: u32 = 0x200;
const AT_SYMLINK_FOLLOW: u32 = 0x400;
const AT_EMPTY_PATH: u32 = 0x1000;

/// Flags of open(2) this kernel knows.
fn open_flags(flags: u32) -> OpenFlags {
    OpenFlags::from_bits_retain(flags & !OpenFlags::EXEC.bits() | OpenFlags::LARGEFILE.bits())
}

fn install_open(dirfd: i32, path: UserAddr, flags: OpenFlags, mode: u32, resolve: Walk) -> SysResult {
    let path = read_path(path)?;
    let file = fs_open::open_with(dirfd, &path, flags, mode, resolve)?;
    let fd = install(file, flags.contains(OpenFlags::CLOEXEC))?;
    Ok(fd)
}

pub fn sys_openat(dirfd: i32, path: UserAddr, flags: u32, mode: u32) -> SysResult {
    install_open(dirfd, path, open_flags(flags), mode & 0o7777, Walk::empty())
}

/// `struct open_how`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn sys_openat2(dirfd: i32, path: UserAddr, how: UserAddr, size: usize) -> SysResult {
    const KNOWN: u32 = 0o37777703 | 0o40000;
    const RESOLVE_CACHED: u64 = 0x20;
    if size < size_of::<OpenHow>() {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    for at in size_of::<OpenHow>()..size {
        if UserPtr::<u8>::new(UserAddr(how.0 + at as u64)).read()? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let how = UserPtr::<OpenHow>::new(how).read()?;
    let flags = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
    let creates = flags & (OpenFlags::CREAT | OpenFlags::TMPFILE_BIT).bits() != 0;
    if flags & !KNOWN != 0 || how.mode > 0o7777 || how.mode != 0 && !creates {
        return Err(Errno::EINVAL);
    }
    if how.resolve & RESOLVE_CACHED != 0 {
        // Everything is cached, but saying so is optional: callers retry without it.
        return Err(Errno::EAGAIN);
    }
    let resolve = u32::try_from(how.resolve).ok().and_then(Walk::from_bits).ok_or(Errno::EINVAL)?;
    if resolve.intersects(Walk::FOLLOW | Walk::EMPTY) || resolve.contains(Walk::BENEATH | Walk::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    install_open(dirfd, path, open_flags(flags), how.mode as u32, resolve)
}

fn flags_to_walk(flags: u32) -> Walk {
    let mut how = Walk::FOLLOW;
    how.set(Walk::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    how.set(Walk::EMPTY, flags & AT_EMPTY_PATH != 0);
    how
}

/// The place that a `dirfd, path, AT_* flags` triple names.
pub fn resolve(dirfd: i32, path: UserAddr, flags: u32) -> Result<Path, Errno> {
    let path = if path.is_null() && flags & AT_EMPTY_PATH != 0 { Vec::new() } else { read_path(path)? };
    walk::find(dirfd, &path, flags_to_walk(flags))
}

pub fn sys_mknodat(dirfd: i32, path: UserAddr, mode: u32, dev: u32) -> SysResult {
    let path = read_path(path)?;
    let file_type = match mode >> 12 & 15 {
        0 | 8 => FileType::Regular,
        1 => FileType::Fifo,
        2 => FileType::Char,
        6 => FileType::Block,
        12 => FileType::Socket,
        4 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let device = matches!(file_type, FileType::Char | FileType::Block);
    change::mknod(dirfd, &path, file_type, mode, if device { u64::from(dev) } else { 0 })?;
    Ok(0)
}

pub fn sys_mkdirat(dirfd: i32, path: UserAddr, mode: u32) -> SysResult {
    change::mkdir(dirfd, &read_path(path)?, mode)?;
    Ok(0)
}

pub fn sys_unlinkat(dirfd: i32, path: UserAddr, flags: u32) -> SysResult {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    if flags & AT_REMOVEDIR != 0 {
        change::rmdir(dirfd, &path)?
    } else {
        change::unlink(dirfd, &path)?
    }
    Ok(0)
}

pub fn sys_symlinkat(target: UserAddr, dirfd: i32, path: UserAddr) -> SysResult {
    let target = read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    change::symlink(&target, dirfd, &read_path(path)?)?;
    Ok(0)
}

pub fn sys_linkat(olddirfd: i32, oldpath: UserAddr, newdirfd: i32, newpath: UserAddr, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & AT_EMPTY_PATH != 0 && !current().creds().has_cap(cap::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let old = read_path(oldpath)?;
    let mut how = Walk::empty();
    how.set(Walk::FOLLOW, flags & AT_SYMLINK_FOLLOW != 0);
    how.set(Walk::EMPTY, flags & AT_EMPTY_PATH != 0);
    let old = walk::find(olddirfd, &old, how)?;
    change::link(&old, newdirfd, &read_path(newpath)?)?;
    Ok(0)
}

pub fn sys_renameat(olddirfd: i32, oldpath: UserAddr, newdirfd: i32, newpath: UserAddr) -> SysResult {
    sys_renameat2(olddirfd, oldpath, newdirfd, newpath, 0)
}

pub fn sys_renameat2(olddirfd: i32, oldpath: UserAddr, newdirfd: i32, newpath: UserAddr, flags: u32) -> SysResult {
    let (old, new) = (read_path(oldpath)?, read_path(newpath)?);
    change::rename(olddirfd, &old, newdirfd, &new, flags)?;
    Ok(0)
}

pub fn sys_truncate(path: UserAddr, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let target = walk::find(AT_FDCWD, &read_path(path)?, Walk::FOLLOW)?;
    let inode = target.inode();
    match inode.file_type() {
        FileType::Directory => return Err(Errno::EISDIR),
        FileType::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    permission::check_current(&**inode, permission::WRITE)?;
    if target.is_read_only() {
        return Err(Errno::EROFS);
    }
    attributes::limit_size(length)?;
    let object = inode.mem_object();
    if let Some(object) = &object {
        object.get_write_access()?;
    }
    let result = inode.set_attr(crate::vfs::inode::SetAttr { size: Some(length), ..Default::default() });
    if let Some(object) = &object {
        object.put_write_access();
    }
    result?;
    notify::path_event(&target, Event::MODIFY);
    Ok(0)
}

pub fn sys_ftruncate(fd: i32, length: i64) -> SysResult {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let file = table::file(fd)?;
    if !file.is_writable() {
        return Err(Errno::EINVAL);
    }
    attributes::limit_size(length)?;
    file.ops.truncate(&file, length)?;
    if let Some(path) = &file.path {
        notify::path_event(path, Event::MODIFY);
    }
    Ok(0)
}

pub fn sys_fallocate(fd: i32, mode: u32, offset: i64, len: i64) -> SysResult {
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    let file = table::file(fd)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let end = (offset as u64).checked_add(len as u64).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    match file.inode().map(|inode| inode.file_type()) {
        Some(FileType::Regular) | None => {}
        Some(FileType::Fifo) => return Err(Errno::ESPIPE),
        Some(FileType::Directory) => return Err(Errno::EISDIR),
        Some(_) => return Err(Errno::ENODEV),
    }
    const KEEP_SIZE: u32 = 1;
    if mode & KEEP_SIZE == 0 {
        attributes::limit_size(end)?;
    }
    file.ops.fallocate(&file, mode, offset as u64, len as u64)?;
    Ok(0)
}

pub fn sys_faccessat(dirfd: i32, path: UserAddr, mode: u32) -> SysResult {
    sys_faccessat2(dirfd, path, mode, 0)
}

pub fn sys_faccessat2(dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> SysResult {
    if mode & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let own = task.creds();
    let target;
    if flags & AT_EACCESS != 0 || own.uid == own.fsuid && own.gid == own.fsgid {
        target = resolve(dirfd, path, flags)?;
        permission::check(&**target.inode(), mode, &own)?;
    } else {
        // access(2) asks for the real user.
        let mut real = (*own).clone();
        real.fsuid = real.uid;
        real.fsgid = real.gid;
        real.cap_effective = if real.uid == 0 { real.cap_permitted } else { 0 };
        let real = Arc::new(real);
        let saved = task.credentials.replace(real.clone());
        let found = resolve(dirfd, path, flags);
        task.credentials.replace(saved);
        target = found?;
        permission::check(&**target.inode(), mode, &real)?;
    }
    if mode & permission::EXECUTE != 0 && target.is_noexec() && target.inode().file_type() == FileType::Regular {
        return Err(Errno::EACCES);
    }
    if mode & permission::WRITE != 0 && target.is_read_only() {
        return Err(Errno::EROFS);
    }
    Ok(0)
}

fn check_directory(path: &Path) -> Result<(), Errno> {
    if path.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    permission::check_current(&**path.inode(), EXECUTE)
}

pub fn sys_chdir(path: UserAddr) -> SysResult {
    let target = walk::find(AT_FDCWD, &read_path(path)?, Walk::FOLLOW)?;
    check_directory(&target)?;
    current().fs.get().set_cwd(target);
    Ok(0)
}

pub fn sys_fchdir(fd: i32) -> SysResult {
    let file = table::file_or_path(fd)?;
    let target = file.path.clone().ok_or(Errno::ENOTDIR)?;
    check_directory(&target)?;
    current().fs.get().set_cwd(target);
    Ok(0)
}

pub fn sys_chroot(path: UserAddr) -> SysResult {
    let target = walk::find(AT_FDCWD, &read_path(path)?, Walk::FOLLOW)?;
    check_directory(&target)?;
    fs_open::may_chroot()?;
    current().fs.get().set_root(target);
    Ok(0)
}

pub fn sys_getcwd(buf: UserAddr, size: usize) -> SysResult {
    let context = current().fs.get();
    let (Some(root), Some(cwd)) = (context.try_root(), context.try_cwd()) else { return Err(Errno::ENOENT) };
    if cwd.dentry.deleted.load(core::sync::atomic::Ordering::Acquire) {
        return Err(Errno::ENOENT);
    }
    let (mut text, reached) = cwd.display_from(&root);
    if !reached {
        text.splice(0..0, *b"(unreachable)");
    }
    text.push(0);
    if text.len() > size {
        return Err(Errno::ERANGE);
    }
    UserPtr::new(buf).write_slice(&text)?;
    Ok(text.len())
}

pub fn sys_getdents64(fd: i32, buf: UserAddr, count: usize) -> SysResult {
    let file = table::file(fd)?;
    if file.inode().is_none_or(|inode| inode.file_type() != FileType::Directory) {
        return Err(Errno::ENOTDIR);
    }
    if file.path.as_ref().is_some_and(|path| path.dentry.deleted.load(core::sync::atomic::Ordering::Acquire)) {
        return Err(Errno::ENOENT);
    }
    let mut position = file.lock_position();
    let from = *position;
    let mut written = 0usize;
    let mut failure = None;
    let mut emit = |name: &[u8], ino: u64, file_type: u8, next: u64| -> bool {
        let len = (19 + name.len() + 1 + 7) & !7;
        if written + len > count {
            if written == 0 {
                failure = Some(Errno::EINVAL);
            }
            return false;
        }
        let mut entry = [0u8; 19 + 256 + 8];
        entry[0..8].copy_from_slice(&ino.to_le_bytes());
        entry[8..16].copy_from_slice(&next.to_le_bytes());
        entry[16..18].copy_from_slice(&(len as u16).to_le_bytes());
        entry[18] = file_type;
        entry[19..19 + name.len()].copy_from_slice(name);
        let place = UserAddr(buf.0.wrapping_add(written as u64));
        if hal::user::copy_to_user(place, &entry[..len]).is_err() {
            failure = Some(Errno::EFAULT);
            return false;
        }
        written += len;
        *position = next;
        true
    };
    file.ops.read_dir(&file, from, &mut emit)?;
    if let Some(path) = &file.path {
        notify::path_event(path, Event::ACCESS);
    }
    match failure {
        Some(errno) if written == 0 => Err(errno),
        _ => Ok(written),
    }
}

pub fn sys_readlinkat(dirfd: i32, path: UserAddr, buf: UserAddr, size: i32) -> SysResult {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = read_path(path)?;
    let by_descriptor = path.is_empty();
    let target = walk::find(dirfd, &path, Walk::EMPTY)?;
    let inode = target.inode();
    if inode.file_type() != FileType::Symlink {
        return Err(if by_descriptor { Errno::ENOENT } else { Errno::EINVAL });
    }
    let text = inode.read_link()?;
    let len = text.len().min(size as usize);
    UserPtr::new(buf).write_slice(&text[..len])?;
    Ok(len)
}

pub fn sys_sync() -> SysResult {
    crate::fs::sync::sync();
    Ok(0)
}

pub fn sys_syncfs(fd: i32) -> SysResult {
    let file = table::file(fd)?;
    if let Some(path) = &file.path {
        crate::fs::sync::sync_fs(&path.mount.fs, path.mount.root.inode.stat().dev)?;
    }
    Ok(0)
}

pub fn sys_fsync(fd: i32) -> SysResult {
    let file = table::file(fd)?;
    file.ops.fsync(&file, false)?;
    Ok(0)
}

pub fn sys_fdatasync(fd: i32) -> SysResult {
    let file = table::file(fd)?;
    file.ops.fsync(&file, true)?;
    Ok(0)
}

pub fn sys_sync_file_range(fd: i32, offset: i64, nbytes: i64, flags: u32) -> SysResult {
    let file = table::file(fd)?;
    if flags & !7 != 0 || offset < 0 || nbytes < 0 || offset.checked_add(nbytes).is_none() {
        return Err(Errno::EINVAL);
    }
    match file.inode().map(|inode| inode.file_type()) {
        Some(FileType::Regular | FileType::Block) => {
            // Writing and waiting are one here, whichever of the three is asked for.
            if flags != 0
                && let Ok(object) = file.ops.mem_object(&file)
            {
                let len = if nbytes == 0 { u64::MAX } else { nbytes as u64 };
                let _ = object.sync(offset as u64, len);
                file.writeback_error(&object)?;
            }
            Ok(0)
        }
        Some(FileType::Directory | FileType::Symlink) => Ok(0),
        _ => Err(Errno::ESPIPE),
    }
}

pub fn sys_umask(mask: u32) -> SysResult {
    Ok(current().fs.get().set_umask(mask) as usize)
}

pub fn sys_readahead(fd: i32, offset: i64, count: usize) -> SysResult {
    let file = table::file(fd)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    match file.inode().map(|inode| inode.file_type()) {
        Some(FileType::Regular | FileType::Block) => {
            if let (Ok(object), Ok(offset)) = (file.ops.mem_object(&file), u64::try_from(offset)) {
                object.read_ahead(offset, count as u64);
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn sys_fadvise64(fd: i32, offset: i64, len: i64, advice: i32) -> SysResult {
    const WILLNEED: i32 = 3;
    const DONTNEED: i32 = 4;
    let file = table::file(fd)?;
    if file.path.is_none() || file.inode().is_some_and(|inode| inode.file_type() == FileType::Fifo) {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=5).contains(&advice) {
        return Err(Errno::EINVAL);
    }
    if matches!(advice, WILLNEED | DONTNEED)
        && let (Ok(object), Ok(offset)) = (file.ops.mem_object(&file), u64::try_from(offset))
    {
        let len = if len == 0 { u64::MAX } else { len as u64 };
        if advice == WILLNEED {
            object.read_ahead(offset, len);
        } else {
            // Whole pages only: the rest of one may be needed.
            let page = PAGE_SIZE as u64;
            let _ = object.sync(offset, len);
            object.drop_clean(offset.div_ceil(page)..offset.saturating_add(len) / page);
        }
    }
    Ok(0)
}
