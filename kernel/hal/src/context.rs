//! Kernel stacks, the context switch, and floating-point state.
//!
//! A [`KernelThread`] is a 16 KiB guarded stack plus the saved callee-saved registers. FP/SIMD registers belong to user
//! code only; they are saved at a switch when the thread used them since it was switched in.

use crate::OutOfMemory;

/// Bytes of one kernel stack.
pub const KERNEL_STACK_BYTES: usize = 16 * 1024;

/// A kernel stack with a suspended (or running) computation.
pub struct KernelThread {
    _private: (),
}

impl KernelThread {
    /// A thread that will run `entry(argument)` when first switched to, with IRQs masked. `entry` never returns.
    pub fn new(_entry: fn(usize) -> !, _argument: usize) -> Result<Self, OutOfMemory> {
        todo!()
    }

    /// Adopts the boot (or secondary-boot) stack the caller runs on: a CPU's idle thread.
    pub fn adopt_current() -> Self {
        todo!()
    }

    /// Return addresses of the suspended thread's frames, newest first, into `out`; returns how many. For /proc/PID/stack and
    /// panic reports. Best effort when the thread is running.
    pub fn backtrace(&self, _out: &mut [u64]) -> usize {
        todo!()
    }

    /// Whether some CPU is (still) running on this stack.
    pub fn is_on_cpu(&self) -> bool {
        todo!()
    }

    /// Gives this not-yet-run thread a copy of the calling thread's FP state (fork, clone).
    pub fn inherit_fp(&self) {
        todo!()
    }
}

/// Switches the calling CPU from `prev` (the thread it runs) to `next`. IRQs must be masked. Spins while `next` is still
/// being switched out on another CPU. Returns when something switches back to `prev`.
pub fn switch(_prev: &KernelThread, _next: &KernelThread) {
    todo!()
}

/// FP/SIMD state as in a signal frame: V0-V31 (two u64 each), FPSR, FPCR.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct FpState {
    pub v: [[u64; 2]; 32],
    pub fpsr: u32,
    pub fpcr: u32,
}

/// The calling thread's user FP state (all zero when it never used FP).
pub fn read_fp() -> FpState {
    todo!()
}
/// Replaces the calling thread's user FP state (sigreturn).
pub fn write_fp(_state: &FpState) {
    todo!()
}
/// Back to the initial state (execve).
pub fn reset_fp() {
    todo!()
}

/// Return addresses of the caller's own frames, newest first.
pub fn backtrace_here(_out: &mut [u64]) -> usize {
    todo!()
}
