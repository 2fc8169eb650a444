//! Page faults: demand paging, copy-on-write, fault-around, stack growth.
//!
//! A fault costs one area lookup and one page-table walk. Out of memory is handled with no lock held, then the fault starts
//! over.

use super::area::{Area, AreaFlags, STACK_GUARD};
use super::mapping::Cover;
use super::space::{AddressSpace, FaultError, Inner, Prot};
use super::{MemObject, oom};
use crate::prelude::*;
use crate::task::process::rlimit;
use base::addr::{USER_END, page_down};
use base::vma::Vma;
use hal::OutOfMemory;
use hal::frame::Frame;
use hal::mmu::{PageFlags, PageTable, Slot};
use hal::trap::Access;

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes around a fault in which present pages of the object are mapped too.
const FAULT_AROUND: u64 = 16 * PAGE;

impl From<OutOfMemory> for FaultError {
    fn from(_: OutOfMemory) -> Self {
        FaultError::OutOfMemory
    }
}

impl AddressSpace {
    /// Resolves a page fault of user code or of a user copy. May sleep.
    pub fn handle_fault(&self, addr: u64, access: Access) -> Result<(), FaultError> {
        let addr = UserAddr(addr).untagged().0;
        if addr >= USER_END {
            return Err(FaultError::NotMapped);
        }
        loop {
            let mut inner = self.lock();
            let result = inner.fault(addr, access);
            if result == Err(FaultError::NeedsPage) {
                let wanted = inner.wanted_page.take();
                drop(inner);
                bring(wanted)?;
                continue;
            }
            drop(inner);
            match result {
                Err(FaultError::OutOfMemory) if oom::make_room() => {}
                result => return result,
            }
        }
    }

    /// Faults every page of the range in, as `access` would; stops at the first that cannot be.
    pub(super) fn populate(&self, start: u64, end: u64, access: Access) -> Result<(), FaultError> {
        let mut at = start;
        while at < end {
            self.handle_fault(at, access)?;
            at += PAGE;
            if at.is_multiple_of(64 * PAGE) {
                crate::sched::cond_resched();
                if current().is_dying() {
                    return Err(FaultError::OutOfMemory);
                }
            }
        }
        Ok(())
    }
}

/// Reads or prepares the page that a fault needs, with nothing locked: others fault, map and unmap meanwhile, so that the fault
/// starts over.
#[cold]
fn bring(wanted: Option<(Arc<MemObject>, u64, bool)>) -> Result<(), FaultError> {
    let Some((object, index, write)) = wanted else { return Err(FaultError::Bus) };
    loop {
        return match object.bring(index, write) {
            Ok(()) if current().is_dying() => Err(FaultError::OutOfMemory),
            Ok(()) => Ok(()),
            Err(Errno::ENOMEM) if oom::make_room() => continue,
            Err(Errno::ENOMEM) => Err(FaultError::OutOfMemory),
            Err(_) => Err(FaultError::Bus),
        };
    }
}

/// Fault hook of user copies: whether the page is accessible now.
pub fn user_copy_fault(addr: UserAddr, access: Access) -> bool {
    current().mm.get().is_some_and(|space| space.handle_fault(addr.0, access).is_ok())
}

impl Inner {
    fn fault(&mut self, addr: u64, access: Access) -> Result<(), FaultError> {
        if self.map.find_mut(addr).is_none() {
            self.grow_stack(addr)?;
        }
        let Inner { table, map, wanted_page, .. } = self;
        let area = map.find_mut(addr).ok_or(FaultError::NotMapped)?;
        let prot = area.data.prot;
        let allowed = match access {
            Access::Read => !prot.is_empty(),
            Access::Write => prot.contains(Prot::WRITE),
            Access::Execute => prot.contains(Prot::EXEC),
        };
        if !allowed {
            return Err(FaultError::Access);
        }
        let page = page_down(addr);
        let mut slot = table.slot(page)?;
        let copied = match slot.get() {
            Some((flags, count)) => {
                let offset = area.data.offset + (page - area.start);
                present(&mut slot, &area.data, offset, flags, count, access)
                    .inspect_err(|error| want(*error, wanted_page, &area.data, offset, access))?
            }
            None => match &area.data.attachment {
                None => {
                    absent_anonymous(&mut slot, &area.data, access)?;
                    false
                }
                Some(attachment) => {
                    let offset = area.data.offset + (page - area.start);
                    let copied = absent_object(&mut slot, &area.data, &attachment.object, offset, access)
                        .inspect_err(|error| want(*error, wanted_page, &area.data, offset, access))?;
                    if access != Access::Write {
                        fault_around(table, area, &attachment.object, page);
                    }
                    copied
                }
            },
        };
        if copied {
            area.data.flags |= AreaFlags::HAS_COPIES;
        }
        Ok(())
    }

