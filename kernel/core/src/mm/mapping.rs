//! Who maps a [`MemObject`]: the reverse direction that truncation, hole punching and write-back need.
//!
//! An [`Attachment`] is one registration: pages of the object at an address of one address space. Areas share it by reference count,
//! so splitting and unmapping keep the list right by themselves; an area that takes in another, or grows, covers more. Each area of an
//! object with an observer has one of its own. A walk visits only the registrations that may show the pages in question, some at a time.
//! Lock order: address-space mutex, then `MappingList`; the walks let go of the list before they lock an address space.

use super::{AddressSpace, MemObject};
use crate::prelude::*;
use base::slab::NONE;
use base::tree::Tree;
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use hal::frame::Frame;

/// Part of an object in an address space.
struct Registration {
    space: Weak<AddressSpace>,
    /// Where the object's first byte would be.
    base: u64,
}

struct List {
    /// Registrations with the first page they may show, and a number of each one's own, for a key and the page behind the last for a weight.
    /// In order once somebody asked, or there are many: most files that programs are run from are never cut while they run.
    tree: Tree<Registration>,
    /// The last registration's number.
    made: u64,
}

/// The address spaces that map one object.
pub struct MappingList {
    list: SpinLock<List>,
    /// Shared mappings that may write; negative when a seal forbids them.
    writable: AtomicI64,
}

/// So many registrations may stand in no order.
const FEW: usize = 64;
/// Registrations that a walk takes out of the list at once.
const BATCH: usize = 16;

impl MappingList {
    pub const fn new() -> Self {
        Self { list: SpinLock::new(List { tree: Tree::unordered(), made: 0 }), writable: AtomicI64::new(0) }
    }

    /// Runs `f(space, addresses)` for every living registration that may show pages `range`.
    fn for_each(&self, range: &Range<u64>, mut f: impl FnMut(&AddressSpace, Range<u64>)) {
        let page = PAGE_SIZE as u64;
        let mut from = (0, 0);
        loop {
            let mut batch: smallvec::SmallVec<[(Arc<AddressSpace>, Range<u64>); BATCH]> = smallvec::SmallVec::new();
            let mut list = self.list.lock();
            if list.tree.is_empty() {
                return;
            }
            list.tree.order();
            let more = list.tree.visit(from..(range.end, 0), range.start + 1, &mut |index, registration| {
                if batch.len() == BATCH {
                    // Equal keys are told apart by the number that makes the second half.
                    from = list.tree.place(index).map_or((u64::MAX, 0), |place| place.0);
                    return ControlFlow::Break(());
                }
                if let (Some(space), Some(((first, _), end))) = (registration.space.upgrade(), list.tree.place(index)) {
                    let at = |index: u64| registration.base.wrapping_add(index * page);
                    batch.push((space, at(range.start.max(first))..at(range.end.min(end))));
                }
                ControlFlow::Continue(())
            });
            drop(list);
            for (space, span) in batch {
                f(&space, span);
            }
            if !more {
                return;
            }
        }
    }

    /// Unmaps object pages `range` everywhere. With `punched` (the pages just taken out) private copies stay; without
    /// (truncation) they go too.
    pub fn unmap(&self, object: &MemObject, range: Range<u64>, punched: Option<&[(u64, Frame)]>) {
        self.for_each(&range, |space, span| space.unmap_object(object, span, range.clone(), punched));
    }

    /// Makes the shared mappings of object pages `range` read-only, so that the next write is noticed.
    pub fn write_protect(&self, object: &MemObject, range: Range<u64>) {
        self.for_each(&range, |space, span| space.write_protect_object(object, span, range.clone()));
    }

    pub fn writable(&self) -> usize {
        self.writable.load(Ordering::Acquire).max(0) as usize
    }

    /// A writable shared mapping begins: EPERM when a seal forbids it.
    fn allow_writable(&self) -> Result<(), Errno> {
        self.writable
            .try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n >= 0).then_some(n + 1))
            .map(|_| ())
            .map_err(|_| Errno::EPERM)
    }

    /// Forbids writable shared mappings from now on: EBUSY while there is one.
    pub fn deny_writable(&self) -> Result<(), Errno> {
        self.writable
            .try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n <= 0).then_some(-1))
            .map(|_| ())
            .map_err(|_| Errno::EBUSY)
    }
}

/// One address space's registration with one object. It covers the areas that refer to it, and maybe what they covered once.
pub struct Attachment {
    pub object: Arc<MemObject>,
    index: u32,
    writable: bool,
    /// What those made by splitting or forking it have in common; 0 without an observer.
    origin: u64,
}

