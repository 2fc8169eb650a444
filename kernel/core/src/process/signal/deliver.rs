//! Delivery: what happens to pending signals before the thread returns to user mode, and to the call they interrupted.

use super::state::{SIG_DFL, SIG_IGN, bit, deliverable, refresh, sa};
use super::{frame, send, stop};
use crate::prelude::*;
use crate::process::exit;
use crate::process::hooks;
use crate::task::process::rlimit;
use crate::task::siginfo::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGWINCH, SIGXCPU, SIGXFSZ, SigInfo, SigSet,
};
use core::sync::atomic::Ordering;
use hal::trap::UserContext;

enum Default {
    Terminate,
    Core,
    Ignore,
    Stop,
}

const CORE: u64 = bit(SIGQUIT)
    | bit(SIGILL)
    | bit(SIGTRAP)
    | bit(SIGABRT)
    | bit(SIGBUS)
    | bit(SIGFPE)
    | bit(SIGSEGV)
    | bit(SIGXCPU)
    | bit(SIGXFSZ)
    | bit(SIGSYS);

fn default_action(signal: u32) -> Default {
    match signal {
        SIGCHLD | SIGCONT | SIGURG | SIGWINCH => Default::Ignore,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Default::Stop,
        _ if SigSet(CORE).contains(signal) => Default::Core,
        _ => Default::Terminate,
    }
}

/// The bit of a wait status that says "core dumped": for signals whose default that is, when RLIMIT_CORE leaves room for a core
/// file's first page and the process may be dumped. (The file itself is not written.)
fn core_flag(signal: u32) -> u32 {
    let process = &current().process;
    let is_wanted = process.limit(rlimit::CORE) >= PAGE_SIZE as u64;
    let is_dumped = is_wanted && process.life.dumpable.load(Ordering::Relaxed) == 1 && SigSet(CORE).contains(signal);
    if is_dumped { 0x80 } else { 0 }
}

/// Takes the next signal the calling thread's mask lets through: its own first, then the process's.
fn take_unblocked(task: &Task) -> Option<SigInfo> {
    take_of(task, !task.signal.mask())
}

#[inline]
fn take_of(task: &Task, set: u64) -> Option<SigInfo> {
    let own = task.signal.pending.take(set);
    let mut info = own.or_else(|| task.process.signal.pending.take(set))?;
    crate::process::timers::posix::signal_taken(&mut info);
    Some(info)
}

/// How an interrupted call goes on when a handler runs: restarted or EINTR.
fn restarts(errno: Errno, flags: u64) -> bool {
    errno == Errno::ERESTARTNOINTR || errno == Errno::ERESTARTSYS && flags & sa::RESTART != 0
}

/// Has the call made again whose first argument was `first`.
pub fn rewind(context: &mut UserContext, first: u64) {
    context.x[0] = first;
    context.pc = context.pc.wrapping_sub(4);
}

