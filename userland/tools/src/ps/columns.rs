//! The columns ps knows.

use super::{Context, Row};
use crate::machine::TICK_NS;
use crate::table::Column;

/// A column of the output.
#[derive(Clone, Copy)]
pub struct Shown {
    pub column: Column,
    pub cell: fn(&Row<'_>, &Context) -> String,
}

/// Names, then how it is shown.
const COLUMNS: &[(&[&str], Column, fn(&Row<'_>, &Context) -> String)] = &[
    (&["pid", "tgid"], Column::right("PID", 5), |row, _| row.process.pid.to_string()),
    (&["tid", "lwp", "spid"], Column::right("TID", 5), |row, _| row.tid().to_string()),
    (&["ppid"], Column::right("PPID", 5), |row, _| row.process.ppid.to_string()),
    (&["pgid", "pgrp"], Column::right("PGID", 5), |row, _| row.process.pgid.to_string()),
    (&["sid", "sess"], Column::right("SID", 5), |row, _| row.process.sid.to_string()),
    (&["tpgid"], Column::right("TPGID", 5), |row, _| row.process.foreground.to_string()),
    (&["user", "euser", "uname"], Column::left("USER", 8), |row, all| all.users.name(row.process.uid)),
    (&["uid", "euid"], Column::right("UID", 5), |row, _| row.process.uid.to_string()),
    (&["s", "state"], Column::left("S", 1), |row, _| row.state().to_string()),
    (&["stat"], Column::left("STAT", 4), |row, _| row.states()),
    (&["c"], Column::right("C", 2), |row, all| format!("{:.0}", row.cpu_share(all))),
    (&["%cpu", "pcpu"], Column::right("%CPU", 4), |row, all| format!("{:.1}", row.cpu_share(all))),
    (&["%mem", "pmem"], Column::right("%MEM", 4), |row, all| {
        format!("{:.1}", row.process.resident_pages as f64 * 400.0 / all.memory_kib as f64)
    }),
    (&["vsz", "vsize"], Column::right("VSZ", 6), |row, _| (row.process.virtual_bytes / 1024).to_string()),
    (&["rss", "rssize"], Column::right("RSS", 5), |row, _| (row.process.resident_pages * 4).to_string()),
    (&["tty", "tt", "tname"], Column::left("TTY", 7), |row, _| row.process.terminal()),
    (&["start", "stime", "start_time"], Column::right("START", 5), |row, all| all.start(row)),
    (&["etime"], Column::right("ELAPSED", 8), |row, all| clock(all.now_ns.saturating_sub(row.process.start_ns))),
    (&["time", "cputime"], Column::right("TIME", 8), |row, _| clock(row.cpu_ns())),
    (&["ni", "nice"], Column::right("NI", 3), |row, _| row.process.nice.to_string()),
    (&["pri", "priority"], Column::right("PRI", 3), |row, _| row.process.priority.to_string()),
    (&["psr", "cpuid"], Column::right("PSR", 3), |row, _| {
        row.thread.map_or(row.process.cpu, |thread| thread.cpu).to_string()
    }),
    (&["cls", "class", "policy"], Column::left("CLS", 3), |row, _| {
        let names = ["TS", "FF", "RR", "B", "?", "IDL", "DLN"];
        names.get(row.process.policy as usize).unwrap_or(&"?").to_string()
    }),
    (&["nlwp", "thcount"], Column::right("NLWP", 4), |row, _| row.process.threads.to_string()),
    (&["wchan"], Column::left("WCHAN", 11), |row, _| {
        row.thread.and_then(|thread| thread.wait.as_ref()).map_or_else(|| String::from("-"), |wait| wait.kind.clone())
    }),
    (&["comm", "ucmd", "ucomm"], Column::left("NAME", 8), |row, _| row.name()),
    (&["args", "cmd", "command"], Column::left("COMMAND", 7), |row, _| row.process.command()),
    (&["doing", "wait"], Column::left("DOING", 7), |row, _| row.doing.clone()),
];

pub fn find(name: &str) -> Option<Shown> {
    let (_, column, cell) = COLUMNS.iter().find(|(names, ..)| names.contains(&name))?;
    Some(Shown { column: *column, cell: *cell })
}

/// Something to order lines by `name`.
pub fn sort_key(name: &str, row: &Row<'_>) -> (u64, String) {
    let process = row.process;
    match name {
        "comm" | "ucmd" => (0, row.name()),
        "args" | "cmd" | "command" => (0, process.command()),
        "pcpu" | "%cpu" | "c" => {
            // Share since the start, with the same "now" for all: CPU time per time alive.
            let alive = crate::machine::now_ns().saturating_sub(process.start_ns).max(1);
            ((row.cpu_ns() as u128 * 1_000_000 / alive as u128) as u64, String::new())
        }
        "time" | "cputime" => (row.cpu_ns(), String::new()),
        "rss" | "pmem" | "%mem" => (process.resident_pages, String::new()),
        "vsz" => (process.virtual_bytes, String::new()),
        "start" | "stime" => (process.start_ns, String::new()),
        "uid" | "user" => (process.uid.into(), String::new()),
        "ppid" => (process.ppid.into(), String::new()),
        "tid" | "lwp" => (row.tid().into(), String::new()),
        _ => (process.pid.into(), String::new()),
    }
}

/// Columns --sort knows.
pub const SORTABLE: &[&str] = &[
    "pid", "tid", "lwp", "ppid", "uid", "user", "comm", "ucmd", "args", "cmd", "command", "pcpu", "%cpu", "c", "time",
    "cputime", "rss", "pmem", "%mem", "vsz", "start", "stime",
];

/// [DAYS-]HH:MM:SS
fn clock(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}-{time}") } else { time }
}

impl Context {
    /// Time of day it started at, in UTC; the days it has run when that was not within a day.
    fn start(&self, row: &Row<'_>) -> String {
        let ago_ns = self.now_ns.saturating_sub(row.process.start_ns);
        if ago_ns >= 86_400_000_000_000 {
            return format!("{}d", ago_ns / 86_400_000_000_000);
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let start_s = now.as_secs().saturating_sub(ago_ns / 1_000_000_000) % 86_400;
        format!("{:02}:{:02}", start_s / 3600, start_s / 60 % 60)
    }
}

impl Row<'_> {
    fn tid(&self) -> u32 {
        if self.per_thread { self.thread.map_or(self.process.pid, |thread| thread.tid) } else { self.process.pid }
    }
    fn name(&self) -> String {
        match self.thread {
            Some(thread) if self.per_thread => thread.name.clone(),
            _ => self.process.comm.clone(),
        }
    }
    fn state(&self) -> char {
        self.thread.map_or(self.process.state, |thread| thread.state)
    }
    /// State and what procps adds: < and N nice, s leads a session, l has threads, + is in the foreground.
    fn states(&self) -> String {
        let process = self.process;
        let mut out = self.state().to_string();
        let marks = [
            ('<', process.nice < 0),
            ('N', process.nice > 0),
            ('s', process.sid == process.pid),
            ('l', process.threads > 1),
            ('+', process.foreground == i64::from(process.pgid)),
        ];
        out.extend(marks.iter().filter(|mark| mark.1).map(|mark| mark.0));
        out
    }
    fn cpu_ns(&self) -> u64 {
        match self.thread {
            Some(thread) if self.per_thread => thread.cpu_ns(),
            _ => self.process.user_ns + self.process.system_ns,
        }
    }
    /// Per cent of one CPU since the start.
    fn cpu_share(&self, all: &Context) -> f64 {
        let alive = all.now_ns.saturating_sub(self.process.start_ns).max(TICK_NS);
        self.cpu_ns() as f64 * 100.0 / alive as f64
    }
}
