//! A place in the tree (mount and directory entry) and a process's view of it.
//!
//! A [`Dentry`] is a name with its parent and inode; children that were looked up hang in its map, so a walk is a hash look-up
//! per component. Entries of volatile file systems (procfs) are made anew each time. A [`Mount`] grafts a file system's root
//! onto a dentry; the table of mounts is only looked at where a dentry says that something is mounted on it.
//!
//! Lock order: a directory's `change` (sleeping), then a dentry's children, then the inode's own locks; the mount table's lock is taken alone.

use super::Inode;
use super::superblock::SuperBlock;
use crate::prelude::*;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hashbrown::HashMap;

pub type Children = HashMap<Box<[u8]>, Arc<Dentry>>;

pub struct Dentry {
    place: SpinLock<(Box<[u8]>, Option<Arc<Dentry>>)>,
    pub inode: Arc<dyn Inode>,
    pub children: SpinLock<Option<Children>>,
    /// Held around changes of the directory's names, and while the file system is asked for one: what is cached is what is.
    /// Two of them only by `change::rename`, by address.
    pub change: Mutex<()>,
    /// Unlinked: the name is gone.
    pub deleted: AtomicBool,
    /// How many mounts sit on it.
    pub mounted: AtomicU32,
}

impl Dentry {
    pub fn new(name: &[u8], parent: Option<Arc<Dentry>>, inode: Arc<dyn Inode>) -> Arc<Self> {
        Arc::new(Self {
            place: SpinLock::new((name.into(), parent)),
            inode,
            children: SpinLock::new(None),
            change: Mutex::new(()),
            deleted: AtomicBool::new(false),
            mounted: AtomicU32::new(0),
        })
    }
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().1.clone()
    }
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().0.to_vec()
    }
    /// Gives the entry another name and parent (rename).
    pub fn move_to(&self, name: &[u8], parent: Arc<Dentry>) {
        let old = core::mem::replace(&mut *self.place.lock(), (name.into(), Some(parent)));
        drop(old);
    }
    /// Finds the child `name`, asking the file system when it is not known: ENOENT, ENOTDIR.
    pub fn child(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if let Some(children) = &*self.children.leaf()
            && let Some(child) = children.get(name)
        {
            return Ok(child.clone());
        }
        let inode = self.inode.lookup(name)?;
        if self.inode.is_volatile() {
            return Ok(Self::new(name, Some(self.clone()), inode));
        }
        let _change = self.change.lock();
        self.child_locked(name)
    }
    /// As [`Dentry::child`], with the change lock held by the caller.
    pub fn child_locked(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if let Some(children) = &*self.children.leaf()
            && let Some(child) = children.get(name)
        {
            return Ok(child.clone());
        }
        let inode = self.inode.lookup(name)?;
        let fresh = Self::new(name, Some(self.clone()), inode);
        if self.inode.is_volatile() {
            return Ok(fresh);
        }
        let mut children = self.children.lock();
        Ok(children.get_or_insert_with(Children::default).entry(name.into()).or_insert(fresh).clone())
    }
    /// Adds a child that was just created.
    pub fn add(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let fresh = Self::new(name, Some(self.clone()), inode);
        if !self.inode.is_volatile() {
            self.children.lock().get_or_insert_with(Children::default).insert(name.into(), fresh.clone());
        }
        fresh
    }
    /// Forgets the child `name` (unlink, rmdir, the target of rename).
    pub fn forget(&self, name: &[u8], deleted: bool) -> Option<Arc<Dentry>> {
        let child = self.children.lock().as_mut()?.remove(name)?;
        if deleted {
            child.deleted.store(true, Ordering::Release);
        }
        Some(child)
    }
}

bitflags! {
    /// Per-mount flags, mount(2) values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MountFlags: u32 {
        const RDONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOATIME = 1024;
        const NODIRATIME = 2048;
        const RELATIME = 1 << 21;
        const STRICTATIME = 1 << 24;
    }
}

