//! madvise, mlock and their kin.

use crate::prelude::*;

pub fn sys_msync(_addr: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_mlock(_addr: UserAddr, _len: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_munlock(_addr: UserAddr, _len: usize) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_mlockall(_flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_munlockall() -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_mincore(_addr: UserAddr, _len: usize, _vec: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_madvise(_addr: UserAddr, _len: usize, _advice: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_membarrier(_cmd: i32, _flags: u32, _cpu: i32) -> SysResult {
    Err(Errno::ENOSYS)
}
pub fn sys_mlock2(_addr: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
