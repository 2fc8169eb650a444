//! Scheduling: per-CPU run queues, park and unpark, idle, migration.
//!
//! A task is Running on one CPU, Runnable in one queue, Parked, or Dead:
//!
//! ```text
//!   RUNNABLE --prepare_park--> PARKING --park--> PARKED --unpark--> RUNNABLE
//!                                 \--unpark--> NOTIFIED --park--> RUNNABLE (park returns at once)
//! ```
//!
//! Parking is two steps so that no wake is lost: the thread announces it (`prepare_park`), looks at its condition once more,
//! then `park`s; an `unpark` in between makes `park` return at once. A task that was unparked while its old CPU is still
//! leaving its stack may be picked elsewhere: `hal::context::switch` waits for the stack.
//!
//! Lock order: a run queue's lock is innermost; two are never held together.

mod account;
pub(crate) mod change;
pub mod load;
mod park;
pub(crate) mod queue;
mod switch;

pub use account::{enter_kernel, enter_user};
pub use hal::cpu::needs_reschedule as need_resched;
pub(crate) use park::ENDLESS_PARK_HEARD;
pub(crate) use park::unpark_owned;
pub use park::{announce_park, cancel_park, park, prepare_park, set_endless_park_listener};
pub(crate) use switch::slice_expired;
pub use switch::{
    adopt_idle, cond_resched, exit_current, finish_switch, handle_reschedule_ipi, idle_ns, nr_runnable, online_mask,
    preempt, run_idle, start, switch_translation, yield_now,
};

use crate::prelude::*;
use crate::sync::{WaitKind, WaitMode, WaitRecord};
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Scheduling policies of sched(7).
pub mod policy {
    pub const OTHER: u8 = 0;
    pub const FIFO: u8 = 1;
    pub const RR: u8 = 2;
    pub const BATCH: u8 = 3;
    pub const IDLE: u8 = 5;
}

pub(crate) const RUNNABLE: u8 = 0;
pub(crate) const PARKING: u8 = 1;
pub(crate) const NOTIFIED: u8 = 2;
pub(crate) const PARKED: u8 = 3;
pub(crate) const DEAD: u8 = 4;

/// How a thread is, or was, scheduled: what the calls that ask are answered.
#[derive(Clone, Copy, Default)]
pub struct Remembered {
    pub policy: u8,
    pub rt_priority: u8,
    pub nice: i32,
    pub reset_on_fork: bool,
    pub affinity: u64,
}

/// A task's scheduling state: class, priority, virtual runtime, affinity, wait record, CPU time.
pub struct TaskSched {
    pub(crate) state: AtomicU8,
    pub(crate) policy: AtomicU8,
    /// 1..=99 for FIFO and RR, else 0. Priority inheritance raises `boost` instead.
    pub(crate) rt_priority: AtomicU8,
    /// Real-time priority lent by waiters of a priority-inheritance futex; 0 is none.
    pub(crate) boost: AtomicU8,
    /// 1: its priority-inheritance futexes were given up at exit; it will own none again.
    pub(crate) pi_ended: AtomicU8,
    pub(crate) nice: AtomicI32,
    /// Children start with policy OTHER (SCHED_RESET_ON_FORK).
    pub(crate) reset_on_fork: AtomicU8,
    /// Bit n: may run on CPU n.
    pub(crate) affinity: AtomicU64,
    /// ioprio_set(2): class << 13 | level; 0 is none.
    pub(crate) io_priority: AtomicU32,
    pub(crate) last_cpu: AtomicU32,
    /// 1: leaving its CPU because its affinity changed.
    pub(crate) migrate: AtomicU8,
    /// Weighted run time in ns; the fair class runs the smallest.
    pub(crate) vruntime: AtomicU64,
    /// When it was switched in (raw ns).
    pub(crate) run_start: AtomicU64,
    /// CPU time: see [`account`].
    pub(crate) charged: AtomicU64,
    pub(crate) user_ticks: AtomicU64,
    pub(crate) cpu_ticks: AtomicU64,
    pub voluntary_switches: AtomicU64,
    pub involuntary_switches: AtomicU64,
    /// What the task waits for while it is PARKED; old news in any other state.
    pub(crate) wait: IrqSpinLock<Option<WaitRecord>>,
    /// Counter value when it last called the kernel for more than sched_yield, or came back from a sleep; `u64::MAX` from the sleep
    /// until then.
    pub(crate) last_call: AtomicU64,
    /// The sleeping locks it holds.
    #[cfg(debug_assertions)]
    pub(crate) held_locks: crate::sync::HeldLocks,
}

