//! Making, cutting and changing mappings: what mmap, munmap, mprotect and brk do.
//!
//! Errors in Linux's order. Overcommit: a single request for more pages than the machine has is refused (ENOMEM), everything else
//! is promised; what cannot be kept is settled by the OOM killer.

use super::MemObject;
use super::area::{Area, AreaFlags, MappedFile};
use super::mapping::{Attachment, Cover};
use super::space::{AddressSpace, Inner, MapFlags, Prot, Removed, Tally};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::process::rlimit;
use base::addr::{USER_END, page_down, page_up};
use core::ops::Range;
use hal::mmu::{PageFlags, TlbGather};
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;
/// The lowest address a program may map (vm.mmap_min_addr).
pub const MMAP_MIN_ADDR: u64 = 65536;
/// The most areas one address space has (vm.max_map_count).
pub const MAX_MAP_COUNT: usize = 65530;
/// Where bottom-up search begins when the top-down window is full.
const UNMAPPED_BASE: u64 = USER_END / 4;
/// Capability to map below [`MMAP_MIN_ADDR`].
const CAP_SYS_RAWIO: u32 = 17;

fn limit(resource: usize) -> u64 {
    current().process.limit(resource)
}

fn capable(capability: u32) -> bool {
    current().credentials.with(|credentials| credentials.has_cap(capability))
}

/// Whether the calling thread may lock memory at all: EPERM.
pub fn may_lock() -> Result<(), Errno> {
    if limit(rlimit::MEMLOCK) != 0 || capable(cap::IPC_LOCK) { Ok(()) } else { Err(Errno::EPERM) }
}

