//! Crannog's kernel proper: everything Linux, in safe Rust.
//!
//! In layers: a file imports its own and those below (`tests/` holds the test). From the ground up:
//!
//! 0. ground: [`sync`] locks and the one wait primitive · [`sched`] run queues · [`time`] clock and timers · [`irq`] · [`log`] ·
//!    [`random`] · [`command_line`] · [`user`] user memory
//! 1. [`task`] threads and processes as objects, credentials, limits, signal numbers
//! 2. [`mm`] memory objects and address spaces · [`block`] disks
//! 3. [`vfs`] open files, descriptors, polling; inodes, mounts, path walk, locks
//! 4. [`process`] clone, exec, exit, wait, signals, process timers
//! 5. [`file`] what lies behind descriptors · [`ipc`] System V, POSIX queues, futexes · [`net`] sockets · [`fs`] file systems ·
//!    [`machine`] the devices of this board
//! 6. [`observe`] procfs, sysfs, who waits for what, panics
//! 7. [`syscall`] the table, the handlers, a user thread's main loop
//! 8. [`init`] the order of bring-up
#![no_std]
#![no_main]
#![feature(allocator_api)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod command_line;
pub mod file;
pub mod fs;
pub mod init;
pub mod ipc;
pub mod irq;
pub mod log;
pub mod machine;
pub mod mm;
pub mod net;
pub mod observe;
pub mod process;
pub mod random;
pub mod sched;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod time;
pub mod user;
pub mod vfs;

/// The names nearly every file needs.
pub mod prelude {
    pub use crate::sync::{IrqSpinLock, Mutex, RwLock, SpinLock, WaitMode, WaitQueue};
    pub use crate::task::{Process, Task, current};
    pub use crate::user::{UserPtr, UserReader, UserWriter};
    pub use alloc::{boxed::Box, string::String, sync::Arc, sync::Weak, vec::Vec};
    pub use base::addr::{PAGE_SIZE, UserAddr};
    pub use base::errno::{Errno, SysResult};
    pub use base::heap::{NoMemory, TryGrow, TryVec, admit, text_room, try_arc, try_box, try_bytes, try_string};
    pub use bitflags::bitflags;
}

/// `hal` enters here, on the boot CPU.
#[expect(unsafe_code, reason = "an exported symbol: the one name hal calls without a table")]
#[unsafe(no_mangle)]
extern "Rust" fn kernel_main() -> ! {
    init::kernel_main()
}
