//! A user thread's whole life: run user code until it traps, handle the trap, look at signals and the scheduler, again.

use crate::irq;
use crate::mm::oom;
use crate::mm::space::FaultError;
use crate::prelude::*;
use crate::process::exit;
use crate::process::signal;
use crate::syscall::{number, trace};
use crate::task::siginfo::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, SIGXFSZ, SigInfo};
use crate::task::task::attention;
use crate::{sched, syscall};
use core::sync::atomic::Ordering;
use hal::cpu;
use hal::trap::{Access, Trap, UserContext, run_user};

/// First function of a new user thread; its registers wait in `task.start`.
pub fn enter(_argument: usize) -> ! {
    sched::finish_switch();
    cpu::enable_irqs();
    let task = current();
    let context = registers(task);
    let set_tid = task.set_child_tid.load(Ordering::Relaxed);
    if set_tid != 0 {
        // As on Linux, a bad address is the program's own problem.
        let _ = UserPtr::<u32>::new(UserAddr(set_tid)).write(&task.tid());
    }
    run(context)
}

/// The registers that a new thread begins with. They leave their box here: what `enter` owns is never dropped.
fn registers(task: &Task) -> UserContext {
    match task.start.lock().take() {
        Some(context) => *context,
        None => panic!("a user thread without registers"),
    }
}

/// The main loop; leaves by exit only.
pub fn run(mut context: UserContext) -> ! {
    let task = current();
    loop {
        rounds::<false>(task, &mut context);
        rounds::<true>(task, &mut context);
    }
}

/// The main loop until tracing of the thread's system calls (`TRACED`) begins or ends.
#[inline(always)]
fn rounds<const TRACED: bool>(task: &'static Task, context: &mut UserContext) {
    loop {
        if TRACED && task.attention() & attention::TRACE == 0 {
            return;
        }
        let quiet = if TRACED { attention::TRACE } else { 0 };
        sched::enter_user(task);
        // The clock is read in each arm: which it is follows from the syndrome, and need not be kept and looked at again behind it.
        match run_user(context, &task.attention, quiet) {
            Trap::Syscall => {
                let now = sched::enter_kernel(task);
                cpu::enable_irqs();
                // Giving up the CPU again and again is spinning too.
                if context.x[8] != number::SCHED_YIELD {
                    task.sched.last_call.store(now, Ordering::Relaxed);
                }
                system_call::<TRACED>(task, context);
            }
            Trap::Irq => {
                sched::enter_kernel(task);
                irq::handle_irq();
            }
            Trap::Attention => {
                sched::enter_kernel(task);
                cpu::enable_irqs();
                // What the bits tell is read in order once one is seen: an instruction less for the usual case of none.
                if task.attention() & !quiet != 0 {
                    if !TRACED && task.attention() & attention::TRACE != 0 {
                        return;
                    }
                    if TRACED {
                        trace::signal();
                    }
                    attend(task, context, None);
                }
                if sched::need_resched() {
                    sched::preempt();
                }
            }
            trap => {
                sched::enter_kernel(task);
                cpu::enable_irqs();
                fault(task, context, trap);
            }
        }
    }
}

#[inline(always)]
fn system_call<const TRACED: bool>(task: &'static Task, context: &mut UserContext) {
    let first = context.x[0];
    task.syscall_nr.store(context.x[8] as u32 + 1, Ordering::Relaxed);
    let call = if TRACED { trace::entering(context) } else { None };
    let answer = syscall::dispatch(context);
    if let Some(call) = call {
        trace::leaving(&call, answer);
    }
    match syscall::restart_errno(answer) {
        // The ERESTART family exists only in here: delivery decides between EINTR and doing it again.
        // What rt_sigreturn answers is the x0 that the signal interrupted, whatever that was.
        Some(errno) if task.syscall_nr.load(Ordering::Relaxed) != number::RT_SIGRETURN as u32 + 1 => {
            attend(task, context, Some((errno, first)));
        }
        _ => context.x[0] = answer,
    }
    task.syscall_nr.store(0, Ordering::Relaxed);
}

