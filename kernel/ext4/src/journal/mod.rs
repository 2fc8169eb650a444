//! The journal: transactions of whole blocks, with JBD2's format on disk.
//!
//! [`Handle`]s of many threads change buffers within the running transaction, each in one of [`ROOMS`] rooms. [`commit`] takes the
//! log and then all rooms, notes the transaction's blocks (without copying: see [`crate::cache`]), lets go, and does all I/O
//! afterwards. [`checkpoint`] writes committed blocks home. [`recover`] replays at mount.

mod checkpoint;
mod commit;
pub mod format;
pub mod recover;

use crate::layout::put_be32;
use crate::prelude::*;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use format::Format;
use lock_api::MutexGuard;

/// Handles that can be open at once.
const ROOMS: usize = 16;

/// Where the blocks of the journal's file lie: (first block of the file, first block on disk, count).
pub struct LogMap(pub Vec<(u32, u64, u32)>);

impl LogMap {
    /// The place of a block of the log, and how many follow it on disk.
    fn place(&self, position: u32) -> Result<(u64, u32)> {
        let at = self.0.partition_point(|(start, ..)| *start <= position).checked_sub(1).ok_or(Errno::EUCLEAN)?;
        let (start, block, len) = self.0[at];
        let into = position - start;
        if into < len { Ok((block + u64::from(into), len - into)) } else { Err(Errno::EUCLEAN) }
    }

    pub fn read<D: Disk>(&self, disk: &D, bits: u32, position: u32, block: &mut [u8]) -> Result<()> {
        disk.read(self.place(position)?.0 << (bits - 9), block)
    }

    /// Writes the journal's superblock, durably.
    pub fn write_superblock<D: Disk>(&self, disk: &D, bits: u32, format: &mut Format) -> Result<()> {
        format.seal(disk);
        disk.write(self.place(0)?.0 << (bits - 9), &[&format.superblock], true)
    }
}

/// The transaction that handles add to.
struct Running<L: RawMutex> {
    tid: u64,
    buffers: HashMap<u64, Arc<Buffer<L>>>,
    /// Blocks open handles may still add.
    reserved: usize,
    /// Metadata blocks that were freed: older copies in the log must not be replayed.
    revoked: Vec<u64>,
    /// Given back to the allocator once this is on disk: blocks (first, count) and inodes.
    freed: Vec<(u64, u32)>,
    freed_inodes: Vec<u32>,
    /// Groups whose descriptors changed.
    groups: HashMap<u32, ()>,
}

impl<L: RawMutex> Running<L> {
    fn new(tid: u64) -> Self {
        Running {
            tid,
            buffers: HashMap::new(),
            reserved: 0,
            revoked: Vec::new(),
            freed: Vec::new(),
            freed_inodes: Vec::new(),
            groups: HashMap::new(),
        }
    }
    fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.groups.is_empty() && self.freed.is_empty() && self.freed_inodes.is_empty()
    }
}

/// The log on disk and what is in it; its lock makes one commit at a time.
struct Log<L: RawMutex> {
    /// `None`: the file system has no journal; a commit writes everything home.
    space: Option<(Format, LogMap)>,
    /// Where the next block goes, and how many blocks before it are in use.
    head: u32,
    used: u32,
    /// Committed blocks that are not written home.
    pending: HashMap<u64, Arc<Buffer<L>>>,
    copies: HashMap<u64, Arc<Vec<u8>>>,
}

pub struct Journal<L: RawMutex> {
    rooms: [Mutex<L, ()>; ROOMS],
    next_room: AtomicUsize,
    running: Mutex<L, Running<L>>,
    log: Mutex<L, Log<L>>,
    /// The last transaction that is on disk.
    committed: AtomicU64,
    /// Something could not be written: nothing is written any more.
    aborted: AtomicBool,
    /// Blocks a transaction may have.
    max_blocks: usize,
}

impl<L: RawMutex> Journal<L> {
    /// A journal that writes to `space` once [`Journal::start`] has been called.
    pub fn new(space: Option<(Format, LogMap)>) -> Self {
        let (tid, head, max_blocks) = match &space {
            Some((format, _)) => {
                (u64::from(format.sequence()).max(1), format.first, (format.capacity() / 4).min(1024) as usize)
            }
            None => (1, 0, 1024),
        };
        Journal {
            rooms: core::array::from_fn(|_| Mutex::new(())),
            next_room: AtomicUsize::new(0),
            running: Mutex::new(Running::new(tid)),
            log: Mutex::new(Log { space, head, used: 0, pending: HashMap::new(), copies: HashMap::new() }),
            committed: AtomicU64::new(tid - 1),
            aborted: AtomicBool::new(false),
            max_blocks,
        }
    }

