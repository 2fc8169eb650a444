//! Crannog's kernel proper: everything Linux, in safe Rust.
//!
//! Map: [`init`] the order of bring-up · [`syscall`] the table · [`process`] tasks and processes · [`sched`] run queues ·
//! [`signal`] · [`sync`] locks and the one wait primitive · [`mm`] memory objects and address spaces · [`file`] open files,
//! descriptors, pipes, polling, terminals · [`fs`] VFS and file systems · [`ipc`] System V, POSIX queues, futexes ·
//! [`net`] sockets · [`time`] clocks and timers · [`machine`] the devices of this board · [`debug`] log and panics.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

pub mod debug;
pub mod file;
pub mod fs;
pub mod init;
pub mod ipc;
pub mod machine;
pub mod mm;
pub mod net;
pub mod process;
pub mod sched;
pub mod signal;
pub mod sync;
pub mod syscall;
pub mod time;
pub mod user;

/// The names nearly every file needs.
pub mod prelude {
    pub use crate::process::{Process, Task, current};
    pub use crate::sync::{IrqSpinLock, Mutex, RwLock, SpinLock, WaitMode, WaitQueue};
    pub use crate::user::{UserPtr, UserReader, UserWriter};
    pub use alloc::{boxed::Box, string::String, sync::Arc, sync::Weak, vec::Vec};
    pub use base::addr::{PAGE_SIZE, UserAddr};
    pub use base::errno::{Errno, SysResult};
    pub use bitflags::bitflags;
}

/// `hal` enters here, on the boot CPU.
#[expect(unsafe_code, reason = "an exported symbol: the one name hal calls without a table")]
#[unsafe(no_mangle)]
extern "Rust" fn kernel_main() -> ! {
    init::kernel_main()
}
