//! memfd seals.

use crate::file::OpenFile;
use crate::prelude::*;

/// fcntl(F_ADD_SEALS): EINVAL (no memfd, unknown seal), EPERM (sealed, not writable), EBUSY (mapped writable).
pub fn add_seals(_file: &OpenFile, _seals: u32) -> SysResult {
    Err(Errno::EINVAL)
}

/// fcntl(F_GET_SEALS): EINVAL when the file is no memfd.
pub fn get_seals(_file: &OpenFile) -> SysResult {
    Err(Errno::EINVAL)
}
