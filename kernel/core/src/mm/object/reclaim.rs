//! Taking pages of files back: a clock over the objects that have a backing, and over the pages of each. A page that was used since
//! the hand last passed stays for another round; dirty ones are written first, mapped ones unmapped first.

use super::{DIRTY, MemObject, REFERENCED};
use crate::prelude::*;
use arrayvec::ArrayVec;
use base::addr::PAGE_SHIFT;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use hal::frame::Frame;

/// Objects with a backing.
static OBJECTS: SpinLock<Vec<Weak<MemObject>>> = SpinLock::new(Vec::new());
/// Where the clock goes on.
static HAND: AtomicUsize = AtomicUsize::new(0);

/// Where the next free place is looked for.
static FREE_HAND: AtomicUsize = AtomicUsize::new(0);

const ALL: Range<u64> = 0..u64::MAX >> PAGE_SHIFT;
/// Pages of a turn.
const BATCH: usize = 32;

/// Lets [`reclaim`] and the write-back thread know of `object`.
pub(super) fn register(object: &Arc<MemObject>) {
    let mut objects = OBJECTS.lock();
    let weak = Arc::downgrade(object);
    if objects.len() == objects.capacity() {
        // The place of one that is gone: the others stay where they are, so that nobody who goes through them misses one.
        let (count, start) = (objects.len(), FREE_HAND.load(Ordering::Relaxed));
        let gone = (0..count).map(|step| (start + step) % count).find(|at| objects[*at].strong_count() == 0);
        if let Some(at) = gone {
            FREE_HAND.store(at + 1, Ordering::Relaxed);
            objects[at] = weak;
            return;
        }
    }
    objects.push(weak);
}

/// The `index`th object, or the next that lives; `None` at the end.
fn object_at(index: &mut usize) -> Option<Arc<MemObject>> {
    let objects = OBJECTS.lock();
    while let Some(object) = objects.get(*index) {
        *index += 1;
        if let Some(object) = object.upgrade() {
            return Some(object);
        }
    }
    None
}

/// Calls `f` for every object, with no lock held. Objects may come and go meanwhile.
pub(super) fn for_each_object(mut f: impl FnMut(&MemObject)) {
    let mut index = 0;
    while let Some(object) = object_at(&mut index) {
        f(&object);
    }
}

/// Takes back about `target` pages; answers how many. With `force`, mapped and referenced pages go too. No lock that a fault may
/// wait for is held.
pub(in crate::mm) fn reclaim(target: usize, force: bool) -> usize {
    let count = OBJECTS.lock().len();
    let start = HAND.load(Ordering::Relaxed);
    let mut index = if start < count { start } else { 0 };
    let mut taken = 0;
    for _ in 0..=count {
        match object_at(&mut index) {
            Some(object) => taken += object.take_clean(ALL, target - taken, force, force),
            None => index = 0,
        }
        if taken >= target {
            break;
        }
    }
    HAND.store(index, Ordering::Relaxed);
    taken
}

impl MemObject {
    /// Drops up to `target` clean pages of `range` that nothing else holds; those that were used are spared once,
    /// unless `force`; with `unmap` mapped ones go too.
    fn take_clean(&self, range: Range<u64>, target: usize, force: bool, unmap: bool) -> usize {
        let Some(cache) = &self.cache else { return 0 };
        let mut taken = 0;
        let is_all = range == ALL;
        let mut start = if is_all { cache.hand.load(Ordering::Relaxed) } else { range.start };
        let mut is_second = false;
        while taken < target {
            let mut dropped: ArrayVec<Frame, BATCH> = ArrayVec::new();
            let mut mapped: ArrayVec<(u64, Frame), BATCH> = ArrayVec::new();
            let mut seen: ArrayVec<u64, { 2 * BATCH }> = ArrayVec::new();
            {
                let mut pages = self.pages.lock();
                pages.for_each(start..range.end, &mut |index, _| {
                    seen.push(index);
                    !seen.is_full()
                });
                for index in &seen {
                    if dropped.is_full() || mapped.is_full() {
                        break;
                    }
                    start = *index + 1;
                    let is_spared = pages.set_tag(*index, REFERENCED, false) && !force;
                    if is_spared || pages.has_tag(*index, DIRTY) {
                        continue;
                    }
                    match pages.get(*index) {
                        Some(frame) if frame.ref_count() == 1 => dropped.extend(pages.remove(*index)),
                        Some(frame) if unmap => mapped.push((*index, frame.clone())),
                        _ => {}
                    }
                }
            }
            taken += dropped.len();
            self.count(-(dropped.len() as i64));
            if let (Some(first), Some(last)) = (mapped.first(), mapped.last()) {
                self.mappings.unmap(self, first.0..last.0 + 1, Some(&mapped));
                taken += self.drop_unmapped(&mut mapped);
            }
            if seen.is_empty() {
                // Once around.
                if !is_all || is_second || cache.hand.load(Ordering::Relaxed) == 0 {
                    break;
                }
                is_second = true;
                cache.hand.store(0, Ordering::Relaxed);
                start = 0;
            }
        }
        if is_all {
            cache.hand.store(start, Ordering::Relaxed);
        }
        taken
    }

    /// Drops those of `pages` that nobody but the object and `pages` holds.
    fn drop_unmapped(&self, pages: &mut ArrayVec<(u64, Frame), BATCH>) -> usize {
        let mut taken = 0;
        let mut all = self.pages.lock();
        for (index, frame) in pages.iter() {
            let is_same = all.get(*index).is_some_and(|now| now.phys() == frame.phys());
            if is_same && frame.ref_count() == 2 && !all.has_tag(*index, DIRTY) {
                all.remove(*index);
                taken += 1;
            }
        }
        drop(all);
        self.count(-(taken as i64));
        taken
    }

    /// Drops the clean pages of a range of pages that nothing maps (POSIX_FADV_DONTNEED).
    pub fn drop_clean(&self, range: Range<u64>) -> usize {
        self.take_clean(range, usize::MAX, true, false)
    }

    /// Writes the byte range back and drops its pages, mapped or not: what is read next comes from the backing (O_DIRECT, BLKFLSBUF).
    pub fn invalidate(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.sync(offset, len)?;
        let end = super::pages_for(offset.saturating_add(len));
        self.take_clean(offset >> PAGE_SHIFT..end, usize::MAX, true, true);
        Ok(())
    }
}
