//! ps: processes or threads, with what each does. The usual forms of procps (aux, -ef, -eLf, -o) and one more column, DOING.

mod columns;
mod options;

use crate::machine::{Process, Snapshot, Thread, Users, busiest, meminfo, now_ns};
use crate::table::{render, terminal_size};
use options::Options;

const HELP: &str = "\
usage: ps [OPTIONS]
Processes and what they do; all of the machine's unless some are chosen.
  (none)                PID, user, state, %CPU, CPU time, name and DOING: Running, Runnable, Spinning, Blocked on what (who; since)
  -L, -T, H             a line for each thread
  -f, u, j, -l          full, user, job and long format; ps aux, ps -ef and ps -eLf as everywhere
  -o LIST, o LIST       these columns: pid tid ppid pgid sid user uid s stat pcpu pmem vsz rss tty start etime time ni pri psr cls nlwp
                        comm args wchan doing; NAME=HEAD renames one, NAME= leaves the head away
  -p LIST, -C NAME, -u USER, -t TTY   only these
  -N, --deselect        all but these
  --sort [-]COLUMN      by a column (- for downwards): pid, pcpu, time, rss, vsz, start, comm
  --no-headers, h       no heads
  -w, w, ww             wide: lines are cut at the terminal's width otherwise, where that is known
%CPU is the share of one CPU since the start. Spinning (TIME): in user mode for so long without any system call but sched_yield,
which is a busy loop or a computation: the kernel cannot tell. A process is shown by its busiest thread.
";

pub fn main(arguments: &[String]) -> u8 {
    match Options::parse(arguments) {
        Err(error) => crate::usage_error("ps", &error),
        Ok(options) if options.help => crate::print(HELP),
        Ok(options) => {
            let rows = rows(&options);
            let status = print(&options, &rows);
            // As everywhere: 1 when what was asked for is not there.
            if rows.is_empty() { 1 } else { status }
        }
    }
}

/// What a line is made of.
pub struct Row<'a> {
    process: &'a Process,
    /// The thread of a thread's line, or the one that stands for its process; none of a zombie.
    thread: Option<&'a Thread>,
    per_thread: bool,
    doing: String,
}

/// What all lines share.
pub struct Context {
    users: Users,
    now_ns: u64,
    memory_kib: u64,
}

/// The cells of every line, in order.
fn rows(options: &Options) -> Vec<Vec<String>> {
    // Another kernel has no /proc/waits: then only DOING and threads are missing.
    let snapshot = Snapshot::read().unwrap_or(Snapshot { now_ns: 0, threads: Vec::new() });
    let by_process = snapshot.by_process();
    let processes = Process::all();
    let context = Context { users: Users::read(), now_ns: now_ns(), memory_kib: meminfo("MemTotal").max(1) };
    let mut rows = Vec::new();
    for process in processes.iter().filter(|process| options.selects(process, &context.users)) {
        let threads = by_process.get(&process.pid).map_or(&[][..], Vec::as_slice);
        if options.threads && !threads.is_empty() {
            rows.extend(threads.iter().map(|thread| Row {
                process,
                thread: Some(thread),
                per_thread: true,
                doing: snapshot.doing(thread),
            }));
            continue;
        }
        let thread = busiest(threads);
        let doing = match thread {
            Some(thread) => snapshot.doing(thread),
            None if process.state == 'Z' => format!("Ended (until {} waits for it)", process.ppid),
            None => String::from("-"),
        };
        rows.push(Row { process, thread, per_thread: false, doing });
    }
    if let Some((key, downwards)) = &options.sort {
        rows.sort_by_key(|row| columns::sort_key(key, row));
        if *downwards {
            rows.reverse();
        }
    }
    rows.iter().map(|row| options.columns.iter().map(|column| (column.cell)(row, &context)).collect()).collect()
}

fn print(options: &Options, rows: &[Vec<String>]) -> u8 {
    let columns: Vec<_> = options.columns.iter().map(|column| column.column).collect();
    let heads = options.heads && columns.iter().any(|column| !column.head.is_empty());
    let width = if options.wide { None } else { terminal_size(1).map(|size| size.1) };
    crate::print(&render(&columns, rows, heads, width))
}
