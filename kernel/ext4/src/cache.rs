//! The cache of metadata blocks. A [`Buffer`]'s content is immutable once it is shared: readers take a snapshot and hold no lock,
//! a commit takes one without a copy, and a change copies the block only if somebody still has a snapshot.
//!
//! A buffer that a transaction, the checkpoint list or a user holds is not dropped from the cache: what is on disk may be older.

use crate::layout::{copied, zeroed};
use crate::prelude::*;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Which checksum a block gets when it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Seal {
    None = 1,
    /// A block of a directory with entries; the seed is the inode's.
    DirLeaf(u32),
    /// A block of a directory's index.
    DirIndex(u32),
    Extents(u32),
    Xattr,
    Superblock,
}

impl Seal {
    fn kind(self) -> u8 {
        match self {
            Seal::None => 1,
            Seal::DirLeaf(_) => 2,
            Seal::DirIndex(_) => 3,
            Seal::Extents(_) => 4,
            Seal::Xattr => 5,
            Seal::Superblock => 6,
        }
    }
}

struct Content {
    bytes: Option<Arc<Vec<u8>>>,
    seal: Seal,
}

pub struct Buffer<L: RawMutex> {
    pub block: u64,
    content: Mutex<L, Content>,
    /// The transaction it was last changed in.
    pub tid: AtomicU64,
    /// The kind of block it was found to be.
    verified: AtomicU8,
    used: AtomicBool,
}

impl<L: RawMutex> Buffer<L> {
    fn new(block: u64) -> Self {
        Buffer {
            block,
            content: Mutex::new(Content { bytes: None, seal: Seal::None }),
            tid: AtomicU64::new(0),
            verified: AtomicU8::new(0),
            used: AtomicBool::new(true),
        }
    }

    /// The content now; EIO if it was never read.
    pub fn bytes(&self) -> Result<Arc<Vec<u8>>> {
        self.content.lock().bytes.clone().ok_or(Errno::EIO)
    }

    /// Changes the content. Only [`Handle::modify`] calls this, so that the change is part of a transaction.
    pub fn change<R>(&self, seal: Seal, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        let mut content = self.content.lock();
        content.seal = seal;
        let bytes = content.bytes.as_mut().ok_or(Errno::EIO)?;
        unshare(bytes)?;
        Ok(change(Arc::get_mut(bytes).ok_or(Errno::EIO)?))
    }

    /// Puts the checksum in and takes the content for the log.
    pub fn sealed(&self, seal_it: impl FnOnce(Seal, u64, &mut [u8])) -> Result<Arc<Vec<u8>>> {
        let mut content = self.content.lock();
        let seal = content.seal;
        let bytes = content.bytes.as_mut().ok_or(Errno::EIO)?;
        if seal != Seal::None {
            unshare(bytes)?;
            seal_it(seal, self.block, Arc::get_mut(bytes).ok_or(Errno::EIO)?);
        }
        Ok(bytes.clone())
    }

    pub fn is_verified(&self, seal: Seal) -> bool {
        self.verified.load(Ordering::Acquire) == seal.kind()
    }
    pub fn set_verified(&self, seal: Seal) {
        self.verified.store(seal.kind(), Ordering::Release);
    }
}

/// Makes `bytes` the only one: copies if somebody else has it too.
fn unshare(bytes: &mut Arc<Vec<u8>>) -> Result<()> {
    if Arc::get_mut(bytes).is_none() {
        *bytes = Arc::new(copied(bytes)?);
    }
    Ok(())
}

const SHARDS: usize = 16;

struct Shard<L: RawMutex> {
    buffers: HashMap<u64, Arc<Buffer<L>>>,
    /// Look for buffers to drop when there are as many.
    scan_at: usize,
}

pub struct Cache<L: RawMutex> {
    shards: [Mutex<L, Shard<L>>; SHARDS],
    /// Buffers a shard holds before it looks for some to drop.
    least: AtomicUsize,
}

impl<L: RawMutex> Cache<L> {
    /// A cache that keeps about `limit` buffers.
    pub fn new(limit: usize) -> Self {
        let least = (limit / SHARDS).max(16);
        Cache {
            shards: core::array::from_fn(|_| Mutex::new(Shard { buffers: HashMap::new(), scan_at: least })),
            least: AtomicUsize::new(least),
        }
    }

    fn shard(&self, block: u64) -> &Mutex<L, Shard<L>> {
        &self.shards[(block ^ block >> 4) as usize % SHARDS]
    }

    /// The buffer of `block`, perhaps without content yet.
    fn get(&self, block: u64) -> Result<Arc<Buffer<L>>> {
        let mut shard = self.shard(block).lock();
        if let Some(buffer) = shard.buffers.get(&block) {
            buffer.used.store(true, Ordering::Relaxed);
            return Ok(buffer.clone());
        }
        if shard.buffers.len() >= shard.scan_at {
            shard.sweep();
            shard.scan_at = (shard.buffers.len() + shard.buffers.len() / 4).max(self.least.load(Ordering::Relaxed));
        }
        shard.buffers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let buffer = Arc::new(Buffer::new(block));
        shard.buffers.insert(block, buffer.clone());
        Ok(buffer)
    }

    /// The buffer of `block`, read with `read` if nobody has read it.
    pub fn read(&self, block: u64, len: usize, read: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Arc<Buffer<L>>> {
        let buffer = self.get(block)?;
        // The lock is held over the read: whoever else wants the block waits for it here.
        let mut content = buffer.content.lock();
        if content.bytes.is_none() {
            let mut bytes = zeroed(len)?;
            read(&mut bytes)?;
            content.bytes = Some(Arc::new(bytes));
        }
        drop(content);
        Ok(buffer)
    }

    /// The buffer of a block that is new: zeroes, whatever is on disk.
    pub fn fresh(&self, block: u64, len: usize) -> Result<Arc<Buffer<L>>> {
        let bytes = Arc::new(zeroed(len)?);
        self.forget(block);
        let buffer = self.get(block)?;
        buffer.content.lock().bytes = Some(bytes);
        Ok(buffer)
    }

    /// Drops the buffer of a block that is metadata no more.
    pub fn forget(&self, block: u64) {
        self.shard(block).lock().buffers.remove(&block);
    }

    /// Drops whatever can be read again; returns how many buffers.
    pub fn shrink(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let mut shard = shard.lock();
                shard.sweep() + shard.sweep()
            })
            .sum()
    }
}

impl<L: RawMutex> Shard<L> {
    /// Drops the buffers nobody holds and nobody used since the last time.
    fn sweep(&mut self) -> usize {
        let before = self.buffers.len();
        self.buffers.retain(|_, buffer| Arc::strong_count(buffer) > 1 || buffer.used.swap(false, Ordering::Relaxed));
        before - self.buffers.len()
    }
}
