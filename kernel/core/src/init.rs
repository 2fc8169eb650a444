//! The order of bring-up, readable as a list.

use crate::prelude::*;

/// Called by `hal` on the boot CPU: MMU on, heap ready, IRQs masked, on the boot stack.
pub fn kernel_main() -> ! {
    todo!()
}

/// Runs the first program as pid 1 and names what was looked for when there is none.
pub fn run_init() -> Result<(), Errno> {
    todo!()
}
