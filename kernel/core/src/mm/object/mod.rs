//! [`MemObject`]: an index of pages with an optional backing. It serves the page cache, tmpfs, System V and POSIX shared
//! memory, memfd and MAP_SHARED alike, and is half of a shared futex's key.
//!
//! Locks: `pages` is a spin lock never held across I/O or a user copy; address-space mutexes come before it. The length is
//! changed under `pages`, so a fault that checks the length there never maps a page that a truncation misses.
//! [`holes`]: fallocate(2) and SEEK_HOLE · [`seals`]. Neighbour: [`super::mapping`] (who maps it).

mod holes;
pub mod seals;

use super::mapping::MappingList;
use super::stats;
use crate::prelude::*;
use base::addr::PAGE_SHIFT;
use base::radix::{Radix, Tag};
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use hal::frame::Frame;

/// The page differs from the backing.
const DIRTY: Tag = Tag::First;
/// Instruction caches agree with the page's content.
const ICACHE_CLEAN: Tag = Tag::Second;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where an object's absent pages come from and dirty pages go. Called from page faults with an address space locked: it must take
/// no lock that is ever held across a user copy.
pub trait Backing: Send + Sync {
    /// Fills `frame` with page `index` of the object (zeroes beyond the end). May sleep.
    fn read_page(&self, index: u64, frame: &Frame) -> Result<(), Errno>;
    /// Writes page `index` back.
    fn write_page(&self, index: u64, frame: &Frame) -> Result<(), Errno>;
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
    backing: Option<Arc<dyn Backing>>,
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
    fn build(len: u64, backing: Option<Arc<dyn Backing>>, quota: Option<Arc<Quota>>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            len: AtomicU64::new(len),
            pages: SpinLock::new(Radix::new()),
            backing,
            quota,
            mappings: MappingList::new(),
            observer: spin::Once::new(),
            writers: AtomicI64::new(0),
            seals: AtomicU32::new(crate::mm::object::seals::NONE),
        })
    }

    /// Anonymous memory of `len` bytes (absent pages are zero): tmpfs files, shared memory.
    pub fn anonymous(len: u64) -> Arc<Self> {
        Self::build(len, None, None)
    }
    /// As [`MemObject::anonymous`], its pages counted against `quota` (ENOSPC).
    pub fn with_quota(len: u64, quota: Arc<Quota>) -> Arc<Self> {
        Self::build(len, None, Some(quota))
    }
    /// A file's page cache.
    pub fn backed(len: u64, backing: Arc<dyn Backing>) -> Arc<Self> {
        let object = Self::build(len, Some(backing), None);
        super::oom::register_cache(&object);
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
        self.backing.is_some()
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

    fn uncharge(&self, pages: u64) {
        if let Some(quota) = &self.quota {
            quota.uncharge(pages);
        }
    }

    /// Puts a new page in, unless another thread was faster or (with `within_len`) the object has shrunk meanwhile; answers
    /// the page that counts, and whether it is the given one.
    fn install(&self, index: u64, frame: Frame, within_len: bool) -> Option<(Frame, bool)> {
        let mut pages = self.pages.lock();
        if within_len && index >= pages_for(self.len()) {
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

    /// Page `index`, read or allocated as needed; `write` says it will be changed. ENOMEM, EIO, and ENOSPC by quota.
    pub fn page(&self, index: u64, write: bool) -> Result<Frame, Errno> {
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
        let frame = match &self.backing {
            Some(backing) if index < pages_for(self.len()) => {
                let frame = self.new_frame(false)?;
                backing.read_page(index, &frame).inspect_err(|_| self.uncharge(1))?;
                frame
            }
            _ => self.new_frame(true)?,
        };
        let Some((frame, _)) = self.install(index, frame, false) else { return Err(Errno::EIO) };
        if write {
            self.mark_written(&mut self.pages.lock(), index);
        }
        Ok(frame)
    }

    fn mark_written(&self, pages: &mut Radix<Frame>, index: u64) {
        if self.is_backed() {
            pages.set_tag(index, DIRTY, true);
        }
        pages.set_tag(index, ICACHE_CLEAN, false);
    }

    /// Page `index` for a mapping: `None` beyond the end of the object (SIGBUS). `write` marks it dirty; `execute` asks
    /// whether instruction caches must be synchronised.
    pub(super) fn fault_page(&self, index: u64, write: bool, execute: bool) -> Result<Option<FaultPage>, Errno> {
        {
            let mut pages = self.pages.lock();
            if index >= pages_for(self.len()) {
                return Ok(None);
            }
            if let Some(frame) = pages.get(index) {
                let frame = frame.clone();
                if write && self.is_backed() {
                    pages.set_tag(index, DIRTY, true);
                }
                let stale_icache = execute && !pages.set_tag(index, ICACHE_CLEAN, true);
                return Ok(Some(FaultPage { frame, stale_icache }));
            }
        }
        let frame = match &self.backing {
            Some(backing) => {
                let frame = self.new_frame(false)?;
                backing.read_page(index, &frame).inspect_err(|_| self.uncharge(1))?;
                frame
            }
            None => self.new_frame(true)?,
        };
        let Some((frame, _)) = self.install(index, frame, true) else { return Ok(None) };
        let mut pages = self.pages.lock();
        if write && self.is_backed() {
            pages.set_tag(index, DIRTY, true);
        }
        let stale_icache = execute && !pages.set_tag(index, ICACHE_CLEAN, true);
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
    pub fn present(&self, index: u64) -> Option<Frame> {
        self.pages.lock().get(index).cloned()
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
                None if !self.is_backed() => dst.write_zeros(want),
                None => match self.page(index, false) {
                    Ok(frame) => dst.write_frame(&frame, in_page, want),
                    Err(error) => Err(error),
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
    /// when sealed.
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
            // A new page that is overwritten as a whole: filled before anybody can see it.
            let frame = self.new_frame(false)?;
            let n = src.read_frame(&frame, 0, PAGE_SIZE).inspect_err(|_| self.uncharge(1))?;
            if n == PAGE_SIZE || !self.is_backed() {
                frame.zero(n, PAGE_SIZE - n);
                if let Some((found, false)) = self.install(index, frame.clone(), false) {
                    let mut bytes = [0u8; 256];
                    for at in (0..n).step_by(bytes.len()) {
                        let len = bytes.len().min(n - at);
                        frame.read(at, &mut bytes[..len]);
                        found.write(at, &bytes[..len]);
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
    /// sealed.
    pub fn truncate(&self, len: u64) -> Result<(), Errno> {
        crate::mm::object::seals::check_resize(self, len)?;
        let old = {
            let _pages = self.pages.lock();
            self.len.swap(len, Ordering::AcqRel)
        };
        if len >= old {
            return Ok(());
        }
        let first_gone = pages_for(len);
        let tail = (len % PAGE) as usize;
        if tail != 0
            && let Some(frame) = self.present(len >> PAGE_SHIFT)
        {
            frame.zero(tail, PAGE_SIZE - tail);
            self.mark_written(&mut self.pages.lock(), len >> PAGE_SHIFT);
        }
        self.drop_pages(first_gone..u64::MAX >> PAGE_SHIFT, |_| {});
        self.mappings.unmap(self, first_gone..u64::MAX >> PAGE_SHIFT, None);
        Ok(())
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

    /// Writes dirty pages of the byte range to the backing.
    pub fn sync(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let range = offset >> PAGE_SHIFT..pages_for(offset.saturating_add(len));
        let mut start = range.start;
        let mut result = Ok(());
        loop {
            let mut batch: arrayvec::ArrayVec<(u64, Frame), 32> = arrayvec::ArrayVec::new();
            {
                let mut pages = self.pages.lock();
                pages.for_each_tagged(start..range.end, DIRTY, &mut |index, frame| {
                    batch.push((index, frame.clone()));
                    !batch.is_full()
                });
                for (index, _) in &batch {
                    pages.set_tag(*index, DIRTY, false);
                }
            }
            let (Some(first), Some(last)) = (batch.first().map(|page| page.0), batch.last().map(|page| page.0)) else {
                return result;
            };
            // Later writes through mappings must mark the pages again.
            self.mappings.write_protect(self, first..last + 1);
            for (index, frame) in &batch {
                if let Err(error) = backing.write_page(*index, frame) {
                    self.pages.lock().set_tag(*index, DIRTY, true);
                    result = Err(error);
                }
            }
            start = last + 1;
        }
    }

    /// Drops clean pages that nothing maps; answers how many (memory pressure, POSIX_FADV_DONTNEED).
    pub fn drop_clean(&self) -> usize {
        if !self.is_backed() {
            return 0;
        }
        let mut dropped: Vec<Frame> = Vec::new();
        let mut pages = self.pages.lock();
        let mut victims: arrayvec::ArrayVec<u64, 256> = arrayvec::ArrayVec::new();
        pages.for_each(0..u64::MAX, &mut |index, frame| {
            if frame.ref_count() == 1 && !pages.has_tag(index, DIRTY) {
                victims.push(index);
            }
            !victims.is_full()
        });
        for index in &victims {
            dropped.extend(pages.remove(*index));
        }
        drop(pages);
        self.count(-(dropped.len() as i64));
        dropped.len()
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
        self.count(-(pages as i64));
        self.uncharge(pages as u64);
    }
}
