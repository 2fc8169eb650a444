//! Pipes and FIFOs.

use super::{FileOps, OpenFlags};
use crate::prelude::*;

/// What the inode of a FIFO keeps: the pipe, while anyone has it open.
pub struct FifoState {}

impl FifoState {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self {}
    }
    /// open(2) of the FIFO: waits for the other side unless O_NONBLOCK. ENXIO, EINTR.
    pub fn open(&self, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }
}
