//! waits: every thread of the machine, its CPU time, and what it is blocked on; then deadlocks, if there are any.

use crate::machine::{Activity, Snapshot};
use crate::table::{Column, render};
use std::fs;

const HELP: &str = "\
usage: waits [-k] [-b] [PID...]
Every thread of the machine (or of these processes): state, CPU time and what it does:
  Running, Runnable     on a CPU, or waiting for one
  Spinning (TIME)       in user mode for so long without any system call but sched_yield: a busy loop or a computation
  Blocked on KIND: WHAT (WHO; SINCE)   asleep; WHO are the threads that could end it, where the kernel knows them
Threads that wait for each other in a circle are named at the end.
  -b, --blocked         only those that are blocked
  -k, --stacks          with each blocked thread's stack in the kernel
";

pub fn main(arguments: &[String]) -> u8 {
    let (mut stacks, mut only_blocked, mut pids) = (false, false, Vec::new());
    for argument in arguments {
        match argument.as_str() {
            "-k" | "--stacks" => stacks = true,
            "-b" | "--blocked" => only_blocked = true,
            "-h" | "--help" => return crate::print(HELP),
            other => match other.parse::<u32>() {
                Ok(pid) => pids.push(pid),
                Err(_) => return crate::usage_error("waits", &format!("what is '{other}'?")),
            },
        }
    }
    match show(stacks, only_blocked, &pids) {
        Ok(text) => crate::print(&text),
        Err(error) => {
            eprintln!("waits: {error}");
            1
        }
    }
}

/// The table; of all processes where `pids` is empty.
pub fn show(stacks: bool, only_blocked: bool, pids: &[u32]) -> Result<String, String> {
    const COLUMNS: &[Column] = &[
        Column::right("PID", 5),
        Column::right("TID", 5),
        Column::left("S", 1),
        Column::right("TIME", 8),
        Column::left("NAME", 15),
        Column::left("DOING", 0),
    ];
    let snapshot = Snapshot::read()?;
    let mut rows = Vec::new();
    for thread in &snapshot.threads {
        if !pids.is_empty() && !pids.contains(&thread.pid) || only_blocked && thread.activity != Activity::Blocked {
            continue;
        }
        rows.push(vec![
            thread.pid.to_string(),
            thread.tid.to_string(),
            thread.state.to_string(),
            format!("{:.2}", thread.cpu_ns() as f64 / 1e9),
            thread.name.clone(),
            snapshot.doing(thread),
        ]);
        if stacks {
            let stack = fs::read_to_string(format!("/proc/{}/task/{}/stack", thread.pid, thread.tid));
            for line in stack.unwrap_or_default().lines() {
                let mut row = vec![String::new(); COLUMNS.len() - 1];
                row.push(format!("  {}", line.trim_start_matches("[<0>] ")));
                rows.push(row);
            }
        }
    }
    let mut out = render(COLUMNS, &rows, true, None);
    let deadlocks = fs::read_to_string("/proc/deadlocks").unwrap_or_default();
    if !deadlocks.trim().is_empty() {
        out.push_str("\nDeadlocks:\n");
        out.push_str(deadlocks.trim_end());
        out.push('\n');
    }
    Ok(out)
}
