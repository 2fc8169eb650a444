//! mremap(2): growing, shrinking and moving a mapping.

use super::area::{Area, AreaFlags};
use super::map::{MAX_MAP_COUNT, check_commit, check_fixed};
use super::mapping::Cover;
use super::space::{AddressSpace, FaultError, Inner, Removed, Tally};
use crate::prelude::*;
use base::addr::{USER_END, page_up};
use base::vma::Vma;
use core::ops::Range;
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;

bitflags! {
    /// mremap(2) flags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RemapFlags: u32 {
        const MAYMOVE = 1;
        const FIXED = 2;
        const DONTUNMAP = 4;
    }
}

impl AddressSpace {
    /// mremap(2): the new address. EINVAL, EFAULT (not mapped, several areas), ENOMEM, EAGAIN (locked memory).
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, flags: RemapFlags, to: u64) -> Result<u64, Errno> {
        let movable = flags.contains(RemapFlags::MAYMOVE);
        let dont_unmap = flags.contains(RemapFlags::DONTUNMAP);
        if flags.contains(RemapFlags::FIXED) && !movable
            || dont_unmap && (!movable || old_len != new_len)
            || !old.is_multiple_of(PAGE)
        {
            return Err(Errno::EINVAL);
        }
        let (Some(old_len), Some(new_len)) = (page_up(old_len), page_up(new_len)) else { return Err(Errno::EINVAL) };
        if new_len == 0 {
            return Err(Errno::EINVAL);
        }
        if old.checked_add(old_len).is_none_or(|end| end > USER_END) {
            return Err(Errno::EFAULT);
        }
        let mut removed = Removed::new();
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.map.count() + 4 > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        if flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) {
            let fixed = flags.contains(RemapFlags::FIXED);
            if !to.is_multiple_of(PAGE) || new_len > USER_END || to > USER_END - new_len {
                return Err(Errno::EINVAL);
            }
            if fixed && to < old + old_len && old < to + new_len {
                return Err(Errno::EINVAL);
            }
            if fixed {
                check_fixed(to, new_len)?;
                inner.remove_range(to..to + new_len, &mut removed)?;
            }
            let mut old_len = old_len;
            if old_len > new_len {
                inner.remove_range(old + new_len..old + old_len, &mut removed)?;
                old_len = new_len;
            }
            let (area, _) = inner.area_for_remap(old, old_len, new_len, dont_unmap)?;
            let to = if fixed { to } else { inner.find_place(to, new_len)? };
            let locked = area.flags.contains(AreaFlags::LOCKED);
            self.move_area(inner, area, old..old + old_len, to, new_len, dont_unmap, &mut removed)?;
            drop(guard);
            self.populate_if(locked && !dont_unmap, to + old_len, to + new_len);
            return Ok(to);
        }
        if old_len >= new_len {
            let area = inner.map.get(old).ok_or(Errno::EFAULT)?;
            if old_len == 0 || area.end < old + new_len {
                return Err(Errno::EFAULT);
            }
            if old_len > new_len {
                inner.remove_range(old + new_len..old + old_len, &mut removed)?;
            }
            return Ok(old);
        }
        let (area, vma_end) = inner.area_for_remap(old, old_len, new_len, false)?;
        let locked = area.flags.contains(AreaFlags::LOCKED);
        if old_len != 0
            && old + old_len == vma_end
            && old + new_len <= USER_END
            && inner.is_free_with_guard(vma_end, new_len - old_len)
        {
            inner.account(&area, new_len - old_len, 1);
            if let Some(attachment) = &area.attachment {
                attachment.cover_to(area.offset + new_len);
            }
            inner.map.grow_up(old, old + new_len);
            drop(guard);
            self.populate_if(locked, old + old_len, old + new_len);
            return Ok(old);
        }
        if !movable {
            return Err(Errno::ENOMEM);
        }
        let to = inner.find_place(0, new_len)?;
        self.move_area(inner, area, old..old + old_len, to, new_len, false, &mut removed)?;
        drop(guard);
        self.populate_if(locked, to + old_len, to + new_len);
        Ok(to)
    }

    fn populate_if(&self, wanted: bool, from: u64, to: u64) {
        if wanted && from < to {
            let _ = self.populate(from, to, Access::Write).or_else(|error| match error {
                FaultError::Access => self.populate(from, to, Access::Read),
                error => Err(error),
            });
        }
    }

    /// Moves `from` (inside one area, whose data at `from.start` is `area`) to `to`, `new_len` bytes long: ENOMEM.
    #[expect(clippy::too_many_arguments, reason = "one mremap has that many facts")]
    fn move_area(
        &self,
        inner: &mut Inner,
        mut area: Area,
        from: Range<u64>,
        to: u64,
        new_len: u64,
        dont_unmap: bool,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        let duplicate = from.is_empty();
        match &area.attachment {
            None => area.offset = to,
            Some(attachment) => {
                let cover = Cover { addr: to, offset: area.offset, len: new_len };
                area.attachment = Some(attachment.moved_to(cover)?);
            }
        }
        // The new area is there before the old one goes: a removal frees the tables around it that no area needs.
        inner.map.insert(to..to + new_len, area.clone())?;
        inner.account(&area, new_len, 1);
        if !duplicate && let Err(error) = inner.table.move_range(from.clone(), to) {
            inner.remove_range(to..to + new_len, removed)?;
            return Err(error.into());
        }
        if dont_unmap {
            // The old area stays, empty; it is no longer locked.
            let mut tally = Tally::default();
            inner.map.update(from, |span, data| {
                if data.flags.contains(AreaFlags::LOCKED) {
                    tally.add(data, span.end - span.start, -1);
                    data.flags.remove(AreaFlags::LOCKED | AreaFlags::LOCK_ON_FAULT);
                    tally.add(data, span.end - span.start, 1);
                }
            })?;
            inner.settle(&tally);
        } else if !duplicate {
            inner.remove_range(from, removed)?;
        }
        Ok(())
    }
}

impl Inner {
    /// The area mremap works on, its data at `old`, and its end: EFAULT, EINVAL, EAGAIN, ENOMEM.
    fn area_for_remap(&mut self, old: u64, old_len: u64, new_len: u64, dont_unmap: bool) -> Result<(Area, u64), Errno> {
        let vma = self.map.get(old).ok_or(Errno::EFAULT)?;
        // A length of 0 duplicates a shared mapping; of a private one there is nothing to show twice.
        if old_len == 0 && !vma.data.is_shared() {
            return Err(Errno::EINVAL);
        }
        if dont_unmap && vma.data.name.is_some() {
            return Err(Errno::EINVAL);
        }
        if old_len > vma.end - old {
            return Err(Errno::EFAULT);
        }
        let (area, end) = (data_at(vma, old), vma.end);
        let grow = new_len.saturating_sub(if dont_unmap { 0 } else { old_len });
        if grow > 0 {
            area.offset.checked_add(new_len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
            if area.flags.contains(AreaFlags::LOCKED) && !self.may_lock_more(grow) {
                return Err(Errno::EAGAIN);
            }
            self.check_limits(grow / PAGE, area.is_data())?;
            if area.wants_commit() {
                check_commit(grow / PAGE)?;
            }
        }
        Ok((area, end))
    }
}

/// The area's data as if it began at `addr`.
pub fn data_at(vma: &Vma<Area>, addr: u64) -> Area {
    let mut area = vma.data.clone();
    area.offset += addr - vma.start;
    area
}