/// Something other than user code must happen first.
#[cold]
fn attend(task: &'static Task, context: &mut UserContext, interrupted: Option<(Errno, u64)>) {
    if let Some((Errno::ENOMEM, first)) = interrupted {
        if oom::try_again() {
            signal::rewind(context, first);
        } else {
            context.x[0] = Errno::ENOMEM.to_return();
        }
        return;
    }
    if task.attention() & (attention::REFUSED | attention::RESERVE) != 0 {
        oom::recover();
    }
    if task.attention() & attention::KILL != 0 {
        exit::leave_dying_group();
    }
    if task.attention() & attention::FILE_SIZE != 0 {
        signal_file_size(task);
    }
    signal::deliver(context, interrupted);
}

/// A file would have grown beyond RLIMIT_FSIZE.
#[cold]
#[inline(never)]
fn signal_file_size(task: &Task) {
    task.clear_attention(attention::FILE_SIZE);
    let info = SigInfo::user(SIGXFSZ, 0, task.process.pid, task.creds().uid, 0);
    signal::send_to_task(&crate::task::current_arc(), info);
}

/// Resolves a fault at `addr` in the calling thread's memory, or says which signal it is.
fn resolve(addr: UserAddr, access: Access) -> Result<(), (u32, i32)> {
    const SEGV_MAPERR: i32 = 1;
    const SEGV_ACCERR: i32 = 2;
    const BUS_ADRERR: i32 = 2;
    let Some(space) = current().mm.get() else { return Err((SIGSEGV, SEGV_MAPERR)) };
    match space.handle_fault(addr.0, access) {
        Ok(()) => Ok(()),
        Err(FaultError::NotMapped) => Err((SIGSEGV, SEGV_MAPERR)),
        Err(FaultError::Access) => Err((SIGSEGV, SEGV_ACCERR)),
        Err(FaultError::Bus | FaultError::NeedsPage) => Err((SIGBUS, BUS_ADRERR)),
        // The killer has chosen; if it was not this process there is room now, and the instruction faults again.
        Err(FaultError::OutOfMemory) => Ok(()),
    }
}

/// `hal::trap::Hooks::user_copy_fault`: resolves a fault of a user copy.
pub fn user_copy_fault(addr: UserAddr, access: Access) -> bool {
    match current().mm.get() {
        Some(space) => space.handle_fault(addr.0, access).is_ok(),
        None => false,
    }
}

#[cold]
fn send_fault(signal: u32, code: i32, addr: u64, esr: u64) {
    signal::force_fault_with_esr(SigInfo::fault(signal, code, addr), esr);
}

fn fault(_task: &'static Task, context: &mut UserContext, trap: Trap) {
    const BUS_ADRALN: i32 = 1;
    const BUS_OBJERR: i32 = 3;
    const ILL_ILLOPC: i32 = 1;
    const TRAP_BRKPT: i32 = 1;
    const TRAP_TRACE: i32 = 2;
    match trap {
        Trap::PageFault { addr, access, esr } => {
            if let Err((signal, code)) = resolve(addr, access) {
                send_fault(signal, code, addr.0, esr);
            }
        }
        Trap::Alignment { addr, esr } => send_fault(SIGBUS, BUS_ADRALN, addr.0, esr),
        Trap::Bus { addr, esr } => send_fault(SIGBUS, BUS_OBJERR, addr.0, esr),
        Trap::Illegal { esr } => send_fault(SIGILL, ILL_ILLOPC, context.pc, esr),
        Trap::Breakpoint { .. } => send_fault(SIGTRAP, TRAP_BRKPT, context.pc, 0),
        Trap::Debug { esr } => send_fault(SIGTRAP, TRAP_TRACE, context.pc, esr),
        Trap::FpException { esr } => send_fault(SIGFPE, fp_code(esr), context.pc, esr),
        Trap::Attention | Trap::Syscall | Trap::Irq => {}
    }
}

/// FPE_* from the trapped-exception bits of ESR_EL1.
fn fp_code(esr: u64) -> i32 {
    const FPE_FLTUNK: i32 = 14;
    if esr & 1 << 23 == 0 {
        return FPE_FLTUNK;
    }
    match esr & 0x1f {
        bits if bits & 1 != 0 => 7,  // FPE_FLTINV
        bits if bits & 2 != 0 => 3,  // FPE_FLTDIV
        bits if bits & 4 != 0 => 4,  // FPE_FLTOVF
        bits if bits & 8 != 0 => 5,  // FPE_FLTUND
        bits if bits & 16 != 0 => 6, // FPE_FLTRES
        _ => FPE_FLTUNK,
    }
}
