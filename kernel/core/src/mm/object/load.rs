//! Reading pages: who reads a run of pages says so first, others wait for it; how much is read ahead.
//!
//! [`Cache`] is what an object with a backing has more. A range is *busy* while it is being read (its pages are absent) or written
//! back (its pages are present and clean). Busy ranges are added and taken away under the lock of the pages; the list's own lock
//! comes after that. Nobody waits for a range with a range of its own busy, or with an address space locked.

use super::{Backing, DIRTY, MemObject, PAGE, REFERENCED, pages_for, writeback};
use crate::prelude::*;
use crate::sync::WaitKind;
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::frame::Frame;
use smallvec::SmallVec;

/// Pages of one read, at most: 512 KiB.
pub(super) const MOST_PAGES: usize = 128;
/// The window of a reader that jumps, and of one that begins: 16 KiB.
const FIRST_WINDOW: u64 = 4;
/// What a fault reads around itself: 64 KiB.
const FAULT_WINDOW: u64 = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Load,
    Write,
}

/// What an object with a backing has more.
pub(super) struct Cache {
    pub(super) this: Weak<MemObject>,
    pub(super) backing: Arc<dyn Backing>,
    busy: SpinLock<SmallVec<[(Range<u64>, Work); 1]>>,
    /// A range is busy no more.
    done: WaitQueue,
    /// The page behind the last read, and how many pages it was: a reader that goes on there reads twice as many.
    ahead: AtomicU64,
    /// Where reclaim goes on.
    pub(super) hand: AtomicU64,
    pub(super) dirty: writeback::Dirty,
}

impl Cache {
    pub(super) fn new(this: Weak<MemObject>, backing: Arc<dyn Backing>) -> Self {
        Self {
            this,
            backing,
            busy: SpinLock::new(SmallVec::new()),
            done: WaitQueue::new(),
            ahead: AtomicU64::new(0),
            hand: AtomicU64::new(0),
            dirty: writeback::Dirty::default(),
        }
    }

    pub(super) fn is_busy(&self, range: &Range<u64>, work: Option<Work>) -> bool {
        let busy = self.busy.lock();
        let hits = |(other, kind): &(Range<u64>, Work)| {
            other.start < range.end && range.start < other.end && work.is_none_or(|work| work == *kind)
        };
        busy.iter().any(hits)
    }

    /// Whether page `index` is being read; the caller holds the lock of the pages.
    pub(super) fn is_loading(&self, index: u64) -> bool {
        self.is_busy(&(index..index + 1), Some(Work::Load))
    }

    /// Notes that `range` is busy; the caller holds the lock of the pages. False without memory for it.
    pub(super) fn begin(&self, range: Range<u64>, work: Work) -> bool {
        let mut busy = self.busy.lock();
        if busy.try_reserve(1).is_err() {
            return false;
        }
        busy.push((range, work));
        true
    }

    /// Notes that nothing of `range` may be written or (what is beyond the object's length) read, if nothing of it is; the caller
    /// holds the lock of the pages.
    pub(super) fn try_begin(&self, range: Range<u64>) -> bool {
        !self.is_busy(&range, None) && self.begin(range, Work::Write)
    }

    /// The end of that; the caller holds the lock of the pages and calls [`Cache::wake`] without it.
    pub(super) fn end(&self, range: &Range<u64>, work: Work) {
        let mut busy = self.busy.lock();
        if let Some(at) = busy.iter().position(|entry| entry.0 == *range && entry.1 == work) {
            busy.swap_remove(at);
        }
    }

    pub(super) fn wake(&self) {
        self.done.wake_all();
    }

    /// Waits until nothing of `range` is being read or written.
    pub(super) fn wait_idle(&self, range: Range<u64>) {
        self.done.wait_uninterruptible(WaitKind::Page, || (!self.is_busy(&range, None)).then_some(()));
    }

    pub(super) fn wait_for(&self, range: Range<u64>, work: Work) {
        self.done.wait_uninterruptible(WaitKind::Page, || (!self.is_busy(&range, Some(work))).then_some(()));
    }

    /// How many pages a read of `bytes` that misses page `index` takes at once.
    pub(super) fn window(&self, index: u64, bytes: u64) -> u64 {
        const COUNT_BITS: u32 = 8;
        let last = self.ahead.load(Ordering::Relaxed);
        let (next, count) = (last >> COUNT_BITS, last & ((1 << COUNT_BITS) - 1));
        let count = if index == next && count != 0 { 2 * count } else { FIRST_WINDOW };
        let count = count.max(pages_for(bytes)).min(MOST_PAGES as u64);
        self.ahead.store((index + count) << COUNT_BITS | count, Ordering::Relaxed);
        count
    }
}

