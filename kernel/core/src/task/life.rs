//! A process's life cycle: alive, zombie, reaped; its exit status; what its children and dead threads used; who waits.

use super::Credentials;
use crate::prelude::*;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

pub const ALIVE: u8 = 0;
pub const ZOMBIE: u8 = 1;
pub const REAPED: u8 = 2;

/// A wait status as wait4(2) reports it: exit code << 8, or signal, with 0x80 for "core dumped".
pub type Status = u32;

pub const fn exited(code: u32) -> Status {
    (code & 0xff) << 8
}

/// Job-control changes that a parent has not been told of yet.
#[derive(Clone, Copy, Default)]
pub struct StopState {
    /// wait4(WUNTRACED) has something to report.
    pub report_stop: bool,
    /// wait4(WCONTINUED) has something to report.
    pub report_continue: bool,
}

pub struct Life {
    pub state: AtomicU8,
    /// Valid once `ending` is set.
    status: AtomicU32,
    /// The whole group is ending (exit_group, fatal signal).
    ending: AtomicBool,
    /// A thread is in execve and the others must go: its tid; 0 is none.
    pub exec_by: AtomicU32,
    /// Threads leaving are told here (execve waits for its siblings).
    pub thread_gone: WaitQueue,
    /// This process's threads wait here for changes of its children.
    pub child_changed: WaitQueue,
    pub stop: IrqSpinLock<StopState>,
    /// Stopped now, by this signal; 0 is running. Changed under `stop`'s lock.
    pub stopped_by: AtomicU32,
    /// How many SIGCONTs there were: a stop signal taken before the last of them no longer counts. Changed under `stop`'s lock.
    pub nr_continues: AtomicU32,
    /// Sent to the parent at exit; 0 is none.
    pub exit_signal: AtomicU32,
    /// The process has no controlling terminal though its session has (TIOCNOTTY); its children inherit that.
    pub gave_terminal_up: AtomicBool,
    /// Counts the programs that the process has run: signals that one of them arranged to be sent to it are not for the next.
    pub exec_id: AtomicU32,
    /// The parent's `exec_id` when it made this process.
    pub parent_exec_id: AtomicU32,
    /// The parent that vfork(2) suspended.
    pub vfork: SpinLock<Option<Arc<VforkDone>>>,
    /// Orphans among the descendants come here (PR_SET_CHILD_SUBREAPER).
    pub is_subreaper: AtomicBool,
    /// PR_SET_PDEATHSIG.
    pub parent_death_signal: AtomicU32,
    /// PR_SET_DUMPABLE.
    pub dumpable: AtomicU32,
    /// Has called execve since it was forked (setpgid's EACCES).
    pub has_execed: AtomicBool,
    pub dead_user_ns: AtomicU64,
    pub dead_system_ns: AtomicU64,
    /// Times of waited-for children.
    pub children_user_ns: AtomicU64,
    pub children_system_ns: AtomicU64,
    pub minor_faults: AtomicU64,
    pub major_faults: AtomicU64,
    pub peak_resident_pages: AtomicU64,
    pub children_peak_resident_pages: AtomicU64,
    credentials: SpinLock<Option<Arc<Credentials>>>,
    /// How the last thread was scheduled, for who asks of a zombie.
    pub last_sched: SpinLock<crate::sched::Remembered>,
    /// The process is its own pidfd's object: readable when it is a zombie.
    pub exit_poll: crate::vfs::PollSet,
}

/// What a vforking parent sleeps on.
pub struct VforkDone {
    pub done: AtomicBool,
    pub queue: WaitQueue,
}

impl Life {
    pub fn new(exit_signal: u32) -> Self {
        Self {
            state: AtomicU8::new(ALIVE),
            status: AtomicU32::new(0),
            ending: AtomicBool::new(false),
            exec_by: AtomicU32::new(0),
            thread_gone: WaitQueue::new(),
            child_changed: WaitQueue::new(),
            stop: IrqSpinLock::new(StopState::default()),
            stopped_by: AtomicU32::new(0),
            nr_continues: AtomicU32::new(0),
            exit_signal: AtomicU32::new(exit_signal),
            gave_terminal_up: AtomicBool::new(false),
            exec_id: AtomicU32::new(0),
            parent_exec_id: AtomicU32::new(0),
            vfork: SpinLock::new(None),
            is_subreaper: AtomicBool::new(false),
            parent_death_signal: AtomicU32::new(0),
            dumpable: AtomicU32::new(1),
            has_execed: AtomicBool::new(false),
            dead_user_ns: AtomicU64::new(0),
            dead_system_ns: AtomicU64::new(0),
            children_user_ns: AtomicU64::new(0),
            children_system_ns: AtomicU64::new(0),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            peak_resident_pages: AtomicU64::new(0),
            children_peak_resident_pages: AtomicU64::new(0),
            credentials: SpinLock::new(None),
            last_sched: SpinLock::new(crate::sched::Remembered::default()),
            exit_poll: crate::vfs::PollSet::new(),
        }
    }

    /// Begins the end of the group with `status`; the first caller's status counts. Answers whether this was it.
    pub fn begin_end(&self, status: Status) -> bool {
        if self.ending.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.status.store(status, Ordering::Release);
        true
    }
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
    /// The status of a process that ends by its last thread's exit(2).
    pub fn set_status(&self, status: Status) {
        if !self.is_ending() {
            self.status.store(status, Ordering::Release);
        }
    }
    pub fn status(&self) -> Status {
        self.status.load(Ordering::Acquire)
    }
    /// Whether wait(2) may find something to report.
    pub fn has_report(&self) -> bool {
        let stop = self.stop.lock();
        stop.report_stop || stop.report_continue || self.is_zombie()
    }
    pub fn is_zombie(&self) -> bool {
        self.state.load(Ordering::Acquire) == ZOMBIE
    }
    /// The signal that the process is stopped by; 0 is none.
    #[inline]
    pub fn stopped_by(&self) -> u32 {
        self.stopped_by.load(Ordering::Acquire)
    }
    pub fn remember_credentials(&self, credentials: Arc<Credentials>) {
        *self.credentials.lock() = Some(credentials);
    }
    pub fn last_credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone().unwrap_or_else(|| Arc::new(Credentials::root()))
    }
}
