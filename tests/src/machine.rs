//! QEMU without the tool: for images and boot data that the tool would not make.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// How a machine ended: by itself or not, and what it printed on its two ports.
pub struct End {
    pub by_itself: bool,
    pub console: String,
    pub log: String,
}

/// Runs QEMU's virt machine with these further words until it ends, or for `limit`.
pub fn qemu(scratch: &Scratch, words: &[&str], limit: Duration) -> End {
    let (console, log) = (scratch.path("console"), scratch.path("log"));
    let port = |path: &Path| format!("file:{}", path.display());
    let mut child = Command::new("qemu-system-aarch64")
        .args([
            "-M",
            "virt",
            "-cpu",
            "cortex-a72",
            "-display",
            "none",
            "-nic",
            "none",
            "-no-reboot",
            "-monitor",
            "none",
        ])
        .args(["-serial", &port(&console), "-serial", &port(&log)])
        .args(words)
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU starts");
    let end = Instant::now() + limit;
    let by_itself = loop {
        if child.try_wait().expect("a child").is_some() {
            break true;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    End { by_itself, console: read(&console), log: read(&log) }
}