impl MemObject {
    /// [`MemObject::page`] of an object with a backing.
    #[inline]
    pub(super) fn cached_page(&self, cache: &Cache, index: u64, write: bool) -> Result<Frame, Errno> {
        loop {
            {
                let mut pages = self.pages.lock();
                if let Some(frame) = pages.touch(index, REFERENCED) {
                    let frame = frame.clone();
                    if !write {
                        return Ok(frame);
                    }
                    if pages.has_tag(index, DIRTY) {
                        self.mark_written(&mut pages, index);
                        return Ok(frame);
                    }
                    drop(pages);
                    cache.backing.prepare_write(index)?;
                    let mut pages = self.pages.lock();
                    if pages.get(index).is_some_and(|now| now.phys() == frame.phys()) {
                        self.mark_written(&mut pages, index);
                        return Ok(frame);
                    }
                    // It was taken back meanwhile.
                    continue;
                }
            }
            self.load(cache, index, 1)?;
        }
    }

    /// Page `index`, read when it is absent, with up to `window` pages from there on. EIO, ENOMEM.
    pub(super) fn load(&self, cache: &Cache, index: u64, window: u64) -> Result<Frame, Errno> {
        loop {
            let run = {
                let mut pages = self.pages.lock();
                if let Some(frame) = pages.touch(index, REFERENCED) {
                    return Ok(frame.clone());
                }
                let len = pages_for(self.len());
                if cache.is_loading(index) {
                    None
                } else {
                    // Up to the first page that is there or on its way.
                    let most = window.clamp(1, MOST_PAGES as u64);
                    let mut end = (index + most).min(len.max(index + 1));
                    pages.for_each(index + 1..end, &mut |at, _| {
                        end = at;
                        false
                    });
                    while end > index + 1 && cache.is_busy(&(index..end), Some(Work::Load)) {
                        end -= 1;
                    }
                    if !cache.begin(index..end, Work::Load) {
                        return Err(Errno::ENOMEM);
                    }
                    Some((index..end, index >= len))
                }
            };
            match run {
                None => cache.wait_for(index..index + 1, Work::Load),
                Some((run, is_beyond)) => return self.load_run(cache, run, is_beyond),
            }
        }
    }

    /// Reads `run`, which is noted as busy; answers its first page.
    fn load_run(&self, cache: &Cache, run: Range<u64>, is_beyond: bool) -> Result<Frame, Errno> {
        let mut frames: ArrayVec<Frame, MOST_PAGES> = ArrayVec::new();
        let mut error = Errno::ENOMEM;
        for _ in run.clone() {
            match self.frame_for_io(is_beyond, frames.is_empty()) {
                Ok(frame) => frames.push(frame),
                Err(errno) => {
                    error = errno;
                    break;
                }
            }
        }
        if !frames.is_empty() && !is_beyond {
            let mut result = cache.backing.read_pages(run.start, &frames);
            if result.is_err() && frames.len() > 1 {
                // What fails may be one that nobody asked for.
                frames.truncate(1);
                result = cache.backing.read_pages(run.start, &frames);
            }
            if let Err(errno) = result {
                error = errno;
                frames.clear();
            }
        }
        let mut nr_new = 0;
        {
            let mut pages = self.pages.lock();
            let len = pages_for(self.len());
            for (index, frame) in run.clone().zip(&frames) {
                // A truncation that has come between waits for this read to end.
                if index < len || is_beyond {
                    pages.insert(index, frame.clone());
                    nr_new += 1;
                }
            }
            if nr_new > 0 {
                pages.touch(run.start, REFERENCED);
            }
            cache.end(&run, Work::Load);
        }
        cache.wake();
        self.count(nr_new);
        frames.into_iter().next().ok_or(error)
    }

    /// Makes page `index` ready for a fault, `write` for one of a shared mapping that writes. No lock is held. ENOMEM, EIO, ENOSPC.
    pub(in crate::mm) fn bring(&self, index: u64, write: bool) -> Result<(), Errno> {
        let Some(cache) = &self.cache else { return Ok(()) };
        if index >= pages_for(self.len()) {
            return Ok(());
        }
        if self.pages.lock().get(index).is_none() {
            let around = index & !(FAULT_WINDOW - 1);
            let end = around + FAULT_WINDOW;
            let first = self.pages.lock().next_absent(around).min(index);
            let is_free = first < index && self.pages.lock().next_present(first).is_none_or(|at| at >= index);
            if is_free && self.load(cache, first, end - first).is_err() {
                self.load(cache, index, 1)?;
            } else {
                self.load(cache, index, end - index)?;
            }
        }
        if write {
            self.cached_page(cache, index, true)?;
            writeback::throttle();
        }
        Ok(())
    }

    /// Reads what is absent of a byte range (readahead(2), POSIX_FADV_WILLNEED, MADV_WILLNEED); errors are found by who reads.
    pub fn read_ahead(&self, offset: u64, len: u64) {
        let Some(cache) = &self.cache else { return };
        let end = pages_for(offset.saturating_add(len)).min(pages_for(self.len()));
        let mut at = offset / PAGE;
        while at < end {
            at = self.pages.lock().next_absent(at);
            if at >= end || self.load(cache, at, end - at).is_err() || current().is_dying() {
                return;
            }
            at += 1;
        }
    }
}
