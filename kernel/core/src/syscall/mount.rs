//! mount(2), umount2(2).

use crate::fs::types;
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::user::{read_cstring, read_path};
use crate::vfs::path;
use crate::vfs::path::{Mount, MountFlags, Path};
use crate::vfs::walk;
use crate::vfs::walk::Walk;
use crate::vfs::{AT_FDCWD, FileType, mount_fs};

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_REC: u64 = 16384;
const MS_SILENT: u64 = 32768;
/// Propagation types: accepted, since there is one mount namespace and nothing to propagate to.
const MS_PROPAGATION: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;

fn may_mount() -> Result<(), Errno> {
    if current().creds().has_cap(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

fn directory(path: &[u8]) -> Result<Path, Errno> {
    walk::find(AT_FDCWD, path, Walk::FOLLOW)
}

pub fn sys_mount(source: UserAddr, target: UserAddr, fstype: UserAddr, flags: u64, data: UserAddr) -> SysResult {
    let target = read_path(target)?;
    may_mount()?;
    let on = directory(&target)?;
    let mount_flags = MountFlags::from_bits_truncate(flags as u32);
    let options =
        if data.is_null() { Vec::new() } else { read_cstring(data, PAGE_SIZE - 1, Errno::EINVAL).unwrap_or_default() };
    let is_root = Arc::ptr_eq(&on.dentry, &on.mount.root);
    if flags & MS_REMOUNT != 0 {
        if !is_root {
            return Err(Errno::EINVAL);
        }
        if flags & MS_BIND == 0 && !options.is_empty() {
            on.mount.fs.remount(&options)?;
        }
        on.mount.set_flags(mount_flags);
        return Ok(0);
    }
    if flags & MS_BIND != 0 {
        let from = directory(&read_path(source)?)?;
        let same_kind =
            (from.inode().file_type() == FileType::Directory) == (on.inode().file_type() == FileType::Directory);
        if !same_kind {
            return Err(Errno::ENOTDIR);
        }
        bind(&from, on, flags & MS_REC != 0);
        return Ok(0);
    }
    if flags & MS_PROPAGATION != 0 {
        return if is_root && flags & !(MS_PROPAGATION | MS_REC | MS_SILENT) == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if flags & MS_MOVE != 0 {
        let from = directory(&read_path(source)?)?;
        if !Arc::ptr_eq(&from.dentry, &from.mount.root) || from.mount.on.lock().is_none() {
            return Err(Errno::EINVAL);
        }
        // Not into itself.
        let mut at = Some(on.clone());
        while let Some(place) = at {
            if Arc::ptr_eq(&place.mount, &from.mount) {
                return Err(Errno::ELOOP);
            }
            at = place.mount.on.lock().clone();
        }
        path::detach(&from.mount);
        path::attach(&from.mount, Some(on));
        return Ok(0);
    }
    let fstype = read_cstring(fstype, PAGE_SIZE - 1, Errno::EINVAL)?;
    let source = if source.is_null() { b"none".to_vec() } else { read_path(source)? };
    if on.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let fs = types::instance(&fstype, &options)?;
    mount_fs(fs, &String::from_utf8_lossy(&source), mount_flags, Some(on));
    Ok(0)
}

/// Mounts the tree at `from` on `on` as well; with `recursive` what is mounted below it too.
fn bind(from: &Path, on: Path, recursive: bool) {
    let submounts: Vec<_> = if recursive {
        path::mounts()
            .into_iter()
            .filter(|mount| mount.on.lock().as_ref().is_some_and(|at| Arc::ptr_eq(&at.mount, &from.mount)))
            .collect()
    } else {
        Vec::new()
    };
    let copy = Mount::new(from.mount.fs.clone(), from.dentry.clone(), &from.mount.source, from.mount.flags());
    path::attach(&copy, Some(on));
    for sub in submounts {
        let Some(at) = sub.on.lock().clone() else { continue };
        let place = Path { mount: copy.clone(), dentry: at.dentry };
        bind(&Path { mount: sub.clone(), dentry: sub.root.clone() }, place, true);
    }
}

pub fn sys_umount2(target: UserAddr, flags: u32) -> SysResult {
    const MNT_FORCE: u32 = 1;
    const MNT_DETACH: u32 = 2;
    const MNT_EXPIRE: u32 = 4;
    const UMOUNT_NOFOLLOW: u32 = 8;
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & MNT_EXPIRE != 0 {
        return Err(if flags & (MNT_FORCE | MNT_DETACH) != 0 { Errno::EINVAL } else { Errno::EAGAIN });
    }
    let target = read_path(target)?;
    may_mount()?;
    let mut how = Walk::FOLLOW;
    how.set(Walk::FOLLOW, flags & UMOUNT_NOFOLLOW == 0);
    let at = walk::find(AT_FDCWD, &target, how)?;
    if !Arc::ptr_eq(&at.dentry, &at.mount.root) {
        return Err(Errno::EINVAL);
    }
    let mount = at.mount.clone();
    if mount.on.lock().is_none() {
        return Err(Errno::EBUSY);
    }
    drop(at);
    // Open files and working directories hold the mount: this one, the table's, and no other.
    if flags & MNT_DETACH == 0 && (path::has_mounts_below(&mount) || Arc::strong_count(&mount) > 2) {
        return Err(Errno::EBUSY);
    }
    path::detach(&mount);
    Ok(0)
}
