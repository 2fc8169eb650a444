//! QEMU without the tool: for images and boot data that the tool would not make, and for machines that are watched while they run.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory of the test's own.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crannog-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).expect("a file");
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a machine ended: by itself or not, QEMU's status, and what it printed on its two ports.
#[derive(Debug)]
pub struct End {
    pub by_itself: bool,
    pub status: Option<i32>,
    pub console: String,
    pub log: String,
}

/// A machine that runs; dropping it ends it.
pub struct Running {
    child: Child,
    console: PathBuf,
    log: PathBuf,
    monitor: PathBuf,
}

impl Running {
    /// Starts QEMU with these words; console, log and monitor lie in `scratch`.
    pub fn start(scratch: &Scratch, words: &[&str]) -> Self {
        let [console, log, monitor] = ["console", "log", "monitor"].map(|name| scratch.path(name));
        for stale in [&console, &log, &monitor] {
            let _ = std::fs::remove_file(stale);
        }
        let port = |path: &Path| format!("file:{}", path.display());
        let child = Command::new("qemu-system-aarch64")
            .args(["-display", "none"])
            .args(["-monitor", &format!("unix:{},server=on,wait=off", monitor.display())])
            .args(["-serial", &port(&console), "-serial", &port(&log)])
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        Self { child, console, log, monitor }
    }
    pub fn console(&self) -> String {
        read(&self.console)
    }
    pub fn log(&self) -> String {
        read(&self.log)
    }
    /// Waits until `done`, or for `limit`, or for the machine's end; answers the last of `done`.
    pub fn wait_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        while !done(self) {
            if Instant::now() > end || self.has_ended() {
                return done(self);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
    /// Waits for the machine's own end, at most for `limit`, then ends it.
    pub fn finish(mut self, limit: Duration) -> End {
        let end = Instant::now() + limit;
        let mut status = None;
        while status.is_none() && Instant::now() < end {
            status = self.child.try_wait().expect("a child");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (console, log) = (self.console(), self.log());
        End { by_itself: status.is_some(), status: status.and_then(|status| status.code()), console, log }
    }
    /// A connection to QEMU's monitor.
    pub fn monitor(&self) -> Monitor {
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(&self.monitor) {
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
                let mut monitor = Monitor(stream);
                monitor.answer();
                return monitor;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("QEMU has no monitor at {}", self.monitor.display());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

pub struct Monitor(UnixStream);

impl Monitor {
    /// Reads up to the next prompt.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"(qemu) ") {
            self.0.read_exact(&mut byte).expect("an answer of the monitor");
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
    /// A word of the guest's physical address space, registers of devices included.
    pub fn word(&mut self, address: u64) -> u32 {
        writeln!(self.0, "xp /1wx {address:#x}").expect("a command");
        let text = self.answer();
        let value = text.lines().find_map(|line| line.split_once(": 0x")?.1.split_whitespace().next());
        let value = value.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        value.unwrap_or_else(|| panic!("no word in {text:?}"))
    }
}

/// Runs QEMU's virt machine with these further words until it ends, or for `limit`.
pub fn qemu(scratch: &Scratch, words: &[&str], limit: Duration) -> End {
    let mut all = vec!["-M", "virt", "-cpu", "cortex-a72", "-nic", "none", "-no-reboot"];
    all.extend(words);
    Running::start(scratch, &all).finish(limit)
}
