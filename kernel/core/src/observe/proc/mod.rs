//! procfs: processes and the kernel's own numbers as files.
//!
//! This file is the frame: a [`Node`] is a directory, a text made when it is read, or a link. [`system`] the files of the machine ·
//! [`process`] /proc/PID · [`status`] its longer texts · [`descriptors`] fd and fdinfo · [`sysctl`] /proc/sys ·
//! [`net`] /proc/net.

mod descriptors;
mod net;
mod process;
mod status;
mod sysctl;
mod system;
pub mod trace;

use crate::prelude::*;
use crate::time::{Timespec, file_time};
use crate::vfs::inode::{FileType, Inode, SetAttr, Stat};
use crate::vfs::path::{FileSystem, FsStat, Path};
use crate::vfs::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub use net::ClassNet;
pub use system::mount_table;

pub struct ProcFs {
    root: Arc<Node>,
    options: Arc<Options>,
}

impl ProcFs {
    /// The first instance, without options.
    pub fn instance() -> Arc<Self> {
        static INSTANCE: spin::Once<Arc<ProcFs>> = spin::Once::new();
        let first = || {
            let options = Arc::new(Options::default());
            let root = Node::directory(1, 0o555, (0, 0), system::Root { options: options.clone() });
            Arc::new(Self { root, options })
        };
        INSTANCE.call_once(first).clone()
    }
    /// An instance of its own, as each mount has it: EINVAL for an unknown option.
    pub fn new(options: &[u8]) -> Result<Arc<Self>, Errno> {
        let parsed = Arc::new(Options::default());
        parsed.change(options)?;
        let root = Node::directory(1, 0o555, (0, 0), system::Root { options: parsed.clone() });
        Ok(Arc::new(Self { root, options: parsed }))
    }
}

/// Mount options: whose processes are shown to whom (proc(5)).
#[derive(Default)]
pub struct Options {
    /// hidepid: 0 all, 1 others' directories cannot be entered, 2 they are not there, 4 only what could be traced is there.
    hide: AtomicU32,
    /// gid: this group sees everything.
    group: AtomicU32,
    /// subset=pid: processes only.
    is_subset: AtomicBool,
}

const HIDE_NOACCESS: u32 = 1;
const HIDE_INVISIBLE: u32 = 2;
const HIDE_PTRACEABLE: u32 = 4;

impl Options {
    fn change(&self, text: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut new = (self.hide.load(Ordering::Relaxed), self.group.load(Ordering::Relaxed), false);
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=').ok_or(Errno::EINVAL)? {
                ("hidepid", "0" | "off") => new.0 = 0,
                ("hidepid", "1" | "noaccess") => new.0 = HIDE_NOACCESS,
                ("hidepid", "2" | "invisible") => new.0 = HIDE_INVISIBLE,
                ("hidepid", "4" | "ptraceable") => new.0 = HIDE_PTRACEABLE,
                ("gid", group) => new.1 = group.parse().map_err(|_| Errno::EINVAL)?,
                ("subset", "pid") => new.2 = true,
                _ => return Err(Errno::EINVAL),
            }
        }
        self.hide.store(new.0, Ordering::Relaxed);
        self.group.store(new.1, Ordering::Relaxed);
        self.is_subset.store(new.2, Ordering::Relaxed);
        Ok(())
    }

    /// As /proc/mounts shows them.
    fn show(&self) -> String {
        let mut out = String::new();
        if self.group.load(Ordering::Relaxed) != 0 {
            out.push_str(&alloc::format!(",gid={}", self.group.load(Ordering::Relaxed)));
        }
        out.push_str(match self.hide.load(Ordering::Relaxed) {
            HIDE_NOACCESS => ",hidepid=noaccess",
            HIDE_INVISIBLE => ",hidepid=invisible",
            HIDE_PTRACEABLE => ",hidepid=ptraceable",
            _ => "",
        });
        if self.is_subset.load(Ordering::Relaxed) {
            out.push_str(",subset=pid");
        }
        out
    }

    /// How much of `process` is hidden from the calling thread: 0, [`HIDE_NOACCESS`], or [`HIDE_INVISIBLE`].
    fn hides(&self, process: &Process) -> u32 {
        let level = self.hide.load(Ordering::Relaxed);
        let group = self.group.load(Ordering::Relaxed);
        let is_member = || level != HIDE_PTRACEABLE && current().credentials.with(|own| own.in_group(group));
        if level == 0 || is_member() || crate::process::may_inspect(process) {
            return 0;
        }
        level.min(HIDE_INVISIBLE)
    }
}

