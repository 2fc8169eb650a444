//! What the kernel shows of itself: procfs and sysfs, who waits for what, deadlocks, panics.

pub mod deadlock;
mod panic;
pub mod proc;
pub mod sysfs;
pub mod sysfs_block;
pub mod waits;
