//! [`AddressSpace`]: one process's mappings, its page table and its life: creation, fork, teardown.
//!
//! One sleeping mutex guards areas and page table; it comes before `MemObject` locks and is never held across a user copy or a
//! drop of an open file. Neighbours: [`super::fault`], [`super::map`] (the mmap family), [`crate::syscall::process_vm`], [`super::show`].

use super::area::{Area, AreaFlags};
use super::{MemObject, aslr, stats};
use crate::prelude::*;
use crate::sync::MutexGuard;
use crate::task::process::{Rlimit, rlimit};
use base::addr::USER_END;
use base::vma::{Vma, VmaMap};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::frame::Frame;
use hal::mmu::{PageFlags, PageTable, TlbGather, Translation};

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }

    /// mmap(2) flags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        const SHARED = 0x01;
        const PRIVATE = 0x02;
        const SHARED_VALIDATE = 0x03;
        const FIXED = 0x10;
        const ANONYMOUS = 0x20;
        const GROWSDOWN = 0x100;
        const DENYWRITE = 0x800;
        const EXECUTABLE = 0x1000;
        const LOCKED = 0x2000;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const NONBLOCK = 0x10000;
        const STACK = 0x20000;
        const HUGETLB = 0x40000;
        const SYNC = 0x80000;
        const FIXED_NOREPLACE = 0x100000;
    }
}

/// Who a futex word is: the same key means the same word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FutexKey {
    /// Twice the id of the address space, or of the shared object and one more.
    pub owner: u64,
    /// Address, or byte offset in the object. Bit 0: a private word named by who says that it may be shared.
    pub at: u64,
}

impl FutexKey {
    /// No word's.
    pub const NONE: Self = Self { owner: 0, at: 0 };

    #[inline]
    pub fn private(space: u64, addr: u64) -> Self {
        Self { owner: space << 1, at: addr }
    }
    #[inline]
    pub fn shared(object: u64, offset: u64) -> Self {
        Self { owner: object << 1 | 1, at: offset }
    }
    pub fn is_shared(&self) -> bool {
        self.owner & 1 == 1
    }
}

/// How a fault that could not be resolved is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// SIGSEGV, SEGV_ACCERR.
    Access,
    /// SIGBUS, BUS_ADRERR (beyond the end of the file, I/O error).
    Bus,
    /// No memory: the OOM killer has chosen; retry after signals were looked at.
    OutOfMemory,
    /// A page of a file must be read or prepared first, with nothing locked: never seen outside this layer.
    NeedsPage,
}

/// Program areas that execve fixes and /proc reads.
#[derive(Clone, Copy, Default, Debug)]
pub struct Layout {
    pub code: (u64, u64),
    pub data: (u64, u64),
    pub brk_start: u64,
    pub stack_top: u64,
    pub args: (u64, u64),
    pub env: (u64, u64),
    pub vdso: u64,
    /// Where handlers without a restorer return to.
    pub sigreturn: u64,
}

/// Areas taken out of the map: dropped after the lock, for the last reference to a file may sleep.
pub(super) type Removed = smallvec::SmallVec<[Vma<Area>; 4]>;

pub(crate) struct Inner {
    pub table: PageTable,
    pub map: VmaMap<Area>,
    pub layout: Layout,
    pub brk: u64,
    /// Top of the mmap window.
    pub mmap_base: u64,
    /// Flags that new areas get (mlockall(MCL_FUTURE)).
    pub new_area_flags: AreaFlags,
    pub total_pages: u64,
    pub data_pages: u64,
    pub stack_pages: u64,
    pub text_pages: u64,
    pub locked_pages: u64,
    pub committed_pages: u64,
    pub peak_pages: u64,
    pub peak_resident: u64,
    pub auxv: Vec<u8>,
    /// What the fault that has just failed with `NeedsPage` needs: object, page, and whether it writes to a shared mapping.
    pub wanted_page: Option<(Arc<MemObject>, u64, bool)>,
}

