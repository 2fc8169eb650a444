//! [`MemObject`]: an index of pages with an optional backing. It serves the page cache, tmpfs, System V and POSIX shared
//! memory, memfd and MAP_SHARED alike, and is half of a shared futex's key.
//!
//! Locks: `pages` is a spin lock never held across I/O or a user copy; address-space mutexes come before it. The length is
//! changed under `pages`, so a fault that checks the length there never maps a page that a truncation misses.
//!
//! An object with a [`Backing`] is a page cache: [`load`] reads pages, [`writeback`] writes them, [`reclaim`] takes them back. Its
//! backing is called with no lock of this layer held. [`holes`]: fallocate(2) and SEEK_HOLE. [`seals`]. Neighbour: [`super::mapping`] (who
//! maps it).

mod holes;
mod load;
mod reclaim;
pub mod seals;
pub mod writeback;

use super::mapping::MappingList;
use super::stats;
use crate::prelude::*;
use base::addr::PAGE_SHIFT;
use base::radix::{Radix, Tag};
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use hal::frame::Frame;
use load::Cache;
pub(super) use reclaim::reclaim;

/// The page differs from the backing.
const DIRTY: Tag = Tag::First;
/// Instruction caches agree with the page's content.
const ICACHE_CLEAN: Tag = Tag::Second;
/// The page was used since reclaim last looked at it.
const REFERENCED: Tag = Tag::Third;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where an object's absent pages come from and dirty pages go. Every method may sleep and is called with no address space and
/// no spin lock locked, though perhaps with the lock held that orders the writes of its inode: a backing must not take that.
pub trait Backing: Send + Sync {
    /// Fills `frames` with the pages from `first` on (zeroes beyond the end and in holes).
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<(), Errno>;
    /// Writes pages, by rising index, back. What fails is not tried again: it is reported to who syncs.
    fn write_pages(&self, pages: &[(u64, Frame)]) -> Result<(), Errno>;
    /// Page `index` will be written to: sees to it that there is room for it when it is written back (ENOSPC, EDQUOT, EROFS).
    /// Called again for a page whose room is there already when that was not dirty.
    fn prepare_write(&self, _index: u64) -> Result<(), Errno> {
        Ok(())
    }
    /// The object's length is now `len`; its pages beyond are gone, and nothing of them is on its way any more.
    fn truncate(&self, _len: u64) -> Result<(), Errno> {
        Ok(())
    }
    /// Bytes `offset..offset+len` become a hole: EOPNOTSUPP. Their pages are gone as in [`Backing::truncate`].
    fn punch(&self, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The next byte at or after `offset` that is data (or with `hole` is none), of what is not dirty: `None` when there is no
    /// such byte before the end.
    fn map(&self, offset: u64, hole: bool) -> Result<Option<u64>, Errno> {
        Ok((!hole).then_some(offset))
    }
    /// Makes what was written, and what is needed to find it, survive the power (msync(2)).
    fn commit(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// What it belongs to (st_dev of its file system): syncfs(2) writes what has the same.
    fn owner(&self) -> u64;
}

/// Hears of the mappings of an object (System V shared memory counts them). Called with an address space locked: must not sleep.
pub trait MapObserver: Send + Sync {
    fn attached(&self);
    fn detached(&self);
    /// Name and number that /proc/PID/maps shows.
    fn name(&self) -> Option<(String, u64)>;
}

/// A limit on pages that several objects share (a tmpfs's size): ENOSPC beyond it.
pub struct Quota {
    used: AtomicU64,
    max: AtomicU64,
}

impl Quota {
    pub const fn new(max_pages: u64) -> Self {
        Self { used: AtomicU64::new(0), max: AtomicU64::new(max_pages) }
    }
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
    pub fn set_max(&self, max_pages: u64) {
        self.max.store(max_pages, Ordering::Relaxed);
    }
    fn charge(&self) -> Result<(), Errno> {
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.max() {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }
    fn uncharge(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
    }
}

pub struct MemObject {
    id: u64,
    len: AtomicU64,
    pages: SpinLock<Radix<Frame>>,
    cache: Option<Box<Cache>>,
    quota: Option<Arc<Quota>>,
    /// Address spaces that map it.
    pub(crate) mappings: MappingList,
    observer: spin::Once<Box<dyn MapObserver>>,
    /// Open descriptions that may write (positive) or running programs that forbid it (negative).
    writers: AtomicI64,
    /// memfd seals; `seals::NONE` when the object takes none.
    seals: AtomicU32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What a fault gets: the page, and whether instruction caches must be synchronised before it is executed.
pub struct FaultPage {
    pub frame: Frame,
    pub stale_icache: bool,
}

fn pages_for(len: u64) -> u64 {
    len.div_ceil(PAGE)
}

/// Copies the first `n` bytes of one page to another.
fn copy_bytes(from: &Frame, to: &Frame, n: usize) {
    let mut bytes = [0u8; 256];
    for at in (0..n).step_by(bytes.len()) {
        let len = bytes.len().min(n - at);
        from.read(at, &mut bytes[..len]);
        to.write(at, &bytes[..len]);
    }
}

/// Lets others run now and then in a long walk over bytes, which has come to `at`; answers false when the caller is to end.
#[inline]
fn pause(at: u64) -> bool {
    const EVERY: u64 = 64 * PAGE;
    if !at.is_multiple_of(EVERY) {
        return true;
    }
    crate::sched::cond_resched();
    !current().is_dying()
}

impl MemObject {
    fn build(len: u64, cache: Option<Box<Cache>>, quota: Option<Arc<Quota>>) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            len: AtomicU64::new(len),
            pages: SpinLock::new(Radix::new()),
            cache,
            quota,
            mappings: MappingList::new(),
            observer: spin::Once::new(),
            writers: AtomicI64::new(0),
            seals: AtomicU32::new(crate::mm::object::seals::NONE),
        }
    }

    /// Anonymous memory of `len` bytes (absent pages are zero): tmpfs files, shared memory.
    pub fn anonymous(len: u64) -> Arc<Self> {
        Arc::new(Self::build(len, None, None))
    }
    /// As [`MemObject::anonymous`], its pages counted against `quota` (ENOSPC).
    pub fn with_quota(len: u64, quota: Arc<Quota>) -> Arc<Self> {
        Arc::new(Self::build(len, None, Some(quota)))
    }
    /// A file's page cache.
    pub fn backed(len: u64, backing: Arc<dyn Backing>) -> Arc<Self> {
        let object = Arc::new_cyclic(|this| {
            let cache = Cache::new(this.clone(), backing);
            Self::build(len, Some(Box::new(cache)), None)
        });
        reclaim::register(&object);
        object
    }
    /// Unique id for futex keys and /proc.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn is_backed(&self) -> bool {
        self.cache.is_some()
    }
    /// Pages present (st_blocks, memory accounting).
    pub fn nr_pages(&self) -> usize {
        self.pages.lock().len()
    }

    /// Sets who hears of mappings, once.
    pub fn set_observer(&self, observer: Box<dyn MapObserver>) {
        self.observer.call_once(|| observer);
    }
    pub fn observer(&self) -> Option<&dyn MapObserver> {
        self.observer.get().map(|observer| &**observer)
    }
    pub fn has_observer(&self) -> bool {
        self.observer.is_completed()
    }

    fn count(&self, pages: i64) {
        if self.is_backed() {
            stats::CACHE.add(pages);
        } else {
            stats::SHMEM.add(pages);
        }
    }

    /// A frame for a new page, charged to the quota.
    fn new_frame(&self, zeroed: bool) -> Result<Frame, Errno> {
        if let Some(quota) = &self.quota {
            quota.charge()?;
        }
        let frame = if zeroed { super::oom::alloc_zeroed() } else { super::oom::alloc_uninit() };
        frame.map_err(|error| {
            if let Some(quota) = &self.quota {
                quota.uncharge(1);
            }
            error.into()
        })
    }

    /// As [`MemObject::new_frame`], with no address space locked: `reclaim` says that pages of files may be taken back for it.
    fn frame_for_io(&self, zeroed: bool, reclaim: bool) -> Result<Frame, Errno> {
        loop {
            match self.new_frame(zeroed) {
                Err(Errno::ENOMEM) if reclaim && !current().is_dying() && super::oom::reclaim_cache() => {}
                result => return result,
            }
        }
    }

    fn uncharge(&self, pages: u64) {
        if let Some(quota) = &self.quota {
            quota.uncharge(pages);
        }
    }

    /// Puts a new page in, unless another thread was faster or (with `within_len`) the object has shrunk meanwhile; answers
    /// the page that counts, and whether it is the given one. `None` also while the page is being read.
    fn install(&self, index: u64, frame: Frame, within_len: bool) -> Option<(Frame, bool)> {
        let mut pages = self.pages.lock();
        let is_loading = self.cache.as_ref().is_some_and(|cache| cache.is_loading(index));
        if within_len && index >= pages_for(self.len()) || is_loading {
            drop(pages);
            self.uncharge(1);
            return None;
        }
        if let Some(found) = pages.get(index) {
            let found = found.clone();
            drop(pages);
            self.uncharge(1);
            return Some((found, false));
        }
        pages.insert(index, frame.clone());
        drop(pages);
        self.count(1);
        Some((frame, true))
    }

    /// Page `index`, read or allocated as needed; `write` says it will be changed. May sleep. ENOMEM, EIO, and ENOSPC by quota or
    /// backing.
    pub fn page(&self, index: u64, write: bool) -> Result<Frame, Errno> {
        if let Some(cache) = &self.cache {
            return self.cached_page(cache, index, write);
        }
        {
            let mut pages = self.pages.lock();
            if let Some(frame) = pages.get(index) {
                let frame = frame.clone();
                if write {
                    self.mark_written(&mut pages, index);
                }
                return Ok(frame);
            }
        }
        let frame = self.frame_for_io(true, true)?;
        let Some((frame, _)) = self.install(index, frame, false) else { return Err(Errno::EIO) };
        if write {
            self.mark_written(&mut self.pages.lock(), index);
        }
        Ok(frame)
    }

    /// The page's content changes: the caller of an object with a backing has prepared it.
    fn mark_written(&self, pages: &mut Radix<Frame>, index: u64) {
        if let Some(cache) = &self.cache {
            self.mark_dirty(cache, pages, index);
        }
        pages.set_tag(index, ICACHE_CLEAN, false);
    }

    /// Page `index` for a mapping: `None` beyond the end of the object (SIGBUS). `write` is a shared mapping's; `execute` asks
    /// whether instruction caches must be synchronised. EAGAIN: the page must be brought first ([`MemObject::bring`]), with no
    /// address space locked.
    pub(super) fn fault_page(&self, index: u64, write: bool, execute: bool) -> Result<Option<FaultPage>, Errno> {
        {
            let mut pages = self.pages.lock();
            if index >= pages_for(self.len()) {
                return Ok(None);
            }
            if self.cache.is_some() {
                let Some(frame) = pages.touch(index, REFERENCED).cloned() else { return Err(Errno::EAGAIN) };
                if write && !pages.has_tag(index, DIRTY) {
                    return Err(Errno::EAGAIN);
                }
                let stale_icache = execute && !pages.set_tag(index, ICACHE_CLEAN, true);
                return Ok(Some(FaultPage { frame, stale_icache }));
            }
            if let Some(frame) = pages.get(index) {
                let frame = frame.clone();
                let stale_icache = execute && !pages.set_tag(index, ICACHE_CLEAN, true);
                return Ok(Some(FaultPage { frame, stale_icache }));
            }
        }
        let frame = self.new_frame(true)?;
        let Some((frame, _)) = self.install(index, frame, true) else { return Ok(None) };
        let stale_icache = execute && !self.pages.lock().set_tag(index, ICACHE_CLEAN, true);
        Ok(Some(FaultPage { frame, stale_icache }))
    }

    /// Calls `f` for the present pages of `range` below the end of the object (fault-around); with `execute`, pages whose
    /// instruction caches may be stale are left out.
    pub(super) fn for_each_present(&self, range: Range<u64>, execute: bool, f: &mut dyn FnMut(u64, &Frame)) {
        let pages = self.pages.lock();
        let end = range.end.min(pages_for(self.len()));
        pages.for_each(range.start..end, &mut |index, frame| {
            if !execute || pages.has_tag(index, ICACHE_CLEAN) {
                f(index, frame);
            }
            true
        });
    }

    /// Page `index` if it is present.
    #[inline]
    pub fn present(&self, index: u64) -> Option<Frame> {
        let mut pages = self.pages.lock();
        if self.cache.is_some() { pages.touch(index, REFERENCED).cloned() } else { pages.get(index).cloned() }
    }

    /// Puts a ready page in (initramfs unpacking).
    pub fn insert(&self, index: u64, frame: Frame) {
        if let Some(quota) = &self.quota {
            quota.used.fetch_add(1, Ordering::Relaxed);
        }
        let old = self.pages.lock().insert(index, frame);
        match old {
            Some(_) => self.uncharge(1),
            None => self.count(1),
        }
    }

    /// Copies from `offset` to the writer, up to the end; answers bytes moved.
    pub fn read(&self, offset: u64, dst: &mut UserWriter<'_>) -> Result<usize, Errno> {
        let mut at = offset;
        let mut moved = 0;
        loop {
            let left = self.len().saturating_sub(at);
            let in_page = (at % PAGE) as usize;
            let want = left.min((PAGE_SIZE - in_page) as u64).min(dst.remaining() as u64) as usize;
            if want == 0 {
                return Ok(moved);
            }
            let index = at >> PAGE_SHIFT;
            let present = self.present(index);
            let copied = match present {
                Some(frame) => dst.write_frame(&frame, in_page, want),
                None => match &self.cache {
                    None => dst.write_zeros(want),
                    Some(cache) => self
                        .load(cache, index, cache.window(index, dst.remaining() as u64 + in_page as u64))
                        .and_then(|frame| dst.write_frame(&frame, in_page, want)),
                },
            };
            match copied {
                Ok(n) => {
                    moved += n;
                    at += n as u64;
                    if n < want || !pause(at) {
                        return Ok(moved);
                    }
                }
                Err(_) if moved > 0 => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
    }

    /// Copies from the reader to `offset`, extending the length; answers bytes moved. The caller holds the inode's lock. EPERM
    /// when sealed, ENOSPC.
    pub fn write(&self, offset: u64, src: &mut UserReader<'_>) -> Result<usize, Errno> {
        let end =
            offset.checked_add(src.remaining() as u64).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        crate::mm::object::seals::check_write(self, end)?;
        let mut at = offset;
        let mut moved = 0;
        while src.remaining() > 0 {
            let in_page = (at % PAGE) as usize;
            let want = (PAGE_SIZE - in_page).min(src.remaining());
            let n = match self.write_piece(at >> PAGE_SHIFT, in_page, want, src) {
                Ok(n) => n,
                Err(_) if moved > 0 => break,
                Err(error) => return Err(error),
            };
            moved += n;
            at += n as u64;
            if self.len() < at {
                let _pages = self.pages.lock();
                self.len.fetch_max(at, Ordering::AcqRel);
            }
            if n < want || !pause(at) {
                break;
            }
        }
        Ok(moved)
    }

    /// Writes `want` bytes into page `index`, which no other page boundary crosses.
    fn write_piece(&self, index: u64, in_page: usize, want: usize, src: &mut UserReader<'_>) -> Result<usize, Errno> {
        if want == PAGE_SIZE && self.present(index).is_none() {
            if let Some(cache) = &self.cache {
                cache.backing.prepare_write(index)?;
            }
            // A new page that is overwritten as a whole: filled before anybody can see it.
            let frame = self.frame_for_io(false, true)?;
            let n = src.read_frame(&frame, 0, PAGE_SIZE).inspect_err(|_| self.uncharge(1))?;
            if n == PAGE_SIZE || !self.is_backed() {
                frame.zero(n, PAGE_SIZE - n);
                match self.install(index, frame.clone(), false) {
                    Some((found, false)) => copy_bytes(&frame, &found, n),
                    Some((_, true)) => {}
                    // Being read.
                    None => {
                        let found = self.page(index, true)?;
                        copy_bytes(&frame, &found, n);
                    }
                }
                self.mark_written(&mut self.pages.lock(), index);
                return Ok(n);
            }
            self.uncharge(1);
            src.rewind(n);
        }
        let frame = self.page(index, true)?;
        let copied = src.read_frame(&frame, in_page, want);
        if self.is_backed() {
            // Written back in the middle of the copy, it would count as clean.
            self.mark_written(&mut self.pages.lock(), index);
        }
        copied
    }

    /// Sets the length; pages beyond are dropped and unmapped from every process, the tail of the last page is zeroed. EPERM when
    /// sealed, and what the backing says.
    pub fn truncate(&self, len: u64) -> Result<(), Errno> {
        crate::mm::object::seals::check_resize(self, len)?;
        let tail = (len % PAGE) as usize;
        let last = len >> PAGE_SHIFT;
        if self.is_backed() && tail != 0 && len < self.len() {
            // What is beyond the end on the disk must not come back.
            self.page(last, true)?;
        }
        let old = {
            let _pages = self.pages.lock();
            self.len.swap(len, Ordering::AcqRel)
        };
        if len < old {
            if tail != 0
                && let Some(frame) = self.present(last)
            {
                frame.zero(tail, PAGE_SIZE - tail);
                self.mark_written(&mut self.pages.lock(), last);
            }
            let gone = pages_for(len)..u64::MAX >> PAGE_SHIFT;
            self.drop_pages(gone.clone(), |_| {});
            self.mappings.unmap(self, gone, None);
        }
        let Some(cache) = &self.cache else { return Ok(()) };
        // Nothing of what goes, nor of the page with the new end, is on its way or starts while the backing changes.
        let range = last..u64::MAX >> PAGE_SHIFT;
        loop {
            cache.wait_idle(range.clone());
            let _pages = self.pages.lock();
            if cache.try_begin(range.clone()) {
                break;
            }
        }
        let result = cache.backing.truncate(len);
        {
            let _pages = self.pages.lock();
            cache.end(&range, load::Work::Write);
        }
        cache.wake();
        self.release_if_clean(cache);
        result
    }

    /// Takes pages out in bounded batches, so that the lock is never held long.
    fn drop_pages(&self, range: Range<u64>, mut each: impl FnMut(&[(u64, Frame)])) {
        let mut start = range.start;
        loop {
            let mut batch: arrayvec::ArrayVec<(u64, Frame), 64> = arrayvec::ArrayVec::new();
            {
                let mut pages = self.pages.lock();
                let Some(first) = pages.next_present(start).filter(|first| *first < range.end) else { return };
                let end = first.saturating_add(64).min(range.end);
                if let Some(cache) = &self.cache {
                    self.forget_dirty(cache, &mut pages, first..end);
                }
                pages.remove_range(first..end, &mut |index, frame| {
                    let _ = batch.try_push((index, frame));
                });
                start = end;
            }
            self.count(-(batch.len() as i64));
            self.uncharge(batch.len() as u64);
            each(&batch);
        }
    }

    /// Number of shared mappings that may write (memfd seals).
    pub fn writable_mappings(&self) -> usize {
        self.mappings.writable()
    }

    // Write access, ETXTBSY: opens for writing and running programs exclude each other.

    /// An open for writing begins: ETXTBSY while a program runs from the object.
    pub fn get_write_access(&self) -> Result<(), Errno> {
        self.writers
            .try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n >= 0).then_some(n + 1))
            .map(|_| ())
            .map_err(|_| Errno::ETXTBSY)
    }
    /// An open for writing ends.
    pub fn put_write_access(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }
    /// A program begins to run from the object: ETXTBSY while it is open for writing.
    pub fn deny_write(&self) -> Result<(), Errno> {
        self.writers
            .try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n <= 0).then_some(n - 1))
            .map(|_| ())
            .map_err(|_| Errno::ETXTBSY)
    }
    /// The program ends.
    pub fn allow_write(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for MemObject {
    fn drop(&mut self) {
        let pages = self.pages.get_mut().len();
        self.forget_all_dirty();
        self.count(-(pages as i64));
        self.uncharge(pages as u64);
    }
}