/// Before user mode with attention set, or after a call that a signal interrupted (its errno and the first argument it had):
/// takes signals, stops, makes handler frames, restarts or ends the call. `interrupted` is resolved even when there is no
/// signal after all. Never returns when a signal is fatal.
pub fn deliver(context: &mut UserContext, mut interrupted: Option<(Errno, u64)>) {
    let task = current();
    loop {
        if task.is_dying() {
            exit::leave_dying_group();
        }
        if stop::is_stopped(task) {
            stop::stay_stopped();
            continue;
        }
        let nr_continues = stop::nr_continues(task);
        let Some(info) = take_unblocked(task) else { break };
        let signal = info.signo as u32;
        let action = task.process.signal.action(signal);
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => match default_action(signal) {
                Default::Ignore => {}
                // pid 1 is not ended or stopped by what it has no handler for.
                _ if task.process.pid == 1 => {}
                Default::Stop => {
                    let process = &task.process;
                    if signal == SIGSTOP || !send::is_orphaned(process.pgid(), process.sid(), None) {
                        stop::stop(signal, nr_continues);
                    }
                }
                Default::Terminate => exit::exit_group(signal),
                Default::Core => exit::exit_group(signal | core_flag(signal)),
            },
            _ => {
                if action.flags & sa::RESETHAND != 0 {
                    // Its flags and mask stay, as on Linux.
                    task.process.signal.set_action(signal, super::state::Action { handler: SIG_DFL, ..action });
                }
                if let Some((errno, first)) = interrupted.take() {
                    if restarts(errno, action.flags) {
                        rewind(context, first);
                    } else {
                        context.x[0] = Errno::EINTR.to_return();
                    }
                }
                task.signal.forget_restart();
                if frame::push(context, &info, &action).is_err() {
                    // No stack to run the handler on.
                    task.process.signal.set_action(SIGSEGV, super::state::Action::default());
                    exit::exit_group(SIGSEGV | core_flag(SIGSEGV));
                }
                refresh(task);
                return;
            }
        }
    }
    if let Some((errno, first)) = interrupted {
        rewind(context, first);
        if errno == Errno::ERESTART_RESTARTBLOCK {
            context.x[8] = hooks::get().restart_syscall;
        }
    }
    restore_saved_mask(task);
    refresh(task);
}

/// The mask that ppoll, sigsuspend ... replaced comes back.
fn restore_saved_mask(task: &Task) {
    if let Some(mask) = task.signal.take_saved_mask() {
        task.signal.set_mask(mask);
    }
}

/// Forces a synchronous fault signal on the calling thread: blocked or ignored means the default action.
pub fn force_fault(info: SigInfo) {
    force_fault_with_esr(info, 0);
}

/// As [`force_fault`], with the fault's ESR_EL1 for the signal frame's esr_context (0 for none).
pub fn force_fault_with_esr(info: SigInfo, esr: u64) {
    let task = current();
    let signal = info.signo as u32;
    let action = task.process.signal.action(signal);
    let blocked = SigSet(task.signal.mask()).contains(signal);
    if blocked || action.handler == SIG_IGN || action.handler == SIG_DFL {
        crate::info!(
            "{} (pid {}): signal {signal} code {} at {:#x}",
            task.comm(),
            task.process.pid,
            info.code,
            info.fields[0]
        );
        exit::exit_group(signal | core_flag(signal));
    }
    task.signal.fault_esr.store(esr, Ordering::Relaxed);
    // A standard signal of the kernel's is never refused.
    let _ = task.signal.pending.push(info, &task.process.signal, None);
    task.set_attention(crate::task::task::attention::SIGNAL);
}

/// What a restarted call does after a stop or an ignored signal (ERESTART_RESTARTBLOCK): set by the call, run by
/// restart_syscall(2). Cleared when a handler runs.
pub fn set_restart(restart: Box<dyn FnOnce() -> SysResult + Send>) -> Errno {
    let old = current().signal.restart.lock().replace(restart);
    drop(old);
    Errno::ERESTART_RESTARTBLOCK
}

/// Installs `mask` for the calling thread until [`end_temporary_mask`]: ppoll, pselect6, epoll_pwait. The old mask is kept.
/// SIGKILL and SIGSTOP in `mask` are ignored.
pub fn set_temporary_mask(mask: SigSet) {
    let task = current();
    task.signal.saved_mask.store(task.signal.mask(), Ordering::Release);
    task.signal.has_saved_mask.store(true, Ordering::Release);
    task.signal.set_mask(mask.0);
    refresh(task);
}

/// Ends what [`set_temporary_mask`] began. When `interrupted` (the call answers EINTR or ERESTARTNOHAND) the temporary mask
/// stays until the signal was delivered and the old one is what the handler's frame restores; else the old one is back at once.
pub fn end_temporary_mask(interrupted: bool) {
    let task = current();
    if interrupted && deliverable(task) != 0 {
        return;
    }
    restore_saved_mask(task);
    refresh(task);
}

/// Takes a pending signal of `set` for the calling thread.
pub fn take(set: u64) -> Option<SigInfo> {
    take_of(current(), set)
}
