//! A machine as a person has it: the tool on a terminal of its own, typed at and looked at.

use crate::artifacts;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take, on a busy host too.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Console {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not yet looked at.
    unseen: String,
    /// All there was.
    pub shown: String,
}

/// A new terminal: our side and the program's.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut::<u8>();
    // SAFETY: openpty fills two descriptors, which are then ours alone.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut theirs, null.cast(), null.cast(), null.cast()), 0);
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

impl Console {
    /// `crannog run` with these arguments, on a terminal.
    pub fn start(arguments: &[&str]) -> Self {
        let (keyboard, theirs) = terminal();
        let mut command = Command::new(artifacts().join("crannog"));
        command.args(["run", "--timeout", "120"]).args(arguments).env("CRANNOG_ARTIFACTS", artifacts());
        let stream = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: setsid(2) and the ioctl are async-signal-safe: the terminal becomes the child's own.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("the host tool starts");
        drop(command);
        let (sender, screen) = channel();
        let mut reader = keyboard.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, screen, unseen: String::new(), shown: String::new() }
    }

    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Waits until `text` is shown behind what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.unseen.find(text) {
                self.unseen.drain(..at + text.len());
                return;
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    let bytes = String::from_utf8_lossy(&bytes).into_owned();
                    self.unseen.push_str(&bytes);
                    self.shown.push_str(&bytes);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {text:?} in what was shown:\n{}", self.shown)
                }
            }
        }
    }

    /// Types a command and waits for the first line of its answer and the prompt behind it.
    #[track_caller]
    pub fn command(&mut self, line: &str, answer: &str) {
        self.send(&format!("{line}\r"));
        self.wait_for("\n");
        self.wait_for(answer);
        self.wait_for("# ");
    }

    /// Whether the terminal echoes: whoever makes it raw must give it back.
    pub fn is_cooked(&self) -> bool {
        use std::os::fd::AsRawFd;
        // SAFETY: termios is plain data, which the call fills.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.keyboard.as_raw_fd(), &mut modes), 0);
            modes.c_lflag & libc::ECHO != 0 && modes.c_lflag & libc::ICANON != 0
        }
    }

    /// The tool's exit status.
    #[track_caller]
    pub fn status(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the tool does not end; shown:\n{}", self.shown)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
