//! Signals: generation, pending sets, delivery, stops.

pub mod signalfd;
pub mod syscall;

use crate::prelude::*;
use hal::trap::UserContext;

pub const SIGHUP: u32 = 1;
pub const SIGINT: u32 = 2;
pub const SIGQUIT: u32 = 3;
pub const SIGILL: u32 = 4;
pub const SIGTRAP: u32 = 5;
pub const SIGABRT: u32 = 6;
pub const SIGBUS: u32 = 7;
pub const SIGFPE: u32 = 8;
pub const SIGKILL: u32 = 9;
pub const SIGUSR1: u32 = 10;
pub const SIGSEGV: u32 = 11;
pub const SIGUSR2: u32 = 12;
pub const SIGPIPE: u32 = 13;
pub const SIGALRM: u32 = 14;
pub const SIGTERM: u32 = 15;
pub const SIGSTKFLT: u32 = 16;
pub const SIGCHLD: u32 = 17;
pub const SIGCONT: u32 = 18;
pub const SIGSTOP: u32 = 19;
pub const SIGTSTP: u32 = 20;
pub const SIGTTIN: u32 = 21;
pub const SIGTTOU: u32 = 22;
pub const SIGURG: u32 = 23;
pub const SIGXCPU: u32 = 24;
pub const SIGXFSZ: u32 = 25;
pub const SIGVTALRM: u32 = 26;
pub const SIGPROF: u32 = 27;
pub const SIGWINCH: u32 = 28;
pub const SIGIO: u32 = 29;
pub const SIGPWR: u32 = 30;
pub const SIGSYS: u32 = 31;

/// A set of signals 1..=64; bit `n-1` is signal `n`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    pub const fn contains(self, signal: u32) -> bool {
        signal >= 1 && signal <= 64 && self.0 >> (signal - 1) & 1 == 1
    }
}

/// `siginfo_t` in its 128-byte user layout; constructors below fill the union as each `si_code` demands.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C, align(8))]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    pub fields: [u64; 14],
}

impl SigInfo {
    fn base(signal: u32, code: i32) -> Self {
        Self { signo: signal as i32, errno: 0, code, pad: 0, fields: [0; 14] }
    }
    /// Sent by the kernel itself (SI_KERNEL).
    pub fn kernel(signal: u32) -> Self {
        Self::base(signal, 0x80)
    }
    /// Sent by a process: SI_USER (0), SI_TKILL (-6), SI_QUEUE (-1) with a value, SI_MESGQ (-3).
    pub fn user(signal: u32, code: i32, pid: u32, uid: u32, value: u64) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info.fields[1] = value;
        info
    }
    /// A fault at `addr` (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP).
    pub fn fault(signal: u32, code: i32, addr: u64) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = addr;
        info
    }
    /// A POSIX timer's expiry (SI_TIMER): timer id, overrun count, value.
    pub fn timer(signal: u32, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::base(signal, -2);
        info.fields[0] = id as u32 as u64 | (overrun as u32 as u64) << 32;
        info.fields[1] = value;
        info
    }
    /// SIGCHLD: CLD_* code, child's pid, uid, status, utime and stime in clock ticks.
    pub fn child(code: i32, pid: u32, uid: u32, status: i32, utime: u64, stime: u64) -> Self {
        let mut info = Self::base(SIGCHLD, code);
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info.fields[1] = status as u32 as u64;
        info.fields[2] = utime;
        info.fields[3] = stime;
        info
    }
    /// SIGIO/F_SETSIG: POLL_* code, band, descriptor.
    pub fn poll(signal: u32, code: i32, band: u64, fd: i32) -> Self {
        let mut info = Self::base(signal, code);
        info.fields[0] = band;
        info.fields[1] = fd as u32 as u64;
        info
    }
}

/// A thread's mask, pending set, alternate stack, restart block. Owned by this module.
pub struct TaskSignal {}

impl TaskSignal {
    pub fn new() -> Self {
        Self {}
    }
    /// What a new thread inherits: the mask, and with CLONE_VM without CLONE_VFORK no alternate stack.
    pub fn fork(_parent: &Self, _clone_flags: u64) -> Self {
        Self {}
    }
}

