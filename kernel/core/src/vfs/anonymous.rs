//! Objects without a path as inodes: sockets, pipes, eventfds and their like.

use super::inode::{FileType, Inode, SetAttr, Stat};
use super::path::{Dentry, FileSystem, FsStat, Mount, MountFlags, Path};
use super::superblock::SuperBlock;
use crate::prelude::*;
use crate::vfs::{FileOps, OpenFile, OpenFlags};
use core::any::Any;

/// The mount that objects without a path seem to be on.
struct NoFs;

/// Its root: an empty directory that nobody reaches.
struct NoRoot;

impl Inode for NoRoot {
    fn stat(&self) -> Stat {
        Stat {
            mode: FileType::Directory.mode_bits() | 0o555,
            nlink: 2,
            block_size: PAGE_SIZE as u32,
            ..Default::default()
        }
    }
    fn file_type(&self) -> FileType {
        FileType::Directory
    }
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileSystem for NoFs {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(NoRoot)
    }
    fn stat(&self) -> FsStat {
        FsStat { magic: 0x0904_1934, block_size: PAGE_SIZE as u64, ..Default::default() }
    }
}

/// A place for an open file that has none, so that its link in /proc/PID/fd can be followed and its attributes changed.
pub fn place(file: Arc<OpenFile>) -> Path {
    static MOUNT: spin::Once<Arc<Mount>> = spin::Once::new();
    let mount = MOUNT.call_once(|| {
        let fs = SuperBlock::new(Arc::new(NoFs));
        let root = fs.root().clone();
        Mount::new(fs, root, "none", MountFlags::empty())
    });
    let name = file.ops.anonymous_name().unwrap_or_default();
    Path { mount: mount.clone(), dentry: Dentry::new(name.as_bytes(), None, Arc::new(Anonymous { file })) }
}

/// The inode of an object without a path.
struct Anonymous {
    file: Arc<OpenFile>,
}

impl Inode for Anonymous {
    fn stat(&self) -> Stat {
        self.file.ops.stat(&self.file).unwrap_or(Stat {
            mode: 0o600,
            nlink: 1,
            block_size: PAGE_SIZE as u32,
            ..Default::default()
        })
    }
    fn file_type(&self) -> FileType {
        match self.stat().mode >> 12 & 0xf {
            1 => FileType::Fifo,
            12 => FileType::Socket,
            _ => FileType::Regular,
        }
    }
    /// EOPNOTSUPP for what has no attributes of its own (eventfd, epoll and the like).
    fn set_attr(&self, change: SetAttr) -> Result<(), Errno> {
        if let Some(len) = change.size {
            self.file.ops.truncate(&self.file, len)?;
        }
        self.file.ops.attributes().ok_or(Errno::EOPNOTSUPP)?.set(change);
        Ok(())
    }
    /// Pipes get an end of their own, files without a name are shared; ENXIO for what cannot be opened by name.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        if self.file.advance == crate::vfs::Advance::Position && self.file.ops.mem_object(&self.file).is_ok() {
            return Ok(self.file.ops.clone());
        }
        self.file.ops.reopen(flags)
    }
    fn is_volatile(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
