//! Everything that is Arm: assembly, system registers, raw memory. Small and audited; the rest of the kernel is safe Rust.
//!
//! Map of the crate (each module's page says more):
//! - [`boot`]: `Image` header, EL2 to EL1, MMU on, what the boot loader and device tree said
//! - [`cpu`]: CPU numbers, per-CPU data, interrupt masking, idle;  [`smp`]: starting the other CPUs
//! - [`owner`]: fields that a thread reads of its own object without a lock
//! - [`trap`]: vectors, running user code until it traps;  [`context`]: kernel stacks and the context switch, FP state
//! - [`frame`]: reference-counted page frames;  [`heap`]: the kernel's global allocator, `vmap` its large blocks when memory is in pieces
//! - [`cache`]: cache maintenance;  [`mmu`]: user page tables, ASIDs, TLB;  [`mmio`]: mapping device registers, [`dma`]: memory devices share;  [`user`]: copies to and from user memory
//! - [`time`]: the generic timer;  [`vdso`]: the clock for programs;  [`power`]: PSCI, semihosting;  [`rng`]: the CPU's random numbers;  [`early`]: panic console
//!
//! # What the crate promises
//!
//! The kernel proper is `deny(unsafe_code)`: whatever it calls here, in whatever order and with whatever arguments, no undefined
//! behaviour follows. A call that makes no sense is an error, a panic or a hang, or does harm to user programs alone. How each kind of
//! danger is held off:
//!
//! - *Threads.* [`context::switch`] knows itself which thread runs; what it needs of a thread is in memory that stays mapped (`Control`),
//!   and a `KernelThread` that runs, or may be switched to again, cannot be dropped. It masks interrupts, as [`trap::run_user`] does.
//! - *User mode.* The PSTATE of a [`trap::UserContext`] is private: the way out of the kernel ends at EL0.
//! - *RAM.* A [`frame::Frame`] is counted, and its bytes are never a Rust reference: programs may change them at any time, so they are
//!   copied in and out by assembly that the compiler knows nothing of. A frame that was mapped is freed only after every TLB has
//!   forgotten it ([`mmu::TlbGather`]), and a root table only when no CPU has it ([`mmu::PageTable`] may be dropped while active).
//! - *User memory* is reached through [`user`] alone: addresses are checked to be in the user half, which no kernel data is in, and
//!   every fault has a fix-up.
//! - *Devices.* [`mmio::map`] refuses RAM and what is mapped already; a block has one owner, and only types that consist of registers
//!   are laid over it (`drivers::mmio`). What a device reads or writes is a [`dma`] block, which is never freed, and its address reaches
//!   a device only through the driver that owns the block.
//! - *CPUs.* Per-CPU data is reached by TPIDR_EL1; [`cpu::Current`] has an `unsafe` constructor, whose one caller promises what no type
//!   can say: that a thread's object outlives its frames.
//!
//! What it relies on: the boot protocol (`asm/boot.S`); that a device is what the device tree says it is, and that the probe table gives a
//! block to the driver of its kind, for a device that masters the bus can write anywhere; and the loader's word about where RAM is. A
//! tree that names RAM twice, or devices, an initial RAM disk or spin tables inside of what is in use, is not believed.
//!
//! In this crate and in `drivers`, each `unsafe` block has an argument that can be checked at the place, and each `unsafe fn` says what
//! its callers owe. "Arm ARM" is DDI 0487, by section of its issue K.a.
#![no_std]
#![feature(allocator_api)]

extern crate alloc;

pub mod boot;
mod cache;
pub mod context;
pub mod cpu;
pub mod dma;
pub mod early;
mod features;
pub mod frame;
pub mod heap;
mod kmap;
mod layout;
pub mod mmio;
pub mod mmu;
pub mod owner;
pub mod power;
pub mod rng;
pub mod smp;
pub mod time;
pub mod trap;
pub mod user;
pub mod vdso;
mod vmap;

/// Memory ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl From<OutOfMemory> for base::errno::Errno {
    fn from(_: OutOfMemory) -> Self {
        base::errno::Errno::ENOMEM
    }
}