/// One process's user memory.
pub struct AddressSpace {
    id: u64,
    pub(super) this: Weak<AddressSpace>,
    translation: Translation,
    pub(super) inner: Mutex<Inner>,
    /// Resident pages when last looked at without waiting.
    pub(super) resident_hint: AtomicU64,
    /// membarrier(2) registrations.
    pub(super) membarrier: core::sync::atomic::AtomicU32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl AddressSpace {
    pub fn new() -> Result<Arc<Self>, Errno> {
        let table = PageTable::new()?;
        Ok(Self::from_inner(Inner {
            table,
            map: VmaMap::new(),
            layout: Layout::default(),
            brk: 0,
            mmap_base: aslr::mmap_base(rlimit::INFINITY, true),
            new_area_flags: AreaFlags::empty(),
            total_pages: 0,
            data_pages: 0,
            stack_pages: 0,
            text_pages: 0,
            locked_pages: 0,
            committed_pages: 0,
            peak_pages: 0,
            peak_resident: 0,
            auxv: Vec::new(),
            wanted_page: None,
        }))
    }

    fn from_inner(inner: Inner) -> Arc<Self> {
        let translation = inner.table.translation();
        Arc::new_cyclic(|this| Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            this: this.clone(),
            translation,
            inner: Mutex::new(inner),
            resident_hint: AtomicU64::new(0),
            membarrier: core::sync::atomic::AtomicU32::new(0),
        })
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// A copy-on-write copy for fork(2): ENOMEM.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        admit(PAGE_SIZE)?;
        let child = Self::from_inner(Inner {
            table: PageTable::new()?,
            map: VmaMap::new(),
            layout: Layout::default(),
            brk: 0,
            mmap_base: 0,
            new_area_flags: AreaFlags::empty(),
            total_pages: 0,
            data_pages: 0,
            stack_pages: 0,
            text_pages: 0,
            locked_pages: 0,
            committed_pages: 0,
            peak_pages: 0,
            peak_resident: 0,
            auxv: Vec::new(),
            wanted_page: None,
        });
        child.membarrier.store(self.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut parent = self.lock();
        let mut inner = child.lock();
        let (parent, copy) = (&mut *parent, &mut *inner);
        copy.layout = parent.layout;
        copy.brk = parent.brk;
        copy.mmap_base = parent.mmap_base;
        copy.auxv = try_bytes(&parent.auxv)?;
        let mut result = copy.map.reserve(parent.map.count() + 4);
        for area in parent.map.iter() {
            if area.data.flags.contains(AreaFlags::DONT_FORK) {
                continue;
            }
            result = result.and_then(|()| copy.fork_area(area, &child.this, &mut parent.table));
            if result.is_err() {
                break;
            }
        }
        parent.table.flush_all();
        copy.peak_pages = copy.total_pages;
        drop(inner);
        result.map(|()| child)
    }

    /// A number no other address space of this boot has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What a context switch needs of it.
    pub fn translation(&self) -> &Translation {
        &self.translation
    }

    /// Makes it the calling CPU's user translation. Takes no lock: callable in a context switch.
    #[inline]
    pub fn activate(&self) {
        self.translation.activate();
    }

    /// Unmaps everything (last user gone); also on drop.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.unmap_pages();
        let map = core::mem::take(&mut inner.map);
        stats::COMMITTED.add(-(inner.committed_pages as i64));
        stats::LOCKED.add(-(inner.locked_pages as i64));
        inner.committed_pages = 0;
        inner.locked_pages = 0;
        inner.total_pages = 0;
        inner.data_pages = 0;
        inner.stack_pages = 0;
        inner.text_pages = 0;
        drop(inner);
        drop(map);
    }

    pub fn layout(&self) -> Layout {
        self.lock().layout
    }

    /// Fixes the program's areas (execve); the heap begins at `brk_start`.
    pub fn set_layout(&self, layout: Layout) {
        let mut inner = self.lock();
        inner.layout = layout;
        inner.brk = layout.brk_start;
    }

    /// Places the mmap window below the stack that RLIMIT_STACK allows, as execve does. `randomize` is false under
    /// ADDR_NO_RANDOMIZE.
    pub fn set_limits(&self, limits: &[Rlimit], randomize: bool) {
        let stack = limits.get(rlimit::STACK).map_or(rlimit::INFINITY, |limit| limit.current);
        self.lock().mmap_base = aslr::mmap_base(stack, randomize);
    }

    /// The auxiliary vector as bytes, kept for /proc/PID/auxv.
    pub fn set_auxv(&self, auxv: Vec<u8>) {
        self.lock().auxv = auxv;
    }
    pub fn auxv(&self) -> Vec<u8> {
        self.lock().auxv.clone()
    }

