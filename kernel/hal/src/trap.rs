//! Exception vectors: running user code until it traps, kernel-mode interrupts and faults.

use crate::context;
use crate::cpu;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use base::addr::UserAddr;
use core::fmt;
use spin::Once;

core::arch::global_asm!(include_str!("asm/trap.S"), options(raw));

unsafe extern "C" {
    fn run_user_asm();
    static __ex_table_start: ExEntry;
    static __ex_table_end: ExEntry;
    static __user_access_start: u8;
    static __nofault_start: u8;
    static __nofault_end: u8;
    static mmio_probe32_insn: u8;
}

/// A user thread's general registers. Lives on the thread's kernel stack; handlers get `&mut`.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct UserContext {
    pub x: [u64; 31],
    pub sp: u64,
    pub pc: u64,
    pub pstate: u64,
    /// Where the kernel's stack pointer goes back to; hal's own, as is the padding to 16 bytes.
    kernel_sp: u64,
    _padding: u64,
}

/// NZCV, DIT, SSBS: what user code may set in PSTATE.
const PSTATE_USER: u64 = 0xf000_0000 | 1 << 24 | 1 << 12;

impl UserContext {
    /// Registers for a fresh program: all zero but `pc` and `sp`, PSTATE = EL0t.
    pub fn new(pc: u64, sp: u64) -> Self {
        Self { pc, sp, ..Self::default() }
    }
    /// X0-X30, SP, PC and PSTATE in a row, as in a signal frame.
    pub fn words(&self) -> &[u64; 34] {
        // SAFETY: the first 34 fields of a repr(C) struct of words.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
    /// As [`Self::words`], to be replaced from outside: `sanitize` comes next.
    pub fn words_mut(&mut self) -> &mut [u64; 34] {
        // SAFETY: as in `words`.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
    }
    /// Makes outside values (sigreturn) safe to return to: PSTATE keeps only NZCV and what EL0 may have.
    pub fn sanitize(&mut self) {
        self.pstate &= PSTATE_USER;
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

const IRQ: u64 = 1 << 63;
const SERROR: u64 = 1 << 62;

/// Runs user code with `ctx` on this CPU until it traps; the active page table and FP state are the calling thread's.
/// MRS of ID registers and first FP use are handled inside and do not return. Enter with IRQs **masked** (so that no
/// wake-up or signal is missed between the last check and user mode); returns with IRQs masked.
#[inline]
pub fn run_user(ctx: &mut UserContext) -> Trap {
    loop {
        let esr = enter_user(ctx);
        if esr >> 26 == 0x15 {
            return Trap::Syscall;
        }
        if esr == IRQ {
            return Trap::Irq;
        }
        if let Some(trap) = decode(ctx, esr) {
            return trap;
        }
    }
}

/// User mode and back; answers ESR_EL1, [`IRQ`], or [`SERROR`] and ESR_EL1.
#[inline(always)]
fn enter_user(ctx: &mut UserContext) -> u64 {
    let esr: u64;
    // SAFETY: the context is exclusively ours and on this stack, above all that is pushed later; PSTATE was made by `new`, `sanitize`
    // or an exception from EL0, so the return goes to EL0; the vectors bring control back here. x19 and x29 are restored, all other
    // registers are declared changed.
    unsafe {
        core::arch::asm!(
            "bl {run_user}",
            run_user = sym run_user_asm,
            inout("x0") &raw mut *ctx => esr,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            clobber_abi("C"),
        );
    }
    esr
}

/// What a synchronous exception or SError from EL0 was; `None` when it was handled here.
#[cold]
fn decode(ctx: &mut UserContext, esr: u64) -> Option<Trap> {
    let addr = untag(FAR_EL1.get());
    if esr & SERROR != 0 {
        return Some(Trap::Bus { addr: UserAddr(ctx.pc), esr: esr & !SERROR });
    }
    Some(match esr >> 26 & 0x3f {
        0x07 => {
            context::enable_fp();
            return None;
        }
        0x00 | 0x18 => {
            if emulate_mrs(ctx) {
                return None;
            }
            Trap::Illegal { esr }
        }
        0x20 => fault(addr, Access::Execute, esr),
        0x24 => fault(addr, if esr & (1 << 6) != 0 && esr & (1 << 8) == 0 { Access::Write } else { Access::Read }, esr),
        0x22 => Trap::Alignment { addr: UserAddr(ctx.pc), esr },
        0x26 => Trap::Alignment { addr: UserAddr(ctx.sp), esr },
        0x2c => Trap::FpException { esr },
        0x30 | 0x32 | 0x34 => Trap::Debug { esr },
        0x3c => Trap::Breakpoint { imm: esr as u16 },
        _ => Trap::Illegal { esr },
    })
}

fn fault(addr: UserAddr, access: Access, esr: u64) -> Trap {
    match esr & 0x3f {
        0x21 => Trap::Alignment { addr, esr },
        0x00..=0x0f => Trap::PageFault { addr, access, esr },
        _ => Trap::Bus { addr, esr },
    }
}

/// Emulates `mrs xN, <ID register>` at EL0, as Linux does (HWCAP_CPUID).
fn emulate_mrs(ctx: &mut UserContext) -> bool {
    let Ok(insn) = crate::user::load_u32(UserAddr(ctx.pc)) else { return false };
    // MRS Xt, S3_0_C0_<CRm>_<op2>
    if insn & 0xffff_f000 != 0xd538_0000 {
        return false;
    }
    let Some(value) = cpu::emulated_id_register(insn >> 8 & 0xf, insn >> 5 & 7) else { return false };
    if let Some(register) = ctx.x.get_mut((insn & 31) as usize) {
        *register = value;
    }
    ctx.pc += 4;
    true
}

/// What the kernel proper does for `hal`.
pub trait Hooks: Sync {
    /// An interrupt in kernel mode or (from the thread loop) in user mode; IRQs are masked.
    fn irq(&self);
    /// A user copy touched `addr` and faulted, not in a no-fault section. IRQs are as the interrupted code had them; may
    /// sleep. True: mapped now, retry; false: the copy answers EFAULT.
    fn user_copy_fault(&self, addr: UserAddr, access: Access) -> bool;
    /// The heap gave `bytes` in a batch to the calling CPU (below 0: took them back). IRQs are masked; may not allocate or take
    /// a lock.
    fn heap_charged(&self, bytes: i64, pressure: crate::frame::Pressure);
    /// First function of a started secondary CPU, on its own boot stack, IRQs masked.
    fn secondary_main(&self, cpu: usize) -> !;
}

static HOOKS: Once<&'static dyn Hooks> = Once::new();

/// Installs the kernel's hooks, once, before interrupts are enabled.
pub fn set_hooks(hooks: &'static dyn Hooks) {
    HOOKS.call_once(|| hooks);
}

/// `None` before [`set_hooks`].
pub(crate) fn try_hooks() -> Option<&'static dyn Hooks> {
    HOOKS.get().copied()
}

pub(crate) fn hooks() -> &'static dyn Hooks {
    match HOOKS.get() {
        Some(hooks) => *hooks,
        None => panic!("no hooks installed"),
    }
}

/// Per-CPU set-up of what EL0 may do.
pub(crate) fn init_cpu() {
    context::init_cpu();
    // EL0 reads the virtual counter and its frequency, not the timers.
    CNTKCTL_EL1.set(1 << 1);
    /// MDSCR_EL1.TDCC: the debug communication channel's registers are not for EL0.
    const TDCC: u64 = 1 << 12;
    let dfr0: u64;
    // SAFETY: no software step, no debug exceptions; reads an ID register.
    unsafe {
        core::arch::asm!("msr mdscr_el1, {}", "mrs {}, id_aa64dfr0_el1", in(reg) TDCC, out(reg) dfr0);
    }
    // ID_AA64DFR0_EL1.PMUVer: 0 is none, 15 one of another kind.
    if !matches!(dfr0 >> 8 & 0xf, 0 | 0xf) {
        // SAFETY: there is such a register; the performance counters are not for EL0.
        unsafe { core::arch::asm!("msr pmuserenr_el0, xzr") };
    }
    crate::mmu::deactivate();
    crate::user::init_cpu();
    CNTV_CTL_EL0.set(0);
    barrier::isb(barrier::SY);
}

/// Registers of an interrupted kernel computation; the layout is trap.S's.
#[repr(C)]
pub struct KernelFrame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    esr: u64,
    record: [u64; 2],
}

