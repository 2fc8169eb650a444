//! Memory: objects (pages with an optional backing), address spaces, faults, the mmap family.

pub mod memfd;
pub mod object;
pub mod space;
pub mod syscall;

pub use object::{Backing, MemObject};
pub use space::{AddressSpace, FutexKey, MapFlags, Prot};
