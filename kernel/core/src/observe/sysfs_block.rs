//! Disks in sysfs: /sys/block/DISK with its partitions, /sys/class/block, /sys/dev/block; and /proc/partitions, /proc/diskstats.

use super::proc::{Directory, Listed, Node, number};
use crate::block::{self, SECTOR_SHIFT, Volume};
use crate::prelude::*;
use crate::vfs::FileType;
use base::device::{major, minor};
use core::fmt::Write;
use core::sync::atomic::Ordering;

/// What the directories of volumes are listed by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// /sys/block: disks, as directories.
    Block,
    /// /sys/class/block: links to disks and partitions by name.
    Class,
    /// /sys/dev/block: links by number.
    Numbers,
}

pub struct Disks {
    pub device: u64,
    pub ino: u64,
    pub kind: Kind,
}

fn number_text(volume: &Volume) -> String {
    alloc::format!("{}:{}", major(volume.number), minor(volume.number))
}

impl Disks {
    fn name_of(&self, volume: &Volume) -> String {
        if self.kind == Kind::Numbers { number_text(volume) } else { String::from(&*volume.name) }
    }
    fn shows(&self, volume: &Volume) -> bool {
        self.kind != Kind::Block || volume.partition.is_none()
    }
}

impl Directory for Disks {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let volume = block::volumes().into_iter().find(|volume| self.shows(volume) && self.name_of(volume) == name)?;
        let ino = number(self.ino, name);
        if self.kind == Kind::Block {
            return Some(Node::directory_on(
                self.device,
                ino,
                VolumeDirectory { device: self.device, ino, volume, sub: "" },
            ));
        }
        let target = match volume.partition {
            Some(_) => alloc::format!("../../block/{}/{}", volume.disk.name, volume.name),
            None => alloc::format!("../../block/{}", volume.name),
        };
        Some(Node::link(ino, (0, 0), move || Ok(target.clone().into_bytes())))
    }
    fn list(&self) -> Vec<Listed> {
        let kind = if self.kind == Kind::Block { FileType::Directory } else { FileType::Symlink };
        let shown = block::volumes().into_iter().filter(|volume| self.shows(volume));
        shown.map(|volume| Listed { position: volume.number, name: self.name_of(&volume), kind }).collect()
    }
}

type File = (&'static str, fn(&Volume) -> String);

fn line(value: impl core::fmt::Display) -> String {
    alloc::format!("{value}\n")
}

/// The files of disks and partitions, those of disks alone, of partitions alone, and of a disk's queue.
const BOTH: &[File] = &[
    ("alignment_offset", |_| line(0)),
    ("dev", |volume| line(number_text(volume))),
    ("discard_alignment", |_| line(0)),
    ("inflight", |volume| alloc::format!("{:8} {:8}\n", volume.stats().in_flight.load(Ordering::Relaxed), 0)),
    ("ro", |volume| line(u8::from(volume.is_read_only()))),
    ("size", |volume| line(volume.nr_sectors())),
    ("stat", |volume| alloc::format!("{}\n", stat(volume))),
    ("uevent", |volume| {
        let kind = if volume.partition.is_some() { "partition" } else { "disk" };
        let mut text = alloc::format!(
            "MAJOR={}\nMINOR={}\nDEVNAME={}\nDEVTYPE={kind}\nDISKSEQ={}\n",
            major(volume.number),
            minor(volume.number),
            volume.name,
            volume.disk.sequence
        );
        if let Some(partition) = &volume.partition {
            let _ = writeln!(text, "PARTN={}", partition.number);
            if !partition.name.is_empty() {
                let _ = writeln!(text, "PARTNAME={}", String::from_utf8_lossy(&partition.name));
            }
        }
        text
    }),
];
const DISK: &[File] = &[
    ("capability", |_| line(0)),
    ("diskseq", |volume| line(volume.disk.sequence)),
    ("hidden", |_| line(0)),
    ("range", |_| line(16)),
    ("ext_range", |_| line(256)),
    ("removable", |_| line(0)),
    ("serial", |volume| line(volume.disk.serial())),
];
const PARTITION: &[File] = &[
    ("partition", |volume| line(volume.partition.as_ref().map_or(0, |partition| partition.number))),
    ("start", |volume| line(volume.first_sector())),
];
const QUEUE: &[File] = &[
    ("discard_granularity", |volume| {
        let info = volume.disk.info();
        line(if info.max_discard_sectors == 0 { 0 } else { u64::from(info.discard_align_sectors) << SECTOR_SHIFT })
    }),
    ("discard_max_bytes", |volume| line(u64::from(volume.disk.info().max_discard_sectors) << SECTOR_SHIFT)),
    ("discard_max_hw_bytes", |volume| line(u64::from(volume.disk.info().max_discard_sectors) << SECTOR_SHIFT)),
    ("discard_zeroes_data", |_| line(0)),
    ("fua", |volume| line(u8::from(volume.disk.info().has_fua))),
    ("hw_sector_size", |volume| line(volume.logical_bytes())),
    ("io_timeout", |volume| line(volume.disk.timeout_ms.load(Ordering::Relaxed))),
    ("logical_block_size", |volume| line(volume.logical_bytes())),
    ("max_hw_sectors_kb", |volume| line(4 * u32::from(volume.disk.info().max_segments))),
    ("max_sectors_kb", |volume| line(4 * u32::from(volume.disk.info().max_segments))),
    ("max_segments", |volume| line(volume.disk.info().max_segments)),
    ("minimum_io_size", |volume| {
        let info = volume.disk.info();
        line(info.io_min_bytes.max(info.physical_bytes))
    }),
    ("nr_requests", |volume| line(volume.disk.info().depth)),
    ("optimal_io_size", |volume| line(volume.disk.info().io_opt_bytes)),
    ("physical_block_size", |volume| line(volume.disk.info().physical_bytes)),
    ("read_ahead_kb", |_| line(512)),
    ("rotational", |_| line(0)),
    ("scheduler", |_| line("[none]")),
    ("write_cache", |volume| line(if volume.disk.info().has_write_cache { "write back" } else { "write through" })),
    ("write_zeroes_max_bytes", |volume| line(u64::from(volume.disk.info().max_zeroes_sectors) << SECTOR_SHIFT)),
];

/// A volume's directory, or (`sub` is not empty) the queue's in it.
struct VolumeDirectory {
    device: u64,
    ino: u64,
    volume: Arc<Volume>,
    sub: &'static str,
}

impl VolumeDirectory {
    fn files(&self) -> impl Iterator<Item = &'static File> {
        let lists: [&[File]; 2] = match (self.sub, &self.volume.partition) {
            ("queue", _) => [QUEUE, &[]],
            (_, None) => [BOTH, DISK],
            (_, Some(_)) => [BOTH, PARTITION],
        };
        lists.into_iter().flatten()
    }
    fn is_disk(&self) -> bool {
        self.sub.is_empty() && self.volume.partition.is_none()
    }
    fn partitions(&self) -> Vec<Arc<Volume>> {
        if self.is_disk() { self.volume.disk.volumes().into_iter().skip(1).collect() } else { Vec::new() }
    }
}

