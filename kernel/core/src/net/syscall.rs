//! Net: system calls of syscall.

use crate::prelude::*;

pub fn sys_socket(_domain: i32, _kind: i32, _protocol: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_socketpair(_domain: i32, _kind: i32, _protocol: i32, _sv: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_bind(_fd: i32, _address: UserAddr, _len: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_listen(_fd: i32, _backlog: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_accept(_fd: i32, _address: UserAddr, _len: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_connect(_fd: i32, _address: UserAddr, _len: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getsockname(_fd: i32, _address: UserAddr, _len: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getpeername(_fd: i32, _address: UserAddr, _len: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sendto(_fd: i32, _buf: UserAddr, _len: usize, _flags: u32, _address: UserAddr, _alen: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_recvfrom(
    _fd: i32,
    _buf: UserAddr,
    _len: usize,
    _flags: u32,
    _address: UserAddr,
    _alen: UserAddr,
) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_setsockopt(_fd: i32, _level: i32, _name: i32, _value: UserAddr, _len: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_getsockopt(_fd: i32, _level: i32, _name: i32, _value: UserAddr, _len: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_shutdown(_fd: i32, _how: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sendmsg(_fd: i32, _msg: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_recvmsg(_fd: i32, _msg: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_accept4(_fd: i32, _address: UserAddr, _len: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_recvmmsg(_fd: i32, _msgs: UserAddr, _vlen: u32, _flags: u32, _timeout: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_sendmmsg(_fd: i32, _msgs: UserAddr, _vlen: u32, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
