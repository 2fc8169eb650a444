//! Exception vectors: running user code until it traps, kernel-mode interrupts and faults.

use base::addr::UserAddr;

/// A user thread's general registers. Lives on the thread's kernel stack; handlers get `&mut`.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct UserContext {
    pub x: [u64; 31],
    pub sp: u64,
    pub pc: u64,
    pub pstate: u64,
    /// TPIDR_EL0, the thread pointer.
    pub tpidr: u64,
    /// Orders the struct to 16 bytes; hal's own.
    pub reserved: [u64; 1],
}

impl UserContext {
    /// Registers for a fresh program: all zero but `pc` and `sp`, PSTATE = EL0t.
    pub fn new(_pc: u64, _sp: u64) -> Self {
        todo!()
    }
    /// Makes outside values (sigreturn) safe to return to: PSTATE keeps only NZCV and what EL0 may have.
    pub fn sanitize(&mut self) {
        todo!()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// Why user code stopped.
#[derive(Clone, Copy, Debug)]
pub enum Trap {
    /// `svc #0`: number in x8, arguments in x0..x5.
    Syscall,
    /// An interrupt is pending: call the kernel's IRQ handler.
    Irq,
    /// Translation, access-flag or permission fault.
    PageFault { addr: UserAddr, access: Access, esr: u64 },
    /// Data alignment fault, PC or SP misaligned (`SIGBUS`/BUS_ADRALN).
    Alignment { addr: UserAddr, esr: u64 },
    /// External abort or SError (`SIGBUS`).
    Bus { addr: UserAddr, esr: u64 },
    /// Undefined, trapped or illegal instruction that `hal` could not emulate (`SIGILL`).
    Illegal { esr: u64 },
    /// `brk #imm` (`SIGTRAP`/TRAP_BRKPT).
    Breakpoint { imm: u16 },
    /// Hardware single step, breakpoint or watchpoint (`SIGTRAP`).
    Debug { esr: u64 },
    /// Trapped floating-point exception (`SIGFPE`).
    FpException { esr: u64 },
}

/// Runs user code with `ctx` on this CPU until it traps; the active page table and FP state are the calling thread's.
/// MRS of ID registers and first FP use are handled inside and do not return. Enter with IRQs **masked** (so that no
/// wake-up or signal is missed between the last check and user mode); returns with IRQs masked.
pub fn run_user(_ctx: &mut UserContext) -> Trap {
    todo!()
}

/// What the kernel proper does for `hal`.
pub trait Hooks: Sync {
    /// An interrupt in kernel mode or (from the thread loop) in user mode; IRQs are masked.
    fn irq(&self);
    /// A user copy touched `addr` and faulted, not in a no-fault section. IRQs are as the interrupted code had them; may
    /// sleep. True: mapped now, retry; false: the copy answers EFAULT.
    fn user_copy_fault(&self, addr: UserAddr, access: Access) -> bool;
    /// First function of a started secondary CPU, on its own boot stack, IRQs masked.
    fn secondary_main(&self, cpu: usize) -> !;
}

/// Installs the kernel's hooks, once, before interrupts are enabled.
pub fn set_hooks(_hooks: &'static dyn Hooks) {
    todo!()
}
