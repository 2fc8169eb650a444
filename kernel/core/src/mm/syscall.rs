//! Mm: system calls of syscall.

use crate::prelude::*;

pub fn sys_brk(_addr: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_munmap(_addr: UserAddr, _len: usize) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mremap(_old: UserAddr, _old_len: usize, _new_len: usize, _flags: u32, _new: UserAddr) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mmap(_addr: UserAddr, _len: usize, _prot: u32, _flags: u32, _fd: i32, _offset: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mprotect(_addr: UserAddr, _len: usize, _prot: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

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

pub fn sys_process_vm_readv(_pid: i32, _liov: UserAddr, _liovcnt: usize, _riov: UserAddr, _riovcnt: usize, _flags: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_process_vm_writev(_pid: i32, _liov: UserAddr, _liovcnt: usize, _riov: UserAddr, _riovcnt: usize, _flags: u64) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_memfd_create(_name: UserAddr, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_membarrier(_cmd: i32, _flags: u32, _cpu: i32) -> SysResult {
    Err(Errno::ENOSYS)
}

pub fn sys_mlock2(_addr: UserAddr, _len: usize, _flags: u32) -> SysResult {
    Err(Errno::ENOSYS)
}
