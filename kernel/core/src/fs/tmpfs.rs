//! tmpfs: files in memory. Also the stuff of devtmpfs and of the root file system.
//!
//! A directory keeps its entries by name (look-up) and by a rising number (getdents cookies stay valid while others come and
//! go). Regular files are a [`MemObject`]. Lock order: an inode's `attr` and `body` are never held together with another
//! inode's, but for rename, which goes by address.

use super::inode::SetAttr;
use super::notify::{self, Event};
use super::path::{FileSystem, FsStat, MountFlags, Path};
use super::{FileType, Inode, Stat};
use crate::file::pipe::FifoState;
use crate::file::{Advance, FileOps, OpenFile, OpenFlags, PollEvents, PollTable, SeekFrom, device};
use crate::mm::MemObject;
use crate::mm::object::Quota;
use crate::prelude::*;
use crate::time::{Timespec, file_time};
use alloc::collections::BTreeMap;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;

const MAGIC: u64 = 0x0102_1994;
/// The numbers before are those of pipes, memfds and other objects without a file system.
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(20);

/// What all inodes of one instance share.
pub struct Instance {
    name: &'static str,
    device: u64,
    next_ino: AtomicU64,
    inodes: AtomicU64,
    max_inodes: AtomicU64,
    quota: Arc<Quota>,
}

pub struct TmpFs {
    instance: Arc<Instance>,
    root: Arc<TmpInode>,
}

struct Attr {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    btime: Timespec,
}

#[derive(Default)]
struct Directory {
    by_name: HashMap<Box<[u8]>, (u64, Arc<TmpInode>)>,
    by_cookie: BTreeMap<u64, Box<[u8]>>,
    last: u64,
    parent: u64,
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

enum Body {
    File(Arc<MemObject>),
    Directory(SpinLock<Directory>),
    Symlink(Box<[u8]>),
    Device(FileType, u64),
    Fifo(FifoState),
    Socket,
}

pub struct TmpInode {
    instance: Arc<Instance>,
    ino: u64,
    attr: SpinLock<Attr>,
    body: Body,
    /// Held by writes and changes of length, so that appends go behind each other.
    order: Mutex<()>,
    xattrs: SpinLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl TmpFs {
    /// `options`: size=, nr_inodes=, mode=, uid=, gid= as in mount(8). EINVAL.
    pub fn new(name: &'static str, options: &[u8]) -> Result<Arc<Self>, Errno> {
        let half = hal::frame::stats().total as u64 / 2;
        let instance = Arc::new(Instance {
            name,
            device: NEXT_DEVICE.fetch_add(1, Ordering::Relaxed),
            next_ino: AtomicU64::new(1),
            inodes: AtomicU64::new(0),
            max_inodes: AtomicU64::new(half),
            quota: Arc::new(Quota::new(half)),
        });
        let root = TmpInode::new(&instance, FileType::Directory, 0o1777, 0, 0, 0)?;
        if name != "tmpfs" {
            root.attr.lock().mode = 0o755;
        }
        root.attr.lock().nlink = 2;
        let fs = Arc::new(Self { instance, root });
        fs.apply(options)?;
        Ok(fs)
    }

    /// Sets the root's limits from mount options.
    fn apply(&self, options: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(options).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => {
                    let total = hal::frame::stats().total as u64;
                    let pages = match value.strip_suffix('%') {
                        Some(percent) => total * percent.parse::<u64>().map_err(|_| Errno::EINVAL)? / 100,
                        None => parse_size(value)?.div_ceil(PAGE_SIZE as u64),
                    };
                    self.instance.quota.set_max(if pages == 0 { u64::MAX } else { pages });
                }
                "nr_blocks" => self.instance.quota.set_max(parse_size(value)?),
                "nr_inodes" => self.instance.max_inodes.store(parse_size(value)?, Ordering::Relaxed),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    self.root.attr.lock().mode = mode & 0o7777;
                }
                "uid" => self.root.attr.lock().uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.root.attr.lock().gid = value.parse().map_err(|_| Errno::EINVAL)?,
                "huge" | "mpol" | "inode64" | "inode32" | "noswap" | "ptmxmode" | "newinstance" | "gid5" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }

