//! One thread.

use super::{Credentials, Process};
use crate::mm::AddressSpace;
use crate::prelude::*;
use crate::process::signal;
use crate::vfs::FdTable;
use crate::vfs::FsContext;
use crate::{ipc, sched};
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hal::context::KernelThread;
use hal::cpu::Current;
use hal::owner::Owned;
use hal::trap::UserContext;

/// The task each CPU runs.
#[expect(unsafe_code, reason = "the one `Current` there is; only the scheduler replaces, with IRQs masked")]
// SAFETY: as the reason says: `sched::switch`.
pub static CURRENT: Current<Task> = unsafe { Current::new() };

/// The calling thread.
#[inline(always)]
pub fn current() -> &'static Task {
    CURRENT.get()
}

/// A counted reference to the calling thread.
pub fn current_arc() -> Arc<Task> {
    CURRENT.get_arc()
}

/// One thread: a kernel stack, a scheduling state, and references to what it shares with others.
///
/// Fields that only the owner thread changes but others read are atomics or short-lock cells; `Shared<T>` is a cell holding
/// an `Arc` that the owner replaces (unshare, exec) and reads without a lock, and others may clone.
pub struct Task {
    /// Changes once at most: execve from another thread than the leader makes the caller the leader.
    tid: AtomicU32,
    pub process: Arc<Process>,
    pub thread: KernelThread,
    pub sched: sched::TaskSched,
    pub signal: signal::TaskSignal,
    pub files: Shared<FdTable>,
    pub fs: Shared<FsContext>,
    /// None for kernel threads and after exit.
    pub mm: SharedOption<AddressSpace>,
    pub credentials: Shared<Credentials>,
    pub ipc: ipc::TaskIpc,
    /// `comm`: at most 15 bytes and a NUL.
    pub name: SpinLock<[u8; 16]>,
    /// Its number in its process's list of threads.
    pub thread_slot: AtomicU32,
    /// clear_child_tid (CLONE_CHILD_CLEARTID, set_tid_address); 0 is none.
    pub clear_child_tid: AtomicU64,
    /// Where a new thread writes its own number first (CLONE_CHILD_SETTID); 0 is none.
    pub set_child_tid: AtomicU64,
    /// The robust futex list's head as set_robust_list gave it.
    pub robust_list: AtomicU64,
    /// personality(2).
    pub personality: AtomicU32,
    /// PR_SET_TIMERSLACK, in ns. It is only remembered: sleeps here are exact.
    pub timer_slack_ns: AtomicU64,
    /// What it is again when 0 is set: the creator's at the thread's beginning.
    default_timer_slack_ns: u64,
    /// The system call in progress (number + 1; 0 in user mode) for /proc/PID/syscall.
    pub syscall_nr: AtomicU32,
    /// Set when anything must be looked at before returning to user mode: signals, exit of the group, stops.
    pub attention: AtomicU32,
    /// Registers a new user thread starts with.
    pub start: SpinLock<Option<Box<UserContext>>>,
    /// What a kernel thread runs.
    pub body: SpinLock<Option<fn()>>,
    /// Its part in a trace of system calls; `attention::TRACE` says whether there is one.
    pub trace: SpinLock<Option<Box<dyn Any + Send>>>,
}

/// What PR_GET_TIMERSLACK answers until it is set.
pub const DEFAULT_TIMER_SLACK_NS: u64 = 50_000;

/// Bits of [`Task::attention`].
pub mod attention {
    /// A deliverable signal may be pending: run signal delivery. Also ends interruptible sleeps.
    pub const SIGNAL: u32 = 1;
    /// A fatal signal or group exit: also ends killable sleeps.
    pub const KILL: u32 = 2;
    /// Other work before user mode (task work, stop).
    pub const WORK: u32 = 4;
    /// System calls are recorded: the thread runs the traced variant of its main loop.
    pub const TRACE: u32 = 8;
    /// A file would have grown beyond RLIMIT_FSIZE: SIGXFSZ is due.
    pub const FILE_SIZE: u32 = 16;
    /// A call was refused memory (mm/oom.rs).
    pub const REFUSED: u32 = 32;
    /// A call has used memory of the reserve (mm/oom.rs).
    pub const RESERVE: u32 = 64;
}

/// What a new task shares with, or copies from, its creator.
pub struct Parts {
    pub files: Arc<FdTable>,
    pub fs: Arc<FsContext>,
    pub mm: Option<Arc<AddressSpace>>,
    pub credentials: Arc<Credentials>,
    pub sched: sched::TaskSched,
    pub signal: signal::TaskSignal,
    pub ipc: ipc::TaskIpc,
    pub name: [u8; 16],
    pub personality: u32,
    pub timer_slack_ns: u64,
}

