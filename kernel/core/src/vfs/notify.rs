//! What inotify(7) hears of the tree: events of inodes and of names in directories.
//!
//! Nothing is looked up while no watch exists.

use super::Inode;
use crate::prelude::*;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use spin::Once;

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

/// Who watches: inotify.
pub trait Watcher: Sync {
    /// Something happened to `inode`, or to `name` in it. `is_unlinked`: what it happened to has no name any more.
    fn event(
        &self,
        inode: &Arc<dyn Inode>,
        event: Event,
        is_directory: bool,
        is_unlinked: bool,
        name: Option<&[u8]>,
        cookie: u32,
    );
    /// The file system that is device `dev` has no mount any more.
    fn unmounted(&self, dev: u64);
    /// The inode has no name any more.
    fn unlinked(&self, inode: &Arc<dyn Inode>);
}

static WATCHER: Once<&'static dyn Watcher> = Once::new();

/// Says who hears of events; before the first watch.
pub fn set_watcher(watcher: &'static dyn Watcher) {
    WATCHER.call_once(|| watcher);
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

#[cold]
fn tell(inode: &Arc<dyn Inode>, event: Event, is_directory: bool, name: Option<&[u8]>, cookie: u32) {
    if let Some(watcher) = WATCHER.get() {
        watcher.event(inode, event, is_directory, false, name, cookie);
    }
}

/// Something happened to the inode itself.
#[inline]
pub fn inode_event(inode: &Arc<dyn Inode>, event: Event, is_directory: bool) {
    if is_watched() {
        tell(inode, event, is_directory, None, 0);
    }
}

/// Something happened to `name` in `directory`.
#[inline]
pub fn name_event(directory: &Arc<dyn Inode>, name: &[u8], event: Event, is_directory: bool, cookie: u32) {
    if is_watched() {
        tell(directory, event, is_directory, Some(name), cookie);
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
    let Some(watcher) = WATCHER.get() else { return };
    let is_directory = path.inode().file_type() == super::FileType::Directory;
    let is_unlinked = path.dentry.deleted.load(Ordering::Acquire);
    watcher.event(path.inode(), event, is_directory, is_unlinked, None, 0);
    if let Some(parent) = path.dentry.parent() {
        watcher.event(&parent.inode, event, is_directory, is_unlinked, Some(&path.dentry.name()), 0);
    }
}

/// The file system with the root directory `root` has no mount any more.
pub fn unmounted(root: &Arc<dyn Inode>) {
    if is_watched()
        && let Some(watcher) = WATCHER.get()
    {
        watcher.unmounted(root.stat().dev);
    }
}

/// The inode has no name any more, and nobody holds the entry of its last one.
pub fn unlinked(inode: &Arc<dyn Inode>) {
    if is_watched()
        && let Some(watcher) = WATCHER.get()
    {
        watcher.unlinked(inode);
    }
}
