//! Inodes.
//!
//! A directory keeps its entries by name (look-up) and by a rising number (getdents cookies stay valid while others come and
//! go). Regular files are a [`MemObject`]. Lock order: a directory's body, then that of one in it, then an inode's `attr`; but
//! for rename, which goes by address.

use super::Instance;
use crate::file::device;
use crate::file::pipe::FifoState;
use crate::mm::MemObject;
use crate::mm::object::seals;
use crate::prelude::*;
use crate::process::privilege::CAPABILITY;
use crate::time::{Timespec, file_time};
use crate::vfs::inode::SetAttr;
use crate::vfs::path::{MountFlags, Path};
use crate::vfs::{FileOps, OpenFile, OpenFlags};
use crate::vfs::{FileType, Inode, Stat, attributes};
use alloc::collections::BTreeMap;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hashbrown::HashMap;

/// What permission checks ask for, without a lock: changed under `attr`'s alone.
pub(super) struct Access {
    mode: AtomicU32,
    /// The user in the lower half, the group in the upper one: both change together.
    owner: AtomicU64,
}

impl Access {
    fn new(mode: u32, uid: u32, gid: u32) -> Self {
        Self { mode: AtomicU32::new(mode), owner: AtomicU64::new(u64::from(gid) << 32 | u64::from(uid)) }
    }
    pub(super) fn mode(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }
    pub(super) fn set_mode(&self, mode: u32) {
        self.mode.store(mode, Ordering::Relaxed);
    }
    /// User and group.
    pub(super) fn owner(&self) -> (u32, u32) {
        let owner = self.owner.load(Ordering::Relaxed);
        (owner as u32, (owner >> 32) as u32)
    }
    pub(super) fn set_owner(&self, uid: u32, gid: u32) {
        self.owner.store(u64::from(gid) << 32 | u64::from(uid), Ordering::Relaxed);
    }
}

pub(super) struct Attr {
    pub(super) nlink: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    btime: Timespec,
    /// There is a security.capability, which falls at the next change.
    has_capability: bool,
}

#[derive(Default)]
pub(super) struct Directory {
    pub(super) by_name: HashMap<Box<[u8]>, (u64, Arc<TmpInode>)>,
    pub(super) by_cookie: BTreeMap<u64, Box<[u8]>>,
    last: u64,
    pub(super) parent: u64,
}

impl Directory {
    fn insert(&mut self, name: &[u8], inode: Arc<TmpInode>) {
        self.last += 1;
        self.by_name.insert(name.into(), (self.last, inode));
        self.by_cookie.insert(self.last, name.into());
    }
    fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let (cookie, inode) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(inode)
    }
}

pub(super) enum Body {
    File(Arc<MemObject>),
    Directory(SpinLock<Directory>),
    Symlink(Box<[u8]>),
    Device(FileType, u64),
    Fifo(FifoState),
    Socket,
}

