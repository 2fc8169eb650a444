//! The longer texts of /proc/PID: stat, status, limits and what stands beside them.

use super::process::Subject;
use super::system::TICK_NS;
use crate::mm::show::Usage;
use crate::mm::space::Layout;
use crate::prelude::*;
use crate::task::process::rlimit;
use base::text::{Line, Text};
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// comm; a zombie is named by its program.
pub fn name(subject: &Subject) -> String {
    if let Ok(task) = subject.task() {
        return task.comm();
    }
    let file = subject.process.executable.lock().clone();
    let name = file.and_then(|file| file.path.as_ref().map(|path| path.dentry.name())).unwrap_or_default();
    String::from_utf8_lossy(&name[..name.len().min(15)]).into_owned()
}

fn letter(subject: &Subject) -> char {
    if subject.process.life.is_zombie() {
        return 'Z';
    }
    match subject.task() {
        Ok(task) => task.state_letter(),
        Err(_) => 'Z',
    }
}

fn usage(subject: &Subject) -> Usage {
    subject.space().map(|space| space.usage()).unwrap_or_default()
}

struct Signals {
    thread_pending: u64,
    shared_pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

fn signals(subject: &Subject) -> Signals {
    let (thread_pending, blocked) =
        subject.task().map_or((0, 0), |task| (task.signal.pending.set(), task.signal.mask()));
    let process = &subject.process.signal;
    let (ignored, caught) = process.ignored_and_caught();
    Signals { thread_pending, shared_pending: process.pending.set(), blocked, ignored, caught }
}

/// Priority as ps shows it: 20 + nice, or -1 - real-time priority.
fn priority(task: &Task) -> i64 {
    match task.sched.effective_rt() {
        0 => 20 + task.sched.nice() as i64,
        rt => -1 - rt as i64,
    }
}

/// The fields of proc(5)'s /proc/PID/stat: ENOMEM.
pub fn stat(subject: &Subject) -> Result<Vec<u8>, Errno> {
    let process = &subject.process;
    let task = subject.task().ok();
    let (parent, pgid, sid) = {
        let relations = process.relations.lock();
        (relations.parent.upgrade().map_or(0, |parent| parent.pid), relations.pgid, relations.sid)
    };
    let (tty, foreground) = crate::file::tty::of_process(process)
        .map_or((0, -1), |(device, group)| (device, if group == 0 { -1 } else { group as i64 }));
    let life = &process.life;
    let (user, system) = match &subject.thread {
        Some(thread) => thread.cpu_times(),
        None => process.cpu_times(),
    };
    let space = task.as_ref().and_then(|task| task.mm.get());
    let (virtual_pages, resident_pages, layout) = space.map(|space| space.sizes_and_layout()).unwrap_or_default();
    let may_see = crate::process::may_inspect(process);
    let layout = if may_see { layout } else { Layout::default() };
    let (pending, blocked) = task.as_ref().map_or((0, 0), |task| (task.signal.pending.set(), task.signal.mask()));
    let (ignored, caught) = process.signal.ignored_and_caught();
    let id = subject.thread.as_ref().map_or(process.pid, |thread| thread.tid());
    let sched = task.as_ref().map(|task| &task.sched);
    // 52 numbers of at most 20 digits, and a name of 15 bytes.
    let mut out: Line<1152> = Line::new();
    out.decimal(u64::from(id)).put(b" (");
    match &task {
        Some(task) => out.put(task.name.lock().split(|byte| *byte == 0).next().unwrap_or_default()),
        None => out.put(name(subject).as_bytes()),
    };
    let letter = match &task {
        Some(task) if !life.is_zombie() => task.state_letter(),
        _ => 'Z',
    };
    out.put(b") ").byte(letter as u8).byte(b' ');
    out.row(&[u64::from(parent), u64::from(pgid), u64::from(sid), tty]).signed(foreground).put(b" 4194304 ");
    out.row(&[load(&life.minor_faults), 0, load(&life.major_faults), 0, user / TICK_NS, system / TICK_NS]);
    out.row(&[load(&life.children_user_ns) / TICK_NS, load(&life.children_system_ns) / TICK_NS]);
    out.signed(task.as_ref().map_or(20, |task| priority(task))).put(b" ");
    out.signed(sched.map_or(0, |sched| sched.nice() as i64)).put(b" ");
    out.row(&[process.nr_threads().max(1) as u64, 0, process.start_time_ns / TICK_NS]);
    out.row(&[virtual_pages * PAGE_SIZE as u64, resident_pages, process.limit(rlimit::RSS)]);
    out.row(&[layout.code.0, layout.code.1, layout.stack_top, 0, 0]);
    out.row(&[pending, blocked, ignored, caught].map(|set| set & 0x7fff_ffff));
    let waits = task.as_ref().is_some_and(|task| task.wait_record().is_some());
    out.row(&[u64::from(waits), 0, 0, u64::from(life.exit_signal.load(Ordering::Relaxed))]);
    out.row(&[
        sched.map_or(0, |sched| sched.last_cpu() as u64),
        sched.map_or(0, |sched| sched.rt_priority() as u64),
        sched.map_or(0, |sched| sched.policy() as u64),
        0,
        0,
        0,
    ]);
    out.row(&[
        layout.data.0,
        layout.data.1,
        layout.brk_start,
        layout.args.0,
        layout.args.1,
        layout.env.0,
        layout.env.1,
    ]);
    out.decimal(if may_see && life.is_zombie() { u64::from(life.status()) } else { 0 }).byte(b'\n');
    let mut text = Text::new();
    text.put(out.as_bytes());
    text.finish()
}

pub fn statm(subject: &Subject) -> String {
    let usage = usage(subject);
    alloc::format!(
        "{} {} {} {} 0 {} 0\n",
        usage.virtual_pages,
        usage.resident_pages,
        usage.shared_pages,
        usage.text_pages,
        usage.data_pages + usage.stack_pages
    )
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        'Z' => "zombie",
        _ => "dead",
    }
}

