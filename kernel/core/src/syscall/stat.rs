//! stat, statx, statfs.

use super::path::resolve;
use crate::prelude::*;
use crate::time::Timespec;
use crate::vfs::AT_FDCWD;
use crate::vfs::OpenFile;
use crate::vfs::inode::Stat;
use crate::vfs::path::{FsStat, MountFlags, Path};
use crate::vfs::table;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// `struct stat` of arm64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawStat {
    dev: u64,
    ino: u64,
    mode: u32,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    pad1: u64,
    size: i64,
    block_size: i32,
    pad2: i32,
    blocks: i64,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    unused: [u32; 2],
}

impl From<&Stat> for RawStat {
    fn from(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            mode: stat.mode,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: stat.rdev,
            pad1: 0,
            size: stat.size as i64,
            block_size: stat.block_size as i32,
            pad2: 0,
            blocks: stat.blocks as i64,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            unused: [0; 2],
        }
    }
}

/// The attributes of an open file: the object's own, its inode's, or those of an anonymous inode.
pub fn stat_file(file: &OpenFile) -> Stat {
    if let Some(stat) = file.ops.stat(file) {
        return stat;
    }
    match file.inode() {
        Some(inode) => inode.stat(),
        None => Stat { mode: 0o600, nlink: 1, block_size: PAGE_SIZE as u32, ..Stat::default() },
    }
}

pub fn sys_fstat(fd: i32, buf: UserAddr) -> SysResult {
    let file = table::file_or_path(fd)?;
    UserPtr::new(buf).write(&RawStat::from(&stat_file(&file)))?;
    Ok(0)
}

pub fn sys_newfstatat(dirfd: i32, path: UserAddr, buf: UserAddr, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & AT_EMPTY_PATH != 0 && dirfd >= 0 && is_empty(path)? {
        return sys_fstat(dirfd, buf);
    }
    let target = resolve(dirfd, path, flags)?;
    UserPtr::new(buf).write(&RawStat::from(&target.inode().stat()))?;
    Ok(0)
}

fn is_empty(path: UserAddr) -> Result<bool, Errno> {
    Ok(path.is_null() || UserPtr::<u8>::new(path).read()? == 0)
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    sec: i64,
    nsec: u32,
    pad: i32,
}

impl From<Timespec> for StatxTime {
    fn from(time: Timespec) -> Self {
        Self { sec: time.sec, nsec: time.nsec as u32, pad: 0 }
    }
}

/// `struct statx`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad1: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: StatxTime,
    btime: StatxTime,
    ctime: StatxTime,
    mtime: StatxTime,
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    mount_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

const STATX_BASIC: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_RESERVED: u32 = 0x8000_0000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

pub fn sys_statx(dirfd: i32, path: UserAddr, flags: u32, mask: u32, buf: UserAddr) -> SysResult {
    if mask & STATX_RESERVED != 0
        || flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) != 0
        || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE
    {
        return Err(Errno::EINVAL);
    }
    let (stat, place): (Stat, Option<Path>) = if flags & AT_EMPTY_PATH != 0 && dirfd >= 0 && is_empty(path)? {
        let file = table::file_or_path(dirfd)?;
        (stat_file(&file), file.path.clone())
    } else {
        let target = resolve(dirfd, path, flags)?;
        (target.inode().stat(), Some(target))
    };
    let is_root = place.as_ref().is_some_and(|path| Arc::ptr_eq(&path.dentry, &path.mount.root));
    let statx = Statx {
        mask: STATX_BASIC | STATX_BTIME | STATX_MNT_ID,
        block_size: stat.block_size,
        attributes: if is_root { STATX_ATTR_MOUNT_ROOT } else { 0 },
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        mode: stat.mode as u16,
        pad1: 0,
        ino: stat.ino,
        size: stat.size,
        blocks: stat.blocks,
        attributes_mask: STATX_ATTR_MOUNT_ROOT,
        atime: stat.atime.into(),
        btime: stat.btime.into(),
        ctime: stat.ctime.into(),
        mtime: stat.mtime.into(),
        rdev_major: base::device::major(stat.rdev),
        rdev_minor: base::device::minor(stat.rdev),
        dev_major: base::device::major(stat.dev),
        dev_minor: base::device::minor(stat.dev),
        mount_id: place.map_or(0, |path| path.mount.id),
        dio: [0; 2],
        spare: [0; 12],
    };
    UserPtr::new(buf).write(&statx)?;
    Ok(0)
}

/// `struct statfs`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawStatfs {
    magic: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: [u32; 2],
    name_max: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

fn statfs(place: Option<&Path>, buf: UserAddr) -> SysResult {
    const ST_VALID: u64 = 0x20;
    const ANON_INODE_MAGIC: u64 = 0x0904_1934;
    let (stat, flags) = match place {
        Some(path) => (path.mount.fs.stat(), path.mount.flags()),
        None => {
            (FsStat { magic: ANON_INODE_MAGIC, block_size: PAGE_SIZE as u64, ..FsStat::default() }, MountFlags::empty())
        }
    };
    let raw = RawStatfs {
        magic: stat.magic,
        block_size: stat.block_size,
        blocks: stat.blocks,
        blocks_free: stat.blocks_free,
        blocks_available: stat.blocks_free,
        files: stat.files,
        files_free: stat.files_free,
        id: [0; 2],
        name_max: 255,
        fragment_size: stat.block_size,
        flags: ST_VALID | u64::from(flags.bits() & 0xf),
        spare: [0; 4],
    };
    UserPtr::new(buf).write(&raw)?;
    Ok(0)
}

pub fn sys_statfs(path: UserAddr, buf: UserAddr) -> SysResult {
    let target = resolve(AT_FDCWD, path, 0)?;
    statfs(Some(&target), buf)
}

pub fn sys_fstatfs(fd: i32, buf: UserAddr) -> SysResult {
    let file = table::file_or_path(fd)?;
    statfs(file.path.as_ref(), buf)
}
