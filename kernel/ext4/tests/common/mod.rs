//! What the tests share: a disk in memory that records and fails, images made by mke2fs, e2fsck, and trees to compare.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod script;

use ext4::{Disk, Errno, Ext4, Inode, MountOptions, Result, Time};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub type Lock = spin::mutex::SpinMutex<()>;
pub type Fs<'a> = Ext4<&'a MemDisk, Lock>;

#[derive(Clone)]
pub enum Event {
    Write { sector: u64, bytes: Arc<Vec<u8>>, fua: bool },
    Flush,
}

/// A disk in memory. `record` keeps every write and flush.
pub struct MemDisk {
    pub bytes: Mutex<Vec<u8>>,
    pub log: Mutex<Option<Vec<Event>>>,
    pub lines: Mutex<Vec<String>>,
    /// The write or flush with this number, and all after it, fail with EIO (or this one only).
    pub fail_at: AtomicU64,
    pub fail_once: bool,
    pub count: AtomicU64,
    pub reads_fail_at: AtomicU64,
    pub reads: AtomicU64,
    pub read_only: bool,
    clock: AtomicU64,
    numbers: AtomicU32,
}

impl MemDisk {
    pub fn new(bytes: Vec<u8>) -> Self {
        MemDisk {
            bytes: Mutex::new(bytes),
            log: Mutex::new(None),
            lines: Mutex::new(Vec::new()),
            fail_at: AtomicU64::new(u64::MAX),
            fail_once: false,
            count: AtomicU64::new(0),
            reads_fail_at: AtomicU64::new(u64::MAX),
            reads: AtomicU64::new(0),
            read_only: false,
            clock: AtomicU64::new(1_700_000_000_000_000_000),
            numbers: AtomicU32::new(1),
        }
    }
    pub fn recording(bytes: Vec<u8>) -> Self {
        let disk = Self::new(bytes);
        *disk.log.lock().unwrap() = Some(Vec::new());
        disk
    }
    pub fn log_len(&self) -> usize {
        self.log.lock().unwrap().as_ref().map_or(0, Vec::len)
    }
    pub fn image(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
    pub fn said(&self, what: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(what))
    }
    fn may_write(&self) -> Result<()> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let fail_at = self.fail_at.load(Ordering::SeqCst);
        if number == fail_at || (number > fail_at && !self.fail_once) { Err(Errno::EIO) } else { Ok(()) }
    }
}

impl Disk for &MemDisk {
    fn sectors(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64 / 512
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read(&self, sector: u64, out: &mut [u8]) -> Result<()> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst);
        if number == self.reads_fail_at.load(Ordering::SeqCst) {
            return Err(Errno::EIO);
        }
        let bytes = self.bytes.lock().unwrap();
        let at = sector as usize * 512;
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(Errno::EIO)?);
        Ok(())
    }
    fn write(&self, sector: u64, pieces: &[&[u8]], fua: bool) -> Result<()> {
        assert!(!self.read_only, "a write to a read-only disk");
        self.may_write()?;
        let all: Vec<u8> = pieces.concat();
        let at = sector as usize * 512;
        self.bytes.lock().unwrap().get_mut(at..at + all.len()).ok_or(Errno::EIO)?.copy_from_slice(&all);
        if let Some(log) = self.log.lock().unwrap().as_mut() {
            log.push(Event::Write { sector, bytes: Arc::new(all), fua });
        }
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        self.may_write()?;
        if let Some(log) = self.log.lock().unwrap().as_mut() {
            log.push(Event::Flush);
        }
        Ok(())
    }
    fn now(&self) -> Time {
        let nanos = self.clock.fetch_add(1_000_007, Ordering::Relaxed);
        Time { seconds: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as u32 }
    }
    fn random(&self) -> u32 {
        self.numbers.fetch_add(0x9E37_79B9, Ordering::Relaxed)
    }
    fn log(&self, line: std::fmt::Arguments<'_>) {
        self.lines.lock().unwrap().push(line.to_string());
    }
}

/// Files of the tests, in memory where the host has it so.
pub fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    base.join(format!("ext4-test-{}-{number}-{name}", std::process::id()))
}

/// A file that goes with its owner.
pub struct TempFile(pub PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = if self.0.is_dir() { std::fs::remove_dir_all(&self.0) } else { std::fs::remove_file(&self.0) };
    }
}

pub fn run(program: &str, arguments: &[&str]) -> (i32, String) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (e2fsprogs is needed for these tests)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text)
}