/// What statfs(2) answers.
#[derive(Clone, Copy, Default)]
pub struct FsStat {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub files: u64,
    pub files_free: u64,
}

/// One mounted file system instance.
pub trait FileSystem: Send + Sync {
    fn name(&self) -> &'static str;
    fn root(&self) -> Arc<dyn Inode>;
    fn stat(&self) -> FsStat;
    /// Options for /proc/mounts, with a leading comma when not empty.
    fn options(&self) -> String {
        String::new()
    }
    /// Makes everything that was done survive the power; what is in page caches with this owner was written before.
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// The end, by the last unmount or with the machine: writes everything and leaves the disk as one that was unmounted. Changes
    /// after that are refused.
    fn shutdown(&self) {}
    /// MS_REMOUNT with new options.
    fn remount(&self, _options: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
}

static NEXT_MOUNT: AtomicU64 = AtomicU64::new(1);

pub struct Mount {
    pub id: u64,
    pub fs: Arc<SuperBlock>,
    pub root: Arc<Dentry>,
    pub source: String,
    flags: AtomicU32,
    /// Where it is mounted; none for the root.
    pub on: SpinLock<Option<Path>>,
}

impl Mount {
    pub fn new(fs: Arc<SuperBlock>, root: Arc<Dentry>, source: &str, flags: MountFlags) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_MOUNT.fetch_add(1, Ordering::Relaxed),
            fs,
            root,
            source: String::from(source),
            flags: AtomicU32::new(flags.bits()),
            on: SpinLock::new(None),
        })
    }
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }
}

static MOUNTS: SpinLock<Vec<Arc<Mount>>> = SpinLock::new(Vec::new());

/// All mounts, oldest first.
pub fn mounts() -> Vec<Arc<Mount>> {
    MOUNTS.lock().clone()
}

/// Puts `mount` on `path` (or makes it the root).
pub fn attach(mount: &Arc<Mount>, path: Option<Path>) {
    if let Some(path) = &path {
        path.dentry.mounted.fetch_add(1, Ordering::AcqRel);
    }
    *mount.on.lock() = path;
    MOUNTS.lock().push(mount.clone());
}

/// Takes `mount` off; answers whether it was there.
pub fn detach(mount: &Arc<Mount>) -> bool {
    let mut mounts = MOUNTS.lock();
    let before = mounts.len();
    mounts.retain(|other| !Arc::ptr_eq(other, mount));
    let found = mounts.len() != before;
    drop(mounts);
    if found && let Some(path) = mount.on.lock().take() {
        path.dentry.mounted.fetch_sub(1, Ordering::AcqRel);
    }
    found
}

/// Whether another mount sits on a place of `mount`.
pub fn has_mounts_below(mount: &Arc<Mount>) -> bool {
    mounts().iter().any(|other| other.on.lock().as_ref().is_some_and(|path| Arc::ptr_eq(&path.mount, mount)))
}

