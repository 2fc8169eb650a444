//! Block devices as files: the node in /dev of a disk or partition.
//!
//! All opens of a volume share a [`Node`] with its page cache, which is written back and forgotten with the last of them, as on
//! Linux. A file system on the volume has a cache of its own: [`settle`] makes the two meet when it is mounted and unmounted.

mod ioctl;

use super::direct;
use crate::block::{self, Piece, SECTOR_SHIFT, Volume};
use crate::mm::object::writeback;
use crate::mm::{Backing, MemObject};
use crate::prelude::*;
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use drivers::traits::BlockOp;
use hal::frame::Frame;

/// The pages of a volume.
struct Pages(Arc<Volume>);

impl Backing for Pages {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<(), Errno> {
        self.0.transfer_pages(BlockOp::Read, first * PAGE_SIZE as u64, frames)
    }
    fn write_pages(&self, pages: &[(u64, Frame)]) -> Result<(), Errno> {
        let end = self.0.len_bytes();
        let mut pieces = pages.iter().filter_map(|(index, frame)| {
            let at = index * PAGE_SIZE as u64;
            let len_bytes = end.saturating_sub(at).min(PAGE_SIZE as u64) as usize;
            (len_bytes > 0).then_some(Piece { sector: at >> SECTOR_SHIFT, frame, offset: 0, len_bytes })
        });
        self.0.transfer(BlockOp::Write { fua: false }, &mut pieces)
    }
    fn commit(&self) -> Result<(), Errno> {
        self.0.flush()
    }
    fn owner(&self) -> u64 {
        // As if of one file system that holds all block devices.
        OWNER
    }
}

/// st_dev of what syncs block nodes: theirs alone.
const OWNER: u64 = u64::MAX;

/// What the opens of a volume share.
struct Node {
    volume: Arc<Volume>,
    object: Arc<MemObject>,
    /// Held by writes, so that those past the cache and those through it do not mix.
    order: Mutex<()>,
    /// `block::registry::changes()` when the length was last looked at.
    seen_changes: AtomicU64,
}

impl Node {
    /// The length now: a disk may grow and shrink.
    fn len(&self) -> u64 {
        let changes = block::registry::changes();
        if self.seen_changes.swap(changes, Ordering::AcqRel) != changes && self.object.len() != self.volume.len_bytes()
        {
            // Never sealed, and the backing has nothing to say to it.
            let _ = self.object.truncate(self.volume.len_bytes());
        }
        self.volume.len_bytes()
    }
}

/// Open volumes. Held while one is opened and while the last closes, with what is to be written: who opens it again finds it on the
/// disk.
static NODES: Mutex<Vec<Weak<Node>>> = Mutex::new(Vec::new());

fn find(nodes: &[Weak<Node>], volume: &Volume) -> Option<Arc<Node>> {
    nodes.iter().filter_map(Weak::upgrade).find(|node| core::ptr::eq(&*node.volume, volume))
}

/// Opens the block device `rdev`: ENXIO when there is none, EBUSY (O_EXCL) when it is mounted or claimed.
pub fn open(rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
    let volume = block::by_number(rdev).ok_or(Errno::ENXIO)?;
    let is_exclusive = flags.contains(OpenFlags::EXCL);
    let mut nodes = NODES.lock();
    if is_exclusive {
        volume.claim()?;
    }
    let node = match find(&nodes, &volume) {
        Some(node) => node,
        None => {
            nodes.retain(|node| node.strong_count() != 0);
            nodes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let seen_changes = AtomicU64::new(block::registry::changes());
            let object = MemObject::backed(volume.len_bytes(), Arc::new(Pages(volume.clone())));
            crate::mm::object::seals::seal_seals(&object);
            let node = Arc::new(Node { volume: volume.clone(), object, order: Mutex::new(()), seen_changes });
            nodes.push(Arc::downgrade(&node));
            node
        }
    };
    volume.open();
    Ok(Arc::new(BlockFile { node, is_exclusive }))
}

/// Writes what is cached of the volume's node to it and forgets it: before a file system reads the volume, and after it wrote to it.
pub fn settle(volume: &Volume) -> Result<(), Errno> {
    let node = find(&NODES.lock(), volume);
    match node {
        Some(node) => node.object.invalidate(0, u64::MAX),
        None => Ok(()),
    }
}

/// Writes what is cached of all nodes and flushes their disks.
pub fn sync_nodes() {
    writeback::sync_all(Some(OWNER));
    let open: Vec<Arc<Node>> = NODES.lock().iter().filter_map(Weak::upgrade).collect();
    for node in open {
        let _ = node.volume.flush();
    }
}

struct BlockFile {
    node: Arc<Node>,
    is_exclusive: bool,
}

impl BlockFile {
    fn volume(&self) -> &Arc<Volume> {
        &self.node.volume
    }

    /// Moves `bytes` from byte `offset` on between disk and pages.
    fn transfer(&self, op: BlockOp, offset: u64, frames: &[Frame], bytes: usize) -> Result<(), Errno> {
        let mut left = bytes;
        let mut sector = offset >> SECTOR_SHIFT;
        let mut pieces = frames.iter().map_while(|frame| {
            let len_bytes = left.min(PAGE_SIZE);
            left -= len_bytes;
            let piece = Piece { sector, frame, offset: 0, len_bytes };
            sector += (len_bytes as u64) >> SECTOR_SHIFT;
            (len_bytes > 0).then_some(piece)
        });
        self.volume().transfer(op, &mut pieces)
    }
}

