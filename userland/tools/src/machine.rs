//! What the machine does, as /proc says: [`Thread`]s with what they do or wait for (/proc/waits), [`Process`]es (/proc/PID/stat,
//! cmdline), and the CPUs' time.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// /proc/waits.
#[derive(Deserialize)]
pub struct Snapshot {
    /// Monotonic time of the snapshot.
    pub now_ns: u64,
    pub threads: Vec<Thread>,
}

#[derive(Deserialize)]
pub struct Thread {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    /// The letter of /proc/PID/stat.
    pub state: char,
    pub activity: Activity,
    pub cpu: u32,
    pub user_ns: u64,
    pub system_ns: u64,
    /// For how long it has called the kernel for nothing but sched_yield.
    #[serde(default)]
    pub spinning_ns: u64,
    pub wait: Option<Wait>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    Running,
    Runnable,
    Spinning,
    Blocked,
    Stopped,
}

#[derive(Deserialize)]
pub struct Wait {
    /// "futex", "pipe_read", "wait", ...
    pub kind: String,
    pub object: u64,
    /// The object in words, where the kernel has some.
    pub what: Option<String>,
    /// Threads that could end the wait.
    pub owners: Vec<u32>,
    pub since_ns: u64,
    pub until_ns: Option<u64>,
}

impl Thread {
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
    /// Which of a process's threads says most: what uses a CPU before what waits.
    fn rank(&self) -> u8 {
        match self.activity {
            Activity::Spinning => 0,
            Activity::Running => 1,
            Activity::Runnable => 2,
            Activity::Stopped => 3,
            Activity::Blocked => 4,
        }
    }
}

impl Snapshot {
    pub fn read() -> Result<Self, String> {
        let text = fs::read_to_string("/proc/waits").map_err(|error| format!("/proc/waits: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("/proc/waits: {error}"))
    }

    fn name_of(&self, tid: u32) -> Option<&str> {
        self.threads.iter().find(|thread| thread.tid == tid).map(|thread| thread.name.as_str())
    }

    /// "Running", "Runnable", "Stopped", "Spinning (2.1 s)" or "Blocked on WHAT (OWNER, SINCE)".
    pub fn doing(&self, thread: &Thread) -> String {
        let wait = match (&thread.wait, thread.activity) {
            (Some(wait), Activity::Blocked) => wait,
            (_, Activity::Spinning) => return format!("Spinning ({})", duration(thread.spinning_ns)),
            (_, Activity::Stopped) => return String::from("Stopped"),
            (_, Activity::Runnable) => return String::from("Runnable"),
            _ => return String::from("Running"),
        };
        let mut out = format!("Blocked on {}", wait.kind);
        match &wait.what {
            Some(what) => drop(write!(out, ": {what}")),
            None if wait.object != 0 && wait.object < 1 << 20 => drop(write!(out, " {}", wait.object)),
            None if wait.object != 0 => drop(write!(out, " {:#x}", wait.object)),
            None => {}
        }
        out.push_str(" (");
        const NAMED: usize = 3;
        for (at, owner) in wait.owners.iter().take(NAMED).enumerate() {
            out.push_str(if at == 0 { "" } else { ", " });
            let _ = match self.name_of(*owner) {
                Some(name) => write!(out, "{owner} {name}"),
                None => write!(out, "{owner}"),
            };
        }
        if wait.owners.len() > NAMED {
            let _ = write!(out, ", and {} more", wait.owners.len() - NAMED);
        }
        if !wait.owners.is_empty() {
            out.push_str("; ");
        }
        let _ = write!(out, "{}", duration(self.now_ns.saturating_sub(wait.since_ns)));
        if let Some(until) = wait.until_ns {
            let _ = write!(out, " of {}", duration(until.saturating_sub(wait.since_ns)));
        }
        out.push(')');
        out
    }

    /// The threads of each process, the leader first.
    pub fn by_process(&self) -> BTreeMap<u32, Vec<&Thread>> {
        let mut processes: BTreeMap<u32, Vec<&Thread>> = BTreeMap::new();
        for thread in &self.threads {
            processes.entry(thread.pid).or_default().push(thread);
        }
        for threads in processes.values_mut() {
            threads.sort_by_key(|thread| (thread.tid != thread.pid, thread.tid));
        }
        processes
    }
}

/// The thread that stands for its process.
pub fn busiest<'a>(threads: &[&'a Thread]) -> Option<&'a Thread> {
    threads.iter().copied().min_by_key(|thread| thread.rank())
}