impl Inner {
    /// ENOMEM when `pages` more would pass RLIMIT_AS, or RLIMIT_DATA for data.
    pub fn check_limits(&self, pages: u64, is_data: bool) -> Result<(), Errno> {
        if self.total_pages.saturating_add(pages) > limit(rlimit::AS) / PAGE {
            return Err(Errno::ENOMEM);
        }
        if is_data && self.data_pages.saturating_add(pages) > limit(rlimit::DATA) / PAGE {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Whether `len` bytes more may be locked.
    pub fn may_lock_more(&self, len: u64) -> bool {
        capable(cap::IPC_LOCK) || (self.locked_pages * PAGE).saturating_add(len) <= limit(rlimit::MEMLOCK)
    }

    /// A free place of `len` bytes, at `hint` if it is free there.
    pub fn find_place(&mut self, hint: u64, len: u64) -> Result<u64, Errno> {
        if len > USER_END - MMAP_MIN_ADDR {
            return Err(Errno::ENOMEM);
        }
        if hint != 0
            && let Some(hint) = page_up(hint)
        {
            let hint = hint.max(MMAP_MIN_ADDR);
            if hint <= USER_END - len && self.is_free_with_guard(hint, len) {
                return Ok(hint);
            }
        }
        let base = self.mmap_base;
        match self.map.find_gap_down(len, MMAP_MIN_ADDR, base) {
            Some(addr) => Ok(addr),
            None => self.map.find_gap_up(len, UNMAPPED_BASE, USER_END).ok_or(Errno::ENOMEM),
        }
    }

    pub fn is_free_with_guard(&self, addr: u64, len: u64) -> bool {
        self.map.first_from(addr).is_none_or(|next| {
            let guard = if next.data.is_stack() { super::area::STACK_GUARD } else { 0 };
            next.start.saturating_sub(guard) >= addr + len
        })
    }

    /// Drops the pages of `range` (all mapped): MADV_DONTNEED.
    pub fn zap(&mut self, range: Range<u64>) {
        self.note_resident();
        let mut gather = TlbGather::new();
        self.table.unmap_range(range, &mut gather);
        gather.finish();
    }

    /// Counts and inserts a new area where nothing is: ENOMEM.
    fn add_area(&mut self, range: Range<u64>, mut area: Area) -> Result<(), Errno> {
        if area.wants_commit() {
            area.flags |= AreaFlags::COMMITTED;
        }
        let counted = area.clone();
        let len = range.end - range.start;
        self.map.insert(range, area)?;
        self.account(&counted, len, 1);
        Ok(())
    }
}

/// ENOMEM for a request that the machine could never keep.
pub fn check_commit(pages: u64) -> Result<(), Errno> {
    if pages > super::oom::total_pages() { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// EINVAL (misaligned), ENOMEM (outside), EPERM (below the minimum): checks a fixed address.
pub fn check_fixed(addr: u64, len: u64) -> Result<(), Errno> {
    if len > USER_END || addr > USER_END - len {
        return Err(Errno::ENOMEM);
    }
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if addr < MMAP_MIN_ADDR && !capable(CAP_SYS_RAWIO) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// What a mapping is to show.
pub struct Source {
    pub object: Option<(Arc<MemObject>, u64)>,
    pub file: Option<Arc<dyn MappedFile>>,
    pub name: Option<&'static str>,
    /// Rights that mprotect may give later.
    pub may: AreaFlags,
}

impl AddressSpace {
    /// mmap(2) for the kernel's own use: the ELF loader, the stack, the vDSO. `file` gives name and write-denial for
    /// /proc/PID/maps; `object` with `offset` gives the pages (None is anonymous). `addr` is a hint unless FIXED.
    pub fn map(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        flags: MapFlags,
        object: Option<(Arc<MemObject>, u64)>,
        file: Option<Arc<dyn MappedFile>>,
    ) -> Result<u64, Errno> {
        self.map_source(addr, len, prot, flags, Source { object, file, name: None, may: AreaFlags::MAY_ALL })
    }

    /// Maps the special area `name` ("[vdso]", "[vvar]").
    pub fn map_special(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        name: &'static str,
        object: Option<(Arc<MemObject>, u64)>,
    ) -> Result<u64, Errno> {
        let flags = if object.is_some() { MapFlags::SHARED } else { MapFlags::PRIVATE };
        // A shared object's pages are the kernel's own: no right to write may be added.
        let may = AreaFlags::MAY_READ | AreaFlags::MAY_EXEC;
        self.map_source(addr, len, prot, flags, Source { object, file: None, name: Some(name), may })
    }

    /// The initial stack below `top`, growing down to RLIMIT_STACK; answers the lowest mapped address.
    pub fn map_stack(&self, top: u64, executable: bool) -> Result<u64, Errno> {
        const INITIAL: u64 = 132 << 10;
        let top = page_down(top);
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::EXEC, executable);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::GROWSDOWN;
        let source = Source { object: None, file: None, name: None, may: AreaFlags::MAY_ALL };
        let start = top.checked_sub(INITIAL).ok_or(Errno::ENOMEM)?;
        let start = self.map_source(start, INITIAL, prot, flags, source)?;
        self.lock().layout.stack_top = top;
        Ok(start)
    }

    /// The body of mmap(2) after the checks that concern the descriptor.
    pub fn map_source(&self, addr: u64, len: u64, prot: Prot, flags: MapFlags, source: Source) -> Result<u64, Errno> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        if len > USER_END {
            return Err(Errno::ENOMEM);
        }
        let shared = flags.contains(MapFlags::SHARED);
        let offset = source.object.as_ref().map_or(0, |(_, offset)| *offset);
        offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EOVERFLOW)?;
        let mut removed = Removed::new();
        let mut inner = self.lock();
        if inner.map.count() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let fixed = flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        let addr = if fixed {
            check_fixed(addr, len)?;
            addr
        } else {
            inner.find_place(addr, len)?
        };
        if flags.contains(MapFlags::FIXED_NOREPLACE) && !inner.map.is_free(addr..addr + len) {
            return Err(Errno::EEXIST);
        }
        let mut area = Area {
            prot,
            flags: source.may | inner.new_area_flags,
            attachment: None,
            offset: if source.object.is_some() { offset } else { addr },
            file: source.file,
            name: source.name,
        };
        area.flags.set(AreaFlags::SHARED, shared);
        area.flags.set(AreaFlags::GROWSDOWN, flags.contains(MapFlags::GROWSDOWN));
        area.flags.set(AreaFlags::NO_RESERVE, flags.contains(MapFlags::NORESERVE));
        if flags.contains(MapFlags::LOCKED) {
            may_lock()?;
            area.flags.insert(AreaFlags::LOCKED);
        }
        if area.flags.contains(AreaFlags::LOCKED) && !inner.may_lock_more(len) {
            return Err(Errno::EAGAIN);
        }
        let replaced = if fixed { inner.map.covered(addr..addr + len) } else { 0 };
        inner.check_limits((len - replaced) / PAGE, area.is_data())?;
        if area.wants_commit() || (shared && source.object.is_none()) {
            check_commit(len / PAGE)?;
        }
        if let Some((object, _)) = source.object {
            let writable = shared && area.flags.contains(AreaFlags::MAY_WRITE);
            area.attachment = Some(Attachment::new(object, &self.this, Cover { addr, offset, len }, writable)?);
        } else if shared {
            let cover = Cover { addr, offset: 0, len };
            area.attachment = Some(Attachment::new(MemObject::anonymous(len), &self.this, cover, true)?);
            area.offset = 0;
        }
        if replaced > 0 {
            inner.remove_range(addr..addr + len, &mut removed)?;
        }
        let populate = area.flags.contains(AreaFlags::LOCKED) && !area.flags.contains(AreaFlags::LOCK_ON_FAULT)
            || flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK);
        let access = if prot.contains(Prot::WRITE) { Access::Write } else { Access::Read };
        inner.add_area(addr..addr + len, area)?;
        drop(inner);
        drop(removed);
        if populate && !prot.is_empty() {
            // As on Linux, mmap succeeds even when not all pages could be had.
            let _ = self.populate(addr, addr + len, access);
        }
        Ok(addr)
    }

    /// munmap(2): EINVAL, ENOMEM (too many areas).
    pub fn unmap(&self, range: Range<u64>) -> Result<(), Errno> {
        if !range.start.is_multiple_of(PAGE) || range.start > USER_END || range.end < range.start {
            return Err(Errno::EINVAL);
        }
        let end = page_up(range.end).ok_or(Errno::EINVAL)?;
        if end == range.start || end > USER_END {
            return Err(Errno::EINVAL);
        }
        let range = range.start..end;
        let mut removed = Removed::new();
        {
            let mut inner = self.lock();
            if inner.map.count() + inner.map.extra_after_cut(range.clone()) > MAX_MAP_COUNT {
                return Err(Errno::ENOMEM);
            }
            inner.remove_range(range, &mut removed)?;
        }
        Ok(())
    }

    /// Whether nothing is mapped in `range`.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.lock().map.is_free(range)
    }

