//! The deadlock detector: threads that wait for each other in a circle are named in the log and in /proc/deadlocks.
//!
//! It costs nothing while nothing is blocked for long. A thread that parks without a time limit sees to it that a timer runs
//! [`SETTLED_NS`] later (one for all); the timer wakes the detector's thread, which looks at every wait that has lasted so long,
//! draws the graph ([`needs`] knows who could end a wait, `base::wait_graph` who never will) and, if there is a circle, looks a
//! second time [`SECOND_LOOK_NS`] later: only what has not moved at all is reported, once. When every wait is older than that, the
//! timer is not set again, so that an idle machine stays idle.
//!
//! What may end without anybody's help is no deadlock: waits with a time limit, processes with an armed timer, threads with a
//! signal on its way. Lock order: [`HISTORY`] is innermost.

mod mutex;
pub mod needs;

use crate::prelude::*;
/// The timer is set, or the detector is about to look.
use crate::sched::ENDLESS_PARK_HEARD as ARMED;
use crate::sync::{Park, WaitKind, WaitReason, WaitRecord};
use crate::time::timer::KernelTimer;
use alloc::collections::VecDeque;
use base::wait_graph::{self, Wait};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use needs::{Descriptors, Need};
use spin::Once;

/// A wait this long is looked at.
const SETTLED_NS: u64 = 300_000_000;
/// And must be the same so much later.
const SECOND_LOOK_NS: u64 = 120_000_000;
/// Reports kept for /proc/deadlocks.
const KEPT: usize = 32;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static DETECTOR: Once<Detector> = Once::new();

struct Detector {
    task: Arc<Task>,
    timer: Arc<KernelTimer>,
}

/// Starts the detector's thread; until then nothing is detected.
pub fn start() {
    let timer = KernelTimer::new(Box::new(|| {
        REQUESTED.store(true, Ordering::Release);
        if let Some(detector) = DETECTOR.get() {
            detector.task.unpark();
        }
    }));
    let task = crate::process::spawn_kernel_thread("deadlocks", run);
    DETECTOR.call_once(|| Detector { task, timer });
    crate::sched::set_endless_park_listener(note_park);
}

/// A thread parks at `now` without a time limit.
fn note_park(now: u64) {
    arm(now.saturating_add(SETTLED_NS));
}

#[cold]
fn arm(at: u64) {
    if let Some(detector) = DETECTOR.get()
        && !ARMED.swap(true, Ordering::AcqRel)
    {
        detector.timer.arm(at);
    }
}

fn run() {
    loop {
        let requested = || REQUESTED.swap(false, Ordering::AcqRel).then_some(());
        let _ =
            Park::park_until(WaitMode::Uninterruptible, None, WaitReason::new(WaitKind::DeadlockDetector), requested);
        // Whoever parks from here on sets the timer anew.
        ARMED.store(false, Ordering::SeqCst);
        check();
    }
}

/// A long wait of one thread.
struct Blocked {
    task: Arc<Task>,
    record: WaitRecord,
    needs: Vec<Need>,
}

impl Blocked {
    /// Two looks at the same wait give the same key.
    fn key(&self) -> (u32, u64) {
        (self.task.tid(), self.record.since_ns)
    }
}

fn may_end_by_itself(task: &Task, record: &WaitRecord) -> bool {
    record.deadline.is_some()
        || record.mode == WaitMode::Uninterruptible
        || task.has_signal()
        || task.process.timers.is_any_armed()
}

/// Every wait that has lasted since `before`; sets the timer for the younger ones.
fn look(before: u64) -> Vec<Blocked> {
    let mut found = Vec::new();
    let mut youngest = None;
    let mut descriptors = Descriptors::new();
    for process in crate::task::all_processes() {
        let threads = process.threads.lock().to_vec();
        for task in threads {
            let Some(record) = task.wait_record() else { continue };
            if may_end_by_itself(&task, &record) {
                continue;
            }
            if record.since_ns > before {
                youngest = youngest.max(Some(record.since_ns));
                continue;
            }
            let needs = needs::of(&task, &record, &mut descriptors);
            if !needs.is_empty() {
                found.push(Blocked { task, record, needs });
            }
        }
    }
    if let Some(since) = youngest {
        arm(since + SETTLED_NS);
    }
    found
}

