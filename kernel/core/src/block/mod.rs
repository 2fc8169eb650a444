//! Block devices: disks, their partitions, and requests to them.
//!
//! [`disk`]: a [`Disk`] is a driver with its queues of tags and its partitions; [`volume`]: a [`Volume`] is a disk as a whole or a
//! partition, the unit that has a device number, is opened and mounted; [`transfer`]: how pieces of memory become requests, are
//! merged and waited for; [`registry`]: which there are, by number and by name; [`partitions`]: tables read and changed.
//!
//! All I/O is synchronous to its caller and any number of callers may be at it; one call has up to a queue's depth of requests under
//! way. Nothing on the way allocates memory, so that pages can be written back when there is none. Nobody waits for ever: a
//! request that takes longer than the disk's time-out ends the disk, and with it every request, with EIO.
//!
//! Locks: the registry's and a disk's list of partitions are taken alone and shortly; a table is changed under its own mutex.

pub mod disk;
pub mod partitions;
pub mod registry;
pub mod transfer;
pub mod volume;

pub use disk::{Disk, Driver, Synchronous};
pub use registry::{by_name, by_number, volumes};
pub use transfer::Piece;
pub use volume::Volume;

use crate::prelude::*;
use drivers::traits::BlockError;

/// Bytes of a sector, and their logarithm.
pub const SECTOR: u64 = 512;
pub const SECTOR_SHIFT: u32 = 9;

/// What a program is told of a request that failed.
pub fn errno(error: BlockError) -> Errno {
    match error {
        BlockError::Io | BlockError::Gone => Errno::EIO,
        BlockError::Unsupported => Errno::EOPNOTSUPP,
    }
}
