//! What a machine type decides: the Raspberry Pis have their CPUs, memory and device tree once and for all.

use crate::boards;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A machine type and what of it is fixed.
pub struct Shape {
    pub cpus: u32,
    pub memory: String,
    /// A device tree for QEMU, which makes one itself on `virt`.
    pub device_tree: Option<PathBuf>,
    /// Words the kernel needs on this machine.
    pub append: String,
    /// A real board: its CPUs are as they are, and it has no virtio devices.
    pub is_board: bool,
}

/// What the command line asks for.
#[derive(Default)]
pub struct Wish<'a> {
    pub machine: &'a str,
    pub cpu: Option<&'a str>,
    pub cpus: Option<u32>,
    /// The kernel is Crannog's.
    pub own_kernel: bool,
    pub memory: Option<&'a str>,
    /// A network was asked for by name.
    pub network: bool,
    /// A file, or `none`.
    pub device_tree: Option<&'a str>,
}

/// Bytes of QEMU's memory sizes, which are MiB without a suffix.
fn bytes(size: &str) -> Option<u64> {
    let (digits, shift) = match size.char_indices().last()? {
        (at, 'k' | 'K') => (&size[..at], 10),
        (at, 'm' | 'M') => (&size[..at], 20),
        (at, 'g' | 'G') => (&size[..at], 30),
        _ => (size, 20),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The most CPUs the kernel starts.
const MOST_CPUS: u32 = 8;
/// What the machine needs beside its files: the kernel, page tables, and a little to run in.
const OTHER_MEMORY: u64 = 6 << 20;

impl Shape {
    /// Sees to it that files of so many bytes fit. They are in memory once and a little more: what is unpacked is given back.
    /// Memory that nobody asked for is what it takes; what was asked for is refused with what would do.
    pub fn fit_memory(&mut self, initramfs: usize, asked_for: bool) -> Result<()> {
        let Some(memory) = bytes(&self.memory) else { return Ok(()) };
        let needed = initramfs as u64 + initramfs as u64 / 16 + OTHER_MEMORY;
        if memory >= needed {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        // With a quarter more to work in, rounded up to what a person would type.
        let enough = format!("{}M", mib(needed + needed / 4).next_multiple_of(64));
        let files = mib(initramfs as u64);
        if self.is_board {
            bail!("the files take {files} MiB and the board has {} MiB of memory", mib(memory));
        }
        if asked_for {
            bail!("the files take {files} MiB and the machine has {} MiB of memory: -m {enough} would do", mib(memory));
        }
        self.memory = enough;
        Ok(())
    }

    pub fn of(wish: &Wish<'_>) -> Result<Self> {
        let kind = wish.machine.split(',').next().unwrap_or("");
        let given = match wish.device_tree {
            Some("none") | None => None,
            Some(path) => Some(PathBuf::from(path)),
        };
        let memory = match kind {
            "raspi3b" => "1G",
            "raspi4b" => "2G",
            _ if kind.starts_with("raspi") => bail!("{kind}: of the Raspberry Pis, raspi3b and raspi4b are supported"),
            _ => {
                if wish.machine.split(',').any(|word| word == "secure=on") {
                    bail!("{}: with secure=on a machine starts in firmware, which there is none of", wish.machine);
                }
                if wish.own_kernel && wish.cpus.is_some_and(|cpus| cpus > MOST_CPUS) {
                    bail!("--cpus: {MOST_CPUS} at the most");
                }
                return Ok(Self {
                    cpus: wish.cpus.unwrap_or(1),
                    memory: wish.memory.unwrap_or("256M").to_string(),
                    device_tree: given,
                    append: String::new(),
                    is_board: false,
                });
            }
        };
        if wish.cpus.is_some_and(|cpus| cpus != 4) {
            bail!("{kind} has 4 CPUs, not more and not less: leave --cpus out");
        }
        if wish.memory.is_some_and(|size| bytes(size) != bytes(memory)) {
            bail!("{kind} has {memory} of memory, not more and not less: leave --memory out");
        }
        if wish.cpu.is_some() {
            bail!("{kind} has its own CPUs: leave --cpu out");
        }
        if wish.network {
            bail!("{kind} has no network card that is driven yet: leave --net and --publish out");
        }
        let device_tree = match (wish.device_tree, given) {
            (Some(_), given) => given,
            (None, _) => Some(boards::device_tree(kind)?),
        };
        // The second port is a mini-UART, and a panic ends the machine instead of blinking for somebody to see.
        // There is no clock that runs while the board is off.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let append = format!(" log=ttyS1 panic=-1 clock={now}");
        Ok(Self { cpus: 4, memory: memory.to_string(), device_tree, append, is_board: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(machine: &str, cpus: Option<u32>, memory: Option<&str>) -> Result<Shape> {
        Shape::of(&Wish { machine, cpus, memory, device_tree: Some("none"), ..Default::default() })
    }

    #[test]
    fn boards_are_as_they_are() {
        let board = shape("raspi4b", None, None).unwrap();
        assert_eq!((board.cpus, board.memory.as_str(), board.is_board), (4, "2G", true));
        assert!(shape("raspi4b", Some(4), Some("2048M")).is_ok());
        assert!(shape("raspi3b", Some(4), Some("1024")).is_ok());
        let error = |result: Result<Shape>| result.err().unwrap().to_string();
        assert!(error(shape("raspi3b", Some(2), None)).contains("4 CPUs"));
        assert!(error(shape("raspi3b", None, Some("2G"))).contains("1G of memory"));
        let net = Wish { machine: "raspi3b", network: true, device_tree: Some("none"), ..Default::default() };
        assert!(error(Shape::of(&net)).contains("no network card"));
        assert!(error(shape("raspi2b", None, None)).contains("raspi3b and raspi4b"));
    }

    #[test]
    fn files_must_fit() {
        let mut virt = shape("virt", None, Some("64M")).unwrap();
        assert!(virt.fit_memory(30 << 20, true).is_ok());
        let error = virt.fit_memory(500 << 20, true).unwrap_err().to_string();
        assert!(error.contains("take 500 MiB") && error.contains("-m 704M"), "{error}");
        assert_eq!(virt.memory, "64M");
        virt.fit_memory(500 << 20, false).unwrap();
        assert_eq!(virt.memory, "704M");
        let mut board = shape("raspi3b", None, None).unwrap();
        assert!(board.fit_memory(2 << 30, false).is_err());
    }

    #[test]
    fn virt_is_as_asked_for() {
        let virt = shape("virt,gic-version=3", Some(8), Some("1G")).unwrap();
        assert_eq!((virt.cpus, virt.memory.as_str(), virt.append.as_str()), (8, "1G", ""));
        let virt = shape("virt", None, None).unwrap();
        assert_eq!((virt.cpus, virt.memory.as_str()), (1, "256M"));
    }
}
