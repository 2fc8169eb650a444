//! What threads and processes keep of signals: actions, masks, pending sets.

use super::slot::{Held, Slot};
use crate::prelude::*;
use crate::process::clone::flag;
use crate::task::process::{initial_limits, rlimit};
use crate::task::siginfo::{SIGKILL, SIGSTOP, SigInfo, SigSet};
use crate::task::task::attention;
use crate::task::user::User;
use crate::vfs::PollSet;
pub use base::pending::bit;
use base::pending::{FIRST_QUEUED, Information};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use hal::cpu::IrqGuard;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const SIG_DFL: u64 = 0;
pub const SIG_IGN: u64 = 1;

pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    const EXPOSE_TAGBITS: u64 = 0x800;
    /// Others are cleared, so that programs can find out what there is.
    pub const KNOWN: u64 =
        NOCLDSTOP | NOCLDWAIT | SIGINFO | EXPOSE_TAGBITS | RESTORER | ONSTACK | RESTART | NODEFER | RESETHAND;
}

/// `struct sigaction` as the system call has it.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// Handlers, shared with CLONE_SIGHAND.
pub struct Actions(pub IrqSpinLock<[Action; 64]>);

/// `si_code`s of kill(2) and of the kernel.
const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;

/// Signals sent and not yet taken, with the places they hold.
type Pending = base::pending::Pending<SigInfo, Held>;

impl Information for SigInfo {
    #[inline]
    fn signal(&self) -> u32 {
        self.signo as u32
    }
}

/// A pending set that can be looked at without its lock: senders add, then (fence) look at the receiver's state; receivers
/// announce theirs, then (fence) look here.
pub struct PendingSet {
    /// The pending set, stored under the lock.
    set: AtomicU64,
    pending: IrqSpinLock<Pending>,
}

impl PendingSet {
    pub fn new() -> Self {
        Self { set: AtomicU64::new(0), pending: IrqSpinLock::new(Pending::default()) }
    }
    fn change<R>(&self, change: impl FnOnce(&mut Pending) -> R) -> R {
        let mut pending = self.pending.lock();
        let result = change(&mut pending);
        self.set.store(pending.set(), Ordering::Release);
        result
    }
    /// The signals that are pending.
    #[inline]
    pub fn set(&self) -> u64 {
        self.set.load(Ordering::Acquire)
    }
    /// Adds a signal for a process (or one of its threads) with the state `owner`; a POSIX timer's comes with the timer's place.
    /// Beyond RLIMIT_SIGPENDING a signal is pending without its information, and a real-time one that carries some is refused:
    /// EAGAIN.
    pub fn push(&self, info: SigInfo, owner: &ProcessSignal, timer: Option<&Arc<Slot>>) -> Result<(), Errno> {
        let is_standard = (info.signo as u32) < FIRST_QUEUED;
        // One that is pending still is the same one, though it may be taken at this moment.
        if is_standard && timer.is_none() && SigSet(self.set()).contains(info.signo as u32) {
            fence(Ordering::SeqCst);
            return Ok(());
        }
        let held = match timer {
            Some(slot) => Some(Held::Timer(slot.clone())),
            None => {
                // What the kernel or kill(2) sends of the standard ones is not held back.
                let limit = if is_standard && info.code >= 0 { None } else { Some(owner.limit()) };
                let slot = Slot::take(owner.user(), limit);
                if slot.is_none() && !is_standard && info.code != SI_USER && info.code != SI_KERNEL {
                    return Err(Errno::EAGAIN);
                }
                slot.map(Held::Own)
            }
        };
        self.change(|pending| pending.push(info, held, timer.is_some()));
        // Who sends looks next at masks and at who waits; who changes those looks here after a fence.
        fence(Ordering::SeqCst);
        Ok(())
    }
    /// See [`base::pending::Pending::take`].
    #[inline]
    pub fn take(&self, wanted: u64) -> Option<SigInfo> {
        if self.set() & wanted == 0 {
            return None;
        }
        self.change(|pending| pending.take(wanted, |signal| SigInfo::user(signal, SI_USER, 0, 0, 0)))
    }
    pub fn discard(&self, signals: u64) {
        if self.set() & signals != 0 {
            self.change(|pending| pending.discard(signals));
        }
    }
}

impl Default for PendingSet {
    fn default() -> Self {
        Self::new()
    }
}

