//! Process: system calls of misc.

use crate::prelude::*;

pub fn sys_syslog(_kind: i32, _buf: UserAddr, _len: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_reboot(_magic1: u32, _magic2: u32, _cmd: u32, _arg: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_uname(_buf: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sethostname(_name: UserAddr, _len: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setdomainname(_name: UserAddr, _len: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sysinfo(_info: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getrandom(_buf: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
