//! top: who uses the CPUs, refreshed; one pass of [`sample`] between two snapshots makes a [`screen`].

use crate::machine::{Activity, Process, Snapshot, Users, busiest, idle, meminfo};
use crate::table::{Column, cut, is_terminal, render, terminal_size};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

const HELP: &str = "\
usage: top [-b] [-n N] [-d SECONDS] [-H] [-i] [-p PID[,PID...]]
Who uses the CPUs, what the others are blocked on, again every 2 seconds.
  -b          batch: pages one after the other, for files and pipes (so also where standard output is no terminal)
  -n N        ends after N pages
  -d SECONDS  between pages; 0.1 at least
  -H          a line for each thread
  -i          without those that use no CPU
  -p PIDS     these processes only
Keys: q quits, space shows the next page now, H threads, i idle ones, P by CPU, M by memory, N by number, T by time.
%CPU is the share of one CPU since the page before; RES is in KiB. DOING is explained in waits --help.
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Cpu,
    Memory,
    Number,
    Time,
}

struct Options {
    batch: bool,
    pages: Option<u64>,
    delay_ms: u64,
    threads: bool,
    only_busy: bool,
    pids: Vec<u32>,
    order: Order,
}

fn parse(arguments: &[String]) -> Result<Option<Options>, String> {
    let mut options = Options {
        batch: !is_terminal(1),
        pages: None,
        delay_ms: 2000,
        threads: false,
        only_busy: false,
        pids: Vec::new(),
        order: Order::Cpu,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--help" {
            return Ok(None);
        }
        let letters = argument.strip_prefix('-').filter(|letters| !letters.is_empty());
        let letters = letters.ok_or_else(|| format!("what is '{argument}'?"))?;
        for (at, letter) in letters.char_indices() {
            let mut value = || {
                let inside = &letters[at + letter.len_utf8()..];
                let next = if inside.is_empty() { rest.next().map(String::as_str) } else { Some(inside) };
                next.ok_or_else(|| format!("-{letter} needs a value"))
            };
            match letter {
                'b' => options.batch = true,
                'H' => options.threads = true,
                'i' => options.only_busy = true,
                'h' => return Ok(None),
                'n' => {
                    let pages = value()?.parse().ok().filter(|pages| *pages > 0);
                    options.pages = Some(pages.ok_or("-n needs a number of pages")?);
                    break;
                }
                'd' => {
                    let seconds = value()?.parse().ok().filter(|seconds: &f64| (0.1..=86_400.0).contains(seconds));
                    options.delay_ms = (seconds.ok_or("-d needs seconds, 0.1 at least")? * 1000.0) as u64;
                    break;
                }
                'p' => {
                    for word in value()?.split(',') {
                        options.pids.push(word.parse().map_err(|_| format!("'{word}' is no process number"))?);
                    }
                    break;
                }
                _ => return Err(format!("what is '{argument}'?")),
            }
        }
    }
    Ok(Some(options))
}

/// What one page is made of.
struct Sample {
    snapshot: Snapshot,
    idle_ns: u64,
    cpus: u64,
    /// CPU time by thread.
    used: BTreeMap<u32, u64>,
}

fn sample() -> Result<Sample, String> {
    let snapshot = Snapshot::read()?;
    let (idle_ns, cpus) = idle();
    let used = snapshot.threads.iter().map(|thread| (thread.tid, thread.cpu_ns())).collect();
    Ok(Sample { snapshot, idle_ns, cpus, used })
}

struct Line {
    order: (u64, std::cmp::Reverse<u32>),
    cells: Vec<String>,
}

fn head(last: &Sample, now: &Sample) -> String {
    let elapsed = now.snapshot.now_ns.saturating_sub(last.snapshot.now_ns).max(1);
    let idle = now.idle_ns.saturating_sub(last.idle_ns) as f64 * 100.0 / (elapsed * now.cpus) as f64;
    let idle = idle.clamp(0.0, 100.0);
    let count = |activity| now.snapshot.threads.iter().filter(|thread| thread.activity == activity).count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let (total, free, available) = (meminfo("MemTotal"), meminfo("MemFree"), meminfo("MemAvailable"));
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    format!(
        "top - up {}, {} CPU{}, load average {}\n\
         Threads: {} total, {} running, {} runnable, {} spinning, {} blocked, {} stopped\n\
         CPU: {:.1}% busy, {idle:.1}% idle\n\
         MiB: {} total, {} free, {} used, {} available\n",
        crate::machine::duration(now.snapshot.now_ns),
        now.cpus,
        if now.cpus == 1 { "" } else { "s" },
        load.join(", "),
        now.snapshot.threads.len(),
        count(Activity::Running),
        count(Activity::Runnable),
        count(Activity::Spinning),
        count(Activity::Blocked),
        count(Activity::Stopped),
        100.0 - idle,
        mib(total),
        mib(free),
        mib(total.saturating_sub(free)),
        mib(available),
    )
}

