//! Process: system calls of credentials.

use crate::prelude::*;

pub fn sys_capget(_header: UserAddr, _data: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_capset(_header: UserAddr, _data: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setregid(_rgid: u32, _egid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setgid(_gid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setreuid(_ruid: u32, _euid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setuid(_uid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setresuid(_ruid: u32, _euid: u32, _suid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getresuid(_ruid: UserAddr, _euid: UserAddr, _suid: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setresgid(_rgid: u32, _egid: u32, _sgid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getresgid(_rgid: UserAddr, _egid: UserAddr, _sgid: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setfsuid(_uid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setfsgid(_gid: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getgroups(_size: i32, _list: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setgroups(_size: i32, _list: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getuid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_geteuid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getgid() -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getegid() -> SysResult {
    Err(Errno::ENOSYS)
}