/// Makes a file system of `mib` MiB with mke2fs's `options`.
pub fn mke2fs(mib: u64, options: &[&str]) -> Vec<u8> {
    let file = TempFile(scratch("mke2fs"));
    std::fs::File::create(&file.0).unwrap().set_len(mib << 20).unwrap();
    let path = file.0.to_str().unwrap();
    let mut arguments = vec!["-q", "-F", "-t", "ext4", "-U", "11111111-2222-3333-4444-555555555555"];
    arguments.extend(["-E", "hash_seed=a5ffbb53-28e8-4b68-8ca1-96463c572b4b"]);
    arguments.extend(options);
    arguments.push(path);
    let (status, text) = run("mke2fs", &arguments);
    assert_eq!(status, 0, "mke2fs {arguments:?}: {text}");
    std::fs::read(&file.0).unwrap()
}

/// Writes an image as a sparse file.
pub fn to_file(image: &[u8], name: &str) -> TempFile {
    use std::os::unix::fs::FileExt;
    let file = TempFile(scratch(name));
    let out = std::fs::File::create(&file.0).unwrap();
    out.set_len(image.len() as u64).unwrap();
    for (i, block) in image.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            out.write_all_at(block, i as u64 * 4096).unwrap();
        }
    }
    file
}

/// e2fsck -fn: 0 for a clean one.
pub fn fsck_n(image: &[u8]) -> (i32, String) {
    let file = to_file(image, "fsck");
    run("e2fsck", &["-fn", file.0.to_str().unwrap()])
}

pub fn assert_clean(image: &[u8], what: &str) {
    let (status, text) = fsck_n(image);
    if status != 0 {
        if let Ok(path) = std::env::var("EXT4_KEEP") {
            std::fs::write(path, image).unwrap();
        }
        panic!("{what}: e2fsck -fn: {status}\n{text}");
    }
}

pub fn mount(disk: &MemDisk) -> Fs<'_> {
    Ext4::mount(disk, &MountOptions::default()).unwrap_or_else(|error| {
        panic!("mount: {}; {:?}", error.name(), disk.lines.lock().unwrap());
    })
}

pub fn mount_ro(disk: &MemDisk) -> Fs<'_> {
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    Ext4::mount(disk, &options).unwrap_or_else(|error| {
        panic!("mount: {}; {:?}", error.name(), disk.lines.lock().unwrap());
    })
}

/// What a tree holds: path to (mode, links, size, content or target, xattr names).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub mode: u16,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub device: u64,
    pub mtime: Time,
    pub content: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

pub type Tree = BTreeMap<Vec<u8>, Node>;

pub fn read_node(fs: &Fs<'_>, inode: &Inode<Lock>) -> Result<Node> {
    let stat = fs.stat(inode);
    let content = match stat.mode & 0o170000 {
        0o100000 => {
            let mut bytes = vec![0; stat.size as usize];
            let len = fs.read(inode, 0, &mut bytes)?;
            bytes.truncate(len);
            bytes
        }
        0o120000 => fs.read_link(inode)?,
        _ => Vec::new(),
    };
    let mut xattrs = Vec::new();
    for name in fs.list_xattr(inode)?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        xattrs.push((name.to_vec(), fs.get_xattr(inode, name)?));
    }
    xattrs.sort();
    Ok(Node {
        mode: stat.mode,
        links: stat.links,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        device: stat.device,
        mtime: stat.mtime,
        content,
        xattrs,
    })
}

pub fn names(fs: &Fs<'_>, dir: &Inode<Lock>) -> Result<Vec<(Vec<u8>, u32, u8)>> {
    let mut list = Vec::new();
    fs.readdir(dir, 0, |entry| {
        list.push((entry.name.to_vec(), entry.inode, entry.kind));
        true
    })?;
    Ok(list)
}

/// The whole tree; lost+found is left out.
pub fn tree(fs: &Fs<'_>) -> Result<Tree> {
    let mut tree = Tree::new();
    let root = fs.root()?;
    walk(fs, &root, b"", &mut tree, 0)?;
    Ok(tree)
}

fn walk(fs: &Fs<'_>, dir: &Inode<Lock>, path: &[u8], tree: &mut Tree, depth: u32) -> Result<()> {
    for (name, number, _) in names(fs, dir)? {
        if name == b"." || name == b".." || (path.is_empty() && name == b"lost+found") {
            continue;
        }
        let inode = fs.lookup(dir, &name)?;
        assert_eq!(inode.number, number);
        let path = [path, b"/", &name[..]].concat();
        let node = read_node(fs, &inode)?;
        let is_dir = node.mode & 0o170000 == 0o040000;
        tree.insert(path.clone(), node);
        if is_dir && depth < 40 {
            walk(fs, &inode, &path, tree, depth + 1)?;
        }
    }
    Ok(())
}

/// A small generator: the same numbers on every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Whether the long runs are asked for (EXT4_LONG=1).
pub fn is_long() -> bool {
    std::env::var_os("EXT4_LONG").is_some()
}
