//! Changing the tree: create, mkdir, link, symlink, unlink, rmdir, rename.

use super::notify::{self, Event};
use super::path::Path;
use super::permission::{self, EXECUTE, WRITE};
use super::walk::{self, Found, NAME_MAX, Walk};
use super::{AT_FDCWD, FileType, attributes, protected};
use crate::prelude::*;
use crate::task::credentials::cap;
use core::sync::atomic::Ordering;

/// The checks before a name is made in a directory: ENAMETOOLONG, EROFS, EACCES.
fn may_add(found: &Found) -> Result<(), Errno> {
    if found.name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if found.parent.is_read_only() {
        return Err(Errno::EROFS);
    }
    if found.parent.dentry.deleted.load(Ordering::Acquire) {
        return Err(Errno::ENOENT);
    }
    permission::check_current(&**found.parent.inode(), WRITE | EXECUTE)
}

/// Makes the object a walk did not find. `mode` is before the umask.
pub fn create(found: &Found, file_type: FileType, mode: u32, rdev: u64) -> Result<Path, Errno> {
    let _change = found.parent.dentry.change.lock();
    may_add(found)?;
    if matches!(file_type, FileType::Char | FileType::Block) && !current().creds().has_cap(cap::MKNOD) {
        return Err(Errno::EPERM);
    }
    let (mode, uid, gid) = attributes::for_new(&found.parent, mode, file_type == FileType::Directory);
    let inode = found.parent.inode().create(&found.name, file_type, mode, uid, gid, rdev)?;
    let dentry = found.parent.dentry.add(&found.name, inode);
    notify::name_event(found.parent.inode(), &found.name, Event::CREATE, file_type == FileType::Directory, 0);
    Ok(Path { mount: found.parent.mount.clone(), dentry })
}

/// Walks to a name that must not exist yet: EEXIST; ENOENT for "name/" unless a directory is made.
fn find_free(dirfd: i32, path: &[u8], directory: bool) -> Result<Found, Errno> {
    let found = walk::walk(dirfd, path, Walk::empty())?;
    if found.target.is_some() {
        return Err(Errno::EEXIST);
    }
    if found.wants_directory && !directory {
        return Err(Errno::ENOENT);
    }
    Ok(found)
}

pub fn mkdir(dirfd: i32, path: &[u8], mode: u32) -> Result<(), Errno> {
    let found = find_free(dirfd, path, true)?;
    create(&found, FileType::Directory, mode & 0o1777, 0).map(drop)
}

pub fn mknod(dirfd: i32, path: &[u8], file_type: FileType, mode: u32, rdev: u64) -> Result<Path, Errno> {
    let found = find_free(dirfd, path, false)?;
    create(&found, file_type, mode, rdev)
}

pub fn symlink(target: &[u8], dirfd: i32, path: &[u8]) -> Result<(), Errno> {
    let found = find_free(dirfd, path, false)?;
    let _change = found.parent.dentry.change.lock();
    may_add(&found)?;
    let (_, uid, gid) = attributes::for_new(&found.parent, 0o777, false);
    let inode = found.parent.inode().symlink(&found.name, target, uid, gid)?;
    found.parent.dentry.add(&found.name, inode);
    notify::name_event(found.parent.inode(), &found.name, Event::CREATE, false, 0);
    Ok(())
}

/// Creates a socket node for bind(2) of a UNIX socket: EADDRINUSE when it exists. Answers its path.
pub fn create_socket_node(path: &[u8], mode: u32) -> Result<Path, Errno> {
    match mknod(AT_FDCWD, path, FileType::Socket, mode, 0) {
        Err(Errno::EEXIST) => Err(Errno::EADDRINUSE),
        result => result,
    }
}

pub fn link(old: &Path, newdirfd: i32, newpath: &[u8]) -> Result<(), Errno> {
    let found = find_free(newdirfd, newpath, false)?;
    if !Arc::ptr_eq(&old.mount, &found.parent.mount) {
        return Err(Errno::EXDEV);
    }
    protected::may_link(&**old.inode())?;
    let _change = found.parent.dentry.change.lock();
    may_add(&found)?;
    if old.inode().file_type() == FileType::Directory {
        return Err(Errno::EPERM);
    }
    if old.inode().stat().nlink == 0 && !old.dentry.name().is_empty() {
        return Err(Errno::ENOENT);
    }
    found.parent.inode().link(&found.name, old.inode())?;
    found.parent.dentry.add(&found.name, old.inode().clone());
    notify::inode_event(old.inode(), Event::ATTRIB, false);
    notify::name_event(found.parent.inode(), &found.name, Event::CREATE, false, 0);
    Ok(())
}

