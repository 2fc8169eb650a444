//! One process: a thread group and what its threads always share.

use super::life::Life;
use super::{Credentials, Task};
use crate::prelude::*;
use crate::process;
use crate::process::signal;
use base::slab::{List, NONE};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};

/// Resource indexes of getrlimit(2) as on arm64.
pub mod rlimit {
    pub const CPU: usize = 0;
    pub const FSIZE: usize = 1;
    pub const DATA: usize = 2;
    pub const STACK: usize = 3;
    pub const CORE: usize = 4;
    pub const RSS: usize = 5;
    pub const NPROC: usize = 6;
    pub const NOFILE: usize = 7;
    pub const MEMLOCK: usize = 8;
    pub const AS: usize = 9;
    pub const LOCKS: usize = 10;
    pub const SIGPENDING: usize = 11;
    pub const MSGQUEUE: usize = 12;
    pub const NICE: usize = 13;
    pub const RTPRIO: usize = 14;
    pub const RTTIME: usize = 15;
    pub const COUNT: usize = 16;
    pub const INFINITY: u64 = u64::MAX;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub current: u64,
    pub max: u64,
}

/// The limits of pid 1, as Linux sets them.
pub fn initial_limits() -> [Rlimit; rlimit::COUNT] {
    const FREE: Rlimit = Rlimit { current: rlimit::INFINITY, max: rlimit::INFINITY };
    let mut limits = [FREE; rlimit::COUNT];
    let frames = hal::frame::stats().total as u64;
    // As many threads as an eighth of memory holds stacks for.
    let threads = (frames / 32).clamp(64, 1 << 20);
    let fixed = |both: u64| Rlimit { current: both, max: both };
    limits[rlimit::STACK] = Rlimit { current: 8 << 20, max: rlimit::INFINITY };
    limits[rlimit::CORE] = Rlimit { current: 0, max: rlimit::INFINITY };
    limits[rlimit::NPROC] = fixed(threads);
    limits[rlimit::NOFILE] = Rlimit { current: 1024, max: 524_288 };
    limits[rlimit::MEMLOCK] = fixed(8 << 20);
    limits[rlimit::SIGPENDING] = fixed(threads);
    limits[rlimit::MSGQUEUE] = fixed(819_200);
    limits[rlimit::NICE] = fixed(0);
    limits[rlimit::RTPRIO] = fixed(0);
    limits
}

pub struct Process {
    pub pid: u32,
    /// The parent's pid for getppid(2), changed with `relations.parent`; 0 is none.
    pub ppid: AtomicU32,
    /// Parent, group, session. Callable in IRQ context (terminal signals look at groups).
    pub relations: IrqSpinLock<Relations>,
    /// Living threads, the leader first while it lives.
    pub threads: IrqSpinLock<List<Arc<Task>>>,
    pub signal: signal::ProcessSignal,
    pub timers: process::timers::ProcessTimers,
    pub limits: SpinLock<[Rlimit; rlimit::COUNT]>,
    /// Life cycle, exit status, accounting: exit.rs and wait.rs.
    pub life: Life,
    /// The executable, for /proc/PID/exe; its path as executed, arguments and environment areas live in the address space.
    pub executable: SpinLock<Option<Arc<crate::vfs::OpenFile>>>,
    pub start_time_ns: u64,
    pub oom_score_adj: AtomicI32,
    /// What the kernel's heap gave while its threads ran, less what they gave back: a share of what it holds, for the OOM killer.
    pub kernel_bytes: AtomicI64,
    /// Its calls are refused memory for no reason (mm/failslab.rs).
    pub makes_fail: AtomicBool,
}

/// Parent, group, session.
pub struct Relations {
    pub parent: Weak<Process>,
    /// Its number among all children: see [`super::tree::Family`].
    pub child_slot: u32,
    pub pgid: u32,
    /// Its number among the members of all groups: see [`super::tree::set_group`].
    pub group_slot: u32,
    pub sid: u32,
}

impl Relations {
    pub fn new(pgid: u32, sid: u32) -> Self {
        Self { parent: Weak::new(), child_slot: NONE, pgid, group_slot: NONE, sid }
    }
}

impl Process {
    pub fn limit(&self, resource: usize) -> u64 {
        self.limits.leaf()[resource].current
    }
    pub fn parent(&self) -> Option<Arc<Process>> {
        self.relations.lock().parent.upgrade()
    }
    #[inline]
    pub fn ppid(&self) -> u32 {
        self.ppid.load(Ordering::Relaxed)
    }
    pub fn pgid(&self) -> u32 {
        self.relations.lock().pgid
    }
    pub fn sid(&self) -> u32 {
        self.relations.lock().sid
    }
    /// The thread-group leader, or any living thread when the leader is gone.
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        self.threads.lock().first().cloned()
    }
    /// The credentials of the leader; root's for a process without threads (a zombie's are not asked for).
    pub fn creds(&self) -> Arc<Credentials> {
        match self.any_thread() {
            Some(task) => task.creds(),
            None => self.life.last_credentials(),
        }
    }
    /// User and system time of all threads, the dead ones included, in ns.
    pub fn cpu_times(&self) -> (u64, u64) {
        let dead = (self.life.dead_user_ns.load(Ordering::Relaxed), self.life.dead_system_ns.load(Ordering::Relaxed));
        self.threads.lock().iter().map(|task| task.cpu_times()).fold(dead, |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
    pub fn nr_threads(&self) -> usize {
        self.threads.lock().len()
    }
}