impl FileSystem for ProcFs {
    fn name(&self) -> &'static str {
        "proc"
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn stat(&self) -> FsStat {
        FsStat { magic: 0x9fa0, block_size: PAGE_SIZE as u64, ..Default::default() }
    }
    fn options(&self) -> String {
        self.options.show()
    }
    fn remount(&self, options: &[u8]) -> Result<(), Errno> {
        self.options.change(options)
    }
}

/// One name of a directory.
pub struct Listed {
    /// Where it stands: rising through the directory, the same at each listing.
    pub position: u64,
    pub name: String,
    pub kind: FileType,
}

/// What a directory holds.
pub trait Directory: Send + Sync + 'static {
    /// ENOENT.
    fn lookup(&self, name: &str) -> Option<Arc<Node>>;
    /// By rising position.
    fn list(&self) -> Vec<Listed>;
    /// Whether the calling thread may look into it: EPERM, ENOENT.
    fn check(&self) -> Result<(), Errno> {
        Ok(())
    }
    /// It is the calling process's own, and open to it whomever it belongs to.
    fn is_own(&self) -> bool {
        false
    }
    /// The process that the directory stands for.
    fn process(&self) -> Option<&Arc<Process>> {
        None
    }
}

type Produce = Box<dyn Fn() -> Result<Vec<u8>, Errno> + Send + Sync>;
type Bind = Box<dyn Fn() -> Result<Produce, Errno> + Send + Sync>;
type Accept = Box<dyn Fn(&[u8]) -> Result<(), Errno> + Send + Sync>;
type Target = Box<dyn Fn() -> Result<Vec<u8>, Errno> + Send + Sync>;
type Follow = Box<dyn Fn() -> Result<Path, Errno> + Send + Sync>;

enum Kind {
    Directory(Box<dyn Directory>),
    Text {
        produce: Produce,
        accept: Option<Accept>,
    },
    /// A text about what was there when it was opened, for who might open it then.
    Bound(Bind),
    Link {
        target: Target,
        follow: Option<Follow>,
    },
    /// An object of its own at each open.
    Object(fn() -> Result<Arc<dyn FileOps>, Errno>),
}

pub struct Node {
    ino: u64,
    mode: u32,
    owner: (u32, u32),
    device: u64,
    kind: Kind,
}

/// st_dev of procfs and sysfs: numbers that no tmpfs gets.
const DEVICE: u64 = base::device::makedev(0, 0xf_fff0);
pub const SYS_DEVICE: u64 = base::device::makedev(0, 0xf_fff1);

/// A stable inode number for `name` in the directory numbered `parent`.
pub fn number(parent: u64, name: &str) -> u64 {
    let mut hash = parent ^ 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes() {
        hash = (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3);
    }
    hash >> 12 | 1 << 32
}

impl Node {
    fn new(ino: u64, mode: u32, owner: (u32, u32), kind: Kind) -> Arc<Self> {
        Arc::new(Self { ino, mode, owner, device: DEVICE, kind })
    }
    pub fn directory(ino: u64, mode: u32, owner: (u32, u32), directory: impl Directory) -> Arc<Self> {
        Self::new(ino, mode, owner, Kind::Directory(Box::new(directory)))
    }
    pub fn text(
        ino: u64,
        mode: u32,
        owner: (u32, u32),
        produce: impl Fn() -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(ino, mode, owner, Kind::Text { produce: Box::new(produce), accept: None })
    }
    /// A text that is bound at open: `bind` checks the opener and gives what makes the text at each read.
    pub fn bound(
        ino: u64,
        mode: u32,
        owner: (u32, u32),
        bind: impl Fn() -> Result<Produce, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(ino, mode, owner, Kind::Bound(Box::new(bind)))
    }
    pub fn writable(
        ino: u64,
        mode: u32,
        owner: (u32, u32),
        produce: impl Fn() -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
        accept: impl Fn(&[u8]) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(ino, mode, owner, Kind::Text { produce: Box::new(produce), accept: Some(Box::new(accept)) })
    }
    pub fn link(
        ino: u64,
        owner: (u32, u32),
        target: impl Fn() -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(ino, 0o777, owner, Kind::Link { target: Box::new(target), follow: None })
    }
    /// A link that leads to a place and not to a name.
    pub fn magic_link(
        ino: u64,
        mode: u32,
        owner: (u32, u32),
        target: impl Fn() -> Result<Vec<u8>, Errno> + Send + Sync + 'static,
        follow: impl Fn() -> Result<Path, Errno> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(ino, mode, owner, Kind::Link { target: Box::new(target), follow: Some(Box::new(follow)) })
    }
    /// As [`Node::directory`], of another file system.
    pub fn directory_on(device: u64, ino: u64, directory: impl Directory) -> Arc<Self> {
        Arc::new(Self { ino, mode: 0o755, owner: (0, 0), device, kind: Kind::Directory(Box::new(directory)) })
    }
}

