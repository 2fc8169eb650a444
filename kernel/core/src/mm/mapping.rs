//! Who maps a [`MemObject`]: the reverse direction that truncation, hole punching and write-back need.
//!
//! An [`Attachment`] is one registration (address space, object); areas share it by reference count, so splitting, merging
//! and unmapping keep the list right by themselves. Each area of an object with an observer has one of its own. Lock order: address-space mutex, then `MappingList`; the walks copy the list
//! and let go of it before they lock an address space.

use super::{AddressSpace, MemObject};
use crate::prelude::*;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use hal::frame::Frame;

enum Entry {
    Used(Weak<AddressSpace>),
    /// Index of the next free entry.
    Free(Option<usize>),
}

struct List {
    entries: Vec<Entry>,
    free: Option<usize>,
}

/// The address spaces that map one object.
pub struct MappingList {
    list: SpinLock<List>,
    /// Shared mappings that may write; negative when a seal forbids them.
    writable: AtomicI64,
}

impl MappingList {
    pub const fn new() -> Self {
        Self { list: SpinLock::new(List { entries: Vec::new(), free: None }), writable: AtomicI64::new(0) }
    }

    /// Makes room for one registration more.
    pub(super) fn try_room(&self) -> Result<(), NoMemory> {
        let mut list = self.list.lock();
        if list.free.is_some() { Ok(()) } else { list.entries.try_room(1) }
    }

    fn add(&self, space: Weak<AddressSpace>) -> usize {
        let mut list = self.list.lock();
        match list.free {
            Some(index) => {
                if let Entry::Free(next) = core::mem::replace(&mut list.entries[index], Entry::Used(space)) {
                    list.free = next;
                }
                index
            }
            None => {
                list.entries.push(Entry::Used(space));
                list.entries.len() - 1
            }
        }
    }

    /// The address space that registration `index` is of.
    fn space(&self, index: usize) -> Weak<AddressSpace> {
        match &self.list.lock().entries[index] {
            Entry::Used(space) => space.clone(),
            Entry::Free(_) => Weak::new(),
        }
    }

    fn remove(&self, index: usize) {
        let mut list = self.list.lock();
        let next = list.free;
        let gone = core::mem::replace(&mut list.entries[index], Entry::Free(next));
        list.free = Some(index);
        drop(list);
        drop(gone);
    }

    /// The distinct living address spaces.
    fn spaces(&self) -> Vec<Arc<AddressSpace>> {
        let mut spaces: Vec<Arc<AddressSpace>> = self
            .list
            .lock()
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Used(space) => space.upgrade(),
                Entry::Free(_) => None,
            })
            .collect();
        spaces.sort_unstable_by_key(|space| space.id());
        spaces.dedup_by_key(|space| space.id());
        spaces
    }

    /// Unmaps object pages `range` everywhere. With `punched` (the pages just taken out) private copies stay; without
    /// (truncation) they go too.
    pub fn unmap(&self, object: &MemObject, range: Range<u64>, punched: Option<&[(u64, Frame)]>) {
        for space in self.spaces() {
            space.unmap_object(object, range.clone(), punched);
        }
    }

    /// Makes the shared mappings of object pages `range` read-only, so that the next write is noticed.
    pub fn write_protect(&self, object: &MemObject, range: Range<u64>) {
        for space in self.spaces() {
            space.write_protect_object(object, range.clone());
        }
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

/// One address space's registration with one object.
pub struct Attachment {
    pub object: Arc<MemObject>,
    index: usize,
    writable: bool,
    /// What those made by splitting or forking it have in common; 0 without an observer.
    origin: u64,
}

/// The last `origin`.
static ORIGINS: AtomicU64 = AtomicU64::new(0);

impl Attachment {
    /// Registers `space`; `writable` is a shared mapping that may write (EPERM by seal).
    pub fn new(object: Arc<MemObject>, space: &Weak<AddressSpace>, writable: bool) -> Result<Arc<Self>, Errno> {
        if writable {
            object.mappings.allow_writable()?;
        }
        if let Err(error) = object.mappings.try_room() {
            if writable {
                object.mappings.writable.fetch_sub(1, Ordering::AcqRel);
            }
            return Err(error.into());
        }
        let origin = if object.has_observer() { ORIGINS.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        Ok(Self::register(object, space.clone(), writable, origin))
    }

    /// One more of the same origin, for one more area.
    pub fn another(&self) -> Arc<Self> {
        self.copy_to(&self.object.mappings.space(self.index))
    }

    /// One of the same origin in `space`, a child's.
    pub fn copy_to(&self, space: &Weak<AddressSpace>) -> Arc<Self> {
        if self.writable {
            // As this one is writable, no seal forbids it.
            self.object.mappings.writable.fetch_add(1, Ordering::AcqRel);
        }
        Self::register(self.object.clone(), space.clone(), self.writable, self.origin)
    }

    fn register(object: Arc<MemObject>, space: Weak<AddressSpace>, writable: bool, origin: u64) -> Arc<Self> {
        let index = object.mappings.add(space);
        if let Some(observer) = object.observer() {
            observer.attached();
        }
        Arc::new(Self { object, index, writable, origin })
    }

    pub fn is_of_origin(&self, other: &Self) -> bool {
        self.origin == other.origin && Arc::ptr_eq(&self.object, &other.object)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.object.mappings.remove(self.index);
        if let Some(observer) = self.object.observer() {
            observer.detached();
        }
        if self.writable {
            self.object.mappings.writable.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