impl fmt::Display for KernelFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pc {:016x} pstate {:08x} esr {:08x} far {:016x}", self.elr, self.spsr, self.esr, FAR_EL1.get())?;
        for (index, value) in self.x.iter().enumerate() {
            let end = if index % 4 == 3 || index == 30 { "\n" } else { " " };
            write!(f, "x{index:<2} {value:016x}{end}")?;
        }
        Ok(())
    }
}

/// Instructions from `first` to before `end`, and where to go on when one of them faults: offsets from the words themselves.
#[repr(C)]
struct ExEntry {
    first: i32,
    end: i32,
    fixup: i32,
}

/// What a word of the table points to.
fn pointed_to(word: &i32) -> u64 {
    (core::ptr::from_ref(word) as u64).wrapping_add_signed(i64::from(*word))
}

/// The fix-up address for a faulting instruction at `pc`.
fn find_fixup(pc: u64) -> Option<u64> {
    // SAFETY: the linker script bounds the table; it is read-only.
    let table = unsafe {
        let start = &raw const __ex_table_start;
        core::slice::from_raw_parts(start, (&raw const __ex_table_end).offset_from_unsigned(start))
    };
    let entry = table.iter().find(|entry| (pointed_to(&entry.first)..pointed_to(&entry.end)).contains(&pc))?;
    Some(pointed_to(&entry.fixup))
}

