//! One QEMU: its command line, its life, its end.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

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
    pub log: PathBuf,
    pub interactive: bool,
    pub network: Vec<String>,
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
    pub fn arguments(&self) -> Vec<String> {
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
        if self.interactive {
            push(&[
                "-chardev",
                "stdio,id=console,mux=on,signal=off",
                "-serial",
                "chardev:console",
                "-mon",
                "chardev=console",
            ]);
        } else {
            push(&["-monitor", "none", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        }
        push(&["-serial", &format!("file:{}", self.log.display())]);
        push(&["-kernel", &self.kernel.display().to_string(), "-initrd", &self.initrd.display().to_string()]);
        if let Some(tree) = &self.device_tree {
            push(&["-dtb", &tree.display().to_string()]);
        }
        push(&["-append", &self.append]);
        if !self.is_board {
            push(&["-global", "virtio-mmio.force-legacy=false", "-device", "virtio-rng-device"]);
        }
        out.extend(self.network.iter().cloned());
        out.extend(self.extra.iter().cloned());
        out
    }
}

/// How a machine ended.
pub enum End {
    /// The status its init left.
    Exit(u8),
    Panic,
    TimedOut,
    /// We were told to end, by this signal.
    Signal(i32),
    /// Nobody reads our standard output any more.
    Unread,
    /// QEMU ended without a word from the guest; what it said itself, in one line.
    Silent(String),
    /// The person at the console ended QEMU (Ctrl-A x).
    Left,
}

/// The signal that told us to end.
static TOLD: AtomicI32 = AtomicI32::new(0);
/// A write to standard output failed.
static UNREAD: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(signal: libc::c_int) {
    TOLD.store(signal, Ordering::SeqCst);
}

/// Reads the guest's status from the log. Only its last line says it: what comes before may quote anything.
fn status_of(log: &Path) -> Option<End> {
    status_in(&fs::read(log).ok()?)
}

fn status_in(log: &[u8]) -> Option<End> {
    let text = String::from_utf8_lossy(log);
    let last = text.lines().rev().map(|line| line.trim_end_matches('\r')).find(|line| !line.is_empty())?;
    let rest = last.strip_prefix("[crannog] ")?;
    if rest == "panic" {
        return Some(End::Panic);
    }
    rest.strip_prefix("exit ")?.parse().ok().map(End::Exit)
}

/// QEMU, and our terminal as it was before QEMU changed it.
struct Guard {
    child: Child,
    terminal: Option<libc::termios>,
}

/// How long QEMU may take to end when asked to.
const GRACE: Duration = Duration::from_secs(2);

impl Drop for Guard {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            // SAFETY: kill(2) on a child that was not waited for, whose pid is therefore still its own.
            unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(terminal) = &self.terminal {
            // SAFETY: tcsetattr(3) reads the structure that tcgetattr(3) filled.
            unsafe { libc::tcsetattr(0, libc::TCSADRAIN, terminal) };
        }
    }
}

/// The settings of the terminal on standard input.
fn terminal() -> Option<libc::termios> {
    let mut settings = std::mem::MaybeUninit::uninit();
    // SAFETY: tcgetattr(3) fills the structure when it answers 0.
    unsafe { (libc::tcgetattr(0, settings.as_mut_ptr()) == 0).then(|| settings.assume_init()) }
}

/// What QEMU has to say, in one line: its own first error, not its warnings.
fn complaint(errors: &str, status: std::process::ExitStatus) -> String {
    let mut lines = errors.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("warning:"));
    let own = lines.next().map(|line| line.strip_prefix(PROGRAM).unwrap_or(line).trim_start_matches([':', ' ']));
    match (own, status.signal()) {
        (Some(line), _) => format!("QEMU: {line}"),
        (None, Some(signal)) => format!("QEMU was killed by signal {signal}"),
        (None, None) => String::from("the machine ended without a status"),
    }
}

/// Bytes of input that a terminal line can hold with room to spare; longer pieces are pushed with an end-of-file character.
const PIECE: usize = 1024;
const EOF: u8 = 4;
const QUOTE: u8 = 0x16;

/// Sends our standard input to the guest's terminal, which init has put into a mode where only ^D and ^V mean something.
fn forward(mut to: impl Write) {
    let mut input = std::io::stdin().lock();
    let mut chunk = [0u8; 4096];
    let mut column = 0;
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let mut out = Vec::with_capacity(count + 16);
        for &byte in &chunk[..count] {
            if matches!(byte, EOF | QUOTE) {
                out.push(QUOTE);
            }
            out.push(byte);
            column = if byte == b'\n' { 0 } else { column + 1 };
            if column == PIECE {
                out.push(EOF);
                column = 0;
            }
        }
        if to.write_all(&out).is_err() || to.flush().is_err() {
            return;
        }
    }
    // What is left of a line is pushed out; the next one is the end.
    let last: &[u8] = if column > 0 { &[EOF, EOF] } else { &[EOF] };
    let _ = to.write_all(last);
    let _ = to.flush();
    // The pipe stays open: QEMU would close the console with it.
    loop {
        std::thread::park();
    }
}

