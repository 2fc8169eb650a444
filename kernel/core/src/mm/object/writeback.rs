//! Writing pages back: dirty pages and their count, sync of ranges, errors that every descriptor hears of once, the thread that
//! writes what is old or too much, and writers that wait for it.
//!
//! An object with dirty pages holds a reference to itself, so that data outlives the last file that knew of it. A page is clean
//! from the moment it is taken for writing: what is written to it later makes it dirty again, for shared mappings lose their
//! permission to write first.

use super::load::{Cache, Work};
use super::{DIRTY, MemObject, pages_for, reclaim};
use crate::mm::stats;
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use arrayvec::ArrayVec;
use base::addr::PAGE_SHIFT;
use base::radix::Radix;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use hal::frame::Frame;

/// Pages of one write, at most: 256 KiB.
const MOST_PAGES: usize = 64;
/// How often the thread looks, and how old a dirty page may become.
const LOOK_NS: u64 = 5_000_000_000;
const AGE_NS: u64 = 30_000_000_000;

/// What is dirty in one object.
#[derive(Default)]
pub(super) struct Dirty {
    nr_pages: AtomicU64,
    /// When the first of them became dirty (monotonic ns).
    since_ns: AtomicU64,
    /// Itself, while there are dirty pages.
    keep: SpinLock<Option<Arc<MemObject>>>,
    /// The last error: its number among all, in which the lowest bit says that somebody has heard of it; and which it was.
    error: AtomicU64,
    errno: AtomicI64,
}

/// Numbers of errors: two for each, for the lowest bit of [`Dirty::error`].
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// The number of the last error of any object: an open file remembers it from its opening on.
#[inline]
pub fn last_error() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

impl MemObject {
    /// Notes page `index`, which is there, as dirty; the caller holds the lock of the pages.
    pub(super) fn mark_dirty(&self, cache: &Cache, pages: &mut Radix<Frame>, index: u64) {
        if pages.set_tag(index, DIRTY, true) || pages.get(index).is_none() {
            return;
        }
        stats::DIRTY.add(1);
        if cache.dirty.nr_pages.fetch_add(1, Ordering::Relaxed) == 0 {
            cache.dirty.since_ns.store(crate::time::now_ns(), Ordering::Relaxed);
            *cache.dirty.keep.lock() = cache.this.upgrade();
            ANY.store(true, Ordering::Relaxed);
            KICK.wake_one();
        }
    }

    /// Clears the marks of `range`, whose pages are about to be dropped; the caller holds the lock of the pages.
    pub(super) fn forget_dirty(&self, cache: &Cache, pages: &mut Radix<Frame>, range: Range<u64>) {
        let mut count = 0;
        pages.for_each_tagged(range, DIRTY, &mut |_, _| {
            count += 1;
            true
        });
        self.count_clean(cache, count);
    }