/// A mounted directory entry: what an open file, a working directory or a root refers to.
#[derive(Clone)]
pub struct Path {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

impl Path {
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.dentry.inode
    }
    /// Whether set-user-id bits do not count here (MS_NOSUID).
    pub fn is_nosuid(&self) -> bool {
        self.mount.flags().contains(MountFlags::NOSUID)
    }
    /// Whether nothing here may be executed (MS_NOEXEC).
    pub fn is_noexec(&self) -> bool {
        self.mount.flags().contains(MountFlags::NOEXEC)
    }
    pub fn is_read_only(&self) -> bool {
        self.mount.flags().contains(MountFlags::RDONLY)
    }
    #[inline]
    pub fn is_mount_point(&self) -> bool {
        self.dentry.mounted.load(Ordering::Acquire) != 0
    }
    /// The topmost file system mounted here.
    pub fn cross_down(mut self) -> Self {
        while self.dentry.mounted.load(Ordering::Acquire) != 0 {
            let top = MOUNTS.lock().iter().rev().find(|mount| mount.on.leaf().as_ref() == Some(&self)).cloned();
            match top {
                Some(mount) => self = Self { dentry: mount.root.clone(), mount },
                None => break,
            }
        }
        self
    }
    /// `..`, not above `root`.
    pub fn parent(&self, root: &Path) -> Self {
        let mut at = self.clone();
        loop {
            if at == *root {
                return at;
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                let on = at.mount.on.lock().clone();
                match on {
                    Some(path) => at = path,
                    None => return at,
                }
                continue;
            }
            let Some(parent) = at.dentry.parent() else { return at };
            return Self { mount: at.mount, dentry: parent }.cross_down();
        }
    }
    /// The name from `root`; answers whether `root` was reached.
    pub fn display_from(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let reached = loop {
            if at == *root {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, &at.mount.root) {
                let on = at.mount.on.lock().clone();
                match on {
                    Some(path) => at = path,
                    None => break false,
                }
                continue;
            }
            parts.push(at.dentry.name());
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None => break false,
            }
        };
        let mut out = Vec::new();
        for part in parts.iter().rev() {
            out.push(b'/');
            out.extend(part);
        }
        if out.is_empty() {
            out.push(b'/');
        }
        (out, reached)
    }
    /// The name from the calling thread's root: "/usr/bin/env", with " (deleted)" when it is unlinked.
    pub fn display(&self) -> Vec<u8> {
        let root = current().fs.get().try_root();
        let mut out = match root {
            Some(root) => self.display_from(&root).0,
            None => self.dentry.name(),
        };
        if self.dentry.deleted.load(Ordering::Acquire) {
            out.extend(b" (deleted)");
        }
        out
    }
}

struct Places {
    root: Option<Path>,
    cwd: Option<Path>,
}

/// Root, working directory and umask of a process (shared with CLONE_FS).
pub struct FsContext {
    places: SpinLock<Places>,
    umask: AtomicU32,
}

impl FsContext {
    /// Usable before anything is mounted: lookups answer ENOENT.
    pub fn detached() -> Arc<Self> {
        Arc::new(Self { places: SpinLock::new(Places { root: None, cwd: None }), umask: AtomicU32::new(0o022) })
    }
    pub fn at(root: Path) -> Arc<Self> {
        let context = Self::detached();
        *context.places.lock() = Places { root: Some(root.clone()), cwd: Some(root) };
        context
    }
    pub fn fork(&self) -> Arc<Self> {
        let places = self.places.lock();
        Arc::new(Self {
            places: SpinLock::new(Places { root: places.root.clone(), cwd: places.cwd.clone() }),
            umask: AtomicU32::new(self.umask()),
        })
    }
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }
    /// Sets the umask and answers the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
    pub fn try_root(&self) -> Option<Path> {
        self.places.leaf().root.clone()
    }
    pub fn try_cwd(&self) -> Option<Path> {
        self.places.leaf().cwd.clone()
    }
    pub fn set_root(&self, root: Path) {
        let old = self.places.lock().root.replace(root);
        drop(old);
    }
    pub fn set_cwd(&self, cwd: Path) {
        let old = self.places.lock().cwd.replace(cwd);
        drop(old);
    }
}

impl Dentry {
    /// Nobody holds the entry any more. When its inode has no other name either, those who watch the inode hear of its end.
    fn announce_end(&mut self) {
        let is_gone = *self.deleted.get_mut() || self.place.get_mut().0.is_empty();
        if is_gone && super::notify::is_watched() && self.inode.stat().nlink == 0 {
            super::notify::unlinked(&self.inode);
        }
    }
}

impl Drop for Dentry {
    /// Lets a chain of deleted ancestors go one by one instead of by recursion.
    fn drop(&mut self) {
        self.announce_end();
        let mut parent = self.place.get_mut().1.take();
        while let Some(mut dentry) = parent.and_then(Arc::into_inner) {
            parent = dentry.place.get_mut().1.take();
        }
    }
}
