//! The OOM killer: whom the lack of memory kills.

use crate::prelude::*;
use crate::process::signal;
use crate::task::siginfo::{SIGKILL, SigInfo};
use core::sync::atomic::{AtomicU32, Ordering};

/// A victim needs time to unwind: so long, in ns, no other is chosen.
const UNWINDING_NS: u64 = 2_000_000_000;

/// Pid of the last victim, and when it was chosen (monotonic ns).
static VICTIM: SpinLock<Option<(u32, u64)>> = SpinLock::new(None);
/// Victims so far (/proc/vmstat oom_kill).
pub static KILLS: AtomicU32 = AtomicU32::new(0);

/// Sees to it that a process is ending at `now`: the last victim while it unwinds, else a new one. False when there is none.
pub fn kill_one(now: u64) -> bool {
    let chosen = *VICTIM.lock();
    let is_unwinding = chosen.is_some_and(|(pid, since)| {
        now.saturating_sub(since) < UNWINDING_NS
            && crate::task::find_process(pid).is_some_and(|process| process.any_thread().is_some())
    });
    is_unwinding || choose_victim(now)
}

/// Kills the process with the highest score: resident pages, those of its tables and those that the kernel's heap gave it, plus
/// `oom_score_adj` thousandths of memory. Pid 1 comes last,
/// and only if nothing else has memory.
fn choose_victim(now: u64) -> bool {
    let total = hal::frame::stats().total as i64;
    let mut best: Option<(i64, u64, Arc<Process>)> = None;
    crate::task::tree::for_each_process(|process| {
        let adjust = i64::from(process.oom_score_adj.load(Ordering::Relaxed));
        let Some(space) = process.any_thread().and_then(|task| task.mm.get()) else { return };
        if adjust <= -1000 {
            return;
        }
        let resident = space.resident_pages_hint();
        let kernel =
            space.table_pages_hint() as i64 + process.kernel_bytes.load(Ordering::Relaxed).max(0) / PAGE_SIZE as i64;
        let mut score = resident as i64 + kernel + adjust * total / 1000;
        if process.pid == 1 {
            score = i64::MIN + 1;
        }
        if best.as_ref().is_none_or(|(top, ..)| score > *top) {
            best = Some((score, resident, process));
        }
    });
    let Some((_, resident, victim)) = best else { return false };
    let stats = hal::frame::stats();
    let name = victim.any_thread().map(|task| task.comm()).unwrap_or_default();
    crate::error!(
        "out of memory: {} free of {} pages; killed process {} ({}), resident {} KiB, in the kernel {} KiB, oom_score_adj {}, for {} ({})",
        stats.free,
        stats.total,
        victim.pid,
        name,
        resident * 4,
        victim.kernel_bytes.load(Ordering::Relaxed) / 1024,
        victim.oom_score_adj.load(Ordering::Relaxed),
        current().process.pid,
        current().comm()
    );
    *VICTIM.lock() = Some((victim.pid, now));
    KILLS.fetch_add(1, Ordering::Relaxed);
    signal::send_to_process(&victim, SigInfo::kernel(SIGKILL));
    true
}
