//! [`Area`]: what one mapping is (rights, sharing, pages behind it), and how it splits, merges and is counted.

use super::mapping::Attachment;
use super::space::Prot;
use crate::prelude::*;
use base::vma::Region;
use hal::mmu::PageFlags;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AreaFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 1;
        /// mprotect may add the right.
        const MAY_READ = 2;
        const MAY_WRITE = 4;
        const MAY_EXEC = 8;
        const GROWSDOWN = 0x10;
        const LOCKED = 0x20;
        /// With LOCKED: pages are locked as they are touched (MLOCK_ONFAULT).
        const LOCK_ON_FAULT = 0x40;
        const DONT_FORK = 0x80;
        const WIPE_ON_FORK = 0x100;
        const NO_RESERVE = 0x200;
        /// Its pages count as promised (Committed_AS).
        const COMMITTED = 0x400;
        /// A private object mapping some of whose pages were copied: fork must copy its page table.
        const HAS_COPIES = 0x800;
        const SEQUENTIAL = 0x1000;
        const RANDOM = 0x2000;
        const DONT_DUMP = 0x4000;
        const MAY_ALL = 0xe;
    }
}

/// Bytes kept free below a stack (256 pages, as on Linux).
pub const STACK_GUARD: u64 = 256 * PAGE_SIZE as u64;

/// The open file behind a mapping, as far as memory knows it: kept open, and shown in /proc/PID/maps.
pub trait MappedFile: Send + Sync {
    /// Device and inode number.
    fn identity(&self) -> (u64, u64);
    fn shown_name(&self) -> String;
}

#[derive(Clone)]
pub struct Area {
    pub prot: Prot,
    pub flags: AreaFlags,
    /// The pages behind it; `None` is private anonymous memory.
    pub attachment: Option<Arc<Attachment>>,
    /// Byte offset of the area's start in the object.
    pub offset: u64,
    pub file: Option<Arc<dyn MappedFile>>,
    pub name: Option<&'static str>,
}

impl Area {
    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }
    pub fn is_stack(&self) -> bool {
        self.flags.contains(AreaFlags::GROWSDOWN)
    }
    /// Private writable memory that is no stack: what RLIMIT_DATA counts.
    pub fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWSDOWN)
    }
    pub fn is_text(&self) -> bool {
        self.prot.contains(Prot::EXEC) && !self.prot.contains(Prot::WRITE) && !self.is_stack()
    }
    /// Whether its pages are promised memory: private and writable, unless MAP_NORESERVE.
    pub fn wants_commit(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::NO_RESERVE)
    }
    /// The page rights its protection gives. Every right implies read, as the hardware has it.
    pub fn page_flags(&self) -> PageFlags {
        PageFlags {
            read: !self.prot.is_empty(),
            write: self.prot.contains(Prot::WRITE),
            execute: self.prot.contains(Prot::EXEC),
            cow: false,
            dirty: false,
        }
    }
    /// The data of one more area that shows the same; an observed object is told of it: ENOMEM.
    fn another(&self) -> Result<Self, Errno> {
        let attachment = match &self.attachment {
            Some(attachment) if attachment.object.has_observer() => Some(attachment.copy_to(None)?),
            attachment => attachment.clone(),
        };
        Ok(Self { attachment, ..self.clone() })
    }
    pub fn object(&self) -> Option<&Arc<super::MemObject>> {
        self.attachment.as_ref().map(|attachment| &attachment.object)
    }
}

fn same<T: ?Sized>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
        _ => false,
    }
}

impl Region for Area {
    fn upper_part(&self, bytes: u64) -> Result<Self, Errno> {
        Ok(Self { offset: self.offset + bytes, ..self.another()? })
    }
    fn can_merge(&self, len: u64, next: &Self) -> bool {
        let sticky = AreaFlags::HAS_COPIES;
        self.prot == next.prot
            && self.flags | sticky == next.flags | sticky
            && self.name == next.name
            && same(&self.file, &next.file)
            && match (self.object(), next.object()) {
                (None, None) => true,
                // What is counted by areas stays the areas it was split into.
                (Some(a), Some(b)) => !a.has_observer() && Arc::ptr_eq(a, b) && self.offset + len == next.offset,
                _ => false,
            }
    }
    fn absorb(&mut self, other: &Self) {
        self.flags |= other.flags & AreaFlags::HAS_COPIES;
        if let (Some(own), Some(other)) = (&self.attachment, &other.attachment) {
            own.cover(other);
        }
    }
    fn guard_below(&self) -> u64 {
        if self.is_stack() { STACK_GUARD } else { 0 }
    }
}
