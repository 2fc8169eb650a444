//! [`Inode`]: what a file system gives the VFS.

use crate::mm::MemObject;
use crate::prelude::*;
use crate::time::Timespec;
use crate::vfs::{FileOps, OpenFlags};
use core::any::Any;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FileType {
    Fifo = 1,
    Char = 2,
    Directory = 4,
    Block = 6,
    Regular = 8,
    Symlink = 10,
    Socket = 12,
}

impl FileType {
    /// The S_IFMT bits.
    pub const fn mode_bits(self) -> u32 {
        (self as u32) << 12
    }
}

/// What stat(2) and statx(2) answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub block_size: u32,
    /// In 512-byte units.
    pub blocks: u64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub btime: Timespec,
}

/// Attributes to change (chmod, chown, utimensat, truncate); `None` stays. The VFS has checked permissions.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Timespec>,
    pub mtime: Option<Timespec>,
}

/// One object of a file system. Directory operations get names without '/', checked for length by the VFS; the VFS holds
/// the directory's lock around changes.
pub trait Inode: Any + Send + Sync {
    fn stat(&self) -> Stat;
    fn file_type(&self) -> FileType;
    /// Mode (with type bits), uid and gid, for permission checks.
    fn access(&self) -> (u32, u32, u32) {
        let stat = self.stat();
        (stat.mode, stat.uid, stat.gid)
    }
    /// The calling process's own, which it may use whatever its mode says (/proc/self/fd after a change of user).
    fn is_own(&self) -> bool {
        false
    }
    fn set_attr(&self, _attr: SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
    /// ENOENT, ENOTDIR.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOTDIR)
    }
    /// Makes a regular file, directory, FIFO, socket or device node (`rdev`). EEXIST, ENOSPC.
    fn create(
        &self,
        _name: &[u8],
        _file_type: FileType,
        _mode: u32,
        _uid: u32,
        _gid: u32,
        _rdev: u64,
    ) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM)
    }
    fn symlink(&self, _name: &[u8], _target: &[u8], _uid: u32, _gid: u32) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM)
    }
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
    fn unlink(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
    fn rmdir(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
    /// rename within this file system; `exchange` is RENAME_EXCHANGE; replacing rules were checked by the VFS.
    fn rename(&self, _name: &[u8], _to: &Arc<dyn Inode>, _new_name: &[u8], _exchange: bool) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
    /// A file without a name (O_TMPFILE, memfd).
    fn create_unnamed(&self, _mode: u32, _uid: u32, _gid: u32) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }
    /// For magic links (/proc/PID/exe, fd/N): the place itself.
    fn follow(&self) -> Option<Result<super::Path, Errno>> {
        None
    }
    /// What an open of this inode can do (regular files and directories: usually the inode itself; FIFOs and devices: the
    /// object). May block (FIFO) or fail (ENXIO).
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno>;
    /// The page cache of a regular file.
    fn mem_object(&self) -> Option<Arc<MemObject>> {
        None
    }
    /// Names may appear and vanish by themselves (procfs): do not cache lookups.
    fn is_volatile(&self) -> bool {
        false
    }
    /// Extended attributes, where the file system has them: get by name; EOPNOTSUPP, ENODATA.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Sets an attribute: flags as setxattr(2); removal with `value` None.
    fn set_xattr(&self, _name: &[u8], _value: Option<&[u8]>, _flags: u32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Names, each with its NUL.
    fn list_xattr(&self) -> Result<Vec<u8>, Errno> {
        Ok(Vec::new())
    }
    fn as_any(&self) -> &dyn Any;
}