/// The checks before a name goes: EROFS, EACCES, EPERM (sticky), EBUSY (mount point).
fn may_remove(parent: &Path, victim: &Path) -> Result<(), Errno> {
    if parent.is_read_only() {
        return Err(Errno::EROFS);
    }
    permission::check_current(&**parent.inode(), WRITE | EXECUTE)?;
    permission::check_sticky(&**parent.inode(), &**victim.inode())?;
    if !Arc::ptr_eq(&parent.mount, &victim.mount) || victim.dentry.mounted.load(Ordering::Acquire) != 0 {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// What the name stands for now that the directory's change lock is held; mounts stay crossed.
fn again(parent: &Path, name: &[u8], before: Path) -> Result<Path, Errno> {
    if !Arc::ptr_eq(&before.mount, &parent.mount) {
        return Ok(before);
    }
    Ok(Path { mount: before.mount, dentry: parent.dentry.child_locked(name)? })
}

pub fn unlink(dirfd: i32, path: &[u8]) -> Result<(), Errno> {
    let found = walk::walk(dirfd, path, Walk::empty())?;
    let victim = found.target.ok_or(Errno::ENOENT)?;
    if found.name.is_empty() {
        return Err(Errno::EISDIR);
    }
    let change = found.parent.dentry.change.lock();
    let victim = again(&found.parent, &found.name, victim)?;
    may_remove(&found.parent, &victim)?;
    if victim.inode().file_type() == FileType::Directory {
        return Err(Errno::EISDIR);
    }
    if found.wants_directory {
        return Err(Errno::ENOTDIR);
    }
    found.parent.inode().unlink(&found.name)?;
    found.parent.dentry.forget(&found.name, true);
    drop(change);
    notify::inode_event(victim.inode(), Event::ATTRIB, false);
    // Unless it is open, its watchers hear of its end before its directory's.
    drop(victim);
    notify::name_event(found.parent.inode(), &found.name, Event::DELETE, false, 0);
    Ok(())
}

pub fn rmdir(dirfd: i32, path: &[u8]) -> Result<(), Errno> {
    let found = walk::walk(dirfd, path, Walk::empty())?;
    let victim = found.target.ok_or(Errno::ENOENT)?;
    if found.name.is_empty() {
        let last = path.rsplit(|&b| b == b'/').find(|part| !part.is_empty()).unwrap_or(b"");
        return Err(match last {
            b"." => Errno::EINVAL,
            b".." => Errno::ENOTEMPTY,
            _ => Errno::EBUSY,
        });
    }
    let change = found.parent.dentry.change.lock();
    let victim = again(&found.parent, &found.name, victim)?;
    may_remove(&found.parent, &victim)?;
    if victim.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    found.parent.inode().rmdir(&found.name)?;
    found.parent.dentry.forget(&found.name, true);
    drop(change);
    drop(victim);
    notify::name_event(found.parent.inode(), &found.name, Event::DELETE, true, 0);
    Ok(())
}

/// rename(2) flags.
pub const RENAME_NOREPLACE: u32 = 1;
pub const RENAME_EXCHANGE: u32 = 2;

/// Serialises renames, so that ancestry does not change under the check.
static RENAME: Mutex<()> = Mutex::new(());

/// Whether `inner` is `outer` or lies below it.
fn is_below(inner: &Path, outer: &Path) -> bool {
    let mut at = Some(inner.dentry.clone());
    while let Some(dentry) = at {
        if Arc::ptr_eq(&dentry, &outer.dentry) {
            return true;
        }
        at = dentry.parent();
    }
    false
}

pub fn rename(olddirfd: i32, oldpath: &[u8], newdirfd: i32, newpath: &[u8], flags: u32) -> Result<(), Errno> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 || exchange && flags & RENAME_NOREPLACE != 0 {
        return Err(Errno::EINVAL);
    }
    let _serial = RENAME.lock();
    let old = walk::walk(olddirfd, oldpath, Walk::empty())?;
    let new = walk::walk(newdirfd, newpath, Walk::empty())?;
    if !Arc::ptr_eq(&old.parent.mount, &new.parent.mount) {
        return Err(Errno::EXDEV);
    }
    if old.name.is_empty() || new.name.is_empty() {
        return Err(Errno::EBUSY);
    }
    let source = old.target.ok_or(Errno::ENOENT)?;
    // Both directories, by address; all others hold one such lock at a time.
    let (one, other) = (&old.parent.dentry, &new.parent.dentry);
    let (first, second) = if Arc::as_ptr(one) <= Arc::as_ptr(other) { (one, other) } else { (other, one) };
    let _first = first.change.lock();
    let _second = if Arc::ptr_eq(first, second) { None } else { Some(second.change.lock()) };
    let source = again(&old.parent, &old.name, source)?;
    let target = match new.target {
        Some(before) => match again(&new.parent, &new.name, before) {
            Err(Errno::ENOENT) => None,
            found => Some(found?),
        },
        None => match other.child_locked(&new.name) {
            Ok(dentry) => Some(Path { mount: new.parent.mount.clone(), dentry }),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        },
    };
    if other.deleted.load(Ordering::Acquire) {
        return Err(Errno::ENOENT);
    }
    if new.name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if target.is_some() && flags & RENAME_NOREPLACE != 0 {
        return Err(Errno::EEXIST);
    }
    if exchange && target.is_none() {
        return Err(Errno::ENOENT);
    }
    let is_directory = |path: &Path| path.inode().file_type() == FileType::Directory;
    if !is_directory(&source) && (old.wants_directory || new.wants_directory && !exchange) {
        return Err(Errno::ENOTDIR);
    }
    // A directory cannot go into itself, nor replace what holds it.
    if is_below(&new.parent, &source) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target
        && is_below(&old.parent, target)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    may_remove(&old.parent, &source)?;
    match &target {
        Some(target) => {
            may_remove(&new.parent, target)?;
            if Arc::ptr_eq(source.inode(), target.inode()) {
                return Ok(());
            }
            if !exchange {
                match (is_directory(&source), is_directory(target)) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        None => permission::check_current(&**new.parent.inode(), WRITE | EXECUTE)?,
    }
    // Moving a directory to another parent changes its "..".
    if is_directory(&source) && !Arc::ptr_eq(&old.parent.dentry, &new.parent.dentry) {
        permission::check_current(&**source.inode(), WRITE)?;
    }
    old.parent.inode().rename(&old.name, new.parent.inode(), &new.name, exchange)?;

    let (from, to) = (&old.parent.dentry, &new.parent.dentry);
    let moved = from.forget(&old.name, false).unwrap_or_else(|| source.dentry.clone());
    let replaced = to.forget(&new.name, !exchange);
    let place = |parent: &Arc<super::path::Dentry>, name: &[u8], dentry: Arc<super::path::Dentry>| {
        dentry.move_to(name, parent.clone());
        parent.children.lock().get_or_insert_with(super::path::Children::default).insert(name.into(), dentry);
    };
    place(to, &new.name, moved);
    if exchange && let Some(other) = replaced {
        place(from, &old.name, other);
    }
    if notify::is_watched() {
        announce(&old.parent, &old.name, &new.parent, &new.name, &source, target.as_ref(), exchange);
    }
    Ok(())
}

/// Tells watchers of a rename.
fn announce(from: &Path, old: &[u8], to: &Path, new: &[u8], source: &Path, target: Option<&Path>, exchange: bool) {
    let moved = |from: &Path, old: &[u8], to: &Path, new: &[u8], what: &Path, replaced: Option<&Path>| {
        let is_directory = what.inode().file_type() == FileType::Directory;
        let cookie = notify::new_cookie();
        notify::name_event(from.inode(), old, Event::MOVED_FROM, is_directory, cookie);
        notify::name_event(to.inode(), new, Event::MOVED_TO, is_directory, cookie);
        if let Some(replaced) = replaced {
            notify::inode_event(replaced.inode(), Event::ATTRIB, replaced.inode().file_type() == FileType::Directory);
        }
        notify::inode_event(what.inode(), Event::MOVE_SELF, is_directory);
    };
    moved(from, old, to, new, source, target.filter(|_| !exchange));
    if let Some(target) = target.filter(|_| exchange) {
        moved(to, new, from, old, target, None);
    }
}
