//! flock(2).

use crate::prelude::*;
use crate::vfs::lock;
use crate::vfs::table::file;

pub fn sys_flock(fd: i32, op: i32) -> SysResult {
    lock::check_operation(op)?;
    let file = file(fd)?;
    lock::flock(&file, op)
}
