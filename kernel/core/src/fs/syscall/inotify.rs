//! inotify(7).

use crate::prelude::*;

pub fn sys_inotify_init1(_flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_inotify_add_watch(_fd: i32, _path: UserAddr, _mask: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_inotify_rm_watch(_fd: i32, _wd: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