impl FileOps for BlockFile {
    fn read(&self, file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let len = self.node.len();
        if !file.flags().contains(OpenFlags::DIRECT) {
            return self.node.object.read(offset, dst);
        }
        direct::check(offset, dst.remaining(), self.volume().logical_bytes())?;
        self.node.object.sync(offset, dst.remaining() as u64)?;
        direct::read(offset, len, dst, &mut |at, frames, bytes| self.transfer(BlockOp::Read, at, frames, bytes))
    }

    /// ENOSPC at the end, EPERM on what is read-only.
    fn write(&self, file: &OpenFile, offset: u64, src: &mut UserReader<'_>) -> SysResult {
        if self.volume().is_read_only() {
            return Err(Errno::EPERM);
        }
        let len = self.node.len();
        let offset = if file.flags().contains(OpenFlags::APPEND) { len } else { offset };
        if src.remaining() == 0 {
            return Ok(0);
        }
        if offset >= len {
            return Err(Errno::ENOSPC);
        }
        src.truncate(usize::try_from(len - offset).unwrap_or(usize::MAX));
        let done = if file.flags().contains(OpenFlags::DIRECT) {
            let block = self.volume().logical_bytes();
            direct::check(offset, src.remaining(), block)?;
            let bytes = src.remaining() as u64;
            let _order = self.node.order.lock();
            self.node.object.invalidate(offset, bytes)?;
            let op = BlockOp::Write { fua: false };
            let done = direct::write(offset, src, block, &mut |at, frames, bytes| self.transfer(op, at, frames, bytes));
            // A fault of a mapping may have read old bytes meanwhile.
            self.node.object.invalidate(offset, bytes)?;
            done?
        } else {
            let done = {
                let _order = self.node.order.lock();
                self.node.object.write(offset, src)?
            };
            writeback::throttle();
            done
        };
        file.append_position.store(offset + done as u64, Ordering::Relaxed);
        Ok(done)
    }

    fn advance(&self) -> Advance {
        Advance::Position
    }

    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        let len = self.node.len();
        let to = match from {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(by) => len.checked_add_signed(by),
            SeekFrom::Data(at) => return if at < len { Ok(at) } else { Err(Errno::ENXIO) },
            SeekFrom::Hole(at) => return if at < len { Ok(len) } else { Err(Errno::ENXIO) },
        };
        to.filter(|to| *to <= len).ok_or(Errno::EINVAL)
    }

    fn ioctl(&self, file: &OpenFile, command: u32, argument: u64) -> SysResult {
        ioctl::ioctl(self, file, command, argument)
    }

    fn mem_object(&self, _file: &OpenFile) -> Result<Arc<MemObject>, Errno> {
        self.node.len();
        Ok(self.node.object.clone())
    }

    fn fsync(&self, file: &OpenFile, _data_only: bool) -> Result<(), Errno> {
        let _ = self.node.object.sync(0, u64::MAX);
        let flushed = self.volume().flush();
        file.writeback_error(&self.node.object)?;
        flushed
    }

    fn truncate(&self, _file: &OpenFile, _len: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// FALLOC_FL_ZERO_RANGE and FALLOC_FL_PUNCH_HOLE, each with FALLOC_FL_KEEP_SIZE: EINVAL beyond the end or inside a block.
    fn fallocate(&self, _file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const NO_HIDE_STALE: u32 = 4;
        const ZERO_RANGE: u32 = 0x10;
        let end = self.node.len();
        if offset >= end {
            return Err(Errno::EINVAL);
        }
        let len = if mode & KEEP_SIZE != 0 { len.min(end - offset) } else { len };
        if len > end - offset {
            return Err(Errno::EINVAL);
        }
        direct::check(offset, len as usize, self.volume().logical_bytes())?;
        let _order = self.node.order.lock();
        self.node.object.invalidate(offset, len)?;
        let (sector, nr_sectors) = (offset >> SECTOR_SHIFT, len >> SECTOR_SHIFT);
        match mode & !KEEP_SIZE {
            ZERO_RANGE => self.volume().zero(sector, nr_sectors, false, true),
            PUNCH_HOLE if mode & KEEP_SIZE != 0 => self.volume().zero(sector, nr_sectors, true, false),
            both if both == PUNCH_HOLE | NO_HIDE_STALE && mode & KEEP_SIZE != 0 => {
                self.volume().discard(sector, nr_sectors)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn release(&self, _file: &OpenFile) {
        let volume = self.volume();
        let _nodes = NODES.lock();
        if self.is_exclusive {
            volume.unclaim();
        }
        volume.close();
        if !volume.is_open() {
            // Nobody is left to hear of an error but the log.
            if self.node.object.invalidate(0, u64::MAX).and_then(|()| volume.flush()).is_err() {
                crate::error!("{}: what was written last is lost", volume.name);
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