/// What init writes when the console is as it wants it: all before it is not the program's.
const READY: u8 = 5;

/// Copies the guest's output to ours, from the ready mark on.
fn show(mut from: impl Read, ready: &std::sync::mpsc::Sender<()>) {
    let mut chunk = [0u8; 16384];
    let mut seen = false;
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let mut bytes = &chunk[..count];
        if !seen {
            let Some(at) = bytes.iter().position(|byte| *byte == READY) else { continue };
            bytes = &bytes[at + 1..];
            seen = true;
            let _ = ready.send(());
        }
        let mut out = std::io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            UNREAD.store(true, Ordering::SeqCst);
            return;
        }
    }
}

/// Runs the machine to its end. Never leaves QEMU behind.
pub fn run(machine: &Machine, timeout: Option<Duration>, forward_input: bool) -> Result<End> {
    // From here on a signal is remembered, and the loop below ends the machine for it.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler only stores a number.
        unsafe { libc::signal(signal, remember as extern "C" fn(libc::c_int) as usize as libc::sighandler_t) };
    }
    check_version()?;
    fs::write(&machine.log, "").with_context(|| machine.log.display().to_string())?;
    let mut command = Command::new(PROGRAM);
    command.args(machine.arguments());
    command.stdin(if machine.interactive {
        Stdio::inherit()
    } else if forward_input {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(if machine.interactive { Stdio::inherit() } else { Stdio::piped() });
    command.stderr(Stdio::piped());
    let tool = std::process::id();
    // SAFETY: prctl(2), getppid(2) and _exit(2) are async-signal-safe. QEMU dies with us, however we die; if that was before the
    // request was made, it does not even start.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 != tool {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    let terminal = if machine.interactive { terminal() } else { None };
    let child = command.spawn().with_context(|| format!("cannot start {PROGRAM}"))?;
    let mut guard = Guard { child, terminal };
    let (ready, is_ready) = std::sync::mpsc::channel();
    let output = guard.child.stdout.take().map(|output| std::thread::spawn(move || show(output, &ready)));
    if let Some(input) = guard.child.stdin.take() {
        std::thread::spawn(move || {
            // Nothing may be typed before init has set the terminal up.
            if is_ready.recv().is_ok() {
                forward(input);
            }
        });
    }
    let errors = guard.child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        })
    });
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let status = loop {
        if let Some(status) = guard.child.try_wait()? {
            break status;
        }
        let told = TOLD.load(Ordering::SeqCst);
        if told != 0 {
            return Ok(End::Signal(told));
        }
        if UNREAD.load(Ordering::SeqCst) {
            return Ok(End::Unread);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(End::TimedOut);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(guard);
    if let Some(output) = output {
        let _ = output.join();
    }
    let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    let left = machine.interactive && status.success() && errors.trim().is_empty();
    let silent = || if left { End::Left } else { End::Silent(complaint(&errors, status)) };
    Ok(status_of(&machine.log).unwrap_or_else(silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    #[test]
    fn only_the_last_line_is_the_status() {
        let status = |log: &[u8]| match status_in(log) {
            Some(End::Exit(status)) => Some(status),
            Some(End::Panic) => Some(101),
            _ => None,
        };
        assert_eq!(status(b"[    1.0] x\n\n[crannog] exit 7\n"), Some(7));
        assert_eq!(status(b"\n[crannog] panic\r\n"), Some(101));
        // Quoted, forged and unfinished ones.
        assert_eq!(status(b"[crannog] exit 0\n[    1.0] and on it goes\n"), None);
        assert_eq!(status(b"[    1.0] [crannog] exit 0\n"), None);
        assert_eq!(status(b" [crannog] exit 0\n"), None);
        assert_eq!(status(b"[crannog] exit 256\n"), None);
        assert_eq!(status(b"[crannog] exit \n"), None);
        assert_eq!(status(b"[crannog] panicked\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn complaints_are_one_line() {
        let said = "qemu-system-aarch64: warning: odd\nqemu-system-aarch64: -m x: Parameter 'size'\nYou may use k, M\n";
        assert_eq!(complaint(said, ExitStatus::from_raw(256)), "QEMU: -m x: Parameter 'size'");
        assert_eq!(complaint("", ExitStatus::from_raw(9)), "QEMU was killed by signal 9");
        assert_eq!(complaint("\n", ExitStatus::from_raw(0)), "the machine ended without a status");
    }
}
