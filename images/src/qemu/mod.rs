//! One QEMU: its command line here, its life and its end in [`life`].

mod input;
mod life;
mod log;
mod terminal;

pub use life::{End, run};
pub use log::Sink;
pub use terminal::size as terminal_size;

use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub const PROGRAM: &str = "qemu-system-aarch64";

pub struct Machine {
    pub machine: String,
    pub cpu: Option<String>,
    pub cpus: u32,
    pub memory: String,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub device_tree: Option<PathBuf>,
    /// The machine is a board: its CPUs are as they are, and it has no virtio devices.
    pub is_board: bool,
    pub append: String,
    pub interactive: bool,
    pub network: Vec<String>,
    /// Words for its disks.
    pub disks: Vec<String>,
    pub extra: Vec<String>,
}

/// What speeds the guest up here, best first.
fn accelerator() -> &'static str {
    let arm = cfg!(target_arch = "aarch64");
    let writable = |path: &str| fs::OpenOptions::new().read(true).write(true).open(path).is_ok();
    if arm && cfg!(target_os = "linux") && writable("/dev/kvm") {
        "kvm"
    } else if arm && cfg!(target_os = "macos") {
        "hvf"
    } else {
        "tcg"
    }
}

/// QEMU's version: what the machine needs is there since 9.1.
pub fn check_version() -> Result<()> {
    let output = match Command::new(PROGRAM).arg("--version").output() {
        Ok(output) => output,
        Err(_) => bail!("{PROGRAM} is not installed (scripts/setup installs it)"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1).unwrap_or("0.0");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (9, 1) {
        bail!("QEMU {version} is too old: 9.1 or newer is needed (for the virt machine's second serial port)");
    }
    Ok(())
}

impl Machine {
    /// What speeds this machine up: the boards have CPUs of their own, which only TCG emulates.
    pub fn accelerator(&self) -> &'static str {
        if self.is_board { "tcg" } else { accelerator() }
    }

    /// QEMU's command line; the kernel's log goes to the file `log`.
    pub fn arguments(&self, log: &str) -> Vec<String> {
        let accelerator = self.accelerator();
        let cpu =
            self.cpu.clone().unwrap_or_else(|| String::from(if accelerator == "tcg" { "cortex-a72" } else { "host" }));
        let mut out: Vec<String> = Vec::new();
        let mut push = |words: &[&str]| out.extend(words.iter().map(|word| String::from(*word)));
        push(&["-M", &self.machine, "-accel", accelerator]);
        if !self.is_board {
            push(&["-cpu", &cpu]);
        }
        push(&["-smp", &self.cpus.to_string(), "-m", &self.memory]);
        push(&["-display", "none", "-no-reboot", "-nic", "none"]);
        if cfg!(target_os = "linux") && !self.extra.iter().any(|word| word == "-sandbox") {
            // What a guest that has taken QEMU over could still ask of the host.
            push(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        }
        push(&["-monitor", "none", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        push(&["-serial", &format!("file:{log}")]);
        push(&["-kernel", &self.kernel.display().to_string(), "-initrd", &self.initrd.display().to_string()]);
        if let Some(tree) = &self.device_tree {
            push(&["-dtb", &tree.display().to_string()]);
        }
        push(&["-append", &self.append]);
        if !self.is_board {
            push(&["-global", "virtio-mmio.force-legacy=false", "-device", "virtio-rng-device"]);
        }
        out.extend(self.network.iter().cloned());
        out.extend(self.disks.iter().cloned());
        out.extend(self.extra.iter().cloned());
        out
    }
}
