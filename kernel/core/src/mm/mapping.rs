//! Who maps a [`MemObject`]: the reverse direction that truncation, hole punching and write-back need.
//!
//! An [`Attachment`] is one registration (address space, object); areas share it by reference count, so splitting, merging
//! and unmapping keep the list right by themselves. Lock order: address-space mutex, then `MappingList`; the walks copy the list
//! and let go of it before they lock an address space.

use super::{AddressSpace, MemObject};
use crate::prelude::*;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, Ordering};
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
}

impl Attachment {
    /// Registers `space`; `writable` is a shared mapping that may write (EPERM by seal).
    pub fn new(object: Arc<MemObject>, space: &Weak<AddressSpace>, writable: bool) -> Result<Arc<Self>, Errno> {
        if writable {
            object.mappings.allow_writable()?;
        }
        let index = object.mappings.add(space.clone());
        if let Some(observer) = object.observer() {
            observer.attached();
        }
        Ok(Arc::new(Self { object, index, writable }))
    }

    pub fn is_writable(&self) -> bool {
        self.writable
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