pub fn status(subject: &Subject) -> String {
    let process = &subject.process;
    let task = subject.task().ok();
    let creds = task.as_ref().map_or_else(|| process.creds(), |task| task.creds());
    let letter = letter(subject);
    let umask = task.as_ref().map_or(0, |task| task.fs.get().umask());
    let id = subject.thread.as_ref().map_or(process.pid, |thread| thread.tid());
    let mut out = String::new();
    let _ = writeln!(out, "Name:\t{}\nUmask:\t{umask:04o}\nState:\t{letter} ({})", name(subject), state_name(letter));
    let _ = writeln!(out, "Tgid:\t{}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t0", process.pid, process.ppid());
    let _ = writeln!(out, "Uid:\t{}\t{}\t{}\t{}", creds.uid, creds.euid, creds.suid, creds.fsuid);
    let _ = writeln!(out, "Gid:\t{}\t{}\t{}\t{}", creds.gid, creds.egid, creds.sgid, creds.fsgid);
    let _ = writeln!(out, "FDSize:\t{}", task.as_ref().map_or(0, |task| task.files.get().capacity()));
    out.push_str("Groups:\t");
    for group in creds.groups.iter() {
        let _ = write!(out, "{group} ");
    }
    let _ = writeln!(
        out,
        "\nNStgid:\t{}\nNSpid:\t{id}\nNSpgid:\t{}\nNSsid:\t{}",
        process.pid,
        process.pgid(),
        process.sid()
    );
    if subject.space().is_some() {
        let usage = usage(subject);
        let kib = |pages: u64| pages * (PAGE_SIZE as u64 / 1024);
        for (name, value) in [
            ("VmPeak", kib(usage.peak_virtual_pages.max(usage.virtual_pages))),
            ("VmSize", kib(usage.virtual_pages)),
            ("VmLck", kib(usage.locked_pages)),
            ("VmPin", 0),
            ("VmHWM", kib(usage.peak_resident_pages)),
            ("VmRSS", kib(usage.resident_pages)),
            ("RssAnon", kib(usage.resident_pages.saturating_sub(usage.shared_pages))),
            ("RssFile", kib(usage.shared_pages)),
            ("RssShmem", 0),
            ("VmData", kib(usage.data_pages)),
            ("VmStk", kib(usage.stack_pages)),
            ("VmExe", kib(usage.text_pages)),
            ("VmLib", 0),
            ("VmPTE", usage.page_table_bytes / 1024),
            ("VmSwap", 0),
        ] {
            let _ = writeln!(out, "{name}:\t{value:>8} kB");
        }
    }
    let signals = signals(subject);
    let queued = process.signal.user().signals.load(Ordering::Relaxed);
    let _ = writeln!(
        out,
        "CoreDumping:\t0\nTHP_enabled:\t0\nThreads:\t{}\nSigQ:\t{queued}/{}",
        process.nr_threads().max(1),
        process.limit(rlimit::SIGPENDING)
    );
    for (name, set) in [
        ("SigPnd", signals.thread_pending),
        ("ShdPnd", signals.shared_pending),
        ("SigBlk", signals.blocked),
        ("SigIgn", signals.ignored),
        ("SigCgt", signals.caught),
        ("CapInh", creds.cap_inheritable),
        ("CapPrm", creds.cap_permitted),
        ("CapEff", creds.cap_effective),
        ("CapBnd", creds.cap_bounding),
        ("CapAmb", creds.cap_ambient),
    ] {
        let _ = writeln!(out, "{name}:\t{set:016x}");
    }
    let _ = writeln!(out, "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0", u8::from(creds.no_new_privs));
    if let Some(task) = &task {
        let mask = task.sched.affinity.load(Ordering::Relaxed) & crate::sched::online_mask();
        let _ = writeln!(out, "Cpus_allowed:\t{mask:x}\nCpus_allowed_list:\t{}", list(mask));
        out.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\n");
        let _ = writeln!(
            out,
            "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}",
            load(&task.sched.voluntary_switches),
            load(&task.sched.involuntary_switches)
        );
    }
    out
}