/// Since when procfs's files are: boot.
fn start_time() -> Timespec {
    static START: spin::Once<Timespec> = spin::Once::new();
    *START.call_once(file_time)
}

impl Inode for Node {
    fn stat(&self) -> Stat {
        let time = start_time();
        Stat {
            dev: self.device,
            ino: self.ino,
            mode: self.file_type().mode_bits() | self.mode,
            nlink: if matches!(self.kind, Kind::Directory(_)) { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            block_size: 1024,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            ..Default::default()
        }
    }
    fn access(&self) -> (u32, u32, u32) {
        (self.file_type().mode_bits() | self.mode, self.owner.0, self.owner.1)
    }
    fn file_type(&self) -> FileType {
        match &self.kind {
            Kind::Directory(_) => FileType::Directory,
            Kind::Text { .. } | Kind::Bound(_) | Kind::Object(_) => FileType::Regular,
            Kind::Link { .. } => FileType::Symlink,
        }
    }
    fn set_attr(&self, attr: SetAttr) -> Result<(), Errno> {
        // O_TRUNC on a text that can be written has no effect.
        let only_size = attr.mode.is_none() && attr.uid.is_none() && attr.gid.is_none() && attr.mtime.is_none();
        match &self.kind {
            Kind::Text { accept: Some(_), .. } if attr.size.is_some() && only_size => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let Kind::Directory(directory) = &self.kind else { return Err(Errno::ENOTDIR) };
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        directory.check()?;
        Ok(directory.lookup(name).ok_or(Errno::ENOENT)?)
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match &self.kind {
            Kind::Link { target, .. } => target(),
            _ => Err(Errno::EINVAL),
        }
    }
    fn follow(&self) -> Option<Result<Path, Errno>> {
        match &self.kind {
            Kind::Link { follow: Some(follow), .. } => Some(follow()),
            _ => None,
        }
    }
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match &self.kind {
            Kind::Link { .. } => Err(Errno::ELOOP),
            Kind::Object(open) => open(),
            Kind::Directory(directory) => {
                directory.check()?;
                Ok(Arc::new(OpenNode { node: self, text: Mutex::new(None), bound: None }))
            }
            Kind::Text { .. } => Ok(Arc::new(OpenNode { node: self, text: Mutex::new(None), bound: None })),
            Kind::Bound(bind) => {
                let bound = Some(bind()?);
                Ok(Arc::new(OpenNode { node: self, text: Mutex::new(None), bound }))
            }
        }
    }
    fn is_own(&self) -> bool {
        matches!(&self.kind, Kind::Directory(directory) if directory.is_own())
    }
    fn is_volatile(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open text or directory. A text is made at the first read and again at each read from its start.
struct OpenNode {
    node: Arc<Node>,
    text: Mutex<Option<Vec<u8>>>,
    bound: Option<Produce>,
}

/// The process whose /proc/PID `file` is.
pub fn process_of(file: &OpenFile) -> Option<Arc<Process>> {
    match &file.downcast::<OpenNode>()?.node.kind {
        Kind::Directory(directory) => directory.process().cloned(),
        _ => None,
    }
}

/// The most bytes one write to a text may have.
const WRITE_MAX: usize = PAGE_SIZE;

impl FileOps for OpenNode {
    fn read(&self, _file: &OpenFile, offset: u64, dst: &mut UserWriter<'_>) -> SysResult {
        let produce = match (&self.bound, &self.node.kind) {
            (Some(produce), _) | (None, Kind::Text { produce, .. }) => produce,
            _ => return Err(Errno::EISDIR),
        };
        let mut text = self.text.lock();
        if offset == 0 || text.is_none() {
            *text = Some(produce()?);
        }
        let bytes = text.as_deref().unwrap_or(&[]);
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        let n = rest.len().min(dst.remaining());
        if n == 0 { Ok(0) } else { dst.write(&rest[..n]) }
    }
    fn write(&self, _file: &OpenFile, _offset: u64, src: &mut UserReader<'_>) -> SysResult {
        let Kind::Text { accept: Some(accept), .. } = &self.node.kind else { return Err(Errno::EIO) };
        if src.remaining() > WRITE_MAX {
            return Err(Errno::EINVAL);
        }
        let bytes = src.read_all()?;
        accept(&bytes)?;
        Ok(bytes.len())
    }
    fn advance(&self) -> Advance {
        Advance::Position
    }
    fn seek(&self, _file: &OpenFile, current: u64, from: SeekFrom) -> Result<u64, Errno> {
        let to = match from {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            _ => None,
        };
        to.filter(|to| *to <= i64::MAX as u64).ok_or(Errno::EINVAL)
    }
    fn read_dir(
        &self,
        file: &OpenFile,
        offset: u64,
        emit: &mut dyn FnMut(&[u8], u64, u8, u64) -> bool,
    ) -> Result<(), Errno> {
        let Kind::Directory(directory) = &self.node.kind else { return Err(Errno::ENOTDIR) };
        const DIRECTORY: u8 = FileType::Directory as u8;
        if offset == 0 && !emit(b".", self.node.ino, DIRECTORY, 1) {
            return Ok(());
        }
        let parent =
            file.path.as_ref().and_then(|path| path.dentry.parent()).map_or(1, |parent| parent.inode.stat().ino);
        if offset <= 1 && !emit(b"..", parent, DIRECTORY, 2) {
            return Ok(());
        }
        for entry in directory.list() {
            let position = entry.position.saturating_add(2);
            if position < offset {
                continue;
            }
            let ino = number(self.node.ino, &entry.name);
            if !emit(entry.name.as_bytes(), ino, entry.kind as u8, position + 1) {
                break;
            }
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A tree known at build time.
pub enum Fixed {
    Directory(&'static [(&'static str, Fixed)]),
    Text(fn() -> String),
    /// Readable by all, writable by root.
    Setting(fn() -> String, fn(&str) -> Result<(), Errno>),
    /// Readable and writable by root alone.
    Secret(fn() -> String, fn(&str) -> Result<(), Errno>),
    Link(fn() -> String),
    /// A directory whose content changes, made of its device and inode number.
    Live(fn(u64, u64) -> Arc<Node>),
    /// A file for root that is an object of its own at each open.
    Object(fn() -> Result<Arc<dyn FileOps>, Errno>),
}

impl Fixed {
    pub fn kind(&self) -> FileType {
        match self {
            Fixed::Directory(_) | Fixed::Live(_) => FileType::Directory,
            Fixed::Text(_) | Fixed::Setting(..) | Fixed::Secret(..) | Fixed::Object(_) => FileType::Regular,
            Fixed::Link(_) => FileType::Symlink,
        }
    }
    pub fn node(&'static self, device: u64, ino: u64) -> Arc<Node> {
        let (mode, kind) = match self {
            Fixed::Directory(entries) => (0o555, Kind::Directory(Box::new(FixedDirectory { device, ino, entries }))),
            Fixed::Live(make) => return make(device, ino),
            Fixed::Object(open) => (0o600, Kind::Object(*open)),
            Fixed::Text(text) => {
                (0o444, Kind::Text { produce: Box::new(move || Ok(text().into_bytes())), accept: None })
            }
            Fixed::Setting(get, set) | Fixed::Secret(get, set) => {
                let mode = if matches!(self, Fixed::Secret(..)) { 0o600 } else { 0o644 };
                let accept = move |bytes: &[u8]| set(core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?.trim());
                (mode, Kind::Text { produce: Box::new(move || Ok(get().into_bytes())), accept: Some(Box::new(accept)) })
            }
            Fixed::Link(target) => {
                (0o777, Kind::Link { target: Box::new(move || Ok(target().into_bytes())), follow: None })
            }
        };
        Arc::new(Node { ino, mode, owner: (0, 0), device, kind })
    }
}

pub struct FixedDirectory {
    pub device: u64,
    pub ino: u64,
    pub entries: &'static [(&'static str, Fixed)],
}

impl Directory for FixedDirectory {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let (name, entry) = self.entries.iter().find(|(known, _)| *known == name)?;
        Some(entry.node(self.device, number(self.ino, name)))
    }
    fn list(&self) -> Vec<Listed> {
        let listed = |(position, (name, entry)): (usize, &(&'static str, Fixed))| Listed {
            position: position as u64,
            name: String::from(*name),
            kind: entry.kind(),
        };
        self.entries.iter().enumerate().map(listed).collect()
    }
}