pub struct TmpInode {
    instance: Arc<Instance>,
    pub(super) ino: u64,
    pub(super) access: Access,
    /// The access time is later than every change: a read does not move it. Changed under `attr`'s lock.
    was_read: AtomicBool,
    pub(super) attr: SpinLock<Attr>,
    pub(super) body: Body,
    /// Held by writes and changes of length, so that appends go behind each other.
    pub(super) order: Mutex<()>,
    xattrs: SpinLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl TmpInode {
    pub(super) fn new(
        instance: &Arc<Instance>,
        file_type: FileType,
        mode: u32,
        uid: u32,
        gid: u32,
        rdev: u64,
    ) -> Result<Arc<Self>, Errno> {
        let body = match file_type {
            FileType::Regular => {
                let object = MemObject::with_quota(0, instance.quota.clone());
                seals::seal_seals(&object);
                Body::File(object)
            }
            FileType::Directory => Body::Directory(SpinLock::new(Directory::default())),
            FileType::Char | FileType::Block => Body::Device(file_type, rdev),
            FileType::Fifo => Body::Fifo(FifoState::new()),
            FileType::Socket => Body::Socket,
            FileType::Symlink => Body::Symlink(Box::from([])),
        };
        Self::with_body(instance, body, mode, uid, gid)
    }

    fn with_body(instance: &Arc<Instance>, body: Body, mode: u32, uid: u32, gid: u32) -> Result<Arc<Self>, Errno> {
        if instance.inodes.fetch_add(1, Ordering::Relaxed) >= instance.max_inodes.load(Ordering::Relaxed) {
            instance.inodes.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let now = file_time();
        let nlink = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        let attr = Attr { nlink, atime: now, mtime: now, ctime: now, btime: now, has_capability: false };
        Ok(Arc::new(Self {
            instance: instance.clone(),
            ino: instance.next_ino.fetch_add(1, Ordering::Relaxed),
            access: Access::new(mode & 0o7777, uid, gid),
            was_read: AtomicBool::new(false),
            attr: SpinLock::new(attr),
            body,
            order: Mutex::new(()),
            xattrs: SpinLock::new(BTreeMap::new()),
        }))
    }

    /// A read happened: the access time moves when it is not later than the last change (relatime).
    pub(super) fn accessed(&self, file: &OpenFile, path: &Path) {
        if file.flags().contains(OpenFlags::NOATIME)
            || path.mount.flags().intersects(MountFlags::NOATIME | MountFlags::RDONLY)
        {
            return;
        }
        if self.was_read.load(Ordering::Relaxed) {
            return;
        }
        let mut attr = self.attr.lock();
        let at = |time: &Timespec| (time.sec, time.nsec);
        let is_later = |attr: &Attr| at(&attr.atime) > at(&attr.mtime) && at(&attr.atime) > at(&attr.ctime);
        if !is_later(&attr) {
            attr.atime = file_time();
        }
        self.was_read.store(is_later(&attr), Ordering::Relaxed);
    }

    /// A change happened: the next read moves the access time.
    fn changed(&self, attr: &mut Attr) {
        attr.ctime = file_time();
        self.was_read.store(false, Ordering::Relaxed);
    }

    pub(super) fn directory(&self) -> Result<&SpinLock<Directory>, Errno> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Says what a directory's ".." is.
    fn set_parent(&self, parent: &TmpInode) {
        if let Body::Directory(directory) = &self.body {
            directory.lock().parent = parent.ino;
        }
    }

    pub fn object(&self) -> Option<&Arc<MemObject>> {
        match &self.body {
            Body::File(object) => Some(object),
            _ => None,
        }
    }

    fn touch_modified(&self) {
        let mut attr = self.attr.lock();
        self.changed(&mut attr);
        attr.mtime = attr.ctime;
    }

    fn touch_changed(&self) {
        self.changed(&mut self.attr.lock());
    }

    fn insert(&self, name: &[u8], inode: Arc<TmpInode>) -> Result<Arc<dyn Inode>, Errno> {
        let is_directory = inode.file_type() == FileType::Directory;
        let mut directory = self.directory()?.lock();
        if self.attr.lock().nlink == 0 {
            return Err(Errno::ENOENT);
        }
        if directory.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        inode.set_parent(self);
        directory.insert(name, inode.clone());
        drop(directory);
        if is_directory {
            self.attr.lock().nlink += 1;
        }
        self.touch_modified();
        Ok(inode)
    }

    /// The attributes of a write: set-user-id bits fall, times move.
    pub(super) fn wrote(&self) {
        let mut attr = self.attr.lock();
        self.changed(&mut attr);
        attr.mtime = attr.ctime;
        let mut mode = self.access.mode();
        if mode & 0o6000 != 0 {
            attributes::drop_suid(&mut mode);
            self.access.set_mode(mode);
        }
        let has_capability = core::mem::take(&mut attr.has_capability);
        drop(attr);
        if has_capability {
            self.drop_capability();
        }
    }

    /// The file is another one than was given its capabilities.
    fn drop_capability(&self) {
        let old = self.xattrs.lock().remove(CAPABILITY);
        drop(old);
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        self.instance.inodes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inode for TmpInode {
    fn stat(&self) -> Stat {
        let (size, blocks, rdev) = match &self.body {
            Body::File(object) => (object.len(), object.nr_pages() as u64 * 8, 0),
            Body::Directory(directory) => (40 + 20 * directory.lock().by_name.len() as u64, 0, 0),
            Body::Symlink(target) => (target.len() as u64, 0, 0),
            Body::Device(_, rdev) => (0, 0, *rdev),
            Body::Fifo(_) | Body::Socket => (0, 0, 0),
        };
        let attr = self.attr.lock();
        let (uid, gid) = self.access.owner();
        Stat {
            dev: self.instance.device,
            ino: self.ino,
            mode: self.access.mode() | self.file_type().mode_bits(),
            nlink: attr.nlink,
            uid,
            gid,
            rdev,
            size,
            block_size: PAGE_SIZE as u32,
            blocks,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: attr.btime,
        }
    }
    fn access(&self) -> (u32, u32, u32) {
        let (uid, gid) = self.access.owner();
        (self.access.mode() | self.file_type().mode_bits(), uid, gid)
    }
    fn file_type(&self) -> FileType {
        match &self.body {
            Body::File(_) => FileType::Regular,
            Body::Directory(_) => FileType::Directory,
            Body::Symlink(_) => FileType::Symlink,
            Body::Device(file_type, _) => *file_type,
            Body::Fifo(_) => FileType::Fifo,
            Body::Socket => FileType::Socket,
        }
    }
    fn set_attr(&self, set: SetAttr) -> Result<(), Errno> {
        if let Some(size) = set.size {
            let object = self.object().ok_or(Errno::EINVAL)?;
            let _order = self.order.lock();
            object.truncate(size)?;
            self.wrote();
        }
        let mut attr = self.attr.lock();
        if let Some(mode) = set.mode {
            self.access.set_mode(mode & 0o7777);
        }
        let (uid, gid) = self.access.owner();
        self.access.set_owner(set.uid.unwrap_or(uid), set.gid.unwrap_or(gid));
        attr.atime = set.atime.unwrap_or(attr.atime);
        attr.mtime = set.mtime.unwrap_or(attr.mtime);
        self.changed(&mut attr);
        let is_given = set.uid.is_some() || set.gid.is_some();
        let has_capability = is_given && core::mem::take(&mut attr.has_capability);
        drop(attr);
        if has_capability {
            self.drop_capability();
        }
        Ok(())
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let directory = self.directory()?.lock();
        Ok(directory.by_name.get(name).ok_or(Errno::ENOENT)?.1.clone())
    }
    fn create(
        &self,
        name: &[u8],
        file_type: FileType,
        mode: u32,
        uid: u32,
        gid: u32,
        rdev: u64,
    ) -> Result<Arc<dyn Inode>, Errno> {
        self.insert(name, Self::new(&self.instance, file_type, mode, uid, gid, rdev)?)
    }
    fn symlink(&self, name: &[u8], target: &[u8], uid: u32, gid: u32) -> Result<Arc<dyn Inode>, Errno> {
        self.insert(name, Self::with_body(&self.instance, Body::Symlink(target.into()), 0o777, uid, gid)?)
    }
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target: Arc<dyn Any + Send + Sync> = target.clone();
        let target = target.downcast::<TmpInode>().map_err(|_| Errno::EXDEV)?;
        {
            let mut attr = target.attr.lock();
            attr.nlink += 1;
            target.changed(&mut attr);
        }
        let undo = target.clone();
        self.insert(name, target).map(drop).inspect_err(|_| undo.attr.lock().nlink -= 1)
    }
    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let inode = self.directory()?.lock().remove(name).ok_or(Errno::ENOENT)?;
        inode.attr.lock().nlink -= 1;
        inode.touch_changed();
        self.touch_modified();
        Ok(())
    }
    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let mut directory = self.directory()?.lock();
        let (_, inode) = directory.by_name.get(name).ok_or(Errno::ENOENT)?;
        {
            // With no links it takes no more names ([`TmpInode::insert`]).
            let inner = inode.directory()?.lock();
            if !inner.by_name.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            inode.attr.lock().nlink = 0;
        }
        let inode = directory.remove(name);
        drop(directory);
        drop(inode);
        self.attr.lock().nlink -= 1;
        self.touch_modified();
        Ok(())
    }
    fn rename(&self, name: &[u8], to: &Arc<dyn Inode>, new_name: &[u8], exchange: bool) -> Result<(), Errno> {
        let target = to.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)?;
        // The VFS serialises renames, so the two directories can be locked one after the other.
        let (_, moved) = self.directory()?.lock().by_name.get(name).cloned().ok_or(Errno::ENOENT)?;
        let replaced = target.directory()?.lock().by_name.get(new_name).map(|(_, inode)| inode.clone());
        let is_directory = |inode: &Arc<TmpInode>| inode.file_type() == FileType::Directory;
        if exchange {
            let other = replaced.ok_or(Errno::ENOENT)?;
            self.directory()?.lock().remove(name);
            target.directory()?.lock().remove(new_name);
            self.directory()?.lock().insert(name, other.clone());
            target.directory()?.lock().insert(new_name, moved.clone());
            if !core::ptr::eq(self, target) {
                let delta = i64::from(is_directory(&moved)) - i64::from(is_directory(&other));
                let shift = |inode: &TmpInode, by: i64| {
                    let mut attr = inode.attr.lock();
                    attr.nlink = attr.nlink.saturating_add_signed(by as i32);
                };
                shift(self, -delta);
                shift(target, delta);
                moved.set_parent(target);
                other.set_parent(self);
            }
            other.touch_changed();
        } else {
            if let Some(old) = &replaced {
                if is_directory(old) {
                    target.rmdir(new_name)?;
                } else {
                    target.unlink(new_name)?;
                }
            }
            self.directory()?.lock().remove(name);
            target.directory()?.lock().insert(new_name, moved.clone());
            if is_directory(&moved) && !core::ptr::eq(self, target) {
                self.attr.lock().nlink -= 1;
                target.attr.lock().nlink += 1;
                moved.set_parent(target);
            }
        }
        moved.touch_changed();
        self.touch_modified();
        target.touch_modified();
        Ok(())
    }
    fn create_unnamed(&self, mode: u32, uid: u32, gid: u32) -> Result<Arc<dyn Inode>, Errno> {
        let inode = Self::new(&self.instance, FileType::Regular, mode, uid, gid, 0)?;
        inode.attr.lock().nlink = 0;
        Ok(inode)
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match &self.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match &self.body {
            Body::Device(FileType::Char, rdev) => device::open_char(*rdev, flags),
            Body::Device(_, rdev) => crate::file::block::open(*rdev, flags),
            Body::Socket => Err(Errno::ENXIO),
            Body::Fifo(fifo) => fifo.open(flags),
            Body::Symlink(_) => Err(Errno::ELOOP),
            Body::File(_) | Body::Directory(_) => Ok(self),
        }
    }
    fn mem_object(&self) -> Option<Arc<MemObject>> {
        self.object().cloned()
    }
    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }
    fn set_xattr(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<(), Errno> {
        const XATTR_CREATE: u32 = 1;
        const XATTR_REPLACE: u32 = 2;
        let mut xattrs = self.xattrs.lock();
        let exists = xattrs.contains_key(name);
        match value {
            Some(_) if flags & XATTR_CREATE != 0 && exists => return Err(Errno::EEXIST),
            Some(_) if flags & XATTR_REPLACE != 0 && !exists => return Err(Errno::ENODATA),
            Some(value) => {
                // All attributes of one inode together, as where they have to fit into a block.
                const MAX_BYTES: usize = 64 << 10;
                let used: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                if used + name.len() + value.len() > MAX_BYTES {
                    return Err(Errno::ENOSPC);
                }
                xattrs.insert(try_bytes(name)?, try_bytes(value)?);
            }
            None if !exists => return Err(Errno::ENODATA),
            None => {
                xattrs.remove(name);
            }
        }
        drop(xattrs);
        if name == CAPABILITY {
            self.attr.lock().has_capability = value.is_some();
        }
        self.touch_changed();
        Ok(())
    }
    fn list_xattr(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.xattrs.lock().keys().flat_map(|name| name.iter().copied().chain([0])).collect())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
