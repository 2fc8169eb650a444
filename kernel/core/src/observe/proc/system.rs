//! The files of the machine in /proc itself, and its list of processes.

use super::process::{ProcessDirectory, user_of};
use super::sysctl::SYS;
use super::{DEVICE, Directory, Fixed, HIDE_INVISIBLE, Listed, Node, Options, number};
use crate::mm::stats::meminfo;
use crate::prelude::*;
use crate::task::{all_processes, find_process, find_task, tree};
use crate::time::NSEC_PER_SEC;
use crate::vfs::FileType;
use crate::vfs::path;
use crate::vfs::path::{Mount, MountFlags, Path};
use core::fmt::Write;
use core::sync::atomic::Ordering;

/// Clock ticks of user space (sysconf(_SC_CLK_TCK)) in ns.
pub const TICK_NS: u64 = NSEC_PER_SEC / 100;

const FILES: &[(&str, Fixed)] = &[
    ("self", Fixed::Link(|| alloc::format!("{}", current().process.pid))),
    ("thread-self", Fixed::Link(|| alloc::format!("{}/task/{}", current().process.pid, current().tid()))),
    ("cmdline", Fixed::Text(|| alloc::format!("{}\n", hal::boot::info().cmdline))),
    ("cpuinfo", Fixed::Text(cpuinfo)),
    ("deadlocks", Fixed::Text(crate::observe::deadlock::history)),
    ("devices", Fixed::Text(devices)),
    ("diskstats", Fixed::Text(crate::observe::sysfs_block::diskstats)),
    ("filesystems", Fixed::Text(filesystems)),
    ("interrupts", Fixed::Text(interrupts)),
    ("loadavg", Fixed::Text(loadavg)),
    ("locks", Fixed::Text(crate::vfs::lock::format_locks)),
    ("meminfo", Fixed::Text(memory)),
    ("mounts", Fixed::Link(|| String::from("self/mounts"))),
    ("net", Fixed::Link(|| String::from("self/net"))),
    ("partitions", Fixed::Text(crate::observe::sysfs_block::partitions)),
    ("stat", Fixed::Text(stat)),
    ("swaps", Fixed::Text(|| String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"))),
    ("sys", Fixed::Directory(SYS)),
    ("sysvipc", Fixed::Directory(SYSVIPC)),
    (
        "trace",
        Fixed::Directory(&[
            ("calls", Fixed::Text(super::trace::calls)),
            ("records", Fixed::Object(super::trace::open)),
        ]),
    ),
    ("uptime", Fixed::Text(uptime)),
    ("version", Fixed::Text(version)),
    ("vmstat", Fixed::Text(vmstat)),
    ("waits", Fixed::Text(crate::observe::waits::json)),
];

const SYSVIPC: &[(&str, Fixed)] = &[
    ("msg", Fixed::Text(crate::ipc::msg::format_table)),
    ("sem", Fixed::Text(crate::ipc::sem::format_table)),
    ("shm", Fixed::Text(crate::ipc::shm::format_table)),
];

/// Processes stand behind the files.
const FIRST_PROCESS: u64 = 256;

pub struct Root {
    pub options: Arc<Options>,
}

impl Directory for Root {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let files = if self.options.is_subset.load(Ordering::Relaxed) { &FILES[..2] } else { FILES };
        if let Some((name, entry)) = files.iter().find(|(known, _)| *known == name) {
            return Some(entry.node(DEVICE, number(1, name)));
        }
        let id: u32 = name.parse().ok().filter(|_| !name.starts_with(['0', '+']))?;
        let process = find_process(id).or_else(|| find_task(id).map(|task| task.process.clone()))?;
        if self.options.hides(&process) == HIDE_INVISIBLE {
            return None;
        }
        let owner = user_of(&process);
        let ino = number(1, name);
        Some(Node::directory(
            ino,
            0o555,
            owner,
            ProcessDirectory { ino, process, task: None, options: Some(self.options.clone()) },
        ))
    }
    fn list(&self) -> Vec<Listed> {
        let files = if self.options.is_subset.load(Ordering::Relaxed) { &FILES[..2] } else { FILES };
        let files = files.iter().enumerate();
        let mut list: Vec<Listed> = files
            .map(|(position, (name, entry))| Listed {
                position: position as u64,
                name: String::from(*name),
                kind: entry.kind(),
            })
            .collect();
        tree::for_each_process(|process| {
            // As many of them as there is memory for.
            if self.options.hides(&process) != HIDE_INVISIBLE && admit(64).is_ok() && list.try_room(1).is_ok() {
                list.push(Listed {
                    position: FIRST_PROCESS + process.pid as u64,
                    name: alloc::format!("{}", process.pid),
                    kind: FileType::Directory,
                });
            }
        });
        list
    }
}

/// AT_HWCAP bits in order.
const FEATURES: &[&str] = &[
    "fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "cpuid",
    "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp", "sha512", "sve", "asimdfhm", "dit",
    "uscat", "ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg",
];

fn cpuinfo() -> String {
    let mut out = String::new();
    let caps = hal::cpu::hwcaps().0;
    for cpu in 0..hal::cpu::online() {
        let midr = hal::cpu::midr(cpu);
        let _ = writeln!(out, "processor\t: {cpu}");
        // Twice the counter's frequency, as where udelay counts with the timer.
        let hz = hal::time::frequency_hz() * 2;
        let _ = writeln!(out, "BogoMIPS\t: {}.{:02}", hz / 1_000_000, hz / 10_000 % 100);
        out.push_str("Features\t:");
        for (bit, name) in FEATURES.iter().enumerate() {
            if caps >> bit & 1 == 1 {
                let _ = write!(out, " {name}");
            }
        }
        let _ = writeln!(
            out,
            "\nCPU implementer\t: 0x{:02x}\nCPU architecture: 8\nCPU variant\t: 0x{:x}\nCPU part\t: 0x{:03x}\nCPU revision\t: {}\n",
            midr >> 24 & 0xff,
            midr >> 20 & 0xf,
            midr >> 4 & 0xfff,
            midr & 0xf
        );
    }
    // As a Raspberry Pi's own Linux has it.
    if let Some(board) = crate::machine::identity() {
        if let Some(revision) = board.revision {
            let _ = writeln!(out, "Revision\t: {:04x}", revision.0);
        }
        if let Some(serial) = board.serial {
            let _ = writeln!(out, "Serial\t\t: {serial:016x}");
        }
        let _ = writeln!(out, "Model\t\t: {}", board.model);
    }
    out
}

fn devices() -> String {
    String::from(
        "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n136 pts\n204 ttyAMA\n\nBlock devices:\n  7 loop\n254 virtblk\n259 blkext\n",
    )
}

fn filesystems() -> String {
    crate::fs::types::all().iter().map(|known| alloc::format!("nodev\t{}\n", known.name)).collect()
}

fn interrupts() -> String {
    let cpus = hal::cpu::online();
    let mut out = String::from("     ");
    for cpu in 0..cpus {
        let _ = write!(out, "{:>11}", alloc::format!("CPU{cpu}"));
    }
    out.push('\n');
    for (irq, counts, name) in crate::irq::interrupt_counts() {
        let _ = write!(out, "{irq:>3}: ");
        for count in counts.iter().take(cpus) {
            let _ = write!(out, "{count:>10} ");
        }
        let _ = writeln!(out, "  {name}");
    }
    out
}

fn loadavg() -> String {
    let running = crate::sched::nr_runnable();
    let mut out = String::new();
    for (whole, hundredths) in crate::sched::load::averages().map(crate::sched::load::shown) {
        let _ = write!(out, "{whole}.{hundredths:02} ");
    }
    let _ = writeln!(out, "{running}/{} {}", tree::nr_tasks(), tree::last_id());
    out
}

fn memory() -> String {
    let info = meminfo();
    let kib = |pages: u64| pages * (PAGE_SIZE as u64 / 1024);
    let rows: &[(&str, u64)] = &[
        ("MemTotal", kib(info.total)),
        ("MemFree", kib(info.free)),
        ("MemAvailable", kib(info.available)),
        ("Buffers", 0),
        ("Cached", kib(info.cached)),
        ("SwapCached", 0),
        ("Active", kib(info.anonymous + info.cached)),
        ("Inactive", 0),
        ("Active(anon)", kib(info.anonymous + info.shmem)),
        ("Inactive(anon)", 0),
        ("Active(file)", kib(info.cached - info.shmem)),
        ("Inactive(file)", 0),
        ("Unevictable", kib(info.locked)),
        ("Mlocked", kib(info.locked)),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", kib(info.dirty)),
        ("Writeback", kib(info.writeback)),
        ("AnonPages", kib(info.anonymous)),
        ("Mapped", kib(info.cached)),
        ("Shmem", kib(info.shmem)),
        ("KReclaimable", 0),
        ("Slab", info.heap_bytes / 1024),
        ("SReclaimable", 0),
        ("SUnreclaim", info.heap_bytes / 1024),
        ("KernelStack", hal::context::stack_bytes() as u64 / 1024),
        ("PageTables", kib(info.page_tables)),
        ("CommitLimit", kib(info.commit_limit)),
        ("Committed_AS", kib(info.committed)),
        ("VmallocTotal", 0),
        ("VmallocUsed", kib(info.kernel)),
        ("VmallocChunk", 0),
        ("HugePages_Total", 0),
        ("HugePages_Free", 0),
        ("HugePages_Rsvd", 0),
        ("HugePages_Surp", 0),
        ("Hugepagesize", 2048),
        ("Hugetlb", 0),
    ];
    let mut out = String::new();
    for (name, value) in rows {
        let unit = if name.starts_with("HugePages") { "" } else { " kB" };
        let _ = writeln!(out, "{:<16}{value:>8}{unit}", alloc::format!("{name}:"));
    }
    out
}

/// User and system time of all processes and of the waited-for children of pid 1, ns.
fn program_times() -> (u64, u64) {
    let mut sum = (0, 0);
    for process in all_processes() {
        let (user, system) = process.cpu_times();
        let life = &process.life;
        sum.0 += user + life.children_user_ns.load(core::sync::atomic::Ordering::Relaxed);
        sum.1 += system + life.children_system_ns.load(core::sync::atomic::Ordering::Relaxed);
    }
    sum
}

fn stat() -> String {
    let cpus = hal::cpu::online();
    let now = crate::time::now_ns();
    let (user, system) = program_times();
    let idle: Vec<u64> = (0..cpus).map(|cpu| crate::sched::idle_ns(cpu).min(now)).collect();
    // How busy time divides is known of the programs only.
    let divide = |busy: u64| {
        let user_part = (busy as u128 * user as u128 / (user as u128 + system as u128).max(1)) as u64;
        (user_part, busy - user_part)
    };
    let mut out = String::new();
    let mut line = |name: &str, total: u64, idle: u64| {
        let (user, system) = divide(total.saturating_sub(idle));
        let _ = writeln!(out, "{name} {} 0 {} {} 0 0 0 0 0 0", user / TICK_NS, system / TICK_NS, idle / TICK_NS);
    };
    line("cpu ", now * cpus as u64, idle.iter().sum());
    for (cpu, idle) in idle.iter().enumerate() {
        line(&alloc::format!("cpu{cpu}"), now, *idle);
    }
    let interrupts: u64 = crate::irq::interrupt_counts().iter().map(|(_, counts, _)| counts.iter().sum::<u64>()).sum();
    let switches: u64 = all_processes()
        .iter()
        .flat_map(|process| process.threads.lock().to_vec())
        .map(|task| {
            let load = |counter: &core::sync::atomic::AtomicU64| counter.load(core::sync::atomic::Ordering::Relaxed);
            load(&task.sched.voluntary_switches) + load(&task.sched.involuntary_switches)
        })
        .sum();
    let _ = writeln!(
        out,
        "intr {interrupts}\nctxt {switches}\nbtime {}\nprocesses {}\nprocs_running {}\nprocs_blocked 0",
        crate::time::realtime_ns().saturating_sub(now) / NSEC_PER_SEC,
        tree::last_id(),
        crate::sched::nr_runnable().max(1)
    );
    out
}

fn uptime() -> String {
    let now = crate::time::now_ns();
    let idle: u64 = (0..hal::cpu::online()).map(crate::sched::idle_ns).sum();
    let hundredths = |ns: u64| alloc::format!("{}.{:02}", ns / NSEC_PER_SEC, ns / TICK_NS % 100);
    alloc::format!("{} {}\n", hundredths(now), hundredths(idle))
}

fn version() -> String {
    alloc::format!(
        "Linux version {} (crannog) #1 SMP Crannog {}\n",
        crate::task::uts::RELEASE,
        env!("CARGO_PKG_VERSION")
    )
}

fn vmstat() -> String {
    let info = meminfo();
    alloc::format!(
        "nr_free_pages {}\nnr_mlock {}\nnr_page_table_pages {}\nnr_anon_pages {}\nnr_mapped {}\nnr_file_pages {}\nnr_dirty {}\nnr_writeback {}\nnr_shmem {}\noom_kill {}\n",
        info.free,
        info.locked,
        info.page_tables,
        info.anonymous,
        info.cached,
        info.cached,
        info.dirty,
        info.writeback,
        info.shmem,
        crate::process::oom::KILLS.load(core::sync::atomic::Ordering::Relaxed)
    )
}

/// Which text of the mount table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Mounts,
    MountInfo,
    MountStats,
}

