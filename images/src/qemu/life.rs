//! A machine's life: QEMU started, its streams joined to ours, its end told. Never leaves QEMU behind.

use super::log::{self, Sink, Status};
use super::terminal::{self, Terminal};
use super::{Machine, PROGRAM, check_version, input};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How a machine ended.
pub enum End {
    /// The status its init left.
    Exit(u8),
    Panic,
    TimedOut,
    /// We were told to end, by this signal.
    Signal(i32),
    /// Nobody reads our standard output any more, or it cannot be written: why, where it is not that the reader left.
    Unread(Option<String>),
    /// QEMU ended without a word from the guest; what it said itself, in one line.
    Silent(String),
    /// The person at the console ended the machine (Ctrl-A x).
    Left,
}

/// The signal that told us to end.
static TOLD: AtomicI32 = AtomicI32::new(0);
/// A write to standard output failed with this errno.
static UNREAD: AtomicI32 = AtomicI32::new(0);
/// Ctrl-A x was typed.
static LEFT: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(signal: libc::c_int) {
    TOLD.store(signal, Ordering::SeqCst);
}

/// QEMU, and our terminal while it is raw.
struct Guard {
    child: Child,
    /// Given back when the machine is gone.
    _terminal: Option<Terminal>,
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
    }
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

/// How long a machine at a terminal may show nothing before keys are sent all the same.
const SILENCE: Duration = Duration::from_secs(3);

/// What init writes when the console is as it wants it: all before it is not the program's.
const READY: u8 = 5;

/// Copies the guest's output to ours and tells `ready` when the machine can be typed at: from the ready mark on, which is not shown,
/// or, with a person at the terminal, from the beginning.
fn show(mut from: impl Read, interactive: bool, ready: &std::sync::mpsc::Sender<()>) {
    let mut chunk = [0u8; 16384];
    let mut seen = false;
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let mut bytes = &chunk[..count];
        if !seen {
            if !interactive {
                let Some(at) = bytes.iter().position(|byte| *byte == READY) else { continue };
                bytes = &bytes[at + 1..];
            }
            seen = true;
            let _ = ready.send(());
        }
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            UNREAD.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::SeqCst);
            return;
        }
    }
}

/// QEMU's command, its log written into `log`, which it inherits.
fn command(machine: &Machine, log: i32) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(machine.arguments(&format!("/dev/fd/{log}")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tool = std::process::id();
    // SAFETY: fcntl(2), prctl(2), getppid(2) and _exit(2) are async-signal-safe. QEMU dies with us, however we die; if that was
    // before the request was made, it does not even start.
    unsafe {
        command.pre_exec(move || {
            libc::fcntl(log, libc::F_SETFD, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 != tool {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    command
}

/// What a thread leaves that ends when the machine's streams have been taken; an error when a signal came before that.
fn joined<T>(thread: std::thread::JoinHandle<T>) -> Result<T> {
    while !thread.is_finished() {
        if TOLD.load(Ordering::SeqCst) != 0 {
            bail!("told to end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join().map_err(|_| anyhow::anyhow!("a thread of the tool failed"))
}

/// Runs the machine to its end; returns that and what of the log was only kept.
pub fn run(machine: &Machine, timeout: Option<Duration>, sink: Sink) -> Result<(End, String)> {
    // From here on a signal is remembered, and the loop below ends the machine for it.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler only stores a number.
        unsafe { libc::signal(signal, remember as extern "C" fn(libc::c_int) as usize as libc::sighandler_t) };
    }
    check_version()?;
    let (log, their_log) = std::io::pipe().context("no pipe for the log")?;
    let mut command = command(machine, their_log.as_raw_fd());
    let terminal = if machine.interactive { Terminal::make_raw() } else { None };
    let child = command.spawn().with_context(|| format!("cannot start {PROGRAM}"))?;
    drop((command, their_log));
    let mut guard = Guard { child, _terminal: terminal };
    let shown_later = matches!(sink, Sink::Kept);
    let log = std::thread::spawn(move || log::follow(log, sink));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let interactive = machine.interactive;
    let output = guard.child.stdout.take();
    let output = output.map(|output| std::thread::spawn(move || show(output, interactive, &ready)));
    if let Some(keyboard) = guard.child.stdin.take() {
        std::thread::spawn(move || {
            if interactive {
                // A port that is being set up loses keys; a machine that shows nothing may wait for them.
                let _ = is_ready.recv_timeout(SILENCE);
                LEFT.store(terminal::type_into(keyboard), Ordering::SeqCst);
            } else if is_ready.recv().is_ok() {
                // Nothing may be typed before init has set the terminal up.
                input::forward(keyboard);
            }
        });
    }
    let errors = guard.child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    // Ok: QEMU ended by itself.
    let ended = loop {
        if let Some(status) = guard.child.try_wait()? {
            break Ok(status);
        }
        let (told, unread) = (TOLD.load(Ordering::SeqCst), UNREAD.load(Ordering::SeqCst));
        if told != 0 {
            break Err(End::Signal(told));
        }
        if unread != 0 {
            let why = (unread != libc::EPIPE).then(|| std::io::Error::from_raw_os_error(unread).to_string());
            break Err(End::Unread(why));
        }
        if LEFT.load(Ordering::SeqCst) {
            break Err(End::Left);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break Err(End::TimedOut);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(guard);
    let status = match ended {
        Ok(status) => status,
        // A log that goes to somebody who does not take it is not waited for.
        Err(end) => {
            let kept =
                if shown_later { log.join().map_or_else(|_| String::new(), |log| log.kept) } else { String::new() };
            return Ok((end, kept));
        }
    };
    let (log, errors) = match (output.map_or(Ok(()), joined), joined(log), errors.map_or(Ok(String::new()), joined)) {
        (Ok(()), Ok(log), Ok(errors)) => (log, errors),
        _ => return Ok((End::Signal(TOLD.load(Ordering::SeqCst)), String::new())),
    };
    let unread = UNREAD.load(Ordering::SeqCst);
    let end = match log.status {
        _ if unread != 0 && unread != libc::EPIPE => {
            End::Unread(Some(std::io::Error::from_raw_os_error(unread).to_string()))
        }
        Some(Status::Exit(status)) => End::Exit(status),
        Some(Status::Panic) => End::Panic,
        None if interactive && status.success() && errors.trim().is_empty() => End::Left,
        None => End::Silent(complaint(&errors, status)),
    };
    Ok((end, log.kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    #[test]
    fn complaints_are_one_line() {
        let said = "qemu-system-aarch64: warning: odd\nqemu-system-aarch64: -m x: Parameter 'size'\nYou may use k, M\n";
        assert_eq!(complaint(said, ExitStatus::from_raw(256)), "QEMU: -m x: Parameter 'size'");
        assert_eq!(complaint("", ExitStatus::from_raw(9)), "QEMU was killed by signal 9");
        assert_eq!(complaint("\n", ExitStatus::from_raw(0)), "the machine ended without a status");
    }
}
