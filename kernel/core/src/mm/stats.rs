//! Memory counters: what /proc/meminfo and the overcommit check read.

use core::sync::atomic::{AtomicI64, Ordering};
use hal::cpu::{MAX_CPUS, PerCpu};

/// A counter that each CPU changes in its own cache line.
pub struct PerCpuCounter(PerCpu<AtomicI64>);

impl PerCpuCounter {
    const fn new() -> Self {
        Self(PerCpu::new([const { AtomicI64::new(0) }; MAX_CPUS]))
    }
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.get().fetch_add(n, Ordering::Relaxed);
    }
    pub fn sum(&self) -> i64 {
        (0..MAX_CPUS).map(|cpu| self.0.on(cpu).load(Ordering::Relaxed)).sum()
    }
    fn pages(&self) -> u64 {
        self.sum().max(0) as u64
    }
}

/// Pages of objects with a backing (page cache).
pub static CACHE: PerCpuCounter = PerCpuCounter::new();
/// Pages of objects without one (tmpfs, shared memory).
pub static SHMEM: PerCpuCounter = PerCpuCounter::new();
/// Those of them that differ from their backing, and those on their way to it.
pub static DIRTY: PerCpuCounter = PerCpuCounter::new();
pub static WRITEBACK: PerCpuCounter = PerCpuCounter::new();
/// Writes to page caches, by which writers look now and then whether there is too much dirty.
pub static WRITES: PerCpu<AtomicI64> = PerCpu::new([const { AtomicI64::new(0) }; MAX_CPUS]);
/// Pages promised to programs (Committed_AS).
pub static COMMITTED: PerCpuCounter = PerCpuCounter::new();
/// Pages locked by mlock.
pub static LOCKED: PerCpuCounter = PerCpuCounter::new();

/// What /proc/meminfo shows, in pages unless the name says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemInfo {
    pub total: u64,
    pub free: u64,
    pub available: u64,
    pub cached: u64,
    pub dirty: u64,
    pub writeback: u64,
    pub shmem: u64,
    /// Anonymous pages of programs.
    pub anonymous: u64,
    pub locked: u64,
    pub page_tables: u64,
    pub kernel: u64,
    pub heap_bytes: u64,
    pub committed: u64,
    pub commit_limit: u64,
}

/// The numbers of this instant.
pub fn meminfo() -> MemInfo {
    let frames = hal::frame::stats();
    let heap = hal::heap::stats();
    let (cache, shmem) = (CACHE.pages(), SHMEM.pages());
    let (total, free) = (frames.total as u64, frames.free as u64);
    let used_otherwise = cache + shmem + frames.kernel as u64 + frames.page_tables as u64;
    MemInfo {
        total,
        free,
        available: free + cache,
        cached: cache + shmem,
        dirty: DIRTY.pages(),
        writeback: WRITEBACK.pages(),
        shmem,
        anonymous: total.saturating_sub(free).saturating_sub(used_otherwise),
        locked: LOCKED.pages(),
        page_tables: frames.page_tables as u64,
        kernel: frames.kernel as u64,
        heap_bytes: heap.held_bytes as u64,
        committed: COMMITTED.pages(),
        commit_limit: total / 2,
    }
}
