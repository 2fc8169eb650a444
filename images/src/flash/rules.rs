//! Which disks `crannog flash` will not touch, and why, each in one line.
//!
//! All knowledge comes from sysfs and /proc, so the rules are tested against a made-up tree. What they miss (a file system that
//! hides its disks, say) the kernel still refuses, because the disk is opened exclusively.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a host tells of its disks.
pub struct Host {
    pub sys: PathBuf,
    /// /proc/self/mountinfo and /proc/swaps.
    pub mounts: String,
    pub swaps: String,
}

impl Host {
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self { sys: PathBuf::from("/sys"), mounts: read("/proc/self/mountinfo"), swaps: read("/proc/swaps") }
    }
}

/// A disk that may be written.
#[derive(Debug)]
pub struct Disk {
    pub bytes: u64,
    /// Maker and model, as far as the disk tells.
    pub description: String,
}

/// A disk or partition in sysfs.
struct Node {
    directory: PathBuf,
    name: String,
    /// major:minor
    number: String,
}

impl Node {
    fn at(directory: PathBuf) -> Option<Self> {
        let name = directory.file_name()?.to_string_lossy().into_owned();
        let number = fs::read_to_string(directory.join("dev")).ok()?.trim().to_string();
        Some(Self { directory, name, number })
    }

    fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.directory.join(file)).ok()?.trim().to_string();
        (!text.is_empty()).then_some(text)
    }

    fn is_partition(&self) -> bool {
        self.directory.join("partition").exists()
    }

    fn partitions(&self) -> Vec<Self> {
        let below = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut found: Vec<_> = below.filter_map(|entry| Self::at(entry.path())).filter(Self::is_partition).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Devices made of this one: LVM, RAID, encryption.
    fn holder(&self) -> Option<String> {
        let entry = fs::read_dir(self.directory.join("holders")).ok()?.flatten().next()?;
        Some(entry.file_name().to_string_lossy().into_owned())
    }

    /// Cards and sticks, and what is no hardware at all.
    fn is_removable(&self) -> bool {
        let bus = self.directory.to_string_lossy().contains("/usb");
        let card = self.text("device/type").as_deref() == Some("SD");
        self.text("removable").as_deref() == Some("1") || bus || card || self.directory.join("loop").exists()
    }

    fn describe(&self) -> String {
        if let Some(file) = self.text("loop/backing_file") {
            return format!("a loop device on {file}");
        }
        let words: Vec<_> =
            ["device/vendor", "device/model", "device/name"].iter().filter_map(|file| self.text(file)).collect();
        if words.is_empty() { format!("disk {}", self.name) } else { words.join(" ") }
    }
}

/// The octal escapes of mountinfo undone.
fn unescape(word: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(String::from(word), |text, (from, to)| text.replace(from, to))
}

/// Where `node` is mounted, by its number, or by its name for file systems with numbers of their own. The root comes first.
fn mount_point(host: &Host, node: &Node) -> Option<String> {
    let mut points: Vec<String> = host
        .mounts
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let dash = words.iter().position(|word| *word == "-")?;
            let source = unescape(words.get(dash + 2)?);
            let by_name = source.strip_prefix("/dev/").is_some_and(|name| name == node.name);
            (words.get(2) == Some(&node.number.as_str()) || by_name).then(|| unescape(words.get(4).unwrap_or(&"")))
        })
        .collect();
    points.sort();
    points.into_iter().next()
}

fn is_swap(host: &Host, node: &Node) -> bool {
    let names = host.swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter_map(|path| path.strip_prefix("/dev/")).any(|name| name == node.name)
}

/// Mount points that make a disk the system's own.
fn is_system(point: &str) -> bool {
    let system = ["/boot", "/efi", "/usr", "/var", "/home", "/nix", "/opt", "/etc"];
    point == "/" || system.iter().any(|top| point == *top || point.starts_with(&format!("{top}/")))
}

/// The disk with the number `number`, opened as `path`: what there is to know of it, or why it is left alone.
pub fn examine(host: &Host, path: &Path, number: (u32, u32), fixed: bool) -> Result<Disk> {
    let path = path.display();
    let link = host.sys.join(format!("dev/block/{}:{}", number.0, number.1));
    let directory = fs::canonicalize(&link).with_context(|| format!("{path}: the system does not know this disk"))?;
    let disk = Node::at(directory).with_context(|| format!("{path}: the system does not know this disk"))?;
    if disk.is_partition() {
        let whole = disk.directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        bail!("{path}: a partition; a card image goes on the whole disk, /dev/{whole}");
    }
    let mut nodes = disk.partitions();
    nodes.insert(0, Node { directory: disk.directory.clone(), name: disk.name.clone(), number: disk.number.clone() });
    let points: Vec<(&Node, String)> = nodes.iter().filter_map(|node| Some((node, mount_point(host, node)?))).collect();
    if let Some((_, point)) = points.iter().find(|(_, point)| is_system(point)) {
        bail!("{path}: a disk of the running system ({point} is on it)");
    }
    if let Some((node, point)) = points.first() {
        bail!("{path}: in use: /dev/{} is mounted on {point}; umount {point} first", node.name);
    }
    for node in &nodes {
        if is_swap(host, node) {
            bail!("{path}: a disk of the running system (it swaps to /dev/{})", node.name);
        }
        if let Some(holder) = node.holder() {
            bail!("{path}: in use: /dev/{} is a part of /dev/{holder}", node.name);
        }
    }
    let bytes = disk.text("size").and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0).saturating_mul(512);
    if bytes == 0 {
        bail!("{path}: no card in it");
    }
    if disk.text("ro").as_deref() == Some("1") {
        bail!("{path}: write-protected (an SD card has a small slide for that)");
    }
    if !fixed && !disk.is_removable() {
        bail!("{path}: not a removable disk ({}); --fixed if it is meant all the same", disk.describe());
    }
    Ok(Disk { bytes, description: disk.describe() })
}