impl TaskSched {
    /// SCHED_OTHER, nice 0, any CPU.
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(RUNNABLE),
            policy: AtomicU8::new(policy::OTHER),
            rt_priority: AtomicU8::new(0),
            boost: AtomicU8::new(0),
            pi_ended: AtomicU8::new(0),
            nice: AtomicI32::new(0),
            reset_on_fork: AtomicU8::new(0),
            affinity: AtomicU64::new(u64::MAX),
            io_priority: AtomicU32::new(0),
            last_cpu: AtomicU32::new(hal::cpu::id() as u32),
            migrate: AtomicU8::new(0),
            vruntime: AtomicU64::new(0),
            run_start: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            user_ticks: AtomicU64::new(0),
            cpu_ticks: AtomicU64::new(0),
            voluntary_switches: AtomicU64::new(0),
            involuntary_switches: AtomicU64::new(0),
            wait: IrqSpinLock::new(None),
            last_call: AtomicU64::new(hal::time::ticks_relaxed()),
            #[cfg(debug_assertions)]
            held_locks: crate::sync::HeldLocks::new(),
        }
    }

    /// What a child inherits: class, priority, affinity; its run time starts at the parent's place in the queue.
    pub fn fork(parent: &Self) -> Self {
        let child = Self::new();
        let reset = parent.reset_on_fork.load(Ordering::Relaxed) != 0;
        let nice = parent.nice.load(Ordering::Relaxed);
        if reset {
            child.nice.store(nice.max(0), Ordering::Relaxed);
        } else {
            child.policy.store(parent.policy.load(Ordering::Relaxed), Ordering::Relaxed);
            child.rt_priority.store(parent.rt_priority.load(Ordering::Relaxed), Ordering::Relaxed);
            child.nice.store(nice, Ordering::Relaxed);
        }
        child.io_priority.store(parent.io_priority.load(Ordering::Relaxed), Ordering::Relaxed);
        child.affinity.store(parent.affinity.load(Ordering::Relaxed), Ordering::Relaxed);
        child.vruntime.store(parent.vruntime.load(Ordering::Relaxed), Ordering::Relaxed);
        child
    }

    /// The effective real-time priority: 0 for the fair classes.
    #[inline]
    pub fn effective_rt(&self) -> u8 {
        self.rt_priority.load(Ordering::Relaxed).max(self.boost.load(Ordering::Relaxed))
    }

    pub fn may_run_on(&self, cpu: usize) -> bool {
        self.affinity.load(Ordering::Relaxed) >> cpu & 1 == 1
    }

    /// What is kept of it when the thread is gone.
    pub fn remember(&self) -> Remembered {
        Remembered {
            policy: self.policy(),
            rt_priority: self.rt_priority(),
            nice: self.nice(),
            reset_on_fork: self.reset_on_fork.load(Ordering::Relaxed) != 0,
            affinity: self.affinity.load(Ordering::Relaxed),
        }
    }
    pub fn policy(&self) -> u8 {
        self.policy.load(Ordering::Relaxed)
    }
    pub fn rt_priority(&self) -> u8 {
        self.rt_priority.load(Ordering::Relaxed)
    }
    pub fn io_priority(&self) -> u32 {
        self.io_priority.load(Ordering::Relaxed)
    }
    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed)
    }
    pub fn last_cpu(&self) -> u32 {
        self.last_cpu.load(Ordering::Relaxed)
    }
}

impl Default for TaskSched {
    fn default() -> Self {
        Self::new()
    }
}

impl Task {
    /// Makes the task look at its condition again: Parked becomes Runnable (on its last CPU, or an idle one it may use); a
    /// thread about to park will not. Callable in IRQ context. Answers whether it was parked.
    pub fn unpark(self: &Arc<Self>) -> bool {
        park::unpark(self)
    }

    /// What the task waits for, if it is parked, and since when.
    pub fn wait_record(&self) -> Option<WaitRecord> {
        let record = self.sched.wait.lock();
        // The record is written before the state says PARKED, and the next one cannot be while the lock is held.
        if self.sched.state.load(Ordering::Acquire) == PARKED { *record } else { None }
    }

    /// For how long, in ns, the task has been runnable in user mode without calling the kernel for anything but sched_yield; 0 when
    /// it has not. Page faults and interrupts are no calls.
    pub fn computing_ns(&self) -> u64 {
        let sched = &self.sched;
        let in_user_mode = self.syscall_nr.load(Ordering::Relaxed) == 0 && self.tid() != 0;
        if !in_user_mode || sched.state.load(Ordering::Relaxed) != RUNNABLE {
            return 0;
        }
        let since = sched.last_call.load(Ordering::Relaxed);
        hal::time::ticks_to_ns(hal::time::ticks_relaxed().saturating_sub(since))
    }

    /// The letter of /proc/PID/stat: R running or runnable, S interruptible, D uninterruptible, T stopped, Z zombie, X dead.
    pub fn state_letter(&self) -> char {
        match self.sched.state.load(Ordering::Relaxed) {
            DEAD => 'X',
            PARKED => match *self.sched.wait.lock() {
                Some(record) if record.reason.kind == WaitKind::Stopped => 'T',
                Some(record) if record.mode == WaitMode::Uninterruptible => 'D',
                _ => 'S',
            },
            _ => 'R',
        }
    }

    /// User and system time in nanoseconds.
    pub fn cpu_times(&self) -> (u64, u64) {
        account::times(self)
    }
}
