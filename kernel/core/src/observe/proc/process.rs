//! /proc/PID and /proc/PID/task/TID.

use super::descriptors::{Descriptors, Info};
use super::status;
use super::system::{Format, mount_table};
use super::{Directory, HIDE_NOACCESS, Listed, Node, Options, number};
use crate::mm::AddressSpace;
use crate::prelude::*;
use crate::process::{may_inspect, space_to_inspect};
use crate::task::credentials::cap;
use crate::task::life;
use crate::vfs::{FileOps, FileType, OpenFile, OpenFlags, Path, Stat, anonymous};
use core::sync::atomic::Ordering;

/// The process a file is about, and the thread where it is about one.
pub struct ProcessDirectory {
    pub ino: u64,
    pub process: Arc<Process>,
    pub task: Option<Arc<Task>>,
    /// Of the mount, for /proc/PID itself.
    pub options: Option<Arc<Options>>,
}

/// Who owns what everybody may list of a process (directories of mode 0555): its effective ids.
pub fn user_of(process: &Process) -> (u32, u32) {
    let creds = process.creds();
    (creds.euid, creds.egid)
}

/// Who owns the rest of /proc/PID: the effective ids; root when the process may not be dumped.
pub fn owner_of(process: &Process) -> (u32, u32) {
    if process.life.dumpable.load(Ordering::Relaxed) != 1 {
        return (0, 0);
    }
    let creds = process.creds();
    (creds.euid, creds.egid)
}

/// What the texts are made of.
#[derive(Clone)]
pub struct Subject {
    pub process: Arc<Process>,
    pub thread: Option<Arc<Task>>,
}

