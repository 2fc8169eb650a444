//! What every thread is doing: /proc/PID/wait, one line, and /proc/waits, the whole machine as JSON.

use super::deadlock::needs::{self, Descriptors};
use crate::prelude::*;
use crate::sync::{WaitKind, WaitRecord};
use core::fmt::Write;

/// Time in user mode without a system call but sched_yield after which a thread is called spinning.
const SPINNING_NS: u64 = 200_000_000;

enum Activity {
    Running,
    /// Waits for a CPU.
    Runnable,
    /// Runs, or would, and never calls the kernel but to yield; for so many ns.
    Spinning(u64),
    Blocked(WaitRecord),
}

impl Activity {
    fn of(task: &Task) -> Self {
        if let Some(record) = task.wait_record() {
            return Activity::Blocked(record);
        }
        match task.computing_ns() {
            ns if ns >= SPINNING_NS => Activity::Spinning(ns),
            _ if task.thread.is_on_cpu() => Activity::Running,
            _ => Activity::Runnable,
        }
    }
    fn name(&self) -> &'static str {
        match self {
            Activity::Running => "running",
            Activity::Runnable => "runnable",
            Activity::Spinning(_) => "spinning",
            Activity::Blocked(record) if record.reason.kind == WaitKind::Stopped => "stopped",
            Activity::Blocked(_) => "blocked",
        }
    }
}

/// What a thread waits for may be an address in its memory: for who may look there, 0 for others.
fn shown(task: &Task, object: u64) -> u64 {
    if crate::process::may_inspect(&task.process) { object } else { 0 }
}

struct Seconds(u64);

impl core::fmt::Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000)
    }
}

/// Who could end the wait, and the object in words where more is known than its number.
fn helpers(task: &Arc<Task>, record: &WaitRecord, descriptors: &mut Descriptors) -> (Vec<u32>, Option<String>) {
    let mut needs = needs::of(task, record, descriptors).into_iter();
    match needs.next() {
        Some(need) => (need.holders, Some(need.what)),
        None if record.reason.owner != 0 => (alloc::vec![record.reason.owner], None),
        None if record.reason.kind == WaitKind::Wait => {
            let mut children = Vec::new();
            crate::task::tree::TREE.lock().visit_children(task.process.pid, &mut |child| {
                children.push(child.pid);
                core::ops::ControlFlow::Continue(())
            });
            (children, None)
        }
        None => (Vec::new(), None),
    }
}

fn list(threads: &[u32]) -> String {
    let mut out = String::new();
    for (at, thread) in threads.iter().enumerate() {
        let _ = write!(out, "{}{thread}", if at == 0 { "" } else { "," });
    }
    out
}

/// `running cpu=N`, `runnable cpu=N`, `spinning cpu=N ms=MS`, or `KIND object=ID owner=TID[,TID...] since=SECONDS ms=MS`, with
/// ` until=SECONDS` when it ends by itself and ` (words)` when the object has a name. Owner 0 is nobody known.
pub fn line(task: &Arc<Task>) -> String {
    let now = crate::time::now_ns();
    let activity = Activity::of(task);
    let cpu = task.sched.last_cpu();
    let mut out = String::new();
    let _ = match &activity {
        Activity::Running | Activity::Runnable => write!(out, "{} cpu={cpu}", activity.name()),
        Activity::Spinning(ns) => write!(out, "spinning cpu={cpu} ms={}", ns / 1_000_000),
        Activity::Blocked(record) => {
            let (holders, what) = helpers(task, record, &mut Descriptors::new());
            let owner = if holders.is_empty() { String::from("0") } else { list(&holders) };
            let waited_ms = now.saturating_sub(record.since_ns) / 1_000_000;
            let reason = &record.reason;
            let _ = write!(
                out,
                "{} object={:#x} owner={owner} since={} ms={waited_ms}",
                reason.kind.name(),
                shown(task, reason.object),
                Seconds(record.since_ns)
            );
            if let Some(deadline) = record.deadline {
                let _ = write!(out, " until={}", Seconds(deadline));
            }
            match what.filter(|_| crate::process::may_inspect(&task.process)) {
                Some(what) => write!(out, " ({what})"),
                None => Ok(()),
            }
        }
    };
    out.push('\n');
    out
}

/// Text as the inside of a JSON string.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if (control as u32) < 32 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out
}

/// `{"now_ns", "threads": [{"pid", "tid", "name", "state", "activity", "cpu", "user_ns", "system_ns", "wait"}]}`; `wait` is null or
/// `{"kind", "object", "what", "owners", "since_ns", "until_ns"}`; spinning threads have `spinning_ns`.
pub fn json() -> String {
    let now = crate::time::now_ns();
    let mut descriptors = Descriptors::new();
    let mut out = alloc::format!("{{\"now_ns\":{now},\"threads\":[");
    let mut first = true;
    for process in crate::task::all_processes() {
        let threads = process.threads.lock().to_vec();
        for task in threads {
            let activity = Activity::of(&task);
            let (user, system) = task.cpu_times();
            let _ = write!(
                out,
                "{}\n{{\"pid\":{},\"tid\":{},\"name\":\"{}\",\"state\":\"{}\",\"activity\":\"{}\",\"cpu\":{},\"user_ns\":{user},\"system_ns\":{system},",
                if first { "" } else { "," },
                process.pid,
                task.tid(),
                escape(&task.comm()),
                task.state_letter(),
                activity.name(),
                task.sched.last_cpu()
            );
            first = false;
            if let Activity::Spinning(ns) = &activity {
                let _ = write!(out, "\"spinning_ns\":{ns},");
            }
            let _ = match &activity {
                Activity::Blocked(record) => {
                    let (holders, what) = helpers(&task, record, &mut descriptors);
                    let optional = |value: Option<String>| value.unwrap_or_else(|| String::from("null"));
                    write!(
                        out,
                        "\"wait\":{{\"kind\":\"{}\",\"object\":{},\"what\":{},\"owners\":[{}],\"since_ns\":{},\"until_ns\":{}}}}}",
                        record.reason.kind.name(),
                        shown(&task, record.reason.object),
                        optional(
                            what.filter(|_| crate::process::may_inspect(&process))
                                .map(|what| alloc::format!("\"{}\"", escape(&what)))
                        ),
                        list(&holders),
                        record.since_ns,
                        optional(record.deadline.map(|deadline| alloc::format!("{deadline}")))
                    )
                }
                _ => write!(out, "\"wait\":null}}"),
            };
        }
    }
    out.push_str("\n]}\n");
    out
}
