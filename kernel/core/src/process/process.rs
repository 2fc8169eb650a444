//! One process: a thread group and what its threads always share.

use super::Task;
use crate::prelude::*;
use crate::{signal, time};
use core::sync::atomic::{AtomicU32, AtomicU64};

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

pub struct Process {
    pub pid: u32,
    /// Relations to other processes: changed under the process tree's lock (process/tree.rs).
    pub relations: SpinLock<Relations>,
    /// Living threads, the leader first while it lives.
    pub threads: SpinLock<Vec<Arc<Task>>>,
    pub signal: signal::ProcessSignal,
    pub timers: time::ProcessTimers,
    pub limits: SpinLock<[Rlimit; rlimit::COUNT]>,
    /// Life cycle, exit status, child accounting: process/exit.rs and wait.rs.
    pub life: super::life::Life,
    /// The executable, for /proc/PID/exe; its path as executed, arguments and environment areas live in the address space.
    pub executable: SpinLock<Option<Arc<crate::file::OpenFile>>>,
    pub start_time_ns: u64,
    pub oom_score_adj: AtomicU32,
    /// Bytes of locked memory and the like may be added by their owners.
    pub umask_unused: AtomicU64,
}

/// Parent, children, group, session.
pub struct Relations {
    pub parent: Weak<Process>,
    pub children: Vec<Arc<Process>>,
    pub pgid: u32,
    pub sid: u32,
}

impl Process {
    pub fn limit(&self, resource: usize) -> u64 {
        self.limits.lock()[resource].current
    }
    pub fn ppid(&self) -> u32 {
        self.relations.lock().parent.upgrade().map_or(0, |parent| parent.pid)
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
}

impl Process {
    /// User and system time of all threads in ns.
    pub fn cpu_times(&self) -> (u64, u64) {
        self.threads.lock().iter().map(|task| task.cpu_times()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
