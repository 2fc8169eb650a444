//! The kernel's own file systems: procfs and its kin.

use super::path::FileSystem;
use crate::prelude::*;

/// An instance of `name`: ENODEV for a type this kernel does not have.
pub fn instance(_name: &[u8], _options: &[u8]) -> Result<Arc<dyn FileSystem>, Errno> {
    Err(Errno::ENODEV)
}