/// The last `origin`.
static ORIGINS: AtomicU64 = AtomicU64::new(0);

/// What an attachment covers: `len` bytes of the object from byte `offset` on, at `addr`.
#[derive(Clone, Copy)]
pub struct Cover {
    pub addr: u64,
    pub offset: u64,
    pub len: u64,
}

impl Cover {
    /// Pages of the object.
    fn pages(&self) -> Range<u64> {
        let page = PAGE_SIZE as u64;
        self.offset / page..self.offset.saturating_add(self.len).div_ceil(page)
    }
}

impl Attachment {
    /// Registers `space`; `writable` is a shared mapping that may write (EPERM by seal). ENOMEM.
    pub fn new(
        object: Arc<MemObject>,
        space: &Weak<AddressSpace>,
        cover: Cover,
        writable: bool,
    ) -> Result<Arc<Self>, Errno> {
        if writable {
            object.mappings.allow_writable()?;
        }
        let origin = if object.has_observer() { ORIGINS.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let registration = Registration { space: space.clone(), base: cover.addr.wrapping_sub(cover.offset) };
        Self::register(object, registration, cover.pages(), writable, origin)
    }

    /// One of the same origin that covers the same, in `space` (a child's) or for one more area of its own: ENOMEM.
    pub fn copy_to(&self, space: Option<&Weak<AddressSpace>>) -> Result<Arc<Self>, Errno> {
        let list = self.object.mappings.list.lock();
        let (Some(((first, _), end)), Some(own)) = (list.tree.place(self.index), list.tree.get(self.index)) else {
            return Err(Errno::ENOMEM);
        };
        let registration = Registration { space: space.unwrap_or(&own.space).clone(), base: own.base };
        drop(list);
        self.like(registration, first..end)
    }

    /// One of the same origin for an area elsewhere in the same address space: ENOMEM.
    pub fn moved_to(&self, cover: Cover) -> Result<Arc<Self>, Errno> {
        let space = self.object.mappings.list.lock().tree.get(self.index).map(|own| own.space.clone());
        let base = cover.addr.wrapping_sub(cover.offset);
        self.like(Registration { space: space.unwrap_or_default(), base }, cover.pages())
    }

    fn like(&self, registration: Registration, pages: Range<u64>) -> Result<Arc<Self>, Errno> {
        if self.writable {
            // As this one is writable, no seal forbids it.
            self.object.mappings.writable.fetch_add(1, Ordering::AcqRel);
        }
        Self::register(self.object.clone(), registration, pages, self.writable, self.origin)
    }

    /// Makes one whose writable mapping is counted already.
    fn register(
        object: Arc<MemObject>,
        registration: Registration,
        pages: Range<u64>,
        writable: bool,
        origin: u64,
    ) -> Result<Arc<Self>, Errno> {
        if let Some(observer) = object.observer() {
            observer.attached();
        }
        let mut list = object.mappings.list.lock();
        list.made += 1;
        let key = (pages.start, list.made);
        let index = list.tree.insert(key, pages.end, registration);
        if list.tree.len() > FEW {
            list.tree.order();
        }
        drop(list);
        // A number of none until there is one: dropping it undoes the rest.
        let attachment = Self { object, index: index.unwrap_or(NONE), writable, origin };
        index?;
        Arc::try_new(attachment).map_err(|_| Errno::ENOMEM)
    }

    /// Covers the pages that `next` does, directly above its own, as well.
    pub fn cover(&self, next: &Self) {
        if self.index != next.index && Arc::ptr_eq(&self.object, &next.object) {
            let end = self.object.mappings.list.lock().tree.place(next.index).map_or(0, |(_, end)| end);
            self.cover_to(end * PAGE_SIZE as u64);
        }
    }

    /// Covers the object up to byte `end` as well.
    pub fn cover_to(&self, end: u64) {
        let end = end.div_ceil(PAGE_SIZE as u64);
        let mut list = self.object.mappings.list.lock();
        if list.tree.place(self.index).is_some_and(|(_, old)| old < end) {
            list.tree.set_weight(self.index, end);
        }
    }

    pub fn is_of_origin(&self, other: &Self) -> bool {
        self.origin == other.origin && Arc::ptr_eq(&self.object, &other.object)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let gone = self.object.mappings.list.lock().tree.remove(self.index);
        drop(gone);
        if let Some(observer) = self.object.observer() {
            observer.detached();
        }
        if self.writable {
            self.object.mappings.writable.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