impl Directory for VolumeDirectory {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let ino = number(self.ino, name);
        let directory = |volume, sub| {
            Some(Node::directory_on(self.device, ino, VolumeDirectory { device: self.device, ino, volume, sub }))
        };
        if name == "queue" && self.is_disk() {
            return directory(self.volume.clone(), "queue");
        }
        if name == "subsystem" && self.sub.is_empty() {
            let up = if self.is_disk() { "../../class/block" } else { "../../../class/block" };
            return Some(Node::link(ino, (0, 0), move || Ok(up.as_bytes().to_vec())));
        }
        if let Some(part) = self.partitions().into_iter().find(|part| &*part.name == name) {
            return directory(part, "");
        }
        let (name, produce) = *self.files().find(|(known, _)| *known == name)?;
        let volume = self.volume.clone();
        let text = move || Ok(produce(&volume).into_bytes());
        if name != "io_timeout" {
            return Some(Node::text(ino, 0o444, (0, 0), text));
        }
        let disk = self.volume.disk.clone();
        let accept = move |bytes: &[u8]| {
            let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
            let value: u32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            if value == 0 {
                return Err(Errno::EINVAL);
            }
            disk.timeout_ms.store(value, Ordering::Relaxed);
            Ok(())
        };
        Some(Node::writable(ino, 0o644, (0, 0), text, accept))
    }
    fn list(&self) -> Vec<Listed> {
        let files = self.files().map(|(name, _)| (String::from(*name), FileType::Regular));
        let mut all: Vec<(String, FileType)> = files.collect();
        if self.sub.is_empty() {
            all.push((String::from("subsystem"), FileType::Symlink));
        }
        if self.is_disk() {
            all.push((String::from("queue"), FileType::Directory));
        }
        all.extend(self.partitions().iter().map(|part| (String::from(&*part.name), FileType::Directory)));
        let listed = |(position, (name, kind))| Listed { position: position as u64, name, kind };
        all.into_iter().enumerate().map(listed).collect()
    }
}

/// The seventeen numbers of /sys/block/DISK/stat and /proc/diskstats.
fn stat(volume: &Volume) -> String {
    let stats = volume.stats();
    let load = |value: &core::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let mut text = String::new();
    let ms = |ns: u64| ns / 1_000_000;
    let middle = |text: &mut String| {
        let (busy, weighted) = (ms(load(&stats.busy_ns)), ms(load(&stats.weighted_ns)));
        let _ = write!(text, "{} {busy} {weighted} ", stats.in_flight.load(Ordering::Relaxed));
    };
    for (index, kind) in stats.kinds.iter().enumerate() {
        let (requests, time) = (load(&kind.requests), ms(load(&kind.time_ns)));
        if index == 2 {
            middle(&mut text);
        }
        let _ = match index {
            3 => write!(text, "{requests} {time}"),
            _ => write!(text, "{requests} {} {} {time} ", load(&kind.merges), load(&kind.sectors)),
        };
    }
    text
}

/// /proc/diskstats.
pub fn diskstats() -> String {
    let mut text = String::new();
    for volume in block::volumes() {
        let (major, minor) = (major(volume.number), minor(volume.number));
        let _ = writeln!(text, "{major:4} {minor:7} {} {}", volume.name, stat(&volume));
    }
    text
}

/// /proc/partitions: sizes in KiB; disks without room are left out.
pub fn partitions() -> String {
    let mut text = String::from("major minor  #blocks  name\n\n");
    for volume in block::volumes().iter().filter(|volume| volume.nr_sectors() != 0) {
        let (major, minor, kib) = (major(volume.number), minor(volume.number), volume.nr_sectors() / 2);
        let _ = writeln!(text, "{major:4}  {minor:7} {kib:10} {}", volume.name);
    }
    text
}