    /// Unmaps what is left of the attachment made at `addr` of an object that `wanted` accepts (shmdt): EINVAL.
    pub fn detach(&self, addr: u64, wanted: &dyn Fn(&MemObject) -> bool) -> Result<(), Errno> {
        let mut removed = Removed::new();
        let mut inner = self.lock();
        let mut first: Option<Arc<Attachment>> = None;
        let mut spans: Vec<Range<u64>> = Vec::new();
        for area in inner.map.iter_from(addr) {
            let Some(attachment) = &area.data.attachment else { continue };
            // Parts of one attachment keep their distance from its start.
            let is_part = area.start >= addr && area.data.offset == area.start - addr;
            match &first {
                None if is_part && wanted(&attachment.object) => first = Some(attachment.clone()),
                Some(first) if area.end - addr > first.object.len() => break,
                Some(first) if is_part && attachment.is_of_origin(first) => {}
                _ => continue,
            }
            spans.try_push(area.range())?;
        }
        for span in &spans {
            inner.remove_range(span.clone(), &mut removed)?;
        }
        drop(inner);
        drop(removed);
        if spans.is_empty() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// mprotect(2): EINVAL, ENOMEM (a hole, limits), EACCES. What lies before the first error is changed.
    pub fn protect(&self, range: Range<u64>, prot: Prot) -> Result<(), Errno> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.map.count() + 2 > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let mut may_needed = AreaFlags::empty();
        may_needed.set(AreaFlags::MAY_READ, prot.contains(Prot::READ));
        may_needed.set(AreaFlags::MAY_WRITE, prot.contains(Prot::WRITE));
        may_needed.set(AreaFlags::MAY_EXEC, prot.contains(Prot::EXEC));
        let mut end = range.start;
        let mut result = Ok(());
        for area in inner.map.overlapping(range.clone()) {
            if area.start > end {
                break;
            }
            if !area.data.flags.contains(may_needed) {
                result = Err(Errno::EACCES);
                break;
            }
            let changed = Area { prot, ..area.data.clone() };
            let pages = (area.end.min(range.end) - area.start.max(range.start)) / PAGE;
            if changed.is_data() && !area.data.is_data() && inner.check_limits(0, false).is_ok() {
                result = inner.check_limits(0, false).and_then(|()| {
                    if inner.data_pages.saturating_add(pages) > limit(rlimit::DATA) / PAGE {
                        Err(Errno::ENOMEM)
                    } else {
                        Ok(())
                    }
                });
                if result.is_err() {
                    break;
                }
            }
            end = area.end.min(range.end);
        }
        if result.is_ok() && end < range.end {
            result = Err(Errno::ENOMEM);
        }
        let range = range.start..end;
        if !range.is_empty() {
            inner.protect_areas(range, prot)?;
        }
        result
    }
}

