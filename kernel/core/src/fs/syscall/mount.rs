//! mount(2), umount2(2).

use crate::prelude::*;

pub fn sys_umount2(_target: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mount(_source: UserAddr, _target: UserAddr, _fstype: UserAddr, _flags: u64, _data: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