    /// Extends the stack area above `addr` down to it: SIGSEGV when there is none, it would pass RLIMIT_STACK or RLIMIT_AS, or
    /// come too near what lies below.
    fn grow_stack(&mut self, addr: u64) -> Result<(), FaultError> {
        let (below, area) = self.map.around(addr);
        let area = area.filter(|area| area.data.is_stack()).ok_or(FaultError::NotMapped)?;
        let start = page_down(addr);
        let grow = area.start - start;
        let process = &current().process;
        if area.end - start > process.limit(rlimit::STACK) || start < super::map::MMAP_MIN_ADDR {
            return Err(FaultError::NotMapped);
        }
        if (self.total_pages * PAGE).saturating_add(grow) > process.limit(rlimit::AS) {
            return Err(FaultError::NotMapped);
        }
        if area.data.flags.contains(AreaFlags::LOCKED)
            && (self.locked_pages * PAGE).saturating_add(grow) > process.limit(rlimit::MEMLOCK)
        {
            return Err(FaultError::NotMapped);
        }
        if let Some(below) = below
            && !below.data.prot.is_empty()
            && !below.data.is_stack()
            && start.saturating_sub(below.end) < STACK_GUARD
        {
            return Err(FaultError::NotMapped);
        }
        let (data, from) = (area.data.clone(), area.start);
        let offset = data.offset.wrapping_sub(grow);
        let attachment = match &data.attachment {
            Some(attachment) => {
                let cover = Cover { addr: start, offset, len: area.end - start };
                Some(attachment.moved_to(cover).map_err(|_| FaultError::OutOfMemory)?)
            }
            None => None,
        };
        self.account(&data, grow, 1);
        self.map.grow_down(from, start, |data| {
            data.offset = offset;
            data.attachment = attachment;
        });
        Ok(())
    }
}

/// Notes what a fault that cannot go on needs.
#[cold]
fn want(error: FaultError, wanted: &mut Option<(Arc<MemObject>, u64, bool)>, area: &Area, offset: u64, access: Access) {
    if error == FaultError::NeedsPage
        && let Some(object) = area.object()
    {
        *wanted = Some((object.clone(), offset / PAGE, area.is_shared() && access == Access::Write));
    }
}

/// Gives the page of a private area to this space alone: the same frame when nobody else has it, else a copy.
fn unshare(slot: &mut Slot<'_>, flags: PageFlags, count: u32) -> Result<(), OutOfMemory> {
    let Some(old) = slot.frame() else { return Ok(()) };
    if old.is_zero_page() {
        slot.replace(oom::alloc_zeroed()?, flags);
    } else if count == 1 {
        slot.protect(flags);
    } else {
        let new = oom::alloc_uninit()?;
        new.copy_from(&old);
        if flags.execute {
            new.sync_instruction_cache();
        }
        slot.replace(new, flags);
    }
    Ok(())
}