fn flag_names(flags: MountFlags) -> String {
    let mut out = String::from(if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" });
    for (flag, name) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
    ] {
        if flags.contains(flag) {
            out.push_str(name);
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        out.push_str(",relatime");
    }
    out
}

/// White space and backslashes as octal escapes, as getmntent(3) reads them.
fn escape(text: &[u8]) -> String {
    let mut out = String::new();
    for piece in text.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                ' ' | '\t' | '\n' | '\\' | '#' => {
                    let _ = write!(out, "\\{:03o}", character as u32);
                }
                _ => out.push(character),
            }
        }
        for byte in piece.invalid() {
            let _ = write!(out, "\\{byte:03o}");
        }
    }
    out
}

/// The mounts that can be seen from `root`.
pub fn mount_table(root: &Path, format: Format) -> String {
    let mut out = String::new();
    for mount in path::mounts() {
        let place = Path { mount: mount.clone(), dentry: mount.root.clone() };
        let is_root = place == *root;
        let (name, reached) = place.display_from(root);
        if !reached && !is_root {
            continue;
        }
        line(&mut out, &mount, &escape(&name), format);
    }
    out
}

fn line(out: &mut String, mount: &Arc<Mount>, name: &str, format: Format) {
    let source = escape(mount.source.as_bytes());
    let (kind, flags, options) = (mount.fs.name(), flag_names(mount.flags()), mount.fs.options());
    let _ = match format {
        Format::Mounts => writeln!(out, "{source} {name} {kind} {flags}{options} 0 0"),
        Format::MountStats => writeln!(out, "device {source} mounted on {name} with fstype {kind}"),
        Format::MountInfo => {
            let device = mount.root.inode.stat().dev;
            let parent = mount.on.lock().as_ref().map_or(0, |on| on.mount.id);
            let mut pieces: Vec<Vec<u8>> = Vec::new();
            let mut at = mount.root.clone();
            while let Some(above) = at.parent() {
                pieces.push(at.name());
                at = above;
            }
            let mut inner = Vec::new();
            for piece in pieces.iter().rev() {
                inner.push(b'/');
                inner.extend(piece);
            }
            let inner = if inner.is_empty() { String::from("/") } else { escape(&inner) };
            writeln!(
                out,
                "{} {} {}:{} {inner} {name} {flags} - {kind} {source} rw{options}",
                mount.id,
                parent,
                base::device::major(device),
                base::device::minor(device),
            )
        }
    };
}
