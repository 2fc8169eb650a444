//! Holes of an object: fallocate(2), and looking for data between them.

use super::{MemObject, PAGE, pages_for, pause};
use crate::mm::object::seals;
use crate::prelude::*;
use base::addr::{PAGE_SHIFT, page_up};
use core::ops::Range;
use core::sync::atomic::Ordering;

impl MemObject {
    /// Zeroes a byte range and drops whole pages in it (FALLOC_FL_PUNCH_HOLE). EPERM when sealed.
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result<(), Errno> {
        seals::check_write(self, 0)?;
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?.min(page_up(self.len()).unwrap_or(!(PAGE - 1)));
        if offset >= end {
            return Ok(());
        }
        let (first_whole, last_whole) = (pages_for(offset), end >> PAGE_SHIFT);
        let zero = |from: u64, to: u64| -> Result<(), Errno> {
            let index = from >> PAGE_SHIFT;
            if from < to && (self.is_backed() || self.present(index).is_some()) {
                let frame = self.page(index, true)?;
                frame.zero((from % PAGE) as usize, (to - from) as usize);
            }
            Ok(())
        };
        if first_whole > last_whole {
            return zero(offset, end);
        }
        zero(offset, first_whole * PAGE)?;
        zero(last_whole * PAGE, end)?;
        self.drop_pages(first_whole..last_whole, |batch| {
            if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
                self.mappings.unmap(self, first.0..last.0 + 1, Some(batch));
            }
        });
        match &self.cache {
            Some(cache) if first_whole < last_whole => {
                self.release_if_clean(cache);
                cache.wait_idle(first_whole..last_whole);
                cache.backing.punch(first_whole * PAGE, (last_whole - first_whole) * PAGE)
            }
            _ => Ok(()),
        }
    }

    /// fallocate(2) on memory: FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, or plain. EOPNOTSUPP, EFBIG,
    /// EPERM (sealed), ENOSPC.
    pub fn fallocate(&self, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        match mode {
            mode if mode == KEEP_SIZE | PUNCH_HOLE => self.punch_hole(offset, len),
            0 | KEEP_SIZE => {
                let grows = mode == 0 && end > self.len();
                if grows {
                    seals::check_resize(self, end)?;
                }
                self.allocate(offset >> PAGE_SHIFT..pages_for(end))?;
                if grows {
                    let _pages = self.pages.lock();
                    self.len.fetch_max(end, Ordering::AcqRel);
                }
                Ok(())
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Makes every page of `range` present, or none more than before: ENOSPC, EINTR when killed.
    fn allocate(&self, range: Range<u64>) -> Result<(), Errno> {
        if self.quota.as_ref().is_some_and(|quota| range.end - range.start > quota.max()) {
            return Err(Errno::ENOSPC);
        }
        // What was absent, in runs.
        let mut made: Vec<Range<u64>> = Vec::new();
        let mut fill = |index: u64| {
            if !pause(index * PAGE) {
                return Err(Errno::EINTR);
            }
            if self.present(index).is_some() {
                return Ok(());
            }
            match made.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => {
                    made.try_reserve(1).map_err(|_| Errno::ENOSPC)?;
                    made.push(index..index + 1);
                }
            }
            self.page(index, false)
                .map(drop)
                .map_err(|error| if error == Errno::ENOMEM { Errno::ENOSPC } else { error })
        };
        let result = range.into_iter().try_for_each(&mut fill);
        if result.is_err() {
            // What somebody has written to through a mapping meanwhile stays.
            made.into_iter().flatten().for_each(|index| self.drop_untouched(index));
        }
        result
    }

    /// Drops page `index` when it is all zeroes and nothing else holds it.
    fn drop_untouched(&self, index: u64) {
        let mut pages = self.pages.lock();
        if pages.get(index).is_some_and(|frame| frame.ref_count() == 1 && frame.is_zero()) {
            let frame = pages.remove(index);
            drop(pages);
            drop(frame);
            self.count(-1);
            self.uncharge(1);
        }
    }

    /// Next data or hole at or after `offset` (SEEK_DATA, SEEK_HOLE); ENXIO past the end.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let len = self.len();
        if offset >= len {
            return Err(Errno::ENXIO);
        }
        if let Some(cache) = &self.cache {
            // What is dirty may have no place yet: it is data, which the backing knows once it is written.
            self.sync(offset, u64::MAX)?;
            return match cache.backing.map(offset, hole)? {
                Some(at) => Ok(at.min(len)),
                None if hole => Ok(len),
                None => Err(Errno::ENXIO),
            };
        }
        let index = offset >> PAGE_SHIFT;
        let pages = self.pages.lock();
        if hole {
            let absent = pages.next_absent(index);
            return Ok(if absent == index { offset } else { (absent << PAGE_SHIFT).min(len) });
        }
        match pages.next_present(index) {
            Some(found) if found == index => Ok(offset),
            Some(found) if found << PAGE_SHIFT < len => Ok(found << PAGE_SHIFT),
            _ => Err(Errno::ENXIO),
        }
    }
}