    pub fn has_log(&self) -> bool {
        self.log.lock().space.is_some()
    }
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
    }
    pub fn is_committed(&self, tid: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= tid
    }
    /// Blocks one handle may ask for.
    pub fn max_credits(&self) -> usize {
        self.max_blocks / 2
    }

    /// Marks the log as in use on disk. RECOVER is set in the superblock, and that is durable.
    pub fn start<D: Disk>(&self, disk: &D, geometry: &Geometry) -> Result<()> {
        let mut log = self.log.lock();
        let tid = self.running.lock().tid;
        let Some((format, map)) = &mut log.space else { return Ok(()) };
        let mut features = format.incompat() | format::INCOMPAT_REVOKE;
        features &= !(format::INCOMPAT_FAST_COMMIT | 4);
        if geometry.incompat & crate::layout::superblock::incompat::BIT64 != 0 {
            features |= format::INCOMPAT_64BIT;
        }
        if geometry.has_csum() {
            features = features & !format::INCOMPAT_CSUM_V2 | format::INCOMPAT_CSUM_V3;
            format.superblock[format::CHECKSUM_TYPE] = 4;
            put_be32(&mut format.superblock, format::COMPAT, 0);
        }
        put_be32(&mut format.superblock, format::INCOMPAT, features);
        put_be32(&mut format.superblock, format::SEQUENCE, tid as u32);
        put_be32(&mut format.superblock, format::START, format.first);
        let first = format.first;
        map.write_superblock(disk, geometry.block_bits, format)?;
        log.head = first;
        log.used = 0;
        Ok(())
    }

    /// Marks the log as empty on disk, durably. Everything has been committed and written home.
    pub fn stop<D: Disk>(&self, disk: &D, geometry: &Geometry) -> Result<()> {
        let mut log = self.log.lock();
        let tid = self.running.lock().tid;
        let Some((format, map)) = &mut log.space else { return Ok(()) };
        put_be32(&mut format.superblock, format::SEQUENCE, tid as u32);
        put_be32(&mut format.superblock, format::START, 0);
        map.write_superblock(disk, geometry.block_bits, format)?;
        disk.flush()
    }

    /// Whether the log holds the error mark of an earlier mount; clears it in memory.
    pub fn take_errno(&self) -> bool {
        let mut log = self.log.lock();
        let Some((format, _)) = &mut log.space else { return false };
        let had = crate::layout::be32(&format.superblock, format::ERRNO) != 0;
        put_be32(&mut format.superblock, format::ERRNO, 0);
        had
    }
}

/// One operation's part of a transaction: all of its changes are on disk after a crash, or none.
pub struct Handle<'a, D: Disk, L: RawMutex> {
    pub fs: &'a Ext4<D, L>,
    pub tid: u64,
    credits: usize,
    _room: MutexGuard<'a, L, ()>,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Opens a handle that changes at most `credits` blocks. No handle is open in this thread. EROFS; what a commit says.
    pub(crate) fn begin(&self, credits: usize) -> Result<Handle<'_, D, L>> {
        let journal = &self.journal;
        let credits = credits.min(journal.max_credits());
        loop {
            self.check_writable()?;
            let room = journal.take_room();
            let mut running = journal.running.lock();
            if running.buffers.len() + running.reserved + credits <= journal.max_blocks {
                running.reserved += credits;
                let tid = running.tid;
                drop(running);
                return Ok(Handle { fs: self, tid, credits, _room: room });
            }
            let tid = running.tid;
            drop(running);
            drop(room);
            self.commit(tid)?;
        }
    }
}

impl<L: RawMutex> Journal<L> {
    fn take_room(&self) -> MutexGuard<'_, L, ()> {
        let first = self.next_room.fetch_add(1, Ordering::Relaxed);
        (0..ROOMS)
            .find_map(|i| self.rooms[(first + i) % ROOMS].try_lock())
            .unwrap_or_else(|| self.rooms[first % ROOMS].lock())
    }
}

impl<D: Disk, L: RawMutex> Drop for Handle<'_, D, L> {
    fn drop(&mut self) {
        self.fs.journal.running.lock().reserved -= self.credits;
    }
}

impl<D: Disk, L: RawMutex> Handle<'_, D, L> {
    /// Adds a buffer to the transaction.
    fn add(&self, buffer: &Arc<Buffer<L>>) -> Result<()> {
        if buffer.tid.load(Ordering::Relaxed) != self.tid {
            let mut running = self.fs.journal.running.lock();
            running.buffers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            running.buffers.insert(buffer.block, buffer.clone());
            buffer.tid.store(self.tid, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Changes a metadata block. ENOMEM, and then nothing has changed.
    pub fn modify<R>(&self, buffer: &Arc<Buffer<L>>, seal: Seal, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.add(buffer)?;
        buffer.change(seal, change)
    }

    /// Forgets a metadata block that is being freed.
    pub fn revoke(&self, block: u64) -> Result<()> {
        let mut running = self.fs.journal.running.lock();
        crate::layout::push(&mut running.revoked, block)?;
        running.buffers.remove(&block);
        drop(running);
        self.fs.cache.forget(block);
        Ok(())
    }

    /// Notes blocks that become free when the transaction is on disk.
    pub fn note_freed(&self, first: u64, count: u32) -> Result<()> {
        crate::layout::push(&mut self.fs.journal.running.lock().freed, (first, count))
    }
    pub fn note_freed_inode(&self, number: u32) -> Result<()> {
        crate::layout::push(&mut self.fs.journal.running.lock().freed_inodes, number)
    }
    /// Notes that a group's descriptor has changed.
    pub fn note_group(&self, group: u32) -> Result<()> {
        let mut running = self.fs.journal.running.lock();
        running.groups.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        running.groups.insert(group, ());
        Ok(())
    }
}
