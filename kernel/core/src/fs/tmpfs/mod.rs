//! tmpfs: files in memory. Also the stuff of devtmpfs and of the root file system. Here: an instance, its options and limits;
//! [`node`]: files, directories and the rest; [`open`]: what is open.

mod node;
mod open;

pub use node::TmpInode;

use crate::mm::object::Quota;
use crate::prelude::*;
use crate::vfs::path::{FileSystem, FsStat};
use crate::vfs::{FileType, Inode};
use core::sync::atomic::{AtomicU64, Ordering};

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

/// A limit that nothing reaches; 0 in options and in what statfs(2) shows.
const NO_LIMIT: u64 = u64::MAX;

impl Instance {
    /// EINVAL for less than is used.
    fn set_max_pages(&self, pages: u64) -> Result<(), Errno> {
        if pages != 0 && pages < self.quota.used() {
            return Err(Errno::EINVAL);
        }
        self.quota.set_max(if pages == 0 { NO_LIMIT } else { pages });
        Ok(())
    }
    /// EINVAL for less than is used.
    fn set_max_inodes(&self, inodes: u64) -> Result<(), Errno> {
        if inodes != 0 && inodes < self.inodes.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        self.max_inodes.store(if inodes == 0 { NO_LIMIT } else { inodes }, Ordering::Relaxed);
        Ok(())
    }
}

pub struct TmpFs {
    instance: Arc<Instance>,
    root: Arc<TmpInode>,
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
            root.access.set_mode(0o755);
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
                        Some(percent) => total.saturating_mul(percent.parse::<u64>().map_err(|_| Errno::EINVAL)?) / 100,
                        None => parse_size(value)?.div_ceil(PAGE_SIZE as u64),
                    };
                    self.instance.set_max_pages(pages)?;
                }
                "nr_blocks" => self.instance.set_max_pages(parse_size(value)?)?,
                "nr_inodes" => self.instance.set_max_inodes(parse_size(value)?)?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    self.root.access.set_mode(mode & 0o7777);
                }
                "uid" => {
                    let uid = value.parse().map_err(|_| Errno::EINVAL)?;
                    self.root.access.set_owner(uid, self.root.access.owner().1);
                }
                "gid" => {
                    let gid = value.parse().map_err(|_| Errno::EINVAL)?;
                    self.root.access.set_owner(self.root.access.owner().0, gid);
                }
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
        let shown = |max: u64, used: u64| if max == NO_LIMIT { (0, 0) } else { (max, max.saturating_sub(used)) };
        let ((blocks, blocks_free), (files, files_free)) = (shown(max, used), shown(max_inodes, inodes));
        FsStat { magic: MAGIC, block_size: PAGE_SIZE as u64, blocks, blocks_free, files, files_free }
    }
    fn remount(&self, options: &[u8]) -> Result<(), Errno> {
        self.apply(options)
    }
}
