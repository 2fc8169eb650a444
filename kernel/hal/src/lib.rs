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
#![no_std]
#![feature(allocator_api)]

extern crate alloc;

pub mod boot;
mod cache;
pub mod context;
pub mod cpu;
pub mod dma;
pub mod early;
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