impl Task {
    pub fn new(tid: u32, process: Arc<Process>, thread: KernelThread, parts: Parts) -> Arc<Self> {
        parts.signal.set_ids(parts.credentials.uid, parts.credentials.suid);
        Arc::new(Self {
            tid: AtomicU32::new(tid),
            process,
            thread,
            sched: parts.sched,
            signal: parts.signal,
            files: Shared::new(parts.files),
            fs: Shared::new(parts.fs),
            mm: SharedOption::new(parts.mm),
            credentials: Shared::new(parts.credentials),
            ipc: parts.ipc,
            name: SpinLock::new(parts.name),
            thread_slot: AtomicU32::new(base::slab::NONE),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            personality: AtomicU32::new(parts.personality),
            timer_slack_ns: AtomicU64::new(parts.timer_slack_ns),
            default_timer_slack_ns: parts.timer_slack_ns,
            syscall_nr: AtomicU32::new(0),
            attention: AtomicU32::new(0),
            start: SpinLock::new(None),
            body: SpinLock::new(None),
            trace: SpinLock::new(None),
        })
    }

    #[inline(always)]
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }
    /// For `tree::take_leader_id` alone, which keeps the table of numbers true.
    pub(super) fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Relaxed);
    }
    /// Becomes one of its process's threads; `threads` is their list: ENOMEM.
    pub fn enter(self: &Arc<Self>, threads: &mut base::slab::List<Arc<Task>>) -> Result<(), Errno> {
        self.thread_slot.store(threads.push(self.clone())?, Ordering::Relaxed);
        Ok(())
    }
    /// Is none of its process's threads any more; answers whether it was the last.
    pub fn leave(&self) -> bool {
        let mut threads = self.process.threads.lock();
        let own = threads.remove(self.thread_slot.load(Ordering::Relaxed));
        let is_last = threads.is_empty();
        drop(threads);
        drop(own);
        is_last
    }
    pub fn is_kernel_thread(&self) -> bool {
        self.mm.get().is_none()
    }
    pub fn set_attention(&self, bits: u32) {
        self.attention.fetch_or(bits, Ordering::AcqRel);
    }
    pub fn clear_attention(&self, bits: u32) {
        self.attention.fetch_and(!bits, Ordering::AcqRel);
    }
    #[inline(always)]
    pub fn attention(&self) -> u32 {
        self.attention.load(Ordering::Acquire)
    }
    /// Whether an interruptible sleep must end now.
    pub fn has_signal(&self) -> bool {
        self.attention() & (attention::SIGNAL | attention::KILL) != 0
    }
    /// Whether a killable sleep must end now.
    pub fn is_dying(&self) -> bool {
        self.attention() & attention::KILL != 0
    }
    pub fn creds(&self) -> Arc<Credentials> {
        self.credentials.get()
    }
    /// PR_SET_TIMERSLACK: 0 is back to the default.
    pub fn set_timer_slack(&self, ns: u64) {
        self.timer_slack_ns.store(if ns == 0 { self.default_timer_slack_ns } else { ns }, Ordering::Relaxed);
    }
    /// The calling user thread's address space; panics in a kernel thread.
    pub fn address_space(&self) -> Arc<AddressSpace> {
        match self.mm.get() {
            Some(mm) => mm,
            None => panic!("kernel thread has no address space"),
        }
    }
    pub fn comm(&self) -> String {
        let name = *self.name.lock();
        let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..len]).into_owned()
    }
    /// Sets `comm` to the first 15 bytes of `name`.
    pub fn set_comm(&self, name: &[u8]) {
        *self.name.lock() = comm_bytes(name);
    }
}

/// The first 15 bytes of `name`, NUL-padded.
pub fn comm_bytes(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name[..len]);
    comm
}

/// An `Arc` that its task may replace.
pub struct Shared<T>(Owned<Arc<T>>);

impl<T: Send + Sync> Shared<T> {
    pub fn new(value: Arc<T>) -> Self {
        Self(Owned::new(value))
    }
    #[inline]
    pub fn get(&self) -> Arc<T> {
        self.0.with(&CURRENT, Arc::clone)
    }
    /// For the task's own thread alone.
    pub fn replace(&self, value: Arc<T>) -> Arc<T> {
        self.0.replace(&CURRENT, value)
    }
    /// Whether nobody else holds a reference now.
    pub fn is_unshared(&self) -> bool {
        self.0.with(&CURRENT, |value| Arc::strong_count(value) == 1)
    }
    /// Runs `f` on the object without counting a reference; `f` must not sleep.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(&CURRENT, |value| f(value))
    }
}

/// An optional `Arc` that its task may replace.
pub struct SharedOption<T>(Owned<Option<Arc<T>>>);

impl<T: Send + Sync> SharedOption<T> {
    pub fn new(value: Option<Arc<T>>) -> Self {
        Self(Owned::new(value))
    }
    #[inline]
    pub fn get(&self) -> Option<Arc<T>> {
        self.0.with(&CURRENT, Option::clone)
    }
    /// For the task's own thread alone.
    pub fn replace(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.replace(&CURRENT, value)
    }
    /// Runs `f` on the object without counting a reference; `f` must not sleep.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<&Arc<T>>) -> R) -> R {
        self.0.with(&CURRENT, |value| f(value.as_ref()))
    }
}