    fn count_clean(&self, cache: &Cache, count: u64) {
        if count != 0 {
            stats::DIRTY.add(-(count as i64));
            cache.dirty.nr_pages.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// Lets go of itself when nothing is dirty. Called with no lock held.
    pub(super) fn release_if_clean(&self, cache: &Cache) {
        let kept = {
            let _pages = self.pages.lock();
            let mut keep = cache.dirty.keep.lock();
            if cache.dirty.nr_pages.load(Ordering::Relaxed) == 0 { keep.take() } else { None }
        };
        drop(kept);
    }

    /// The object ends.
    pub(super) fn forget_all_dirty(&self) {
        if let Some(cache) = &self.cache {
            self.count_clean(cache, cache.dirty.nr_pages.load(Ordering::Relaxed));
        }
    }

    pub fn nr_dirty(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.dirty.nr_pages.load(Ordering::Relaxed))
    }

    /// Takes up to a batch of dirty pages of `range` for writing; `None` when there is none. Busy until [`Cache::end`].
    fn take_dirty(&self, cache: &Cache, range: &Range<u64>) -> Option<ArrayVec<(u64, Frame), MOST_PAGES>> {
        let mut batch: ArrayVec<(u64, Frame), MOST_PAGES> = ArrayVec::new();
        let mut pages = self.pages.lock();
        pages.for_each_tagged(range.clone(), DIRTY, &mut |index, frame| {
            // What another is writing waits for that, so that the two cannot overtake each other.
            let is_free = !cache.is_busy(&(index..index + 1), Some(Work::Write));
            if is_free {
                batch.push((index, frame.clone()));
            }
            is_free && !batch.is_full()
        });
        let (first, last) = (batch.first()?.0, batch.last()?.0);
        if !cache.begin(first..last + 1, Work::Write) {
            return None;
        }
        for (index, _) in &batch {
            pages.set_tag(*index, DIRTY, false);
        }
        self.count_clean(cache, batch.len() as u64);
        Some(batch)
    }

    /// Writes dirty pages of a range of pages; what fails is noted ([`MemObject::error_since`]) and returned.
    fn write_dirty(&self, cache: &Cache, range: Range<u64>) -> Result<(), Errno> {
        let mut start = range.start;
        let mut result = Ok(());
        while start < range.end {
            let next = {
                let mut next = None;
                self.pages.lock().for_each_tagged(start..range.end, DIRTY, &mut |index, _| {
                    next = Some(index);
                    false
                });
                next
            };
            let Some(next) = next else { break };
            cache.wait_for(next..next + 1, Work::Write);
            let Some(batch) = self.take_dirty(cache, &(next..range.end)) else {
                crate::sched::cond_resched();
                continue;
            };
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { break };
            let run = first.0..last.0 + 1;
            // Later writes through mappings must mark the pages again.
            self.mappings.write_protect(self, run.clone());
            stats::WRITEBACK.add(batch.len() as i64);
            let written = cache.backing.write_pages(&batch);
            stats::WRITEBACK.add(-(batch.len() as i64));
            if let Err(errno) = written {
                self.note_error(cache, errno);
                result = Err(errno);
            }
            {
                let _pages = self.pages.lock();
                cache.end(&run, Work::Write);
            }
            cache.wake();
            PROGRESS.wake_all();
            start = run.end;
            crate::sched::cond_resched();
        }
        self.release_if_clean(cache);
        result
    }

    /// Writes what is dirty of a byte range, and waits for what others are writing of it. The error is of this call's own writes.
    pub fn sync(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let range = offset >> PAGE_SHIFT..pages_for(offset.saturating_add(len));
        let result = self.write_dirty(cache, range.clone());
        cache.wait_for(range, Work::Write);
        result
    }

    /// Makes what was written survive the power: EIO.
    pub fn commit(&self) -> Result<(), Errno> {
        self.cache.as_ref().map_or(Ok(()), |cache| cache.backing.commit())
    }

    /// As [`MemObject::sync`] of all, without waiting for what others write.
    pub(super) fn write_all(&self) {
        if let Some(cache) = &self.cache {
            let _ = self.write_dirty(cache, 0..u64::MAX >> PAGE_SHIFT);
        }
    }

    fn note_error(&self, cache: &Cache, errno: Errno) {
        let number = ERRORS.fetch_add(2, Ordering::Relaxed) + 2;
        cache.dirty.errno.store(errno.0.into(), Ordering::Relaxed);
        cache.dirty.error.store(number, Ordering::Release);
    }

    /// The error that came after number `seen` (or before, if nobody has heard of it), and its number: for who syncs, once.
    pub fn error_since(&self, seen: u64) -> Option<(u64, Errno)> {
        let dirty = &self.cache.as_ref()?.dirty;
        let error = dirty.error.fetch_or(1, Ordering::AcqRel);
        let number = error & !1;
        let is_heard = error & 1 != 0;
        if number == 0 {
            return None;
        }
        (number > seen || !is_heard).then_some((number, Errno::EIO)).map(|(number, _)| {
            let is_full = dirty.errno.load(Ordering::Relaxed) == i64::from(Errno::ENOSPC.0);
            (number, if is_full { Errno::ENOSPC } else { Errno::EIO })
        })
    }

    /// What its backing belongs to.
    pub fn owner(&self) -> Option<u64> {
        Some(self.cache.as_ref()?.backing.owner())
    }
}

/// Wakes the thread; wakes those who wait for it.
static KICK: WaitQueue = WaitQueue::new();
static PROGRESS: WaitQueue = WaitQueue::new();
/// Something became dirty since the thread last looked.
static ANY: AtomicBool = AtomicBool::new(false);
static IS_URGENT: AtomicBool = AtomicBool::new(false);

/// Dirty pages at which the thread starts, and at which writers wait: 10 and 20 of a hundred of what files can have.
fn limits() -> (u64, u64) {
    let frames = hal::frame::stats();
    let room = frames.free as u64 + stats::CACHE.sum().max(0) as u64;
    (room / 10, room / 5)
}

fn nr_dirty() -> u64 {
    stats::DIRTY.sum().max(0) as u64
}

/// Writes back what belongs to `owner` (`None`: everything). Errors are for those who sync.
pub fn sync_all(owner: Option<u64>) {
    reclaim::for_each_object(|object| {
        if object.nr_dirty() != 0 && (owner.is_none() || object.owner() == owner) {
            let _ = object.sync(0, u64::MAX);
        }
    });
}

/// Has the thread write now.
pub fn kick() {
    IS_URGENT.store(true, Ordering::Relaxed);
    KICK.wake_one();
}

/// Has the thread write, and waits a little for what it does; false when nothing is dirty.
pub fn make_clean() -> bool {
    let before = nr_dirty();
    if before == 0 {
        return false;
    }
    kick();
    let deadline = crate::time::now_ns() + 1_000_000_000;
    let is_less = || (nr_dirty() < before).then_some(());
    let _ = PROGRESS.wait_until(WaitMode::Killable, Some(deadline), WaitReason::new(WaitKind::Writeback), is_less);
    true
}

/// A writer looks whether there is too much dirty, and then waits for the thread (until a fatal signal). No spin lock and no
/// address space is locked.
#[inline]
pub fn throttle() {
    /// Looked at every so many pages of a CPU.
    const EVERY: i64 = 32;
    let writes = stats::WRITES.get();
    let count = writes.load(Ordering::Relaxed);
    writes.store(count + 1, Ordering::Relaxed);
    if count % EVERY == 0 {
        throttle_slowly();
    }
}

#[cold]
fn throttle_slowly() {
    let (background, most) = limits();
    let dirty = nr_dirty();
    if dirty > background {
        kick();
    }
    if dirty > most {
        let deadline = crate::time::now_ns() + 10 * LOOK_NS;
        let enough = || (nr_dirty() <= limits().1).then_some(());
        // A disk that takes longer than that is one whose writers wait again at the next page.
        let _ = PROGRESS.wait_until(WaitMode::Killable, Some(deadline), WaitReason::new(WaitKind::Dirty), enough);
    }
}

/// The thread: every five seconds what is older than thirty, and everything while there is too much. Never returns.
pub fn run() {
    loop {
        // Idle machines have no timer for this.
        let deadline = (nr_dirty() != 0).then(|| crate::time::now_ns() + LOOK_NS);
        let is_asked = || {
            let urgent = IS_URGENT.swap(false, Ordering::Relaxed);
            (urgent || deadline.is_none() && ANY.swap(false, Ordering::Relaxed)).then_some(urgent)
        };
        let woken =
            KICK.wait_until(WaitMode::Uninterruptible, deadline, WaitReason::new(WaitKind::Writeback), is_asked);
        let now = crate::time::now_ns();
        let is_urgent = woken == Ok(true);
        reclaim::for_each_object(|object| {
            let Some(cache) = &object.cache else { return };
            let age = now.saturating_sub(cache.dirty.since_ns.load(Ordering::Relaxed));
            let is_too_much = || nr_dirty() > limits().0 / 2;
            if object.nr_dirty() != 0
                && (age >= AGE_NS || is_urgent && (is_too_much() || super::super::oom::is_tight()))
            {
                object.write_all();
                cache.dirty.since_ns.store(now, Ordering::Relaxed);
            }
        });
        PROGRESS.wake_all();
    }
}
