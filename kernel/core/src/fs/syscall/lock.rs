//! flock(2).

use crate::prelude::*;

pub fn sys_flock(_fd: i32, _op: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
