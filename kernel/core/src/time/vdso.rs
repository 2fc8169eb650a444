//! The vDSO. Not built yet: programs get no AT_SYSINFO_EHDR and use the system calls; signal handlers return through the
//! restorer page that the signal code maps.

use crate::mm::AddressSpace;
use crate::prelude::*;

/// Maps the vDSO and answers its address for AT_SYSINFO_EHDR; 0 when there is none.
pub fn map(_space: &AddressSpace) -> Result<u64, Errno> {
    Ok(0)
}