    pub fn root_inode(&self) -> Arc<TmpInode> {
        self.root.clone()
    }
    /// A file with no name in this instance (memfd, shared memory).
    pub fn unnamed(&self, mode: u32, uid: u32, gid: u32) -> Result<Arc<TmpInode>, Errno> {
        let inode = TmpInode::new(&self.instance, FileType::Regular, mode, uid, gid, 0)?;
        inode.attr.lock().nlink = 0;
        Ok(inode)
    }
}

/// A number with an optional k, m, g suffix.
fn parse_size(text: &str) -> Result<u64, Errno> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        self.instance.name
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn stat(&self) -> FsStat {
        let (used, max) = (self.instance.quota.used(), self.instance.quota.max());
        let inodes = self.instance.inodes.load(Ordering::Relaxed);
        let max_inodes = self.instance.max_inodes.load(Ordering::Relaxed);
        FsStat {
            magic: MAGIC,
            block_size: PAGE_SIZE as u64,
            blocks: max,
            blocks_free: max.saturating_sub(used),
            files: max_inodes,
            files_free: max_inodes.saturating_sub(inodes),
        }
    }
    fn remount(&self, options: &[u8]) -> Result<(), Errno> {
        self.apply(options)
    }
}

impl TmpInode {
    fn new(
        instance: &Arc<Instance>,
        file_type: FileType,
        mode: u32,
        uid: u32,
        gid: u32,
        rdev: u64,
    ) -> Result<Arc<Self>, Errno> {
        let body = match file_type {
            FileType::Regular => Body::File(MemObject::with_quota(0, instance.quota.clone())),
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
        let attr = Attr { mode: mode & 0o7777, uid, gid, nlink, atime: now, mtime: now, ctime: now, btime: now };
        Ok(Arc::new(Self {
            instance: instance.clone(),
            ino: instance.next_ino.fetch_add(1, Ordering::Relaxed),
            attr: SpinLock::new(attr),
            body,
            order: Mutex::new(()),
            xattrs: SpinLock::new(BTreeMap::new()),
        }))
    }

    /// A read happened: the access time moves when it is not later than the last change (relatime).
    fn accessed(&self, file: &OpenFile, path: &Path) {
        if file.flags().contains(OpenFlags::NOATIME)
            || path.mount.flags().intersects(MountFlags::NOATIME | MountFlags::RDONLY)
        {
            return;
        }
        let mut attr = self.attr.lock();
        let at = |time: &Timespec| (time.sec, time.nsec);
        if at(&attr.atime) <= at(&attr.mtime) || at(&attr.atime) <= at(&attr.ctime) {
            attr.atime = file_time();
        }
    }

    fn directory(&self) -> Result<&SpinLock<Directory>, Errno> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub fn object(&self) -> Option<&Arc<MemObject>> {
        match &self.body {
            Body::File(object) => Some(object),
            _ => None,
        }
    }

    fn touch_modified(&self) {
        let now = file_time();
        let mut attr = self.attr.lock();
        attr.mtime = now;
        attr.ctime = now;
    }

    fn touch_changed(&self) {
        self.attr.lock().ctime = file_time();
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
        if let Body::Directory(inner) = &inode.body {
            inner.lock().parent = self.ino;
        }
        directory.insert(name, inode.clone());
        drop(directory);
        if is_directory {
            self.attr.lock().nlink += 1;
        }
        self.touch_modified();
        Ok(inode)
    }

    /// The attributes of a write: set-user-id bits fall, times move.
    fn wrote(&self) {
        let now = file_time();
        let mut attr = self.attr.lock();
        attr.mtime = now;
        attr.ctime = now;
        if attr.mode & 0o6000 != 0 {
            super::attributes::drop_suid(&mut attr.mode);
        }
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
        Stat {
            dev: self.instance.device,
            ino: self.ino,
            mode: attr.mode | self.file_type().mode_bits(),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
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
        let attr = self.attr.leaf();
        (attr.mode | self.file_type().mode_bits(), attr.uid, attr.gid)
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
        attr.mode = set.mode.map_or(attr.mode, |mode| mode & 0o7777);
        attr.uid = set.uid.unwrap_or(attr.uid);
        attr.gid = set.gid.unwrap_or(attr.gid);
        attr.atime = set.atime.unwrap_or(attr.atime);
        attr.mtime = set.mtime.unwrap_or(attr.mtime);
        attr.ctime = file_time();
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
            attr.ctime = file_time();
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
        if !inode.directory()?.lock().by_name.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        let inode = directory.remove(name);
        drop(directory);
        if let Some(inode) = inode {
            inode.attr.lock().nlink = 0;
        }
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
                moved.directory()?.lock().parent = target.ino;
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
            Body::Device(..) | Body::Socket => Err(Errno::ENXIO),
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
                xattrs.insert(name.to_vec(), value.to_vec());
            }
            None if !exists => return Err(Errno::ENODATA),
            None => {
                xattrs.remove(name);
            }
        }
        drop(xattrs);
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

impl FileOps for TmpInode {
    fn read(&self, file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let Body::File(object) = &self.body else { return Err(Errno::EISDIR) };
        let n = object.read(offset, dst)?;
        if let Some(path) = file.path.as_ref().filter(|_| n != 0) {
            self.accessed(file, path);
            notify::path_event(path, Event::ACCESS);
        }
        Ok(n)
    }
    fn write(&self, file: &OpenFile, offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let Body::File(object) = &self.body else { return Err(Errno::EISDIR) };
        let order = self.order.lock();
        let append = file.flags().contains(OpenFlags::APPEND);
        let offset = if append { object.len() } else { offset };
        super::attributes::limit_write(offset, src)?;
        crate::mm::memfd::check_write(object, offset.saturating_add(src.remaining() as u64))?;
        let done = object.write(offset, src)?;
        self.wrote();
        if append {
            file.append_position.store(offset + done as u64, Ordering::Relaxed);
        }
        drop(order);
        if let Some(path) = &file.path {
            notify::path_event(path, Event::MODIFY);
        }
        Ok(done)
    }
    fn advance(&self) -> Advance {
        Advance::Position
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        let (len, object) = match &self.body {
            Body::File(object) => (object.len(), Some(object)),
            _ => (i64::MAX as u64, None),
        };
        let to = match from {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Data(at) => return object.ok_or(Errno::EINVAL)?.seek(at, false),
            SeekFrom::Hole(at) => return object.ok_or(Errno::EINVAL)?.seek(at, true),
        };
        to.filter(|to| *to <= i64::MAX as u64).ok_or(Errno::EINVAL)
    }
    fn poll(&self, _file: &OpenFile, _table: Option<&mut PollTable<'_>>) -> PollEvents {
        PollEvents::IN | PollEvents::OUT | PollEvents::RDNORM | PollEvents::WRNORM
    }
    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        self.object().cloned().ok_or(Errno::ENODEV)
    }
    fn read_dir(
        &self,
        _file: &OpenFile,
        offset: u64,
        emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        let directory = self.directory()?;
        // Cookies 0 and 1 are "." and ".."; an entry's own number + 1 is the position after it.
        let parent = directory.lock().parent.max(1);
        if offset == 0 && !emit(b".", self.ino, FileType::Directory as u8, 1) {
            return Ok(());
        }
        if offset <= 1 && !emit(b"..", parent, FileType::Directory as u8, 2) {
            return Ok(());
        }
        // A snapshot in pieces: `emit` copies to user memory, which may not happen under the lock.
        let mut next = offset.max(2) - 1;
        loop {
            let batch: Vec<(u64, Box<[u8]>, u64, u8)> = {
                let directory = directory.lock();
                let entries = directory.by_cookie.range(next..).take(32);
                entries
                    .filter_map(|(cookie, name)| {
                        let (_, inode) = directory.by_name.get(name)?;
                        Some((*cookie, name.clone(), inode.ino, inode.file_type() as u8))
                    })
                    .collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            for (cookie, name, ino, file_type) in batch {
                if !emit(&name, ino, file_type, cookie + 2) {
                    return Ok(());
                }
                next = cookie + 1;
            }
        }
    }
    fn fsync(&self, _file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }
    fn truncate(&self, _file: &OpenFile, len: u64) -> Result<(), Errno> {
        let object = self.object().ok_or(Errno::EINVAL)?;
        let _order = self.order.lock();
        crate::mm::memfd::check_resize(object, len)?;
        object.truncate(len)?;
        self.wrote();
        Ok(())
    }
    fn fallocate(&self, _file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let _order = self.order.lock();
        self.object().ok_or(Errno::ENODEV)?.fallocate(mode, offset, len)?;
        self.wrote();
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
