//! Exception vectors: running user code until it traps, kernel-mode interrupts and faults.

use crate::context;
use crate::cpu;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use base::addr::UserAddr;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;
use tock_registers::LocalRegisterCopy;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

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

register_bitfields! {u64,
    /// ESR_EL1.ISS of instruction and data aborts (Arm ARM D24.2.40, "ISS encoding for an exception from a Data Abort").
    ABORT [
        /// Fault status code; see [`fault`].
        FSC OFFSET(0) NUMBITS(6) [
            SynchronousExternal = 0x10,
            Alignment = 0x21,
        ],
        /// A write was refused; also said of cache maintenance (CM).
        WNR OFFSET(6) NUMBITS(1) [],
        CM OFFSET(8) NUMBITS(1) [],
    ],
}

/// The last fault status code of translation, access flag and permission faults.
const LAST_MMU_FAULT: u64 = 0x0f;

type Abort = LocalRegisterCopy<u64, ABORT::Register>;
use ESR_EL1::EC::Value as Class;

/// The exception class of a syndrome, as [`Class`] numbers them.
#[inline(always)]
fn class(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

/// A user thread's general registers. Lives on the thread's kernel stack; handlers get `&mut`.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct UserContext {
    pub x: [u64; 31],
    pub sp: u64,
    pub pc: u64,
    /// SPSR_EL1 for the return: always EL0's, as [`PSTATE_USER`] says.
    pstate: u64,
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
    /// Lets `fill` replace the words of [`Self::words`] by values from outside (sigreturn): of PSTATE what EL0 may have is kept.
    pub fn fill_words<R>(&mut self, fill: impl FnOnce(&mut [u64; 34]) -> R) -> R {
        // SAFETY: as in `words`.
        let result = fill(unsafe { &mut *core::ptr::from_mut(self).cast() });
        self.set_pstate(self.pstate);
        result
    }
    pub fn pstate(&self) -> u64 {
        self.pstate
    }
    /// Sets NZCV, DIT and SSBS; the rest is EL0's.
    pub fn set_pstate(&mut self, pstate: u64) {
        self.pstate = pstate & PSTATE_USER;
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
    /// It was not run: something else wants to be done first.
    Attention,
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

/// Runs user code with `ctx` on this CPU until it traps; the active page table and FP state are the calling thread's. Masks IRQs, and
/// then does not run it if a bit of `attention` but `quiet` is set or the CPU should switch: no wake-up or signal is missed between
/// this look and user mode. MRS of ID registers and first FP use are handled inside and do not return. Returns with IRQs masked.
#[inline(always)]
pub fn run_user(ctx: &mut UserContext, attention: &AtomicU32, quiet: u32) -> Trap {
    cpu::disable_irqs();
    if attention.load(Ordering::Relaxed) & !quiet != 0 || cpu::needs_reschedule() {
        return Trap::Attention;
    }
    loop {
        let esr = enter_user(ctx);
        if esr >> 26 == Class::SVC64 as u64 {
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

/// User mode and back; returns ESR_EL1, [`IRQ`], or [`SERROR`] and ESR_EL1. Only `run_user` calls it, with IRQs masked.
#[inline(always)]
fn enter_user(ctx: &mut UserContext) -> u64 {
    let esr: u64;
    // SAFETY: the context is exclusively ours, and aligned as SP must be, which points to it while user code runs. IRQs are masked:
    // `run_user` did it, and nothing it calls between leaves them on; so no exception of EL1 comes between SP's move and ERET. PSTATE is
    // private and was made by `new`, `set_pstate` or an exception from EL0, so the return goes to EL0t (Arm ARM D1.4.2); the vectors
    // bring control back here. x19 and x29 are restored, all other registers are declared changed.
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
    const TRAPPED_FP: u64 = Class::TrappedFP as u64;
    const UNKNOWN: u64 = Class::Unknown as u64;
    const MRS: u64 = Class::TrappedMsrMrs as u64;
    const INSTRUCTION_ABORT: u64 = Class::InstrAbortLowerEL as u64;
    const DATA_ABORT: u64 = Class::DataAbortLowerEL as u64;
    const PC_ALIGNMENT: u64 = Class::PCAlignmentFault as u64;
    const SP_ALIGNMENT: u64 = Class::SPAlignmentFault as u64;
    const FP_EXCEPTION: u64 = Class::TrappedFP64 as u64;
    const BREAKPOINT: u64 = Class::BreakpointLowerEL as u64;
    const STEP: u64 = Class::SoftwareStepLowerEL as u64;
    const WATCHPOINT: u64 = Class::WatchpointLowerEL as u64;
    const BRK: u64 = Class::Brk64 as u64;
    Some(match class(esr) {
        TRAPPED_FP => {
            context::enable_fp();
            return None;
        }
        UNKNOWN | MRS => {
            if emulate_mrs(ctx) {
                return None;
            }
            Trap::Illegal { esr }
        }
        INSTRUCTION_ABORT => fault(addr, Access::Execute, esr),
        DATA_ABORT => {
            let abort = Abort::new(esr);
            let is_write = abort.is_set(ABORT::WNR) && !abort.is_set(ABORT::CM);
            fault(addr, if is_write { Access::Write } else { Access::Read }, esr)
        }
        PC_ALIGNMENT => Trap::Alignment { addr: UserAddr(ctx.pc), esr },
        SP_ALIGNMENT => Trap::Alignment { addr: UserAddr(ctx.sp), esr },
        FP_EXCEPTION => Trap::FpException { esr },
        BREAKPOINT | STEP | WATCHPOINT => Trap::Debug { esr },
        BRK => Trap::Breakpoint { imm: esr as u16 },
        _ => Trap::Illegal { esr },
    })
}

fn fault(addr: UserAddr, access: Access, esr: u64) -> Trap {
    match Abort::new(esr).read(ABORT::FSC) {
        status if status == ABORT::FSC::Value::Alignment as u64 => Trap::Alignment { addr, esr },
        0..=LAST_MMU_FAULT => Trap::PageFault { addr, access, esr },
        _ => Trap::Bus { addr, esr },
    }
}

/// Emulates `mrs xN, <ID register>` at EL0, as Linux does (HWCAP_CPUID); true: go on. IRQs are masked, so that no fault can be resolved:
/// an instruction that another thread has unmapped meanwhile is fetched again, which faults properly.
fn emulate_mrs(ctx: &mut UserContext) -> bool {
    let Ok(insn) = crate::user::load_u32_nofault(UserAddr(ctx.pc)) else { return ctx.pc & 3 == 0 };
    // MRS Xt, S3_0_C0_<CRm>_<op2>
    if insn & 0xffff_f000 != 0xd538_0000 {
        return false;
    }
    let Some(value) = crate::features::emulated_id_register(insn >> 8 & 0xf, insn >> 5 & 7) else { return false };
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
    CNTKCTL_EL1.write(CNTKCTL_EL1::EL0VCTEN::SET);
    // No software step, no debug exceptions; the debug communication channel's registers are not for EL0.
    MDSCR_EL1.write(MDSCR_EL1::TDCC::SET);
    // PMUVer: 0 is none, 15 one of another kind.
    if !matches!(ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer), 0 | 0xf) {
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
    // SAFETY: the linker script bounds the table, which the assembler filled with whole entries; it is read-only.
    let table = unsafe {
        let start = &raw const __ex_table_start;
        core::slice::from_raw_parts(start, (&raw const __ex_table_end).offset_from_unsigned(start))
    };
    let entry = table.iter().find(|entry| (pointed_to(&entry.first)..pointed_to(&entry.end)).contains(&pc))?;
    Some(pointed_to(&entry.fixup))
}

#[unsafe(no_mangle)]
extern "C" fn rust_kernel_sync(frame: &mut KernelFrame) {
    let class = class(frame.esr);
    let abort = Abort::new(frame.esr);
    let far = FAR_EL1.get();
    // A device register that is not there: the one kernel address whose aborts have a fix-up. FAR need not be valid.
    let is_external = abort.matches_all(ABORT::FSC::SynchronousExternal);
    let probe = frame.elr == &raw const mmio_probe32_insn as u64 && is_external;
    let end = &raw const __nofault_end as u64;
    let is_user_access = (&raw const __user_access_start as u64..end).contains(&frame.elr);
    if class == Class::TrappedFP as u64 && is_user_access {
        // A copy of FP registers slept in a fault, and the switch back left them to their first use.
        return context::enable_fp();
    }
    let is_user_access = is_user_access && far >> 55 & 1 == 0;
    if class == Class::DataAbortCurrentEL as u64 && (is_user_access || probe) {
        let nofault = probe || (&raw const __nofault_start as u64..end).contains(&frame.elr);
        if !nofault && abort.read(ABORT::FSC) <= LAST_MMU_FAULT {
            let access = if abort.is_set(ABORT::WNR) { Access::Write } else { Access::Read };
            // The interrupted code had IRQs on unless it may not sleep; then the handler's `might_sleep` says so.
            let masked = SPSR_EL1::I.read(frame.spsr) != 0;
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