/// The page between two samples, at most `rows` lines of threads long.
fn screen(options: &Options, last: &Sample, now: &Sample, rows: usize) -> String {
    const COLUMNS: [Column; 9] = [
        Column::right("PID", 5),
        Column::left("USER", 8),
        Column::left("S", 1),
        Column::right("%CPU", 5),
        Column::right("%MEM", 4),
        Column::right("RES", 6),
        Column::right("TIME", 8),
        Column::left("NAME", 15),
        Column::left("DOING", 0),
    ];
    let elapsed = now.snapshot.now_ns.saturating_sub(last.snapshot.now_ns).max(1);
    let memory_kib = meminfo("MemTotal").max(1) as f64;
    let users = Users::read();
    let mut lines = Vec::new();
    for (pid, threads) in now.snapshot.by_process() {
        if !options.pids.is_empty() && !options.pids.contains(&pid) {
            continue;
        }
        let Some(process) = Process::read(pid) else { continue };
        let groups: Vec<_> = if options.threads { threads.chunks(1).collect() } else { vec![&threads[..]] };
        for group in groups {
            let Some(shown) = busiest(group) else { continue };
            let used: u64 = group
                .iter()
                .map(|thread| thread.cpu_ns().saturating_sub(last.used.get(&thread.tid).copied().unwrap_or(0)))
                .sum();
            let share = used as f64 * 100.0 / elapsed as f64;
            if options.only_busy && share < 0.05 {
                continue;
            }
            let total_ns = match options.threads {
                true => shown.cpu_ns(),
                false => process.user_ns + process.system_ns,
            };
            let key = match options.order {
                Order::Cpu => used,
                Order::Memory => process.resident_pages,
                Order::Time => total_ns,
                Order::Number => 0,
            };
            let hundredths = total_ns / 10_000_000;
            let number = if options.threads { shown.tid } else { pid };
            let name = if options.threads { shown.name.clone() } else { process.comm.clone() };
            let cells = vec![
                number.to_string(),
                users.name(process.uid),
                shown.state.to_string(),
                format!("{share:.1}"),
                format!("{:.1}", process.resident_pages as f64 * 400.0 / memory_kib),
                (process.resident_pages * 4).to_string(),
                format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100),
                name,
                now.snapshot.doing(shown),
            ];
            lines.push(Line { order: (key, std::cmp::Reverse(number)), cells });
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.order));
    let cells: Vec<_> = lines.into_iter().take(rows).map(|line| line.cells).collect();
    let mut columns = COLUMNS;
    if options.threads {
        columns[0] = Column::right("TID", 5);
    }
    format!("{}\n{}", head(last, now), render(&columns, &cells, true, None))
}

/// The terminal without line editing or echo, until it is dropped. Ctrl-C arrives as a byte, so that it is always put back.
struct Keys {
    before: Option<libc::termios>,
}

impl Keys {
    fn take() -> Self {
        // SAFETY: termios calls on descriptor 0 with a structure of our own; all zeros is one.
        unsafe {
            let mut termios: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(0, &mut termios) != 0 {
                return Self { before: None };
            }
            let before = termios;
            termios.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
            termios.c_cc[libc::VMIN] = 0;
            termios.c_cc[libc::VTIME] = 0;
            libc::tcsetattr(0, libc::TCSANOW, &termios);
            Self { before: Some(before) }
        }
    }

    /// Waits for a key; None after `timeout_ms`.
    fn wait(&self, timeout_ms: u64) -> Option<u8> {
        if self.before.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(timeout_ms));
            return None;
        }
        let mut poll = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        let mut key = [0u8];
        // SAFETY: poll and read write into the two variables only.
        unsafe {
            let ready = libc::poll(&mut poll, 1, timeout_ms.min(i32::MAX as u64) as i32);
            match ready {
                0 => None,
                _ if libc::read(0, key.as_mut_ptr().cast(), 1) == 1 => Some(key[0]),
                // The terminal hung up.
                _ => Some(b'q'),
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: as it was.
            unsafe { libc::tcsetattr(0, libc::TCSANOW, before) };
        }
    }
}

/// The first page shows this much time, not everything since the start.
const FIRST_MS: u64 = 250;

fn batch(options: &Options) -> Result<u8, String> {
    let mut last = sample()?;
    let mut pages = 0;
    loop {
        let delay = if pages == 0 { FIRST_MS.min(options.delay_ms) } else { options.delay_ms };
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let now = sample()?;
        let gap = if pages == 0 { "" } else { "\n" };
        let mut out = std::io::stdout().lock();
        if write!(out, "{gap}{}", screen(options, &last, &now, usize::MAX)).and_then(|()| out.flush()).is_err() {
            return Ok(0);
        }
        last = now;
        pages += 1;
        if options.pages.is_some_and(|limit| pages >= limit) {
            return Ok(0);
        }
    }
}

fn interactive(options: &mut Options) -> Result<u8, String> {
    let keys = Keys::take();
    let mut last = sample()?;
    let mut pages = 0;
    let mut delay = FIRST_MS;
    loop {
        match keys.wait(delay) {
            Some(b'q' | b'Q' | 3 | 4) => break,
            Some(b'H') => options.threads = !options.threads,
            Some(b'i') => options.only_busy = !options.only_busy,
            Some(b'P') => options.order = Order::Cpu,
            Some(b'M') => options.order = Order::Memory,
            Some(b'N') => options.order = Order::Number,
            Some(b'T') => options.order = Order::Time,
            Some(_) | None => {}
        }
        let now = sample()?;
        let (height, width) = terminal_size(1).unwrap_or((24, 80));
        let mut out = String::from("\x1b[H");
        // The cursor rests in the last line.
        for line in screen(options, &last, &now, height.saturating_sub(7)).lines() {
            let _ = write!(out, "{}\x1b[K\r\n", cut(line, width));
        }
        out.push_str("\x1b[J");
        if crate::print(&out) != 0 {
            break;
        }
        last = now;
        pages += 1;
        delay = options.delay_ms;
        if options.pages.is_some_and(|limit| pages >= limit) {
            break;
        }
    }
    Ok(0)
}

pub fn main(arguments: &[String]) -> u8 {
    let mut options = match parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => return crate::print(HELP),
        Err(error) => return crate::usage_error("top", &error),
    };
    let ended = if options.batch { batch(&options) } else { interactive(&mut options) };
    ended.unwrap_or_else(|error| {
        eprintln!("top: {error}");
        1
    })
}