#[unsafe(no_mangle)]
extern "C" fn rust_kernel_sync(frame: &mut KernelFrame) {
    let class = frame.esr >> 26 & 0x3f;
    let far = FAR_EL1.get();
    // A device register that is not there: the one kernel address whose aborts have a fix-up. FAR need not be valid.
    let probe = frame.elr == &raw const mmio_probe32_insn as u64 && frame.esr & 0x3f == 0x10;
    let end = &raw const __nofault_end as u64;
    let is_user_access = (&raw const __user_access_start as u64..end).contains(&frame.elr);
    if class == 0x07 && is_user_access {
        // A copy of FP registers slept in a fault, and the switch back left them to their first use.
        return context::enable_fp();
    }
    let is_user_access = is_user_access && far >> 55 & 1 == 0;
    if class == 0x25 && (is_user_access || probe) {
        let nofault = probe || (&raw const __nofault_start as u64..end).contains(&frame.elr);
        if !nofault && frame.esr & 0x3f <= 0x0f {
            let access = if frame.esr & (1 << 6) != 0 { Access::Write } else { Access::Read };
            // The interrupted code had IRQs on unless it may not sleep; then the handler's `might_sleep` says so.
            let masked = frame.spsr & (1 << 7) != 0;
            if !masked {
                cpu::enable_irqs();
            }
            let resolved = hooks().user_copy_fault(untag(far), access);
            cpu::disable_irqs();
            if resolved {
                return;
            }
        }
        // Only now: the search takes its time, and most faults are resolved.
        if let Some(fixup) = find_fixup(frame.elr) {
            frame.elr = fixup;
            return;
        }
    }
    panic!("kernel fault\n{frame}");
}

#[unsafe(no_mangle)]
extern "C" fn rust_kernel_irq(_frame: &mut KernelFrame) {
    hooks().irq();
}

#[unsafe(no_mangle)]
extern "C" fn rust_kernel_bad(frame: &mut KernelFrame) {
    panic!("unexpected exception\n{frame}");
}

#[unsafe(no_mangle)]
extern "C" fn rust_stack_overflow(sp: u64, elr: u64, far: u64) -> ! {
    panic!("kernel stack overflow: sp {sp:#x} pc {elr:#x} far {far:#x}");
}

/// A faulting address without its tag, if it is a user address (TBI is on for those alone).
fn untag(far: u64) -> UserAddr {
    if far >> 55 & 1 == 0 { UserAddr(far).untagged() } else { UserAddr(far) }
}
