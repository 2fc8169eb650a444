//! [`MemObject`]: an index of pages with an optional backing. It serves the page cache, tmpfs, System V and POSIX shared
//! memory, memfd and MAP_SHARED alike, and is half of a shared futex's key.

use crate::prelude::*;
use hal::frame::Frame;

/// Where an object's absent pages come from and dirty pages go.
pub trait Backing: Send + Sync {
    /// Fills `frame` with page `index` of the object (zeroes beyond the end). May sleep.
    fn read_page(&self, index: u64, frame: &Frame) -> Result<(), Errno>;
    /// Writes page `index` back.
    fn write_page(&self, index: u64, frame: &Frame) -> Result<(), Errno>;
}

pub struct MemObject {}

impl MemObject {
    /// Anonymous memory of `len` bytes (absent pages are zero): tmpfs files, shared memory.
    pub fn anonymous(_len: u64) -> Arc<Self> {
        todo!()
    }
    /// A file's page cache.
    pub fn backed(_len: u64, _backing: Arc<dyn Backing>) -> Arc<Self> {
        todo!()
    }
    /// Unique id for futex keys and /proc.
    pub fn id(&self) -> u64 {
        todo!()
    }
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Sets the length; pages beyond are dropped and unmapped from every process, the tail of the last page is zeroed.
    pub fn truncate(&self, _len: u64) -> Result<(), Errno> {
        todo!()
    }
    /// Zeroes a byte range and drops whole pages in it (FALLOC_FL_PUNCH_HOLE).
    pub fn punch_hole(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        todo!()
    }
    /// Page `index`, read or allocated as needed; `write` says it will be changed. ENOMEM, EIO, and ENOSPC by quota.
    pub fn page(&self, _index: u64, _write: bool) -> Result<Frame, Errno> {
        todo!()
    }
    /// Page `index` if it is present.
    pub fn present(&self, _index: u64) -> Option<Frame> {
        todo!()
    }
    /// Puts a ready page in (initramfs unpacking).
    pub fn insert(&self, _index: u64, _frame: Frame) {
        todo!()
    }
    /// Copies from `offset` to the writer, up to the end; answers bytes moved.
    pub fn read(&self, _offset: u64, _dst: &mut UserWriter<'_>) -> Result<usize, Errno> {
        todo!()
    }
    /// Copies from the reader to `offset`, extending the length; answers bytes moved.
    pub fn write(&self, _offset: u64, _src: &mut UserReader<'_>) -> Result<usize, Errno> {
        todo!()
    }
    /// Pages present (st_blocks, memory accounting).
    pub fn nr_pages(&self) -> usize {
        todo!()
    }
    /// Next data or hole at or after `offset` (SEEK_DATA, SEEK_HOLE); ENXIO past the end.
    pub fn seek(&self, _offset: u64, _hole: bool) -> Result<u64, Errno> {
        todo!()
    }
    /// Writes dirty pages of the byte range to the backing.
    pub fn sync(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        todo!()
    }
    /// Number of shared writable mappings (memfd seals, ETXTBSY).
    pub fn writable_mappings(&self) -> usize {
        todo!()
    }
}