    /// The key of a futex word: EFAULT when it is not mapped. `shared` false is FUTEX_PRIVATE_FLAG.
    #[inline]
    pub fn private_futex_key(&self, addr: UserAddr) -> Result<FutexKey, Errno> {
        let addr = addr.untagged().0;
        if addr >= USER_END { Err(Errno::EFAULT) } else { Ok(FutexKey::private(self.id, addr)) }
    }

    pub fn futex_key(&self, addr: UserAddr, shared: bool) -> Result<FutexKey, Errno> {
        let private = self.private_futex_key(addr)?;
        let addr = addr.untagged().0;
        if !shared {
            return Ok(private);
        }
        let mut inner = self.lock();
        let area = inner.map.find_mut(addr).ok_or(Errno::EFAULT)?;
        let data = &area.data;
        if data.prot.is_empty() {
            return Err(Errno::EFAULT);
        }
        let can_write = data.prot.contains(Prot::WRITE);
        match data.object() {
            // A private mapping that nobody can write to shows the object still.
            Some(object) if data.is_shared() || !can_write && !data.flags.contains(AreaFlags::HAS_COPIES) => {
                Ok(FutexKey::shared(object.id(), data.offset + (addr - area.start)))
            }
            _ if can_write => Ok(FutexKey { at: private.at | 1, ..private }),
            // It could never change.
            _ => Err(Errno::EFAULT),
        }
    }

    /// Unmaps what shows pages `range` of `object` at addresses `within`: see [`super::mapping::MappingList::unmap`].
    pub(super) fn unmap_object(
        &self,
        object: &MemObject,
        within: Range<u64>,
        range: Range<u64>,
        punched: Option<&[(u64, Frame)]>,
    ) {
        let mut inner = self.lock();
        let Inner { table, map, .. } = &mut *inner;
        let mut gather = TlbGather::new();
        for area in map.overlapping(within) {
            let Some(span) = pages_shown(area, object, &range) else { continue };
            match punched {
                Some(pages) if !area.data.is_shared() => {
                    // Private copies stay; only pages of the object itself go.
                    // In pieces: a list of them all would take memory, and this cannot fail.
                    let mut at = span.start;
                    while at < span.end {
                        let end = span.end.min(at + 64 * PAGE_SIZE as u64);
                        let mut gone = arrayvec::ArrayVec::<u64, 64>::new();
                        table.for_each(at..end, &mut |va, frame, _| {
                            let index = (area.data.offset + (va - area.start)) / PAGE_SIZE as u64;
                            if pages.iter().any(|(at, page)| *at == index && page.phys() == frame.phys()) {
                                gone.push(va);
                            }
                        });
                        for va in gone {
                            table.unmap_range(va..va + PAGE_SIZE as u64, &mut gather);
                        }
                        at = end;
                    }
                }
                _ => table.unmap_range(span, &mut gather),
            }
        }
        gather.finish();
    }

    /// Takes write permission from shared mappings of pages `range` of `object` at addresses `within`.
    pub(super) fn write_protect_object(&self, object: &MemObject, within: Range<u64>, range: Range<u64>) {
        let mut inner = self.lock();
        let Inner { table, map, .. } = &mut *inner;
        for area in map.overlapping(within).filter(|area| area.data.is_shared()) {
            if let Some(span) = pages_shown(area, object, &range) {
                table.protect_range(span, &mut |_, flags| PageFlags { write: false, dirty: false, ..flags });
            }
        }
    }
}

/// The addresses at which `area` shows pages `range` of `object`.
fn pages_shown(area: &Vma<Area>, object: &MemObject, range: &Range<u64>) -> Option<Range<u64>> {
    let page = PAGE_SIZE as u64;
    if area.data.object()?.id() != object.id() {
        return None;
    }
    let first = area.data.offset / page;
    let end = first + area.len() / page;
    let (from, to) = (range.start.max(first), range.end.min(end));
    (from < to).then(|| area.start + (from - first) * page..area.start + (to - first) * page)
}

/// Pages by which an address space's counters change.
#[derive(Default)]
pub(super) struct Tally {
    total: i64,
    data: i64,
    stack: i64,
    text: i64,
    locked: i64,
    committed: i64,
}

impl Tally {
    /// Adds `len` bytes of an area (`sign` 1) or takes them away (-1).
    #[inline]
    pub fn add(&mut self, area: &Area, len: u64, sign: i64) {
        let pages = (len / PAGE_SIZE as u64) as i64 * sign;
        let if_so = |is_so: bool| if is_so { pages } else { 0 };
        self.total += pages;
        self.data += if_so(area.is_data());
        self.stack += if_so(area.is_stack());
        self.text += if_so(area.is_text());
        self.locked += if_so(area.flags.contains(AreaFlags::LOCKED));
        self.committed += if_so(area.flags.contains(AreaFlags::COMMITTED));
    }
}

