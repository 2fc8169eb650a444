//! madvise, mlock, msync, mincore: calls about ranges that are mapped already.

use super::area::{Area, AreaFlags};
use super::map::may_lock;
use super::space::{AddressSpace, FaultError, Prot, Tally};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use base::addr::USER_END;
use core::ops::Range;
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;

bitflags! {
    /// What mlockall(2) is asked for.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct LockScope: u32 {
        const CURRENT = 1;
        const FUTURE = 2;
        /// Pages are locked as they are touched.
        const ON_FAULT = 4;
    }

    /// What msync(2) is asked for.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct SyncFlags: u32 {
        const ASYNC = 1;
        const INVALIDATE = 2;
        const SYNC = 4;
    }
}

/// What madvise(2) is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    Normal,
    Random,
    Sequential,
    WillNeed,
    DontNeed,
    DontNeedLocked,
    Free,
    Remove,
    DontFork,
    DoFork,
    DontDump,
    DoDump,
    WipeOnFork,
    KeepOnFork,
    PopulateRead,
    PopulateWrite,
    /// MADV_COLD, MADV_PAGEOUT: there is no swap, so nothing to do for unlocked memory.
    Cold,
    /// Huge pages and page merging: hints with no effect here.
    Ignored,
}

impl Advice {
    pub fn from_raw(raw: i32) -> Result<Self, Errno> {
        Ok(match raw {
            0 => Self::Normal,
            1 => Self::Random,
            2 => Self::Sequential,
            3 => Self::WillNeed,
            4 => Self::DontNeed,
            8 => Self::Free,
            9 => Self::Remove,
            10 => Self::DontFork,
            11 => Self::DoFork,
            12..=15 => Self::Ignored,
            16 => Self::DontDump,
            17 => Self::DoDump,
            18 => Self::WipeOnFork,
            19 => Self::KeepOnFork,
            20 | 21 => Self::Cold,
            22 => Self::PopulateRead,
            23 => Self::PopulateWrite,
            24 => Self::DontNeedLocked,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// EINVAL, EACCES: whether the advice makes sense for `area`.
    fn check(self, area: &Area) -> Result<(), Errno> {
        let locked = area.flags.contains(AreaFlags::LOCKED);
        let anonymous = area.attachment.is_none();
        let sense = match self {
            Self::DontNeed | Self::Cold => !locked && area.name.is_none(),
            Self::DontNeedLocked => area.name.is_none(),
            Self::Free => anonymous,
            Self::WipeOnFork => anonymous && !area.is_shared(),
            Self::Remove => {
                if locked || anonymous || area.name.is_some() {
                    return Err(Errno::EINVAL);
                }
                if !area.is_shared() || !area.prot.contains(Prot::WRITE) {
                    return Err(Errno::EACCES);
                }
                true
            }
            Self::DoFork | Self::DoDump => area.name.is_none(),
            Self::PopulateRead => !area.prot.is_empty(),
            Self::PopulateWrite => area.prot.contains(Prot::WRITE),
            _ => true,
        };
        if sense { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// How the advice changes an area's flags: (cleared, set).
    fn flags(self) -> Option<(AreaFlags, AreaFlags)> {
        let hints = AreaFlags::RANDOM | AreaFlags::SEQUENTIAL;
        let none = AreaFlags::empty();
        Some(match self {
            Self::Normal => (hints, none),
            Self::Random => (hints, AreaFlags::RANDOM),
            Self::Sequential => (hints, AreaFlags::SEQUENTIAL),
            Self::DontFork => (none, AreaFlags::DONT_FORK),
            Self::DoFork => (AreaFlags::DONT_FORK, none),
            Self::DontDump => (none, AreaFlags::DONT_DUMP),
            Self::DoDump => (AreaFlags::DONT_DUMP, none),
            Self::WipeOnFork => (none, AreaFlags::WIPE_ON_FORK),
            Self::KeepOnFork => (AreaFlags::WIPE_ON_FORK, none),
            _ => return None,
        })
    }
}

impl AddressSpace {
    /// madvise(2): ENOMEM (a hole; what is mapped was advised), EINVAL, EACCES, EFAULT.
    pub fn advise(&self, range: Range<u64>, advice: Advice) -> Result<(), Errno> {
        let mut at = range.start;
        let mut hole = false;
        // Area by area: some advice must let go of the lock in between.
        loop {
            let mut inner = self.lock();
            let Some(area) = inner.map.first_from(at).filter(|area| area.start < range.end) else {
                hole |= at < range.end;
                break;
            };
            hole |= area.start > at;
            let part = area.start.max(at)..area.end.min(range.end);
            if hole && matches!(advice, Advice::PopulateRead | Advice::PopulateWrite) {
                break;
            }
            advice.check(&area.data)?;
            at = part.end;
            let offset = area.data.offset + (part.start - area.start);
            let area = area.data.clone();
            if let Some((clear, set)) = advice.flags() {
                inner.map.update(part, |_, data| {
                    data.flags.remove(clear);
                    data.flags.insert(set);
                })?;
            } else {
                match advice {
                    Advice::DontNeed | Advice::DontNeedLocked | Advice::Free => inner.zap(part),
                    Advice::WillNeed => {
                        drop(inner);
                        if let Some(object) = area.object() {
                            object.read_ahead(offset, part.end - part.start);
                        }
                    }
                    Advice::Remove => {
                        drop(inner);
                        if let Some(object) = area.object() {
                            object.punch_hole(offset, part.end - part.start)?;
                        }
                    }
                    Advice::PopulateRead | Advice::PopulateWrite => {
                        drop(inner);
                        let access = if advice == Advice::PopulateWrite { Access::Write } else { Access::Read };
                        self.populate(part.start, part.end, access).map_err(|error| match error {
                            FaultError::NotMapped | FaultError::OutOfMemory => Errno::ENOMEM,
                            FaultError::Access => Errno::EINVAL,
                            FaultError::Bus | FaultError::NeedsPage => Errno::EFAULT,
                        })?;
                    }
                    _ => {}
                }
            }
            if at >= range.end {
                break;
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Sets or clears the lock flags of `range`: ENOMEM when part of it is not mapped (what lies before is changed).
    fn set_locked(&self, range: Range<u64>, flags: AreaFlags) -> Result<(), Errno> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut end = range.start;
        for area in inner.map.overlapping(range.clone()) {
            if area.start > end {
                break;
            }
            end = area.end.min(range.end);
        }
        let mut tally = Tally::default();
        inner.map.update(range.start..end.max(range.start), |span, area| {
            let before = area.clone();
            area.flags.remove(AreaFlags::LOCKED | AreaFlags::LOCK_ON_FAULT);
            if area.name.is_none() {
                area.flags.insert(flags);
            }
            if before.flags != area.flags {
                tally.add(&before, span.end - span.start, -1);
                tally.add(area, span.end - span.start, 1);
            }
        })?;
        inner.settle(&tally);
        if end < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Touches every page of locked memory in `range`, each as its area allows.
    fn populate_locked(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let (part, access) = {
                let inner = self.lock();
                let Some(area) = inner.map.first_from(at).filter(|area| area.start < range.end) else { break };
                let write = area.data.prot.contains(Prot::WRITE) && !area.data.is_shared();
                (area.start.max(at)..area.end.min(range.end), if write { Access::Write } else { Access::Read })
            };
            self.populate(part.start, part.end, access).map_err(|error| match error {
                FaultError::OutOfMemory => Errno::EAGAIN,
                _ => Errno::ENOMEM,
            })?;
            at = part.end;
        }
        Ok(())
    }
}

impl AddressSpace {
    /// mlock(2): EPERM, ENOMEM (limit, hole), EAGAIN.
    pub fn lock_range(&self, range: Range<u64>, flags: AreaFlags) -> Result<(), Errno> {
        may_lock()?;
        if range.is_empty() {
            return Ok(());
        }
        {
            let inner = self.lock();
            let already: u64 = inner
                .map
                .overlapping(range.clone())
                .filter(|area| area.data.flags.contains(AreaFlags::LOCKED))
                .map(|area| area.end.min(range.end) - area.start.max(range.start))
                .sum();
            if !inner.may_lock_more((range.end - range.start).saturating_sub(already)) {
                return Err(Errno::ENOMEM);
            }
        }
        self.set_locked(range.clone(), flags)?;
        if flags.contains(AreaFlags::LOCK_ON_FAULT) { Ok(()) } else { self.populate_locked(range) }
    }

    /// munlock(2): ENOMEM (hole).
    pub fn unlock_range(&self, range: Range<u64>) -> Result<(), Errno> {
        if range.is_empty() { Ok(()) } else { self.set_locked(range, AreaFlags::empty()) }
    }

    /// mlockall(2): what is mapped now, what will be, and pages only as they are touched. EPERM, ENOMEM.
    pub fn lock_everything(&self, scope: LockScope) -> Result<(), Errno> {
        may_lock()?;
        let on_fault = scope.contains(LockScope::ON_FAULT);
        let mut wanted = AreaFlags::LOCKED;
        wanted.set(AreaFlags::LOCK_ON_FAULT, on_fault);
        {
            let mut inner = self.lock();
            if scope.contains(LockScope::CURRENT)
                && inner.total_pages * PAGE > current().process.limit(rlimit::MEMLOCK)
                && !current().credentials.with(|credentials| credentials.has_cap(cap::IPC_LOCK))
            {
                return Err(Errno::ENOMEM);
            }
            inner.new_area_flags = if scope.contains(LockScope::FUTURE) { wanted } else { AreaFlags::empty() };
        }
        if scope.contains(LockScope::CURRENT) {
            self.lock_all(wanted);
            if !on_fault {
                // As on Linux, pages that cannot be had now are no error.
                let _ = self.populate_locked(0..USER_END);
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn unlock_everything(&self) {
        self.lock().new_area_flags = AreaFlags::empty();
        self.lock_all(AreaFlags::empty());
    }

    /// msync(2): EBUSY (locked, INVALIDATE), ENOMEM (hole; the rest was written), EIO.
    pub fn sync(&self, range: Range<u64>, flags: SyncFlags) -> Result<(), Errno> {
        let mut at = range.start;
        let mut hole = false;
        while at < range.end {
            let (object, offset, len) = {
                let inner = self.lock();
                let Some(area) = inner.map.first_from(at).filter(|area| area.start < range.end) else {
                    hole = true;
                    break;
                };
                hole |= area.start > at;
                if flags.contains(SyncFlags::INVALIDATE) && area.data.flags.contains(AreaFlags::LOCKED) {
                    return Err(Errno::EBUSY);
                }
                let from = area.start.max(at);
                at = area.end.min(range.end);
                let object = area.data.object().filter(|_| area.data.is_shared()).cloned();
                (object, area.data.offset + (from - area.start), at - from)
            };
            if flags.contains(SyncFlags::SYNC)
                && let Some(object) = object
            {
                object.sync(offset, len)?;
                object.commit()?;
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// mincore(2): sets the byte of each page from `start` on that is in memory, for as many as `pages` has. ENOMEM (hole).
    pub fn mark_resident(&self, start: u64, pages: &mut [u8]) -> Result<(), Errno> {
        let inner = self.lock();
        let range = start..start + pages.len() as u64 * PAGE;
        if !inner.map.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        for area in inner.map.overlapping(range.clone()) {
            let part = area.start.max(range.start)..area.end.min(range.end);
            inner.table.for_each(part.clone(), &mut |va, _, _| pages[((va - start) / PAGE) as usize] = 1);
            if let Some(object) = area.data.object() {
                let index_of = |va: u64| (area.data.offset + (va - area.start)) / PAGE;
                object.for_each_present(index_of(part.start)..index_of(part.end), false, &mut |index, _| {
                    let va = area.start + (index * PAGE - area.data.offset);
                    pages[((va - start) / PAGE) as usize] = 1;
                });
            }
        }
        Ok(())
    }

    fn lock_all(&self, flags: AreaFlags) {
        let spans: Vec<Range<u64>> = self.lock().map.iter().map(|area| area.range()).collect();
        for span in spans {
            let _ = self.set_locked(span, flags);
        }
    }
}
