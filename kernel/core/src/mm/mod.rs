//! Memory: objects (pages with an optional backing), address spaces, faults, the mmap family.
//!
//! [`object`] pages, [`mapping`] who maps them · [`space`] one process's memory, [`area`]
//! one mapping, [`map`] making and changing them, [`remap`] mremap, [`fault`] page faults, [`remote`] other processes' memory, [`advise`] madvise and
//! mlock · [`oom`] running out, [`stats`] counters, [`show`] what /proc prints, [`aslr`] placement.
//! Locks, outer first: `AddressSpace::inner`, `MappingList`, `MemObject::pages`, frames.

pub mod advise;
pub mod area;
pub mod aslr;
pub mod failslab;
pub mod fault;
pub mod map;
pub mod mapping;
pub mod membarrier;
pub mod object;
pub mod oom;
pub mod remap;
pub mod remote;
pub mod show;
pub mod space;
pub mod stats;

pub use fault::user_copy_fault;
pub use object::{Backing, MemObject, Quota};
pub use show::Usage;
pub use space::{AddressSpace, FaultError, FutexKey, Layout, MapFlags, Prot};
pub use stats::meminfo;
