//! The file system of message queues, usually mounted on /dev/mqueue: one directory, in which every queue is a file that says how
//! full it is and who is notified. mq_open(3) looks names up here too.
//!
//! There is one set of queues, so all mounts show the same. Names are not cached as dentries.

use super::{MessageQueue, QUEUES_MAX};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::time::{Timespec, file_time};
use crate::vfs::inode::{FileType, Inode, SetAttr, Stat};
use crate::vfs::notify;
use crate::vfs::notify::Event;
use crate::vfs::path::{Dentry, FileSystem, FsStat, Mount, MountFlags};
use crate::vfs::superblock::SuperBlock;
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
use crate::vfs::{Path, permission};
use alloc::collections::BTreeMap;
use base::device::makedev;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

/// st_dev of all mounts of it.
const DEVICE: u64 = makedev(0, 0xf_fff3);
pub(crate) const NAME_MAX: usize = 255;
/// st_size of a queue's file.
pub(crate) const FILE_BYTES: u64 = 80;
/// What each name adds to the directory's size.
const ENTRY_BYTES: u64 = 20;

struct RootAttr {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

/// The directory of queues.
struct Root {
    names: SpinLock<BTreeMap<Vec<u8>, Arc<MessageQueue>>>,
    attr: SpinLock<RootAttr>,
}

pub struct MqueueFs {
    root: Arc<Root>,
}

impl MqueueFs {
    pub fn instance() -> Arc<Self> {
        static INSTANCE: spin::Once<Arc<MqueueFs>> = spin::Once::new();
        INSTANCE
            .call_once(|| {
                let now = file_time();
                let attr = RootAttr { mode: 0o1777, uid: 0, gid: 0, atime: now, mtime: now, ctime: now };
                let root = Root { names: SpinLock::new(BTreeMap::new()), attr: SpinLock::new(attr) };
                Arc::new(MqueueFs { root: Arc::new(root) })
            })
            .clone()
    }
}

impl FileSystem for MqueueFs {
    fn name(&self) -> &'static str {
        "mqueue"
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn stat(&self) -> FsStat {
        FsStat { magic: 0x1980_0202, block_size: PAGE_SIZE as u64, ..Default::default() }
    }
}

/// The place of a queue in a mount that is seen nowhere, as mq_open(3) opens it.
fn place_of(name: &[u8], queue: Arc<MessageQueue>) -> Path {
    static MOUNT: spin::Once<Arc<Mount>> = spin::Once::new();
    let mount = MOUNT.call_once(|| {
        let fs = SuperBlock::new(MqueueFs::instance());
        let root = fs.root().clone();
        Mount::new(fs, root, "mqueue", MountFlags::empty())
    });
    Path { mount: mount.clone(), dentry: Dentry::new(name, Some(mount.root.clone()), queue) }
}

/// Opens or makes the queue `name`; `size` is its messages and the bytes of each. EINVAL, ENOENT, EEXIST, EACCES, EMFILE, ENOSPC.
pub(crate) fn open(name: &[u8], flags: OpenFlags, mode: u32, size: Option<(i64, i64)>) -> Result<Arc<OpenFile>, Errno> {
    let root = MqueueFs::instance().root.clone();
    let creates = flags.contains(OpenFlags::CREAT);
    let existing = root.names.lock().get(name).cloned();
    let queue = match existing {
        Some(_) if creates && flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST),
        Some(queue) => {
            if flags.bits() & OpenFlags::ACCMODE == 3 {
                return Err(Errno::EINVAL);
            }
            let wanted = if flags.readable() { permission::READ } else { 0 }
                | if flags.writable() { permission::WRITE } else { 0 };
            permission::check_current(&*queue, wanted)?;
            queue
        }
        None if !creates => return Err(Errno::ENOENT),
        None => {
            permission::check_current(&*root, permission::WRITE | permission::EXECUTE)?;
            let umask = current().fs.with(|fs| fs.umask());
            let owner = current().credentials.with(|credentials| (credentials.fsuid, credentials.fsgid));
            root.add(name, size, mode & 0o7777 & !umask, owner)?
        }
    };
    let kept = OpenFlags::from_bits_retain(flags.bits() & (OpenFlags::ACCMODE | OpenFlags::NONBLOCK.bits()));
    Ok(OpenFile::new(queue.clone(), Some(place_of(name, queue)), kept))
}

/// ENOENT, EACCES, EPERM.
pub(crate) fn unlink(name: &[u8]) -> Result<(), Errno> {
    let root = MqueueFs::instance().root.clone();
    let queue = root.names.lock().get(name).cloned().ok_or(Errno::ENOENT)?;
    permission::check_current(&*root, permission::WRITE | permission::EXECUTE)?;
    permission::check_sticky(&*root, &*queue)?;
    Inode::unlink(&*root, name)?;
    let directory: Arc<dyn Inode> = root;
    notify::name_event(&directory, name, Event::DELETE, false, 0);
    Ok(())
}

