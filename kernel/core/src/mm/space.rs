//! [`AddressSpace`]: one process's mappings, its page table and its faults.

use super::MemObject;
use crate::file::OpenFile;
use crate::prelude::*;
use core::ops::Range;
use hal::trap::Access;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }

    /// mmap(2) flags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        const SHARED = 0x01;
        const PRIVATE = 0x02;
        const SHARED_VALIDATE = 0x03;
        const FIXED = 0x10;
        const ANONYMOUS = 0x20;
        const GROWSDOWN = 0x100;
        const DENYWRITE = 0x800;
        const EXECUTABLE = 0x1000;
        const LOCKED = 0x2000;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const NONBLOCK = 0x10000;
        const STACK = 0x20000;
        const HUGETLB = 0x40000;
        const SYNC = 0x80000;
        const FIXED_NOREPLACE = 0x100000;
    }
}

/// Who a futex word is: the same key means the same word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum FutexKey {
    /// Private: address-space id and address.
    Private { space: u64, addr: u64 },
    /// In a shared object: object id and byte offset.
    Shared { object: u64, offset: u64 },
}

/// How a fault that could not be resolved is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// SIGSEGV, SEGV_ACCERR.
    Access,
    /// SIGBUS, BUS_ADRERR (beyond the end of the file, I/O error).
    Bus,
    /// No memory: the OOM killer has chosen; retry after signals were looked at.
    OutOfMemory,
}

/// Program areas that execve fixes and /proc reads.
#[derive(Clone, Copy, Default, Debug)]
pub struct Layout {
    pub code: (u64, u64),
    pub data: (u64, u64),
    pub brk_start: u64,
    pub stack_top: u64,
    pub args: (u64, u64),
    pub env: (u64, u64),
    pub vdso: u64,
}

pub struct AddressSpace {}

impl AddressSpace {
    pub fn new() -> Result<Arc<Self>, Errno> {
        todo!()
    }
    /// A copy-on-write copy for fork(2): ENOMEM. `child_limits` as RLIMITs are inherited by the process.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        todo!()
    }
    /// A number no other address space of this boot has.
    pub fn id(&self) -> u64 {
        todo!()
    }
    /// Makes it the calling CPU's user translation.
    pub fn activate(&self) {
        todo!()
    }
    /// Unmaps everything (last user gone); also on drop.
    pub fn clear(&self) {
        todo!()
    }
    /// mmap(2) for the kernel's own use: the ELF loader, the stack, the vDSO. `file` gives name and write-denial for
    /// /proc/PID/maps; `object` with `offset` gives the pages (None is anonymous). `addr` is a hint unless FIXED.
    pub fn map(
        &self,
        _addr: u64,
        _len: u64,
        _prot: Prot,
        _flags: MapFlags,
        _object: Option<(Arc<MemObject>, u64)>,
        _file: Option<Arc<OpenFile>>,
    ) -> Result<u64, Errno> {
        todo!()
    }
    /// Maps the special area `name` ("[vdso]", "[vvar]", "[stack]") .
    pub fn map_special(
        &self,
        _addr: u64,
        _len: u64,
        _prot: Prot,
        _name: &'static str,
        _object: Option<(Arc<MemObject>, u64)>,
    ) -> Result<u64, Errno> {
        todo!()
    }
    /// The initial stack below `top`, growing down to RLIMIT_STACK; answers the lowest mapped address.
    pub fn map_stack(&self, _top: u64, _executable: bool) -> Result<u64, Errno> {
        todo!()
    }
    pub fn unmap(&self, _range: Range<u64>) -> Result<(), Errno> {
        todo!()
    }
    pub fn protect(&self, _range: Range<u64>, _prot: Prot) -> Result<(), Errno> {
        todo!()
    }
    /// Resolves a page fault of user code or of a user copy. May sleep.
    pub fn handle_fault(&self, _addr: u64, _access: Access) -> Result<(), FaultError> {
        todo!()
    }
    /// The key of a futex word: EFAULT when it is not mapped (or not readable). `shared` false is FUTEX_PRIVATE_FLAG.
    pub fn futex_key(&self, _addr: UserAddr, _shared: bool) -> Result<FutexKey, Errno> {
        todo!()
    }
    /// Reads another process's memory (procfs, process_vm_readv): bytes copied before the first inaccessible page.
    pub fn read_remote(&self, _addr: u64, _dst: &mut [u8]) -> usize {
        todo!()
    }
    pub fn write_remote(&self, _addr: u64, _src: &[u8]) -> usize {
        todo!()
    }
    pub fn layout(&self) -> Layout {
        todo!()
    }
    pub fn set_layout(&self, _layout: Layout) {
        todo!()
    }
    /// The stack grows to at most this many bytes (RLIMIT_STACK at exec).
    pub fn set_limits(&self, _limits: &[crate::process::process::Rlimit]) {
        todo!()
    }
    /// Virtual size, resident set, resident file+shared pages, peak: in pages, for /proc/PID/statm and status.
    pub fn usage(&self) -> Usage {
        todo!()
    }
    /// The auxiliary vector as bytes, kept for /proc/PID/auxv.
    pub fn set_auxv(&self, _auxv: Vec<u8>) {
        todo!()
    }
    pub fn auxv(&self) -> Vec<u8> {
        todo!()
    }
    /// /proc/PID/maps text.
    pub fn format_maps(&self, _smaps: bool) -> String {
        todo!()
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    pub virtual_pages: u64,
    pub resident_pages: u64,
    pub shared_pages: u64,
    pub peak_virtual_pages: u64,
    pub peak_resident_pages: u64,
    pub data_pages: u64,
    pub stack_pages: u64,
    pub text_pages: u64,
    pub locked_pages: u64,
    pub page_table_bytes: u64,
}
