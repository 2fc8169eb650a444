//! What inotify(7) hears of the tree: events of inodes and of names in directories.
//!
//! Nothing is looked up while no watch exists.

use super::Inode;
use crate::prelude::*;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

bitflags! {
    /// inotify's event bits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Event: u32 {
        const ACCESS = 0x1;
        const MODIFY = 0x2;
        const ATTRIB = 0x4;
        const CLOSE_WRITE = 0x8;
        const CLOSE_NOWRITE = 0x10;
        const OPEN = 0x20;
        const MOVED_FROM = 0x40;
        const MOVED_TO = 0x80;
        const CREATE = 0x100;
        const DELETE = 0x200;
        const DELETE_SELF = 0x400;
        const MOVE_SELF = 0x800;
        const UNMOUNT = 0x2000;
        const Q_OVERFLOW = 0x4000;
        const IGNORED = 0x8000;
        const ISDIR = 0x4000_0000;
    }
}

/// Watches that exist.
pub static NR_WATCHES: AtomicUsize = AtomicUsize::new(0);

#[inline(always)]
pub fn is_watched() -> bool {
    NR_WATCHES.load(Ordering::Relaxed) != 0
}

/// The number that joins the two halves of a rename.
pub fn new_cookie() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Something happened to the inode itself.
#[inline]
pub fn inode_event(inode: &Arc<dyn Inode>, event: Event, is_directory: bool) {
    if is_watched() {
        crate::file::inotify::send(inode, event, is_directory, None, 0);
    }
}

/// Something happened to `name` in `directory`.
#[inline]
pub fn name_event(directory: &Arc<dyn Inode>, name: &[u8], event: Event, is_directory: bool, cookie: u32) {
    if is_watched() {
        crate::file::inotify::send(directory, event, is_directory, Some(name), cookie);
    }
}

/// Something happened to an open file: its own watches and those of its directory hear of it.
#[inline]
pub fn path_event(path: &super::Path, event: Event) {
    if is_watched() {
        path_event_slow(path, event);
    }
}

#[cold]
fn path_event_slow(path: &super::Path, event: Event) {
    let is_directory = path.inode().file_type() == super::FileType::Directory;
    // IN_EXCL_UNLINK: nothing more of what has no name.
    let is_unlinked = path.dentry.deleted.load(Ordering::Acquire);
    let except = if is_unlinked { crate::file::inotify::IN_EXCL_UNLINK } else { 0 };
    crate::file::inotify::send_unless(except, path.inode(), event, is_directory, None, 0);
    if let Some(parent) = path.dentry.parent() {
        crate::file::inotify::send_unless(except, &parent.inode, event, is_directory, Some(&path.dentry.name()), 0);
    }
}

/// The file system with the root directory `root` has no mount any more.
pub fn unmounted(root: &Arc<dyn Inode>) {
    if is_watched() {
        crate::file::inotify::unmounted(root.stat().dev);
    }
}

/// The inode has no name any more, and nobody holds the entry of its last one.
pub fn unlinked(inode: &Arc<dyn Inode>) {
    if is_watched() {
        crate::file::inotify::unlinked(inode);
    }
}