/// A CPU set as "0-3,5".
pub fn list(mask: u64) -> String {
    let mut out = String::new();
    let mut cpu = 0;
    while cpu < 64 {
        if mask >> cpu & 1 == 0 {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < 63 && mask >> (cpu + 1) & 1 == 1 {
            cpu += 1;
        }
        if !out.is_empty() {
            out.push(',');
        }
        let _ = if first == cpu { write!(out, "{first}") } else { write!(out, "{first}-{cpu}") };
        cpu += 1;
    }
    out
}

pub fn limits(subject: &Subject) -> String {
    const ROWS: &[(usize, &str, &str)] = &[
        (rlimit::CPU, "Max cpu time", "seconds"),
        (rlimit::FSIZE, "Max file size", "bytes"),
        (rlimit::DATA, "Max data size", "bytes"),
        (rlimit::STACK, "Max stack size", "bytes"),
        (rlimit::CORE, "Max core file size", "bytes"),
        (rlimit::RSS, "Max resident set", "bytes"),
        (rlimit::NPROC, "Max processes", "processes"),
        (rlimit::NOFILE, "Max open files", "files"),
        (rlimit::MEMLOCK, "Max locked memory", "bytes"),
        (rlimit::AS, "Max address space", "bytes"),
        (rlimit::LOCKS, "Max file locks", "locks"),
        (rlimit::SIGPENDING, "Max pending signals", "signals"),
        (rlimit::MSGQUEUE, "Max msgqueue size", "bytes"),
        (rlimit::NICE, "Max nice priority", ""),
        (rlimit::RTPRIO, "Max realtime priority", ""),
        (rlimit::RTTIME, "Max realtime timeout", "us"),
    ];
    let limits = *subject.process.limits.lock();
    let show =
        |value: u64| if value == rlimit::INFINITY { String::from("unlimited") } else { alloc::format!("{value}") };
    let mut out = alloc::format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (index, name, unit) in ROWS {
        let limit = limits[*index];
        let _ = writeln!(out, "{name:<25} {:<20} {:<20} {unit:<10}", show(limit.current), show(limit.max));
    }
    out
}

/// Transfer counters are not kept: ENOSYS would break readers, so the file exists with what is known.
pub fn io(_subject: &Subject) -> Result<Vec<u8>, Errno> {
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec())
}

/// Badness by resident memory, 0 to 2000, as Linux counts it.
pub fn oom_score(subject: &Subject) -> i64 {
    let total = crate::mm::oom::total_pages().max(1) as i64;
    let resident = subject.space().map_or(0, |space| space.sizes().1) as i64;
    let adjust = subject.process.oom_score_adj.load(Ordering::Relaxed) as i64;
    (resident * 1000 / total + adjust).max(0) * 2 / 3
}

pub fn sched(task: &Task) -> String {
    let (user, system) = task.cpu_times();
    let runtime = user + system;
    let mut out = alloc::format!("{} ({}, #threads: {})\n", task.comm(), task.tid(), task.process.nr_threads());
    out.push_str("-------------------------------------------------------------------\n");
    let _ = writeln!(out, "{:<45}:{:>21}.{:06}", "se.sum_exec_runtime", runtime / 1_000_000, runtime % 1_000_000);
    let (voluntary, involuntary) = (load(&task.sched.voluntary_switches), load(&task.sched.involuntary_switches));
    for (name, value) in [
        ("nr_switches", voluntary + involuntary),
        ("nr_voluntary_switches", voluntary),
        ("nr_involuntary_switches", involuntary),
        ("policy", task.sched.policy() as u64),
        ("prio", (priority(task) + 100).max(0) as u64),
    ] {
        let _ = writeln!(out, "{name:<45}:{value:>21}");
    }
    out
}

pub fn schedstat(task: &Task) -> String {
    let (user, system) = task.cpu_times();
    let switches = load(&task.sched.voluntary_switches) + load(&task.sched.involuntary_switches);
    alloc::format!("{} 0 {switches}\n", user + system)
}

/// The kernel functions a parked thread stands in, innermost first; nothing for one that runs.
pub fn stack(task: &Task) -> String {
    let mut out = String::new();
    if task.wait_record().is_none() || task.thread.is_on_cpu() {
        return out;
    }
    let mut frames = [0u64; 24];
    let count = task.thread.backtrace(&mut frames);
    for address in &frames[..count] {
        // A return address lies behind the call.
        let _ = match crate::log::symbol(address.wrapping_sub(4)) {
            Some((name, offset)) => writeln!(out, "[<0>] {name}+{offset:#x}"),
            None => writeln!(out, "[<0>] {address:#x}"),
        };
    }
    out
}

pub fn syscall(task: &Task) -> String {
    match task.syscall_nr.load(Ordering::Relaxed) {
        0 => String::from("running\n"),
        number => alloc::format!("{}\n", number - 1),
    }
}

pub fn wchan(task: &Task) -> String {
    task.wait_record().map_or_else(|| String::from("0"), |record| String::from(record.reason.kind.name()))
}
