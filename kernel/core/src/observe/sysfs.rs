//! sysfs: what programs look up about CPUs and memory.

use super::proc::{ClassNet, Directory, Fixed, FixedDirectory, Listed, Node, SYS_DEVICE, number};
use super::sysfs_block::{Disks, Kind};
use crate::prelude::*;
use crate::vfs::inode::{FileType, Inode};
use crate::vfs::path::{FileSystem, FsStat};

fn cpu_list() -> String {
    match hal::cpu::online() {
        0 | 1 => String::from("0\n"),
        count => alloc::format!("0-{}\n", count - 1),
    }
}

fn disks(device: u64, ino: u64, kind: Kind) -> Arc<Node> {
    Node::directory_on(device, ino, Disks { device, ino, kind })
}

const ROOT: &[(&str, Fixed)] = &[
    ("block", Fixed::Live(|device, ino| disks(device, ino, Kind::Block))),
    ("bus", Fixed::Directory(&[])),
    (
        "class",
        Fixed::Directory(&[
            ("net", Fixed::Live(|device, ino| Node::directory_on(device, ino, ClassNet { device, ino }))),
            ("block", Fixed::Live(|device, ino| disks(device, ino, Kind::Class))),
            ("tty", Fixed::Directory(&[])),
        ]),
    ),
    (
        "dev",
        Fixed::Directory(&[
            ("block", Fixed::Live(|device, ino| disks(device, ino, Kind::Numbers))),
            ("char", Fixed::Directory(&[])),
        ]),
    ),
    (
        "devices",
        Fixed::Directory(&[(
            "system",
            Fixed::Directory(&[
                ("cpu", Fixed::Live(|device, ino| Node::directory_on(device, ino, Cpus { device, ino }))),
                (
                    "node",
                    Fixed::Directory(&[
                        ("node0", Fixed::Directory(&[("cpulist", Fixed::Text(cpu_list))])),
                        ("online", Fixed::Text(|| String::from("0\n"))),
                        ("possible", Fixed::Text(|| String::from("0\n"))),
                    ]),
                ),
            ]),
        )]),
    ),
    ("fs", Fixed::Directory(&[])),
    (
        "kernel",
        Fixed::Directory(&[(
            "mm",
            Fixed::Directory(&[(
                "transparent_hugepage",
                Fixed::Directory(&[
                    ("enabled", Fixed::Text(|| String::from("always madvise [never]\n"))),
                    ("hpage_pmd_size", Fixed::Text(|| String::from("2097152\n"))),
                ]),
            )]),
        )]),
    ),
];

/// /sys/devices/system/cpu: the lists, and a directory for each CPU, by which programs count them.
struct Cpus {
    device: u64,
    ino: u64,
}

const CPU_LISTS: &[(&str, Fixed)] = &[
    ("kernel_max", Fixed::Text(|| alloc::format!("{}\n", hal::cpu::MAX_CPUS - 1))),
    ("offline", Fixed::Text(|| String::from("\n"))),
    ("online", Fixed::Text(cpu_list)),
    ("possible", Fixed::Text(cpu_list)),
    ("present", Fixed::Text(cpu_list)),
];

const ONE_CPU: &[(&str, Fixed)] = &[("online", Fixed::Text(|| String::from("1\n")))];

impl Directory for Cpus {
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let ino = number(self.ino, name);
        if let Some((_, entry)) = CPU_LISTS.iter().find(|(known, _)| *known == name) {
            return Some(entry.node(self.device, ino));
        }
        (0..hal::cpu::online()).find(|cpu| alloc::format!("cpu{cpu}") == name)?;
        let directory = FixedDirectory { device: self.device, ino, entries: ONE_CPU };
        Some(Node::directory_on(self.device, ino, directory))
    }
    fn list(&self) -> Vec<Listed> {
        let cpus = (0..hal::cpu::online()).map(|cpu| (alloc::format!("cpu{cpu}"), FileType::Directory));
        let lists = CPU_LISTS.iter().map(|(name, entry)| (String::from(*name), entry.kind()));
        let all = cpus.chain(lists).enumerate();
        all.map(|(position, (name, kind))| Listed { position: position as u64, name, kind }).collect()
    }
}

struct SysFs;

pub fn instance() -> Arc<dyn FileSystem> {
    Arc::new(SysFs)
}

impl FileSystem for SysFs {
    fn name(&self) -> &'static str {
        "sysfs"
    }
    fn root(&self) -> Arc<dyn Inode> {
        Node::directory_on(SYS_DEVICE, 1, FixedDirectory { device: SYS_DEVICE, ino: 1, entries: ROOT })
    }
    fn stat(&self) -> FsStat {
        FsStat { magic: 0x6265_6572, block_size: PAGE_SIZE as u64, ..Default::default() }
    }
}