/// A fault on a page that is mapped; answers whether a private copy was made of an object's page.
fn present(
    slot: &mut Slot<'_>,
    area: &Area,
    offset: u64,
    flags: PageFlags,
    count: u32,
    access: Access,
) -> Result<bool, FaultError> {
    let wanted = area.page_flags();
    match access {
        Access::Read if flags.read => Ok(false),
        Access::Execute if flags.execute => Ok(false),
        Access::Write if flags.write => Ok(false),
        Access::Write if area.is_shared() => {
            if let Some(object) = area.object() {
                match object.fault_page(offset / PAGE, true, false) {
                    Ok(Some(page)) if slot.frame().is_some_and(|frame| frame.phys() == page.frame.phys()) => {}
                    // Taken back and read again meanwhile: what is mapped is the page no more.
                    Ok(Some(page)) => {
                        slot.replace(page.frame, PageFlags { dirty: true, ..wanted });
                        return Ok(false);
                    }
                    Err(Errno::EAGAIN) => return Err(FaultError::NeedsPage),
                    _ => return Err(FaultError::Bus),
                }
            }
            slot.protect(PageFlags { dirty: true, ..wanted });
            Ok(false)
        }
        Access::Write => {
            unshare(slot, PageFlags { dirty: true, ..wanted }, count)?;
            Ok(area.attachment.is_some())
        }
        Access::Read | Access::Execute => {
            if access == Access::Execute
                && let Some(frame) = slot.frame()
            {
                frame.sync_instruction_cache();
            }
            slot.protect(PageFlags {
                write: flags.write && wanted.write,
                cow: flags.cow,
                dirty: flags.dirty,
                ..wanted
            });
            Ok(false)
        }
    }
}

fn absent_anonymous(slot: &mut Slot<'_>, area: &Area, access: Access) -> Result<(), FaultError> {
    let flags = area.page_flags();
    if access == Access::Write {
        slot.map(oom::alloc_zeroed()?, PageFlags { dirty: true, ..flags });
    } else {
        slot.map(Frame::zero_page(), PageFlags { write: false, cow: true, ..flags });
    }
    Ok(())
}

/// A fault on an absent page of an object; answers whether a private copy was made.
fn absent_object(
    slot: &mut Slot<'_>,
    area: &Area,
    object: &MemObject,
    offset: u64,
    access: Access,
) -> Result<bool, FaultError> {
    let flags = area.page_flags();
    let shared_write = area.is_shared() && access == Access::Write;
    let page = match object.fault_page(offset / PAGE, shared_write, flags.execute) {
        Ok(Some(page)) => page,
        Ok(None) => return Err(FaultError::Bus),
        Err(Errno::EAGAIN) => return Err(FaultError::NeedsPage),
        Err(Errno::ENOMEM) => return Err(FaultError::OutOfMemory),
        Err(_) => return Err(FaultError::Bus),
    };
    if page.stale_icache {
        page.frame.sync_instruction_cache();
    }
    if area.is_shared() {
        // Pages without a backing need no record of writing: they are writable at once.
        let write = flags.write && (shared_write || !object.is_backed());
        slot.map(page.frame, PageFlags { write, dirty: shared_write, ..flags });
        return Ok(false);
    }
    if access == Access::Write {
        let copy = oom::alloc_uninit()?;
        copy.copy_from(&page.frame);
        if flags.execute {
            copy.sync_instruction_cache();
        }
        slot.map(copy, PageFlags { dirty: true, ..flags });
        return Ok(true);
    }
    slot.map(page.frame, PageFlags { write: false, cow: true, ..flags });
    Ok(false)
}

/// Maps the pages of the object that are present around `page` already, read-only.
fn fault_around(table: &mut PageTable, area: &Vma<Area>, object: &MemObject, page: u64) {
    let window = page & !(FAULT_AROUND - 1);
    let (from, to) = (window.max(area.start), (window + FAULT_AROUND).min(area.end));
    let index_of = |va: u64| (area.data.offset + (va - area.start)) / PAGE;
    let shared = area.data.is_shared();
    let mut flags = area.data.page_flags();
    flags.write &= shared && !object.is_backed();
    flags.cow = !shared;
    // The window does not cross a 2 MiB boundary.
    let Ok(mut block) = table.block(page) else { return };
    object.for_each_present(index_of(from)..index_of(to), flags.execute, &mut |index, frame| {
        let va = area.start + (index * PAGE - area.data.offset);
        let mut slot = block.slot(va);
        if va != page && slot.is_empty() {
            slot.map(frame.clone(), flags);
        }
    });
}
