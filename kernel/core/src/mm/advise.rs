//! madvise, mlock, msync, mincore: calls about ranges that are mapped already.

use super::area::{Area, AreaFlags};
use super::map::may_lock;
use super::space::{AddressSpace, FaultError, Prot, Tally};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use base::addr::{USER_END, page_up};
use core::ops::Range;
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;

/// What madvise(2) is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advice {
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
    fn from_raw(raw: i32) -> Result<Self, Errno> {
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

/// madvise(2): EINVAL, ENOMEM (a hole; what is mapped was advised), EACCES, EFAULT.
pub fn sys_madvise(addr: UserAddr, len: usize, advice: i32) -> SysResult {
    let advice = Advice::from_raw(advice)?;
    let start = addr.untagged().0;
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = page_up(len as u64).and_then(|len| start.checked_add(len)).ok_or(Errno::EINVAL)?;
    if start == end {
        return Ok(0);
    }
    current().address_space().advise(start..end, advice).map(|()| 0)
}

impl AddressSpace {
    fn advise(&self, range: Range<u64>, advice: Advice) -> Result<(), Errno> {
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

/// The pages that `addr` and `len` touch: EINVAL when they wrap around.
fn lock_range(addr: UserAddr, len: usize) -> Result<Range<u64>, Errno> {
    let addr = addr.untagged().0;
    let start = base::addr::page_down(addr);
    let len = page_up((len as u64).checked_add(addr - start).ok_or(Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    Ok(start..start.checked_add(len).ok_or(Errno::EINVAL)?)
}

fn lock_memory(addr: UserAddr, len: usize, flags: AreaFlags) -> SysResult {
    may_lock()?;
    let range = lock_range(addr, len)?;
    if range.is_empty() {
        return Ok(0);
    }
    let space = current().address_space();
    {
        let inner = space.lock();
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
    space.set_locked(range.clone(), flags)?;
    if !flags.contains(AreaFlags::LOCK_ON_FAULT) {
        space.populate_locked(range)?;
    }
    Ok(0)
}

/// mlock(2): EPERM, ENOMEM (limit, hole), EAGAIN, EINVAL.
pub fn sys_mlock(addr: UserAddr, len: usize) -> SysResult {
    lock_memory(addr, len, AreaFlags::LOCKED)
}

/// mlock2(2).
pub fn sys_mlock2(addr: UserAddr, len: usize, flags: u32) -> SysResult {
    const MLOCK_ONFAULT: u32 = 1;
    match flags {
        0 => lock_memory(addr, len, AreaFlags::LOCKED),
        MLOCK_ONFAULT => lock_memory(addr, len, AreaFlags::LOCKED | AreaFlags::LOCK_ON_FAULT),
        _ => Err(Errno::EINVAL),
    }
}

/// munlock(2): ENOMEM (hole), EINVAL.
pub fn sys_munlock(addr: UserAddr, len: usize) -> SysResult {
    let range = lock_range(addr, len)?;
    if range.is_empty() {
        return Ok(0);
    }
    current().address_space().set_locked(range, AreaFlags::empty()).map(|()| 0)
}

/// mlockall(2): EINVAL, EPERM, ENOMEM.
pub fn sys_mlockall(flags: u32) -> SysResult {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ONFAULT: u32 = 4;
    if flags == 0 || flags & !(CURRENT | FUTURE | ONFAULT) != 0 || flags == ONFAULT {
        return Err(Errno::EINVAL);
    }
    may_lock()?;
    let space = current().address_space();
    let mut wanted = AreaFlags::LOCKED;
    wanted.set(AreaFlags::LOCK_ON_FAULT, flags & ONFAULT != 0);
    {
        let mut inner = space.lock();
        if flags & CURRENT != 0
            && inner.total_pages * PAGE > current().process.limit(rlimit::MEMLOCK)
            && !current().credentials.with(|credentials| credentials.has_cap(cap::IPC_LOCK))
        {
            return Err(Errno::ENOMEM);
        }
        inner.new_area_flags = if flags & FUTURE != 0 { wanted } else { AreaFlags::empty() };
    }
    if flags & CURRENT != 0 {
        space.lock_all(wanted);
        if flags & ONFAULT == 0 {
            // As on Linux, pages that cannot be had now are no error.
            let _ = space.populate_locked(0..USER_END);
        }
    }
    Ok(0)
}

/// munlockall(2).
pub fn sys_munlockall() -> SysResult {
    let space = current().address_space();
    space.lock().new_area_flags = AreaFlags::empty();
    space.lock_all(AreaFlags::empty());
    Ok(0)
}

impl AddressSpace {
    fn lock_all(&self, flags: AreaFlags) {
        let spans: Vec<Range<u64>> = self.lock().map.iter().map(|area| area.range()).collect();
        for span in spans {
            let _ = self.set_locked(span, flags);
        }
    }
}

/// msync(2): EINVAL, EBUSY (locked, MS_INVALIDATE), ENOMEM (hole; the rest was written), EIO.
pub fn sys_msync(addr: UserAddr, len: usize, flags: u32) -> SysResult {
    const MS_ASYNC: u32 = 1;
    const MS_INVALIDATE: u32 = 2;
    const MS_SYNC: u32 = 4;
    let start = addr.untagged().0;
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
        || !start.is_multiple_of(PAGE)
        || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0
    {
        return Err(Errno::EINVAL);
    }
    let end = page_up(len as u64).and_then(|len| start.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if start == end {
        return Ok(0);
    }
    let space = current().address_space();
    let mut at = start;
    let mut hole = false;
    while at < end {
        let (object, offset, len) = {
            let inner = space.lock();
            let Some(area) = inner.map.first_from(at).filter(|area| area.start < end) else {
                hole = true;
                break;
            };
            hole |= area.start > at;
            if flags & MS_INVALIDATE != 0 && area.data.flags.contains(AreaFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            let from = area.start.max(at);
            at = area.end.min(end);
            let object = area.data.object().filter(|_| area.data.is_shared()).cloned();
            (object, area.data.offset + (from - area.start), at - from)
        };
        if flags & MS_SYNC != 0
            && let Some(object) = object
        {
            object.sync(offset, len)?;
            object.commit()?;
        }
    }
    if hole { Err(Errno::ENOMEM) } else { Ok(0) }
}

/// mincore(2): EINVAL, ENOMEM (hole), EFAULT.
pub fn sys_mincore(addr: UserAddr, len: usize, vec: UserAddr) -> SysResult {
    let start = addr.untagged().0;
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if !UserAddr(start).range_ok(len) {
        return Err(Errno::ENOMEM);
    }
    let pages = (len as u64).div_ceil(PAGE);
    let vec = vec.untagged();
    if !vec.range_ok(pages as usize) {
        return Err(Errno::EFAULT);
    }
    let space = current().address_space();
    let mut done = 0;
    while done < pages {
        let mut chunk = [0u8; 512];
        let n = (pages - done).min(chunk.len() as u64);
        let from = start + done * PAGE;
        {
            let inner = space.lock();
            let range = from..from + n * PAGE;
            if !inner.map.covers(range.clone()) {
                return Err(Errno::ENOMEM);
            }
            for area in inner.map.overlapping(range.clone()) {
                let part = area.start.max(range.start)..area.end.min(range.end);
                inner.table.for_each(part.clone(), &mut |va, _, _| chunk[((va - from) / PAGE) as usize] = 1);
                if let Some(object) = area.data.object() {
                    let index_of = |va: u64| (area.data.offset + (va - area.start)) / PAGE;
                    object.for_each_present(index_of(part.start)..index_of(part.end), false, &mut |index, _| {
                        let va = area.start + (index * PAGE - area.data.offset);
                        chunk[((va - from) / PAGE) as usize] = 1;
                    });
                }
            }
        }
        let bytes = chunk.get(..n as usize).ok_or(Errno::EFAULT)?;
        UserPtr::<u8>::new(UserAddr(vec.0 + done)).write_slice(bytes)?;
        done += n;
    }
    Ok(0)
}