/// The circles among `blocked`, as indexes into it.
fn circles(blocked: &[Blocked]) -> Vec<Vec<usize>> {
    let waits: Vec<Wait> = blocked
        .iter()
        .map(|one| Wait { thread: one.task.tid(), needs: one.needs.iter().map(|need| need.holders.clone()).collect() })
        .collect();
    let mut found = wait_graph::circles(&waits, &wait_graph::stuck(&waits));
    // One process alone with a pipe of its own may wait for a signal as well.
    found.retain(|circle| {
        let first = blocked[circle[0]].task.process.pid;
        circle.iter().any(|&at| !blocked[at].needs[0].is_pipe || blocked[at].task.process.pid != first)
    });
    found
}

fn keys(blocked: &[Blocked], circle: &[usize]) -> Vec<(u32, u64)> {
    circle.iter().map(|&at| blocked[at].key()).collect()
}

fn check() {
    let before = crate::time::now_ns().saturating_sub(SETTLED_NS);
    let blocked = look(before);
    let suspects: Vec<_> = circles(&blocked).iter().map(|circle| keys(&blocked, circle)).collect();
    drop(blocked);
    if suspects.iter().all(|keys| HISTORY.lock().knows(keys)) {
        return;
    }
    let until = crate::time::now_ns() + SECOND_LOOK_NS;
    let reason = WaitReason::new(WaitKind::DeadlockDetector);
    let _ = Park::park_until::<()>(WaitMode::Uninterruptible, Some(until), reason, || None);
    let blocked = look(before);
    for circle in circles(&blocked) {
        let keys = keys(&blocked, &circle);
        if suspects.contains(&keys) && !HISTORY.lock().knows(&keys) {
            report(&blocked, &circle, keys);
        }
    }
}

/// What was reported.
struct History {
    count: u64,
    /// The circles, to report each once, and their texts; the latest ones.
    reports: VecDeque<(Vec<(u32, u64)>, String)>,
}

static HISTORY: SpinLock<History> = SpinLock::new(History { count: 0, reports: VecDeque::new() });

impl History {
    fn knows(&self, keys: &[(u32, u64)]) -> bool {
        self.reports.iter().any(|(known, _)| known == keys)
    }
}

/// "12 (name)" or, where thread and process differ, "13 (name) of process 12".
pub fn name_of(task: &Task) -> String {
    if task.tid() == task.process.pid {
        alloc::format!("{} ({})", task.tid(), task.comm())
    } else {
        alloc::format!("{} ({}) of process {}", task.tid(), task.comm(), task.process.pid)
    }
}

fn report(blocked: &[Blocked], circle: &[usize], keys: Vec<(u32, u64)>) {
    let now = crate::time::now_ns();
    let mut lines = Vec::new();
    for (place, &at) in circle.iter().enumerate() {
        let one = &blocked[at];
        let next = &blocked[circle[(place + 1) % circle.len()]].task;
        let need = one.needs.iter().find(|need| need.holders.contains(&next.tid())).unwrap_or(&one.needs[0]);
        let holder = if next.tid() == one.task.tid() { String::from("itself") } else { name_of(next) };
        let waited_ms = now.saturating_sub(one.record.since_ns) / 1_000_000;
        lines.push(alloc::format!(
            "  {} waits for {} held by {holder}, for {waited_ms} ms",
            name_of(&one.task),
            need.what
        ));
    }
    let mut history = HISTORY.lock();
    history.count += 1;
    let head = match circle.len() {
        1 => alloc::format!("deadlock {}: a thread waits for itself", history.count),
        count => alloc::format!("deadlock {}: {count} threads wait for each other", history.count),
    };
    let mut text = String::new();
    let _ = writeln!(text, "{head}, since {}.{:06} s", now / 1_000_000_000, now % 1_000_000_000 / 1000);
    for line in &lines {
        let _ = writeln!(text, "{line}");
    }
    while history.reports.len() >= KEPT {
        history.reports.pop_front();
    }
    history.reports.push_back((keys, text));
    drop(history);
    crate::warn!("{head}");
    for line in &lines {
        crate::warn!("{line}");
    }
}

/// /proc/deadlocks: every report, oldest first; empty when there was none.
pub fn history() -> String {
    HISTORY.lock().reports.iter().map(|(_, text)| text.as_str()).collect()
}
