//! The table of every thread: state, CPU time and what it is blocked on.

use std::fmt::Write;
use std::fs;
use std::path::Path;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_string()
}

/// Numeric entries of a directory, in order.
fn numbers(path: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut found: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// State letter and user + system time in clock ticks, from /proc/PID/task/TID/stat.
fn state_and_time(stat: &str) -> Option<(char, u64)> {
    // The name may hold spaces and parentheses: the fields begin behind the last one.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let time = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((fields.first()?.chars().next()?, time))
}

/// The table, with kernel stacks when asked for.
pub fn table(stacks: bool) -> String {
    let mut out = format!("{:>6} {:>6} S {:>9} {:<16} BLOCKED ON\n", "PID", "TID", "CPU s", "NAME");
    for pid in numbers("/proc") {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            let at = Path::new("/proc").join(pid.to_string()).join("task").join(tid.to_string());
            let Some((state, ticks)) = state_and_time(&read(&at.join("stat"))) else { continue };
            let wait = read(&at.join("wait"));
            let wait = if wait.is_empty() { read(&at.join("wchan")) } else { wait };
            let wait = if state == 'R' { "running" } else { wait.as_str() };
            let name = read(&at.join("comm"));
            let _ = writeln!(out, "{pid:>6} {tid:>6} {state} {:>9.2} {name:<16} {wait}", ticks as f64 / 100.0);
            if stacks {
                for line in read(&at.join("stack")).lines() {
                    let _ = writeln!(out, "{:>16}{line}", "");
                }
            }
        }
    }
    out
}
