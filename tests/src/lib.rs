//! Machine tests: boot a machine with the host tool, drive it, look at what comes out.
//!
//! `scripts/test machine` builds everything first; $CRANNOG_ARTIFACTS says where it is.

pub mod console;
pub mod host;
pub mod link;
pub mod load;
pub mod machine;
pub mod net;
pub mod programs;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

/// The build's products: tool, kernel image, guest programs.
pub fn artifacts() -> PathBuf {
    match std::env::var_os("CRANNOG_ARTIFACTS") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/crannog"),
    }
}

/// The sample program of this name (userland/samples), as the tool takes it.
pub fn sample(name: &str) -> String {
    artifacts().join(format!("sample-{name}")).display().to_string()
}

/// Debian's arm64 kernel, where `scripts/test` has fetched it.
pub fn oracle() -> Option<String> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let mut images = std::fs::read_dir(base.join("crannog/oracle/boot")).ok()?.flatten();
    let image = images.find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))?;
    Some(image.path().display().to_string())
}

/// Sees to it, once for each set, that the packages of a `crannog run` are fetched and unpacked: a slow mirror is not part of
/// what a test measures.
pub fn fetch(arguments: &[&str]) {
    static DONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let options = arguments.iter().take_while(|word| **word != "--");
    let sources: Vec<&str> = options
        .clone()
        .zip(options.skip(1))
        .filter(|(name, _)| ["--debs", "--recipe"].contains(name))
        .flat_map(|(name, value)| [*name, *value])
        .collect();
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if sources.is_empty() || !done.insert(sources.join(" ")) {
        return;
    }
    let scratch = std::env::temp_dir().join(format!("crannog-fetch-{}-{}", std::process::id(), done.len()));
    std::fs::create_dir_all(&scratch).expect("a temporary directory");
    let output = Command::new(artifacts().join("crannog"))
        .args(["run", "--dry-run", "--net", "none"])
        .args(&sources)
        .args(["--", "/bin/true"])
        .env("CRANNOG_ARTIFACTS", artifacts())
        .env("TMPDIR", &scratch)
        .output()
        .expect("the host tool starts");
    let _ = std::fs::remove_dir_all(&scratch);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What one run of the tool gave.
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Fails with everything there is to see unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
    /// Fails unless the program's output is exactly `text`.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "\n--- stderr\n{}", self.stderr);
        self
    }
    /// Fails unless the tool's messages contain `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}", self.stderr);
        self
    }
}

/// Runs `crannog run` with the usual time limit, feeding `input`.
pub fn crannog_with(arguments: &[&str], input: &[u8]) -> Run {
    crannog_with_limit(120, arguments, input)
}

/// Runs `crannog run` for at most so many seconds, feeding `input`.
pub fn crannog_with_limit(limit_s: u32, arguments: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(artifacts().join("crannog"))
        .args(["run", "--timeout", &limit_s.to_string()])
        .args(arguments)
        .env("CRANNOG_ARTIFACTS", artifacts())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the host tool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the host tool ends");
    let _ = writer.join();
    Run {
        status: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

pub fn crannog(arguments: &[&str]) -> Run {
    crannog_with(arguments, b"")
}

/// A line of shell in the demo image, in a machine with these options.
pub fn shell(options: &[&str], line: &str) -> Run {
    let mut arguments = vec!["--quiet", "--net", "none"];
    arguments.extend(options);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
    arguments.extend(["--recipe", recipe, "--", "/bin/sh", "-c", line]);
    crannog(&arguments)
}
