//! The kernel's log: read from the machine as it comes, shown or written at once, and searched for the machine's end.
//!
//! QEMU writes the second serial port into a pipe of ours. What the machine's end is therefore does not depend on where the log
//! goes: a file, a FIFO, /dev/null or a full disk.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// How much of a log that is shown only when something went wrong is kept, in bytes.
const KEPT: usize = 1 << 20;
/// The longest line that is looked into, in bytes.
const LONGEST_LINE: usize = 4096;
/// What the status lines begin with.
const MARK: &str = "[crannog] ";

/// What the guest said of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// pid 1 ended with this status.
    Exit(u8),
    Panic,
}

impl Status {
    fn of(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(MARK)?;
        if rest == "panic" {
            return Some(Self::Panic);
        }
        rest.strip_prefix("exit ")?.parse().ok().map(Self::Exit)
    }
}

/// Where the log goes.
pub enum Sink {
    /// A file, in full.
    File(File, String),
    /// Standard error, line by line, without the status lines.
    Shown,
    /// Nowhere yet: whoever finds that the machine did not end well shows it then.
    Kept,
}

impl Sink {
    /// Opens `path` for the log. A FIFO that nobody reads is refused instead of waited for.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::options().write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match file {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => bail!("{name}: nobody reads this FIFO"),
            other => other.with_context(|| name.clone())?,
        };
        if file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            // From here on a slow reader is waited for.
            // SAFETY: fcntl(2) on a descriptor that `file` owns.
            unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETFL, 0) };
        }
        Ok(Self::File(file, name))
    }
}

/// What a machine's log came to.
pub struct Outcome {
    pub status: Option<Status>,
    /// The end of a log that was only kept.
    pub kept: String,
}

/// The lines of a log.
struct Lines {
    sink: Sink,
    line: Vec<u8>,
    kept: VecDeque<u8>,
    status: Option<Status>,
}

impl Lines {
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return;
        }
        // Only the last line says it: what comes before may quote anything.
        self.status = Status::of(line);
        if line.trim().is_empty() || line.starts_with(MARK) {
            return;
        }
        let line = printable(line);
        match self.sink {
            Sink::Shown => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Sink::Kept => {
                self.kept.extend(line.bytes().chain([b'\n']));
                let over = self.kept.len().saturating_sub(KEPT);
                self.kept.drain(..over);
            }
            Sink::File(..) => {}
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Sink::File(file, name) = &mut self.sink
            && let Err(error) = file.write_all(bytes)
        {
            eprintln!("crannog: {name}: {error}: the log ends here");
            self.sink = Sink::Kept;
        }
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }
}

/// A line without what would command the reader's terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Reads the log to its end, which is the machine's.
pub fn follow(mut from: impl Read, sink: Sink) -> Outcome {
    let mut lines = Lines { sink, line: Vec::new(), kept: VecDeque::new(), status: None };
    let mut chunk = [0u8; 8192];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => lines.take(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.end_line();
    let kept = lines.kept.make_contiguous();
    Outcome { status: lines.status, kept: String::from_utf8_lossy(kept).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_is_the_status() {
        let status = |log: &[u8]| follow(log, Sink::Kept).status;
        assert_eq!(status(b"[    1.0] x\n\n[crannog] exit 7\n"), Some(Status::Exit(7)));
        assert_eq!(status(b"\n[crannog] panic\r\n"), Some(Status::Panic));
        // Quoted, forged and unfinished ones.
        assert_eq!(status(b"[crannog] exit 0\n[    1.0] and on it goes\n"), None);
        assert_eq!(status(b"[    1.0] [crannog] exit 0\n"), None);
        assert_eq!(status(b" [crannog] exit 0\n"), None);
        assert_eq!(status(b"[crannog] exit 256\n"), None);
        assert_eq!(status(b"[crannog] exit \n"), None);
        assert_eq!(status(b"[crannog] panicked\n"), None);
        assert_eq!(status(b""), None);
        assert_eq!(follow(&b"[    0.1] hello\r\n\n[crannog] exit 3\n"[..], Sink::Kept).kept, "[    0.1] hello\n");
    }

    #[test]
    fn what_is_kept_is_bounded_and_harmless() {
        let mut log = vec![b'a'; 3 * LONGEST_LINE];
        log.extend(b"\n\x1b[2Jcleared\n");
        let outcome = follow(&log[..], Sink::Kept);
        assert_eq!(outcome.kept.len(), LONGEST_LINE + 1 + "\u{fffd}[2Jcleared\n".len());
        let long = b"0123456789012345678901234567890123456789\n".repeat(60_000);
        assert_eq!(follow(&long[..], Sink::Kept).kept.len(), KEPT);
    }

    #[test]
    fn a_full_disk_does_not_lose_the_status() {
        let sink = Sink::file(Path::new("/dev/full")).unwrap();
        assert_eq!(follow(&b"one\n[crannog] exit 7\n"[..], sink).status, Some(Status::Exit(7)));
    }
}