impl Inner {
    /// Counts `len` bytes of an area in (`sign` 1) or out (-1).
    #[inline]
    pub fn account(&mut self, area: &Area, len: u64, sign: i64) {
        let mut tally = Tally::default();
        tally.add(area, len, sign);
        self.settle(&tally);
    }

    /// Takes over a sum of changes.
    #[inline]
    pub(super) fn settle(&mut self, tally: &Tally) {
        let add = |counter: &mut u64, pages: i64| *counter = counter.saturating_add_signed(pages);
        add(&mut self.total_pages, tally.total);
        add(&mut self.data_pages, tally.data);
        add(&mut self.stack_pages, tally.stack);
        add(&mut self.text_pages, tally.text);
        if tally.locked != 0 {
            add(&mut self.locked_pages, tally.locked);
            stats::LOCKED.add(tally.locked);
        }
        if tally.committed != 0 {
            add(&mut self.committed_pages, tally.committed);
            stats::COMMITTED.add(tally.committed);
        }
        self.peak_pages = self.peak_pages.max(self.total_pages);
    }

    /// Copies one area of the parent into this (a child's) space.
    fn fork_area(&mut self, area: &Vma<Area>, this: &Weak<AddressSpace>, parent: &mut PageTable) -> Result<(), Errno> {
        let mut data = area.data.clone();
        data.flags.remove(AreaFlags::LOCKED | AreaFlags::LOCK_ON_FAULT);
        if let Some(attachment) = &area.data.attachment {
            data.attachment = Some(attachment.copy_to(Some(this))?);
        }
        let private = !data.is_shared();
        let wiped = data.flags.contains(AreaFlags::WIPE_ON_FORK);
        // Object pages without private copies come back by cheap faults; copying their entries would cost more.
        let must_copy = data.attachment.is_none() || data.flags.contains(AreaFlags::HAS_COPIES);
        self.account(&data, area.len(), 1);
        self.map.push(Vma { start: area.start, end: area.end, data })?;
        if private && must_copy && !wiped {
            parent.fork_range(&mut self.table, area.range(), true)?;
        }
        Ok(())
    }

    /// Unmaps `range`: areas go to `removed`, pages to the gather. ENOMEM, with nothing unmapped.
    pub fn remove_range(&mut self, range: Range<u64>, removed: &mut Removed) -> Result<(), Errno> {
        let before = removed.len();
        let pieces = self.map.overlapping(range.clone()).count();
        if removed.capacity() - before < pieces {
            admit(pieces * size_of::<Vma<Area>>())?;
            removed.try_reserve(pieces).map_err(|_| Errno::ENOMEM)?;
        }
        self.map.remove(range.clone(), |area| removed.push(area))?;
        if removed.len() == before {
            return Ok(());
        }
        for index in before..removed.len() {
            let (data, len) = (removed[index].data.clone(), removed[index].len());
            self.account(&data, len, -1);
        }
        self.note_resident();
        let (below, above) = self.map.around(range.end);
        let floor = below.map_or(0, |area| area.end);
        let ceiling = above.map_or(USER_END, |area| area.start);
        let mut gather = TlbGather::new();
        self.table.unmap_area(range, floor..ceiling, &mut gather);
        gather.finish();
        Ok(())
    }

    /// Unmaps the pages of all areas, visiting only what areas cover.
    fn unmap_pages(&mut self) {
        let mut gather = TlbGather::new();
        let mut areas = self.map.iter().peekable();
        while let Some(area) = areas.next() {
            // Everything below is empty by then: tables go with the last area in them.
            let ceiling = areas.peek().map_or(USER_END, |next| next.start);
            self.table.unmap_area(area.range(), 0..ceiling, &mut gather);
        }
        gather.finish();
    }

    /// Remembers the resident peak before pages go.
    pub fn note_resident(&mut self) {
        self.peak_resident = self.peak_resident.max(self.table.resident() as u64);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        inner.unmap_pages();
        stats::COMMITTED.add(-(inner.committed_pages as i64));
        stats::LOCKED.add(-(inner.locked_pages as i64));
    }
}