/// A process's handlers (shared with CLONE_SIGHAND), pending set, stop state. Owned by this module.
pub struct ProcessSignal {}

impl ProcessSignal {
    pub fn new() -> Self {
        Self {}
    }
    /// A new process's: handlers shared with CLONE_SIGHAND, default with CLONE_CLEAR_SIGHAND, else copied.
    pub fn fork(_parent: &Self, _clone_flags: u64) -> Self {
        Self {}
    }
}

/// Before user mode with attention set, or after a call that a signal interrupted (its errno and the first argument it had):
/// takes signals, stops, makes handler frames, restarts or ends the call. `interrupted` must be resolved even when there is
/// no signal after all. Never returns when a signal is fatal.
pub fn deliver(context: &mut UserContext, interrupted: Option<(Errno, u64)>) {
    current().clear_attention(crate::process::task::attention::SIGNAL);
    if interrupted.is_some() {
        context.x[0] = Errno::EINTR.to_return();
    }
}

/// As [`force_fault`], with the fault's ESR_EL1 for the signal frame's esr_context (0 for none).
pub fn force_fault_with_esr(info: SigInfo, _esr: u64) {
    force_fault(info);
}

/// The calling thread is ending: its private pending signals go; process-wide ones find another thread.
pub fn on_thread_exit(_task: &Task) {}

/// execve: handlers back to default (ignored ones stay), alternate stack gone.
pub fn on_exec(_task: &Task) {}

/// `process` is about to leave its group and its children: groups that become orphaned with stopped members get SIGHUP and
/// SIGCONT.
pub fn check_orphaned_groups(_process: &Arc<Process>) {}

/// Whether `process` ignores SIGCHLD or has SA_NOCLDWAIT: its children are reaped at once.
pub fn ignores_children(_process: &Arc<Process>) -> bool {
    false
}

/// Sends to a process (any thread takes it). No permission check: see `may_signal`. Callable in IRQ context.
pub fn send_to_process(_process: &Arc<Process>, _info: SigInfo) {}

/// Sends to one thread. Callable in IRQ context.
pub fn send_to_task(_task: &Arc<Task>, _info: SigInfo) {
    todo!()
}

/// Sends to every process of a group (terminal signals). Callable in IRQ context.
pub fn send_to_group(_pgid: u32, _info: SigInfo) {
    todo!()
}

/// Forces a synchronous fault signal on the calling thread: blocked or ignored means the default action.
pub fn force_fault(info: SigInfo) {
    crate::warn!("{} (pid {}): signal {} code {} at {:#x}", current().comm(), current().process.pid, info.signo, info.code, info.fields[0]);
    crate::process::exit::exit_group(info.signo as u32)
}

/// kill(2)'s permission rule for the calling thread: EPERM.
pub fn may_signal(_target: &Process, _signal: u32) -> Result<(), Errno> {
    todo!()
}

/// Whether `signal` is blocked or ignored by the calling thread (SIGTTIN/SIGTTOU rules of the terminal).
pub fn is_blocked_or_ignored(_signal: u32) -> bool {
    todo!()
}

/// What a restarted call does after a stop or an ignored signal (ERESTART_RESTARTBLOCK): set by the call, run by
/// restart_syscall(2). Cleared when a handler runs.
pub fn set_restart(_restart: Box<dyn FnOnce() -> SysResult + Send>) -> Errno {
    todo!()
}

/// Installs `mask` for the calling thread until [`end_temporary_mask`]: ppoll, pselect6, epoll_pwait. The old mask is kept.
/// SIGKILL and SIGSTOP in `mask` are ignored.
pub fn set_temporary_mask(_mask: SigSet) {
    todo!()
}

/// Ends what [`set_temporary_mask`] began. When `interrupted` (the call answers EINTR or ERESTARTNOHAND) the temporary mask
/// stays until the signal was delivered and the old one is what the handler's frame restores; else the old one is back at once.
pub fn end_temporary_mask(_interrupted: bool) {
    todo!()
}
