//! sysfs: what programs look up about CPUs and memory.

use super::inode::Inode;
use super::path::{FileSystem, FsStat};
use super::proc::{ClassNet, Fixed, FixedDirectory, Node, SYS_DEVICE};
use crate::prelude::*;

fn cpu_list() -> String {
    match hal::cpu::online() {
        0 | 1 => String::from("0\n"),
        count => alloc::format!("0-{}\n", count - 1),
    }
}

const ROOT: &[(&str, Fixed)] = &[
    ("block", Fixed::Directory(&[])),
    ("bus", Fixed::Directory(&[])),
    (
        "class",
        Fixed::Directory(&[
            ("net", Fixed::Live(|device, ino| Node::directory_on(device, ino, ClassNet { device, ino }))),
            ("block", Fixed::Directory(&[])),
            ("tty", Fixed::Directory(&[])),
        ]),
    ),
    ("dev", Fixed::Directory(&[("block", Fixed::Directory(&[])), ("char", Fixed::Directory(&[]))])),
    (
        "devices",
        Fixed::Directory(&[(
            "system",
            Fixed::Directory(&[
                (
                    "cpu",
                    Fixed::Directory(&[
                        ("kernel_max", Fixed::Text(|| alloc::format!("{}\n", hal::cpu::MAX_CPUS - 1))),
                        ("offline", Fixed::Text(|| String::from("\n"))),
                        ("online", Fixed::Text(cpu_list)),
                        ("possible", Fixed::Text(cpu_list)),
                        ("present", Fixed::Text(cpu_list)),
                    ]),
                ),
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