/// A time in its own unit: "350 us", "12 ms", "4.2 s", "3:05 min", "7:12 h", "3 d".
pub fn duration(ns: u64) -> String {
    let tenths = ns.saturating_add(50_000_000) / 100_000_000;
    let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    match ns {
        _ if ns < 1_000_000 => format!("{} us", ns / 1000),
        _ if ns < 1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ if tenths < 600 => format!("{}.{} s", tenths / 10, tenths % 10),
        _ if seconds < 3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ if seconds < 2 * 86_400 => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// One process of /proc.
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub state: char,
    pub ppid: u32,
    pub pgid: u32,
    pub sid: u32,
    pub tty: u32,
    pub foreground: i64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub priority: i64,
    pub nice: i64,
    pub threads: u64,
    /// ns after boot.
    pub start_ns: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
    pub cpu: u32,
    pub policy: u32,
    pub uid: u32,
    /// Empty for what has no arguments.
    pub arguments: String,
}

/// ns of a clock tick of /proc (always a hundredth of a second).
pub const TICK_NS: u64 = 10_000_000;

impl Process {
    /// One that ended meanwhile is None.
    pub fn read(pid: u32) -> Option<Self> {
        let at = format!("/proc/{pid}");
        let stat = fs::read(format!("{at}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name may hold spaces and parentheses: the fields begin behind the last one.
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat.get(close + 1..)?.split_whitespace().collect();
        let signed = |index: usize| fields.get(index - 3).and_then(|field| field.parse::<i64>().ok());
        let number = |index: usize| fields.get(index - 3).and_then(|field| field.parse::<u64>().ok());
        let small = |index: usize| number(index).map(|value| value as u32);
        let arguments = fs::read(format!("{at}/cmdline")).unwrap_or_default();
        let words: Vec<String> = arguments
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).replace(|character: char| character.is_control(), "?"))
            .collect();
        Some(Self {
            pid,
            comm: stat.get(open + 1..close)?.to_string(),
            state: fields.first()?.chars().next()?,
            ppid: small(4)?,
            pgid: small(5)?,
            sid: small(6)?,
            tty: small(7)?,
            foreground: signed(8)?,
            user_ns: number(14)? * TICK_NS,
            system_ns: number(15)? * TICK_NS,
            priority: signed(18)?,
            nice: signed(19)?,
            threads: number(20)?,
            start_ns: number(22)? * TICK_NS,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
            cpu: small(39)?,
            policy: small(41)?,
            uid: fs::metadata(&at).ok()?.uid(),
            arguments: words.join(" ").trim_end().to_string(),
        })
    }

    /// All there are, by number.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids.into_iter().filter_map(Self::read).collect()
    }

    /// As ps shows it: the arguments, or the name in brackets.
    pub fn command(&self) -> String {
        if self.arguments.is_empty() { format!("[{}]", self.comm) } else { self.arguments.clone() }
    }

    pub fn terminal(&self) -> String {
        let (major, minor) = (self.tty >> 8 & 0xfff, self.tty & 0xff | self.tty >> 12 & 0xf_ff00);
        match (major, minor) {
            (0, 0) => String::from("?"),
            (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
            (204, 64..) => format!("ttyAMA{}", minor - 64),
            (4, 64..) => format!("ttyS{}", minor - 64),
            (4, _) => format!("tty{minor}"),
            (5, 1) => String::from("console"),
            _ => format!("{major}:{minor}"),
        }
    }
}

/// User names of /etc/passwd.
pub struct Users(BTreeMap<u32, String>);

impl Users {
    pub fn read() -> Self {
        let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_string();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        // The first name of a number counts.
        Self(text.lines().rev().filter_map(user).collect())
    }
    pub fn name(&self, uid: u32) -> String {
        match self.0.get(&uid) {
            Some(name) => name.clone(),
            None if uid == 0 => String::from("root"),
            None => uid.to_string(),
        }
    }
    pub fn number(&self, name: &str) -> Option<u32> {
        let known = self.0.iter().find(|(_, known)| *known == name).map(|(uid, _)| *uid);
        known.or_else(|| name.parse().ok()).or_else(|| (name == "root").then_some(0))
    }
}

/// A number of /proc/meminfo in KiB.
pub fn meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    row.and_then(|row| row.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// ns that all CPUs together have been idle since boot, and how many there are.
pub fn idle() -> (u64, u64) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let idle_s: f64 = uptime.split_whitespace().nth(1).and_then(|idle| idle.parse().ok()).unwrap_or(0.0);
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_cpu = |line: &&str| line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
    ((idle_s * 1e9) as u64, stat.lines().filter(is_cpu).count().max(1) as u64)
}

/// ns after boot.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