impl Root {
    /// Makes a queue: EEXIST, ENOSPC, and what [`MessageQueue::new`] answers.
    fn add(
        self: &Arc<Self>,
        name: &[u8],
        size: Option<(i64, i64)>,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<Arc<MessageQueue>, Errno> {
        let queue = self.insert(name, size, mode, owner)?;
        let directory: Arc<dyn Inode> = self.clone();
        notify::name_event(&directory, name, Event::CREATE, false, 0);
        Ok(queue)
    }

    fn insert(
        &self,
        name: &[u8],
        size: Option<(i64, i64)>,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<Arc<MessageQueue>, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(2);
        let may_exceed = current().creds().has_cap(cap::SYS_RESOURCE);
        let is_full = |count: usize| count >= QUEUES_MAX.load(Ordering::Relaxed) && !may_exceed;
        if is_full(self.names.lock().len()) {
            return Err(Errno::ENOSPC);
        }
        let queue = MessageQueue::new(NEXT.fetch_add(1, Ordering::Relaxed), size, mode, owner)?;
        let mut names = self.names.lock();
        let result = if names.contains_key(name) {
            Err(Errno::EEXIST) // another thread was faster
        } else if is_full(names.len()) {
            Err(Errno::ENOSPC)
        } else {
            names.insert(name.to_vec(), queue.clone());
            Ok(queue.clone())
        };
        drop(names);
        self.changed();
        drop(queue);
        result
    }

    fn changed(&self) {
        let now = file_time();
        let mut attr = self.attr.lock();
        (attr.mtime, attr.ctime, attr.atime) = (now, now, now);
    }
}

impl Inode for Root {
    fn stat(&self) -> Stat {
        let count = self.names.lock().len() as u64;
        let attr = self.attr.lock();
        Stat {
            dev: DEVICE,
            ino: 1,
            mode: 0o40000 | attr.mode,
            nlink: 2,
            uid: attr.uid,
            gid: attr.gid,
            size: count * ENTRY_BYTES,
            block_size: PAGE_SIZE as u32,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: attr.ctime,
            ..Default::default()
        }
    }
    fn file_type(&self) -> FileType {
        FileType::Directory
    }
    fn set_attr(&self, new: SetAttr) -> Result<(), Errno> {
        let mut attr = self.attr.lock();
        attr.mode = new.mode.map_or(attr.mode, |mode| mode & 0o7777);
        (attr.uid, attr.gid) = (new.uid.unwrap_or(attr.uid), new.gid.unwrap_or(attr.gid));
        (attr.atime, attr.mtime) = (new.atime.unwrap_or(attr.atime), new.mtime.unwrap_or(attr.mtime));
        attr.ctime = file_time();
        Ok(())
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(self.names.lock().get(name).cloned().ok_or(Errno::ENOENT)?)
    }
    /// open(2) with O_CREAT makes a queue of the default size.
    fn create(
        &self,
        name: &[u8],
        file_type: FileType,
        mode: u32,
        uid: u32,
        gid: u32,
        _rdev: u64,
    ) -> Result<Arc<dyn Inode>, Errno> {
        if file_type != FileType::Regular {
            return Err(Errno::EPERM);
        }
        Ok(self.insert(name, None, mode & 0o7777, (uid, gid))?)
    }
    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let gone = self.names.lock().remove(name).ok_or(Errno::ENOENT)?;
        let mut attr = gone.attr.lock();
        attr.nlink = 0;
        attr.ctime = file_time();
        drop(attr);
        self.changed();
        Ok(())
    }
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(self)
    }
    fn is_volatile(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Root {
    fn read(&self, _file: &OpenFile, _offset: u64, _dst: &mut UserWriter<'_>) -> SysResult {
        Err(Errno::EISDIR)
    }
    fn advance(&self) -> Advance {
        Advance::Position
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        match from {
            SeekFrom::Start(at) => Ok(at),
            SeekFrom::Current(delta) => current.checked_add_signed(delta).ok_or(Errno::EINVAL),
            _ => Err(Errno::EINVAL),
        }
    }
    /// A queue's place is its inode number, which rises.
    fn read_dir(
        &self,
        file: &OpenFile,
        offset: u64,
        emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        let parent =
            file.path.as_ref().map_or(1, |path| path.dentry.parent().map_or(1, |parent| parent.inode.stat().ino));
        let directory = FileType::Directory as u8;
        for (position, name, ino) in [(0, &b"."[..], 1), (1, b"..", parent)] {
            if position >= offset && !emit(name, ino, directory, position + 1) {
                return Ok(());
            }
        }
        let names = self.names.lock();
        let mut queues: Vec<(u64, Vec<u8>)> = names.iter().map(|(name, queue)| (queue.ino, name.clone())).collect();
        drop(names);
        queues.sort_unstable();
        for (ino, name) in queues {
            if ino >= offset && !emit(&name, ino, FileType::Regular as u8, ino + 1) {
                return Ok(());
            }
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Inode for MessageQueue {
    fn stat(&self) -> Stat {
        let attr = self.attr.lock();
        Stat {
            dev: DEVICE,
            ino: self.ino,
            mode: 0o100_000 | attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: FILE_BYTES,
            block_size: PAGE_SIZE as u32,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: attr.ctime,
            ..Default::default()
        }
    }
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn set_attr(&self, new: SetAttr) -> Result<(), Errno> {
        let mut attr = self.attr.lock();
        attr.mode = new.mode.map_or(attr.mode, |mode| mode & 0o7777);
        (attr.uid, attr.gid) = (new.uid.unwrap_or(attr.uid), new.gid.unwrap_or(attr.gid));
        (attr.atime, attr.mtime) = (new.atime.unwrap_or(attr.atime), new.mtime.unwrap_or(attr.mtime));
        attr.ctime = file_time();
        Ok(())
    }
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
