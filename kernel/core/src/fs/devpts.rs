//! devpts: the pseudo-terminals that exist, as files.

use crate::file::device::open_char;
use crate::file::tty;
use crate::prelude::*;
use crate::time::{Timespec, file_time};
use crate::vfs::inode::{FileType, Inode, SetAttr, Stat};
use crate::vfs::path::{FileSystem, FsStat};
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
use base::device::makedev;
use core::any::Any;

/// st_dev of all mounts of it.
const DEVICE: u64 = makedev(0, 0xf_fff2);

/// The file system of pseudo-terminal slaves.
pub struct DevPts {
    start: Timespec,
}

impl DevPts {
    /// There is one set of pseudo-terminals, so all mounts show the same.
    pub fn instance() -> Arc<DevPts> {
        static INSTANCE: spin::Once<Arc<DevPts>> = spin::Once::new();
        INSTANCE.call_once(|| Arc::new(DevPts { start: file_time() })).clone()
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Terminals)
    }
    fn stat(&self) -> FsStat {
        FsStat { magic: 0x1cd1, block_size: PAGE_SIZE as u64, ..Default::default() }
    }
    fn options(&self) -> String {
        String::from(",gid=5,mode=620,ptmxmode=666")
    }
}

/// The directory of slaves.
struct Terminals;

/// One slave, by number; `None` is the multiplexer.
struct Terminal {
    number: Option<u32>,
}

const PTMX_INO: u64 = 2;

impl Inode for Terminals {
    fn stat(&self) -> Stat {
        let pts = DevPts::instance();
        Stat {
            dev: DEVICE,
            ino: 1,
            mode: 0o40755,
            nlink: 2,
            block_size: 1024,
            atime: pts.start,
            mtime: pts.start,
            ctime: pts.start,
            btime: pts.start,
            ..Default::default()
        }
    }
    fn file_type(&self) -> FileType {
        FileType::Directory
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::new(Terminal { number: None }));
        }
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let number: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if alloc::format!("{number}") != text || !tty::pty_list().iter().any(|entry| entry.0 == number) {
            return Err(Errno::ENOENT);
        }
        Ok(Arc::new(Terminal { number: Some(number) }))
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

impl FileOps for Terminals {
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
    fn read_dir(
        &self,
        file: &OpenFile,
        offset: u64,
        emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        let (directory, char) = (FileType::Directory as u8, FileType::Char as u8);
        let parent =
            file.path.as_ref().map_or(1, |path| path.dentry.parent().map_or(1, |parent| parent.inode.stat().ino));
        for (position, name, ino, kind) in
            [(0, &b"."[..], 1, directory), (1, b"..", parent, directory), (2, b"ptmx", PTMX_INO, char)]
        {
            if position >= offset && !emit(name, ino, kind, position + 1) {
                return Ok(());
            }
        }
        for (number, ..) in tty::pty_list() {
            let position = number as u64 + 3;
            let name = alloc::format!("{number}");
            if position >= offset && !emit(name.as_bytes(), position, char, position + 1) {
                return Ok(());
            }
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Inode for Terminal {
    fn stat(&self) -> Stat {
        let pts = DevPts::instance();
        let (ino, rdev, mode, uid, gid) = match self.number {
            None => (PTMX_INO, tty::DEV_PTMX, 0o666, 0, 0),
            Some(number) => {
                let owner = tty::pty_list().into_iter().find(|entry| entry.0 == number);
                let (_, uid, gid, mode) = owner.unwrap_or((number, 0, 0, 0o620));
                (number as u64 + 3, makedev(136, number), mode, uid, gid)
            }
        };
        Stat {
            dev: DEVICE,
            ino,
            mode: 0o20000 | mode,
            nlink: 1,
            uid,
            gid,
            rdev,
            block_size: 1024,
            atime: pts.start,
            mtime: pts.start,
            ctime: pts.start,
            btime: pts.start,
            ..Default::default()
        }
    }
    fn file_type(&self) -> FileType {
        FileType::Char
    }
    fn set_attr(&self, attr: SetAttr) -> Result<(), Errno> {
        match self.number {
            Some(number) => tty::set_pty_owner(number, attr.mode, attr.uid, attr.gid),
            None => Err(Errno::EPERM),
        }
    }
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match self.number {
            None => open_char(tty::DEV_PTMX, flags),
            Some(number) => tty::open_pty_slave(number, flags),
        }
    }
    fn is_volatile(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
