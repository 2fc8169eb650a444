//! Events as lines: `NAME(ARGUMENTS) = RESULT`. A call is printed as soon as it begins, as far as its arguments are known; when another
//! thread's line comes before its end it is left unfinished and resumed later.

use super::names;
use super::options::Options;
use super::records::{Calls, Event, Piece, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A call that has not ended.
struct Begun {
    number: u16,
    arguments: [u64; 6],
    since_ns: u64,
    /// What is printed at its end: the first argument that the kernel fills, and those behind.
    from: usize,
    pieces: Vec<Piece>,
}

pub struct Printer<'a> {
    options: &'a Options,
    calls: &'a Calls,
    begun: BTreeMap<u32, Begun>,
    /// The thread whose call stands in a line without an end.
    open: Option<u32>,
    /// Threads that have not ended.
    threads: BTreeSet<u32>,
    /// A program that has not begun: what trace itself does before execve is not shown.
    before: Option<u32>,
    last_ns: u64,
}

/// execve.
const EXECVE: u16 = 221;

impl<'a> Printer<'a> {
    pub fn new(options: &'a Options, calls: &'a Calls, child: Option<i32>) -> Self {
        Self {
            options,
            calls,
            begun: BTreeMap::new(),
            open: None,
            threads: BTreeSet::new(),
            before: child.map(|child| child as u32),
            last_ns: 0,
        }
    }

    /// Whether the event belongs to what was asked for.
    pub fn is_shown(&self, record: &Record) -> bool {
        let wanted = |number: &u16| self.options.calls.as_ref().is_none_or(|calls| calls.contains(number));
        match &record.event {
            Event::Enter { number, .. } => (self.before.is_none() || *number == EXECVE) && wanted(number),
            Event::Leave { number, .. } => self.before.is_none() && wanted(number),
            _ => self.before.is_none(),
        }
    }

    /// Begins a line; the thread's number stands in it once there are several.
    fn start_line(&mut self, record: &Record, out: &mut String) {
        if self.open.take().is_some() {
            out.push_str(" <unfinished ...>\n");
        }
        if self.threads.len() > 1 {
            let _ = write!(out, "[pid {:>5}] ", record.tid);
        }
        if self.options.relative {
            let since = if self.last_ns == 0 { 0 } else { record.time_ns.saturating_sub(self.last_ns) };
            let _ = write!(out, "{:>6}.{:06} ", since / 1_000_000_000, since / 1000 % 1_000_000);
            self.last_ns = record.time_ns;
        }
    }

    pub fn add(&mut self, record: &Record, out: &mut String) {
        let shown = self.is_shown(record);
        if matches!(record.event, Event::Enter { number: EXECVE, .. }) {
            self.before = None;
        }
        if !shown {
            return;
        }
        let tid = record.tid;
        self.threads.insert(tid);
        match &record.event {
            Event::Enter { number, arguments, pieces } => {
                self.start_line(record, out);
                let call = self.calls.0.get(number);
                let known = call.map_or(6, |call| call.arguments.len());
                let filled = call.and_then(|call| call.arguments.iter().position(|argument| argument.kind == "Output"));
                let from = filled.unwrap_or(known);
                let _ = write!(out, "{}(", self.calls.name(*number));
                self.arguments(*number, arguments, pieces, 0..from, out);
                if from < known && from > 0 {
                    out.push_str(", ");
                }
                self.open = Some(tid);
                let begun = Begun {
                    number: *number,
                    arguments: *arguments,
                    since_ns: record.time_ns,
                    from,
                    pieces: Vec::new(),
                };
                self.begun.insert(tid, begun);
            }
            Event::Leave { number, result, pieces } => {
                let resumed = self.open != Some(tid);
                if resumed {
                    self.start_line(record, out);
                    let _ = write!(out, "<... {} resumed>", self.calls.name(*number));
                }
                self.open = None;
                let mut took_ns = None;
                if let Some(begun) = self.begun.remove(&tid) {
                    let known = self.calls.0.get(&begun.number).map_or(6, |call| call.arguments.len());
                    let all = || begun.pieces.iter().chain(pieces);
                    self.arguments(begun.number, &begun.arguments, all(), begun.from..known, out);
                    took_ns = Some(record.time_ns.saturating_sub(begun.since_ns));
                }
                let _ = write!(out, ") = {}", self.result(*number, *result));
                if let Some(took) = took_ns.filter(|_| self.options.time_in_call) {
                    let _ = write!(out, " <{}.{:06}>", took / 1_000_000_000, took / 1000 % 1_000_000);
                }
                out.push('\n');
            }
            Event::Signal { number } if !self.options.quiet => {
                self.start_line(record, out);
                let _ = writeln!(out, "--- {} ---", names::signal(i64::from(*number)));
            }
            Event::Ended { status } => {
                if self.open == Some(tid) {
                    out.push_str(") = ?\n");
                    self.open = None;
                }
                self.begun.remove(&tid);
                if !self.options.quiet {
                    self.start_line(record, out);
                    let _ = match libc::WIFSIGNALED(*status) {
                        true => writeln!(out, "+++ killed by {} +++", names::signal(libc::WTERMSIG(*status).into())),
                        false => writeln!(out, "+++ exited with {} +++", libc::WEXITSTATUS(*status)),
                    };
                }
                self.threads.remove(&tid);
            }
            _ => {}
        }
    }