impl Inner {
    /// Sets the protection of fully mapped `range` and of its pages: ENOMEM.
    fn protect_areas(&mut self, range: Range<u64>, prot: Prot) -> Result<(), Errno> {
        let mut tally = Tally::default();
        let table = &mut self.table;
        self.map.update(range, |span, area| {
            if area.prot == prot {
                return;
            }
            let before = area.clone();
            area.prot = prot;
            if area.wants_commit() {
                area.flags |= AreaFlags::COMMITTED;
            }
            let wanted = area.page_flags();
            if wanted.execute && !before.prot.contains(Prot::EXEC) {
                table.for_each(span.clone(), &mut |_, frame, _| {
                    if !frame.is_zero_page() {
                        frame.sync_instruction_cache();
                    }
                });
            }
            let directly_writable = area.is_shared() && area.object().is_some_and(|object| !object.is_backed());
            table.protect_range(span.clone(), &mut |_, flags| PageFlags {
                // Regained write permission goes through a fault, which looks whether the page must be copied.
                write: wanted.write && (flags.write || directly_writable),
                cow: flags.cow || !area.is_shared(),
                dirty: flags.dirty,
                ..wanted
            });
            tally.add(&before, span.end - span.start, -1);
            tally.add(area, span.end - span.start, 1);
        })?;
        self.settle(&tally);
        Ok(())
    }
}

impl AddressSpace {
    /// brk(2): the new end, or the old one when it cannot be.
    pub fn brk(&self, addr: u64) -> u64 {
        let mut removed = Removed::new();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let (start, old) = (inner.layout.brk_start, inner.brk);
        if addr < start || start == 0 {
            return old;
        }
        let data = inner.layout.data.1.saturating_sub(inner.layout.data.0);
        if (addr - start).saturating_add(data) > limit(rlimit::DATA) {
            return old;
        }
        let (Some(new_end), Some(old_end)) = (page_up(addr), page_up(old)) else { return old };
        if new_end > USER_END {
            return old;
        }
        if new_end <= old_end {
            if new_end < old_end && inner.remove_range(new_end..old_end, &mut removed).is_err() {
                return old;
            }
            inner.brk = addr;
            return addr;
        }
        let grow = new_end - old_end;
        // One free page (or the stack's guard gap) must stay above.
        if !inner.is_free_with_guard(old_end, grow + PAGE)
            || inner.check_limits(grow / PAGE, true).is_err()
            || check_commit(grow / PAGE).is_err()
            || inner.map.count() >= MAX_MAP_COUNT
        {
            return old;
        }
        let flags = AreaFlags::MAY_ALL | inner.new_area_flags;
        if flags.contains(AreaFlags::LOCKED) && !inner.may_lock_more(grow) {
            return old;
        }
        let area =
            Area { prot: Prot::READ | Prot::WRITE, flags, attachment: None, offset: old_end, file: None, name: None };
        if inner.add_area(old_end..new_end, area).is_err() {
            return old;
        }
        inner.brk = addr;
        drop(guard);
        if flags.contains(AreaFlags::LOCKED) && !flags.contains(AreaFlags::LOCK_ON_FAULT) {
            let _ = self.populate(old_end, new_end, Access::Write);
        }
        addr
    }
}