/// Signals that no mask holds back.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// `stack_t`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AltStack {
    pub sp: u64,
    pub flags: i32,
    pub pad: i32,
    pub size: u64,
}

pub const SS_ONSTACK: i32 = 1;
pub const SS_DISABLE: i32 = 2;
pub const SS_AUTODISARM: i32 = i32::MIN;

impl AltStack {
    pub const NONE: Self = Self { sp: 0, flags: SS_DISABLE, pad: 0, size: 0 };
    pub fn contains(&self, sp: u64) -> bool {
        self.flags & SS_DISABLE == 0 && self.flags & SS_AUTODISARM == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

type Restart = Box<dyn FnOnce() -> SysResult + Send>;

/// A thread's mask, pending set, alternate stack, restart block.
pub struct TaskSignal {
    mask: AtomicU64,
    /// The mask that comes back after ppoll, sigsuspend ... replaced it.
    pub saved_mask: AtomicU64,
    pub has_saved_mask: AtomicBool,
    pub pending: PendingSet,
    /// Blocked signals that sigtimedwait(2) waits for.
    pub wait_set: AtomicU64,
    pub alt_stack: SpinLock<AltStack>,
    pub restart: SpinLock<Option<Restart>>,
    /// ESR_EL1 of the last fault, for the handler's frame.
    pub fault_esr: AtomicU64,
    /// Real and saved user id (`uid | suid << 32`): who may signal the thread, where interrupts may read it.
    ids: AtomicU64,
}

impl TaskSignal {
    pub fn new() -> Self {
        Self {
            mask: AtomicU64::new(0),
            saved_mask: AtomicU64::new(0),
            has_saved_mask: AtomicBool::new(false),
            pending: PendingSet::new(),
            wait_set: AtomicU64::new(0),
            alt_stack: SpinLock::new(AltStack::NONE),
            restart: SpinLock::new(None),
            fault_esr: AtomicU64::new(0),
            ids: AtomicU64::new(0),
        }
    }
    /// The thread's real and saved user ids, as in its credentials.
    pub fn set_ids(&self, uid: u32, suid: u32) {
        self.ids.store(u64::from(uid) | u64::from(suid) << 32, Ordering::Release);
    }
    /// Real and saved user id. For any context.
    pub fn ids(&self) -> (u32, u32) {
        let ids = self.ids.load(Ordering::Acquire);
        (ids as u32, (ids >> 32) as u32)
    }
    /// What a new thread inherits: the mask, and with CLONE_VM without CLONE_VFORK no alternate stack.
    pub fn fork(parent: &Self, clone_flags: u64) -> Self {
        let child = Self::new();
        child.mask.store(parent.mask(), Ordering::Relaxed);
        if clone_flags & (flag::VM | flag::VFORK) != flag::VM {
            *child.alt_stack.lock() = *parent.alt_stack.lock();
        }
        child
    }
    pub fn mask(&self) -> u64 {
        self.mask.load(Ordering::Acquire)
    }
    /// Sets the mask (SIGKILL and SIGSTOP stay out of it); the caller refreshes.
    pub fn set_mask(&self, mask: u64) {
        self.mask.store(mask & !UNBLOCKABLE, Ordering::Release);
    }
    /// The mask that [`Self::saved_mask`] keeps, once; only the thread itself asks.
    pub fn take_saved_mask(&self) -> Option<u64> {
        if !self.has_saved_mask.load(Ordering::Acquire) {
            return None;
        }
        self.has_saved_mask.store(false, Ordering::Release);
        Some(self.saved_mask.load(Ordering::Acquire))
    }
    /// The call that a signal interrupted will not go on.
    pub fn forget_restart(&self) {
        let old = self.restart.leaf().take();
        drop(old);
    }
}

impl Default for TaskSignal {
    fn default() -> Self {
        Self::new()
    }
}

/// A process's handlers, pending set and signalfd waiters.
pub struct ProcessSignal {
    actions: IrqSpinLock<Arc<Actions>>,
    pub pending: PendingSet,
    /// signalfd pollers.
    pub poll: PollSet,
    user: IrqSpinLock<Arc<User>>,
    /// RLIMIT_SIGPENDING, where interrupts may read it.
    limit: AtomicU64,
}

impl ProcessSignal {
    pub fn new() -> Self {
        let limit = initial_limits()[rlimit::SIGPENDING].current;
        Self::with(Arc::new(Actions(IrqSpinLock::new([Action::default(); 64]))), User::of(0), limit)
    }
    fn with(actions: Arc<Actions>, user: Arc<User>, limit: u64) -> Self {
        Self {
            actions: IrqSpinLock::new(actions),
            pending: PendingSet::new(),
            poll: PollSet::new(),
            user: IrqSpinLock::new(user),
            limit: AtomicU64::new(limit),
        }
    }
    /// A new process's: handlers shared with CLONE_SIGHAND, default with CLONE_CLEAR_SIGHAND, else copied.
    pub fn fork(parent: &Self, clone_flags: u64) -> Self {
        let actions = parent.actions();
        let with = |actions| Self::with(actions, parent.user(), parent.limit());
        if clone_flags & flag::SIGHAND != 0 {
            return with(actions);
        }
        let copy = copy_of(&actions);
        if clone_flags & flag::CLEAR_SIGHAND != 0 {
            reset_handlers(&mut copy.0.lock());
        }
        with(copy)
    }
    /// What the process's real user is counted for.
    pub fn user(&self) -> Arc<User> {
        self.user.lock().clone()
    }
    /// The process's real user is another one from now on.
    pub fn set_user(&self, uid: u32) {
        let old = core::mem::replace(&mut *self.user.lock(), User::of(uid));
        drop(old);
    }
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }
    pub fn actions(&self) -> Arc<Actions> {
        self.actions.lock().clone()
    }
    pub fn action(&self, signal: u32) -> Action {
        let irq = IrqGuard::new();
        let actions = self.actions.leaf(&irq);
        actions.0.leaf(&irq)[signal as usize - 1]
    }
    /// The signals that are ignored and those that have handlers, as sets.
    pub fn ignored_and_caught(&self) -> (u64, u64) {
        let irq = IrqGuard::new();
        let actions = self.actions.leaf(&irq);
        let actions = actions.0.leaf(&irq);
        actions.iter().enumerate().fold((0, 0), |(ignored, caught), (at, action)| match action.handler {
            SIG_DFL => (ignored, caught),
            SIG_IGN => (ignored | 1 << at, caught),
            _ => (ignored, caught | 1 << at),
        })
    }
    pub fn set_action(&self, signal: u32, action: Action) -> Action {
        core::mem::replace(&mut self.actions.lock().0.lock()[signal as usize - 1], action)
    }
}

impl Default for ProcessSignal {
    fn default() -> Self {
        Self::new()
    }
}

/// A copy on the heap: the table is too large for kernel stacks.
#[inline(never)]
fn copy_of(actions: &Actions) -> Arc<Actions> {
    Arc::new(Actions(IrqSpinLock::new(*actions.0.lock())))
}

fn reset_handlers(actions: &mut [Action; 64]) {
    for action in actions {
        let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
        *action = Action { handler, ..Action::default() };
    }
}

/// Signals of the thread and its process that its mask lets through.
pub fn deliverable(task: &Task) -> u64 {
    let pending = task.signal.pending.set() | task.process.signal.pending.set();
    pending & !task.signal.mask()
}

/// Makes the attention bit agree with what is pending. A sender adds first and sets the bit after, so clearing before the
/// look loses nothing.
pub fn refresh(task: &Task) {
    task.clear_attention(attention::SIGNAL);
    fence(Ordering::SeqCst);
    if deliverable(task) != 0 || task.process.life.stopped_by() != 0 {
        task.set_attention(attention::SIGNAL);
    }
}

/// The calling thread is ending: process-wide signals it would have taken find another thread.
pub fn on_thread_exit(task: &Task) {
    let left = task.process.signal.pending.set();
    if left == 0 {
        return;
    }
    let others: Vec<_> =
        task.process.threads.lock().iter().filter(|other| other.tid() != task.tid()).cloned().collect();
    for other in others.iter().filter(|other| left & !other.signal.mask() != 0) {
        super::send::kick(other);
    }
}

/// execve: handlers back to default (ignored ones stay), alternate stack gone.
pub fn on_exec(task: &Task) {
    let signal = &task.process.signal;
    let copy = copy_of(&signal.actions());
    reset_handlers(&mut copy.0.lock());
    let old = core::mem::replace(&mut *signal.actions.lock(), copy);
    drop(old);
    *task.signal.alt_stack.lock() = AltStack::NONE;
    task.signal.forget_restart();
}
