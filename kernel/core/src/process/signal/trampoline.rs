//! Where a handler returns to when the program names no restorer: the vDSO's `__kernel_rt_sigreturn`.

use crate::prelude::*;

/// Its address in the task's memory; 0 (a crash on return) before the first execve.
pub fn address(task: &Task) -> u64 {
    task.mm.get().map_or(0, |space| space.layout().sigreturn)
}