impl Subject {
    /// The thread, or one of the process: ESRCH for a zombie, which has none.
    pub fn task(&self) -> Result<Arc<Task>, Errno> {
        self.thread.clone().or_else(|| self.process.any_thread()).ok_or(Errno::ESRCH)
    }
    pub fn space(&self) -> Option<Arc<AddressSpace>> {
        self.task().ok()?.mm.get()
    }
    /// ESRCH once it is reaped.
    fn check_alive(&self) -> Result<(), Errno> {
        if self.process.life.state.load(Ordering::Acquire) == life::REAPED { Err(Errno::ESRCH) } else { Ok(()) }
    }
    pub fn check_inspect(&self) -> Result<(), Errno> {
        if may_inspect(&self.process) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

type Text = fn(&Subject) -> Result<Vec<u8>, Errno>;

/// Name, permission bits, whether only who may inspect the process reads it, the text.
const TEXTS: &[(&str, u32, bool, Text)] = &[
    ("cgroup", 0o444, false, |_| Ok(b"0::/\n".to_vec())),
    ("cmdline", 0o444, false, cmdline),
    ("io", 0o400, true, |subject| status::io(subject)),
    ("limits", 0o444, false, |subject| Ok(status::limits(subject).into_bytes())),
    ("mountinfo", 0o444, false, |subject| mounts(subject, Format::MountInfo)),
    ("mounts", 0o444, false, |subject| mounts(subject, Format::Mounts)),
    ("mountstats", 0o400, false, |subject| mounts(subject, Format::MountStats)),
    ("oom_score", 0o444, false, |subject| Ok(alloc::format!("{}\n", status::oom_score(subject)).into_bytes())),
    ("personality", 0o400, true, |subject| {
        Ok(alloc::format!("{:08x}\n", subject.task()?.personality.load(Ordering::Relaxed)).into_bytes())
    }),
    ("sched", 0o444, false, |subject| Ok(status::sched(&*subject.task()?).into_bytes())),
    ("schedstat", 0o444, false, |subject| Ok(status::schedstat(&*subject.task()?).into_bytes())),
    ("stack", 0o400, true, |subject| Ok(status::stack(&*subject.task()?).into_bytes())),
    ("stat", 0o444, false, status::stat),
    ("statm", 0o444, false, |subject| Ok(status::statm(subject).into_bytes())),
    ("status", 0o444, false, |subject| Ok(status::status(subject).into_bytes())),
    ("syscall", 0o400, true, |subject| Ok(status::syscall(&*subject.task()?).into_bytes())),
    ("wait", 0o444, false, |subject| Ok(crate::observe::waits::line(&subject.task()?).into_bytes())),
    ("wchan", 0o444, false, |subject| Ok(status::wchan(&*subject.task()?).into_bytes())),
];

/// Names, permission bits and texts of what shows an address space: checked when it is opened, of the space of that moment. Once
/// that is gone there is nothing more to read.
const OF_MEMORY: &[(&str, u32, fn(&AddressSpace) -> Result<Vec<u8>, Errno>)] = &[
    ("auxv", 0o400, |space| Ok(space.auxv())),
    ("environ", 0o400, |space| memory(space, space.layout().env)),
    ("maps", 0o444, |space| space.format_maps(false)),
    ("smaps", 0o444, |space| space.format_maps(true)),
];

/// Binds a file of [`OF_MEMORY`]: EACCES. A zombie or kernel thread has nothing to show.
fn bind(subject: &Subject, text: fn(&AddressSpace) -> Result<Vec<u8>, Errno>) -> Result<super::Produce, Errno> {
    subject.check_alive()?;
    let space = match subject.task().and_then(|task| space_to_inspect(&task)) {
        Ok(space) => Arc::downgrade(&space),
        Err(Errno::EPERM) => return Err(Errno::EACCES),
        Err(_) => Weak::new(),
    };
    Ok(Box::new(move || space.upgrade().map_or_else(|| Ok(Vec::new()), |space| text(&space))))
}

/// What else is in /proc/PID, in the order it is listed behind the texts.
const OTHERS: &[(&str, FileType)] = &[
    ("comm", FileType::Regular),
    ("cwd", FileType::Symlink),
    ("exe", FileType::Symlink),
    ("fd", FileType::Directory),
    ("fdinfo", FileType::Directory),
    ("net", FileType::Directory),
    ("ns", FileType::Directory),
    ("make-it-fail", FileType::Regular),
    ("oom_score_adj", FileType::Regular),
    ("root", FileType::Symlink),
    ("task", FileType::Directory),
    ("timerslack_ns", FileType::Regular),
];

/// What the directories of single threads do not have.
const OF_PROCESSES: &[&str] = &["task", "timerslack_ns"];

impl Directory for ProcessDirectory {
    fn process(&self) -> Option<&Arc<Process>> {
        // A thread's directory is no process's.
        self.task.is_none().then_some(&self.process)
    }
    fn check(&self) -> Result<(), Errno> {
        match self.options.as_ref().map_or(0, |options| options.hides(&self.process)) {
            0 => Ok(()),
            HIDE_NOACCESS => Err(Errno::EPERM),
            _ => Err(Errno::ENOENT),
        }
    }
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let subject = Subject { process: self.process.clone(), thread: self.task.clone() };
        subject.check_alive().ok()?;
        let owner = owner_of(&self.process);
        let ino = number(self.ino, name);
        if let Some((_, mode, guarded, text)) = TEXTS.iter().find(|entry| entry.0 == name) {
            return Some(Node::text(ino, *mode, owner, move || {
                subject.check_alive()?;
                if *guarded {
                    subject.check_inspect()?;
                }
                text(&subject)
            }));
        }
        if let Some((_, mode, text)) = OF_MEMORY.iter().find(|entry| entry.0 == name) {
            return Some(Node::bound(ino, *mode, owner, move || bind(&subject, *text)));
        }
        OTHERS.iter().find(|(known, _)| *known == name && (!OF_PROCESSES.contains(known) || self.task.is_none()))?;
        Some(match name {
            "comm" => comm(ino, owner, subject),
            "make-it-fail" => make_it_fail(ino, owner, subject),
            "oom_score_adj" => oom_score_adj(ino, owner, subject),
            "timerslack_ns" => timer_slack(ino, owner, subject),
            "cwd" => place(ino, owner, subject, |subject| subject.task()?.fs.get().try_cwd().ok_or(Errno::ENOENT)),
            "root" => place(ino, owner, subject, |subject| subject.task()?.fs.get().try_root().ok_or(Errno::ENOENT)),
            "exe" => place(ino, owner, subject, |subject| {
                let file = subject.process.executable.lock().clone();
                file.and_then(|file| file.path.clone()).ok_or(Errno::ENOENT)
            }),
            "fd" => Node::directory(ino, 0o500, owner, Descriptors { ino, subject, info: Info::Link }),
            "fdinfo" => {
                Node::directory(ino, 0o555, user_of(&self.process), Descriptors { ino, subject, info: Info::Text })
            }
            "net" => super::net::directory(ino),
            "ns" => Node::directory(ino, 0o511, owner, NameSpaces { ino, subject }),
            _ => Node::directory(ino, 0o555, user_of(&self.process), Threads { ino, process: self.process.clone() }),
        })
    }
    fn list(&self) -> Vec<Listed> {
        let texts = TEXTS.iter().map(|entry| entry.0).chain(OF_MEMORY.iter().map(|entry| entry.0));
        let texts = texts.map(|name| (name, FileType::Regular));
        let others = OTHERS.iter().copied().filter(|(name, _)| !OF_PROCESSES.contains(name) || self.task.is_none());
        let all = texts.chain(others).enumerate();
        all.map(|(position, (name, kind))| Listed { position: position as u64, name: String::from(name), kind })
            .collect()
    }
}

/// A link to a place of the process, for who may inspect it.
fn place(ino: u64, owner: (u32, u32), subject: Subject, find: fn(&Subject) -> Result<Path, Errno>) -> Arc<Node> {
    let look = move |subject: &Subject| {
        subject.check_inspect()?;
        find(subject)
    };
    let other = subject.clone();
    Node::magic_link(ino, 0o777, owner, move || Ok(look(&subject)?.display()), move || look(&other))
}

fn comm(ino: u64, owner: (u32, u32), subject: Subject) -> Arc<Node> {
    let target = subject.clone();
    Node::writable(
        ino,
        0o644,
        owner,
        move || Ok(alloc::format!("{}\n", status::name(&subject)).into_bytes()),
        move |bytes| {
            if !Arc::ptr_eq(&target.process, &current().process) {
                return Err(Errno::EINVAL);
            }
            target.task()?.set_comm(bytes.strip_suffix(b"\n").unwrap_or(bytes));
            Ok(())
        },
    )
}

/// CAP_SYS_RESOURCE writes it (EPERM), as on a Linux with fault injection.
fn make_it_fail(ino: u64, owner: (u32, u32), subject: Subject) -> Arc<Node> {
    let target = subject.process.clone();
    Node::writable(
        ino,
        0o644,
        owner,
        move || Ok(alloc::format!("{}\n", u32::from(subject.process.makes_fail.load(Ordering::Relaxed))).into_bytes()),
        move |bytes| {
            if !current().creds().has_cap(cap::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            match bytes.trim_ascii() {
                b"0" => target.makes_fail.store(false, Ordering::Relaxed),
                b"1" => target.makes_fail.store(true, Ordering::Relaxed),
                _ => return Err(Errno::EINVAL),
            }
            Ok(())
        },
    )
}

/// The first thread's timer slack; another process's for CAP_SYS_NICE.
fn timer_slack(ino: u64, owner: (u32, u32), subject: Subject) -> Arc<Node> {
    fn task_of(subject: &Subject) -> Result<Arc<Task>, Errno> {
        let task = subject.task()?;
        let own = current();
        if task.tid() != own.tid() && !own.credentials.with(|own| own.has_cap(cap::SYS_NICE)) {
            return Err(Errno::EPERM);
        }
        Ok(task)
    }
    let target = subject.clone();
    Node::writable(
        ino,
        0o666,
        owner,
        move || Ok(alloc::format!("{}\n", task_of(&subject)?.timer_slack_ns.load(Ordering::Relaxed)).into_bytes()),
        move |bytes| {
            let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
            let ns = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            task_of(&target)?.set_timer_slack(ns);
            Ok(())
        },
    )
}

fn oom_score_adj(ino: u64, owner: (u32, u32), subject: Subject) -> Arc<Node> {
    let target = subject.process.clone();
    Node::writable(
        ino,
        0o644,
        owner,
        move || Ok(alloc::format!("{}\n", subject.process.oom_score_adj.load(Ordering::Relaxed)).into_bytes()),
        move |bytes| {
            let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
            let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            if !(-1000..=1000).contains(&value) {
                return Err(Errno::EINVAL);
            }
            let old = target.oom_score_adj.load(Ordering::Relaxed);
            if value < old && !current().creds().has_cap(cap::SYS_RESOURCE) {
                return Err(Errno::EACCES);
            }
            target.oom_score_adj.store(value, Ordering::Relaxed);
            Ok(())
        },
    )
}

/// Bytes `range` of a process's memory, as far as they can be read.
fn memory(space: &AddressSpace, range: (u64, u64)) -> Result<Vec<u8>, Errno> {
    const MAX: u64 = 1 << 21;
    let len = range.1.saturating_sub(range.0).min(MAX) as usize;
    let mut bytes = Vec::new();
    bytes.try_room(len)?;
    bytes.resize(len, 0);
    let read = space.read_remote(range.0, &mut bytes);
    bytes.truncate(read);
    Ok(bytes)
}

fn cmdline(subject: &Subject) -> Result<Vec<u8>, Errno> {
    let Some(space) = subject.space() else { return Ok(Vec::new()) };
    let layout = space.layout();
    let mut bytes = memory(&space, layout.args)?;
    // A program that overwrote the end of its arguments goes on into its environment.
    if bytes.last().is_some_and(|&last| last != 0) {
        bytes.extend(memory(&space, layout.env)?);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
    }
    Ok(bytes)
}

fn mounts(subject: &Subject, format: Format) -> Result<Vec<u8>, Errno> {
    let root = subject.task()?.fs.get().try_root().ok_or(Errno::EINVAL)?;
    Ok(mount_table(&root, format).into_bytes())
}

struct Threads {
    ino: u64,
    process: Arc<Process>,
}

impl Directory for Threads {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let tid: u32 = name.parse().ok()?;
        let task = crate::task::find_task(tid).filter(|task| Arc::ptr_eq(&task.process, &self.process))?;
        let ino = number(self.ino, name);
        let directory = ProcessDirectory { ino, process: self.process.clone(), task: Some(task), options: None };
        Some(Node::directory(ino, 0o555, user_of(&self.process), directory))
    }
    fn list(&self) -> Vec<Listed> {
        let mut tids: Vec<u32> = self.process.threads.lock().iter().map(|task| task.tid()).collect();
        tids.sort_unstable();
        let listed =
            |tid: u32| Listed { position: tid as u64, name: alloc::format!("{tid}"), kind: FileType::Directory };
        tids.into_iter().map(listed).collect()
    }
}

/// The name spaces, of which there is one each.
struct NameSpaces {
    ino: u64,
    subject: Subject,
}

/// Name in the directory, name of the kind, number, and CLONE_* flag.
const NAME_SPACES: &[(&str, &str, u64, usize)] = &[
    ("cgroup", "cgroup", 0xeffffffb, 0x200_0000),
    ("ipc", "ipc", 0xefffffff, 0x800_0000),
    ("mnt", "mnt", 0xf000_0000, 0x2_0000),
    ("net", "net", 0xf000_0098, 0x4000_0000),
    ("pid", "pid", 0xeffffffc, 0x2000_0000),
    ("pid_for_children", "pid", 0xeffffffc, 0x2000_0000),
    ("time", "time", 0xeffffffa, 0x80),
    ("time_for_children", "time", 0xeffffffa, 0x80),
    ("user", "user", 0xeffffffd, 0x1000_0000),
    ("uts", "uts", 0xeffffffe, 0x400_0000),
];

/// A name space as a file: there is nothing to read, only to tell which it is.
struct NameSpace(&'static (&'static str, &'static str, u64, usize));

impl FileOps for NameSpace {
    fn can_signal(&self) -> bool {
        false
    }
    fn ioctl(&self, _file: &OpenFile, command: u32, _argument: u64) -> SysResult {
        const NS_GET_USERNS: u32 = 0xb701;
        const NS_GET_PARENT: u32 = 0xb702;
        const NS_GET_NSTYPE: u32 = 0xb703;
        const NS_GET_OWNER_UID: u32 = 0xb704;
        match command {
            // There is none above the first.
            NS_GET_USERNS | NS_GET_PARENT => Err(Errno::EPERM),
            NS_GET_NSTYPE => Ok(self.0.3),
            NS_GET_OWNER_UID => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
    }
    fn anonymous_name(&self) -> Option<String> {
        Some(alloc::format!("{}:[{}]", self.0.1, self.0.2))
    }
    fn stat(&self, _file: &OpenFile) -> Option<Stat> {
        Some(Stat { dev: 4, ino: self.0.2, mode: 0o100444, nlink: 1, block_size: PAGE_SIZE as u32, ..Stat::default() })
    }
    fn reopen(&self, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(Arc::new(Self(self.0)))
    }
    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}

impl Directory for NameSpaces {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let space = NAME_SPACES.iter().find(|(known, ..)| *known == name)?;
        let (subject, other) = (self.subject.clone(), self.subject.clone());
        let target = move || {
            subject.check_inspect()?;
            Ok(alloc::format!("{}:[{}]", space.1, space.2).into_bytes())
        };
        let follow = move || {
            other.check_inspect()?;
            Ok(anonymous::place(OpenFile::anonymous(Arc::new(NameSpace(space)), OpenFlags::empty())))
        };
        Some(Node::magic_link(number(self.ino, name), 0o777, (0, 0), target, follow))
    }
    fn list(&self) -> Vec<Listed> {
        let entries = NAME_SPACES.iter().enumerate();
        entries
            .map(|(position, (name, ..))| Listed {
                position: position as u64,
                name: String::from(*name),
                kind: FileType::Symlink,
            })
            .collect()
    }
}
