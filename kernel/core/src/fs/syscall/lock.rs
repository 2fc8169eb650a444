//! flock(2).

use crate::file::table::file;
use crate::fs::lock;
use crate::prelude::*;

pub fn sys_flock(fd: i32, op: i32) -> SysResult {
    lock::check_operation(op)?;
    let file = file(fd)?;
    lock::flock(&file, op)
}
