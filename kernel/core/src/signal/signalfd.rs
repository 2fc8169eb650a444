//! Signal: system calls of signalfd.

use crate::prelude::*;

pub fn sys_signalfd4(_fd: i32, _mask: UserAddr, _sizemask: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