    /// Ends a line that is still open.
    pub fn end(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            out.push_str(" <unfinished ...>\n");
        }
    }

    fn arguments<'p>(
        &self,
        number: u16,
        values: &[u64; 6],
        pieces: impl IntoIterator<Item = &'p Piece>,
        range: std::ops::Range<usize>,
        out: &mut String,
    ) {
        let pieces: Vec<&Piece> = pieces.into_iter().collect();
        let mut first = true;
        let Some(call) = self.calls.0.get(&number) else {
            // Unknown here: six registers.
            let registers: Vec<String> = values[range].iter().map(|value| format!("{value:#x}")).collect();
            out.push_str(&registers.join(", "));
            return;
        };
        for (index, argument) in call.arguments.iter().enumerate().take(6) {
            if !range.contains(&index) || is_unused(&call.name, &argument.name, values) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push_str(", ");
            }
            let value = values[index];
            let piece = pieces.iter().find(|piece| piece.index == index);
            let text = match (argument.kind.as_str(), piece) {
                ("Text", Some(piece)) => quote(&piece.bytes, piece.more),
                ("Texts", Some(piece)) => list(&piece.bytes, piece.more),
                (_, Some(piece)) => {
                    let shown = piece.bytes.len().min(self.options.bytes);
                    quote(&piece.bytes[..shown], piece.more || shown < piece.bytes.len())
                }
                (kind, None) => plain(&call.name, &argument.name, kind, value),
            };
            out.push_str(&text);
        }
    }

    fn result(&self, number: u16, result: i64) -> String {
        // What signal delivery turns into EINTR or a restart.
        const RESTART: std::ops::RangeInclusive<i64> = -531..=-512;
        let name = self.calls.0.get(&number).map_or("", |call| call.name.as_str());
        match result {
            result if RESTART.contains(&result) => String::from("? (a signal came: EINTR or begun again)"),
            -4095..0 => {
                let errno = -result as i32;
                // SAFETY: a message of the C library's, copied at once.
                let message = unsafe { std::ffi::CStr::from_ptr(libc::strerror(errno)) };
                format!("-1 {} ({})", base::errno::Errno(errno as u16).name(), message.to_string_lossy())
            }
            _ if matches!(name, "brk" | "mmap" | "mremap" | "shmat") => format!("{result:#x}"),
            _ => result.to_string(),
        }
    }
}

/// Arguments that mean nothing in this call.
fn is_unused(call: &str, argument: &str, values: &[u64; 6]) -> bool {
    const CREATES: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
    match (call, argument) {
        ("openat", "mode") => values[2] & CREATES == 0,
        ("mq_open", "mode" | "attr") => values[1] & CREATES == 0,
        ("mremap", "new") => values[3] & libc::MREMAP_FIXED as u64 == 0,
        ("fcntl", "arg") => matches!(values[1] as i32, libc::F_GETFD | libc::F_GETFL | libc::F_GETOWN),
        // FUTEX_WAKE; FUTEX_WAIT and FUTEX_LOCK_PI have a time.
        ("futex", "timeout") => values[1] & 0x7f == 1,
        ("futex", "uaddr2" | "val3") => matches!(values[1] & 0x7f, 0 | 1 | 6),
        _ => false,
    }
}

fn plain(call: &str, argument: &str, kind: &str, value: u64) -> String {
    if kind == "Fd" && value as i32 == libc::AT_FDCWD {
        return String::from("AT_FDCWD");
    }
    if let Some(words) = names::decode(call, argument, value) {
        return words;
    }
    match kind {
        "Fd" | "i32" => (value as i32).to_string(),
        "u32" if argument.contains("flags") || argument.contains("mask") => format!("{:#x}", value as u32),
        "u32" => (value as u32).to_string(),
        "i64" => (value as i64).to_string(),
        "usize" => value.to_string(),
        _ if value == 0 && kind != "u64" => String::from("NULL"),
        "u64" if value < 1 << 20 => value.to_string(),
        _ => format!("{value:#x}"),
    }
}

/// Bytes as a C string.
fn quote(bytes: &[u8], more: bool) -> String {
    let mut out = String::from("\"");
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b'"' | b'\\' => out.extend(['\\', *byte as char]),
            0x20..0x7f => out.push(*byte as char),
            // Three digits where another would be read as part of it.
            _ if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => drop(write!(out, "\\{byte:03o}")),
            _ => drop(write!(out, "\\{byte:o}")),
        }
    }
    out.push('"');
    out.push_str(if more { "..." } else { "" });
    out
}

/// Strings that each end with NUL.
fn list(bytes: &[u8], more: bool) -> String {
    let strings = bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|byte| *byte == 0);
    let mut words: Vec<String> = strings.map(|string| quote(string, false)).collect();
    if more {
        words.push(String::from("..."));
    }
    format!("[{}]", words.join(", "))
}
