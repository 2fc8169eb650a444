//! The command line of trace.

use super::records::{Call, Calls};
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Options {
    pub help: bool,
    pub follow: bool,
    /// Prints calls, counts calls.
    pub lines: bool,
    pub counts: bool,
    pub relative: bool,
    pub time_in_call: bool,
    pub quiet: bool,
    pub bytes: usize,
    pub output: Option<String>,
    pub pids: Vec<u32>,
    /// The calls that are wanted; None is all.
    pub calls: Option<BTreeSet<u16>>,
    pub command: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &[String], calls: &Calls) -> Result<Self, String> {
        let mut options = Self { follow: true, lines: true, bytes: 32, ..Self::default() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--help" => options.help = true,
                "--no-follow" => options.follow = false,
                "--" => {
                    options.command.extend(rest.by_ref().cloned());
                }
                word if !word.starts_with('-') || word == "-" => {
                    options.command.push(argument.clone());
                    options.command.extend(rest.by_ref().cloned());
                }
                _ => options.letters(&argument[1..], &mut rest, calls)?,
            }
        }
        if !options.help && options.command.is_empty() == options.pids.is_empty() {
            return Err(String::from("a program or -p PID"));
        }
        Ok(options)
    }

    fn letters(&mut self, letters: &str, rest: &mut std::slice::Iter<'_, String>, calls: &Calls) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            // The value of a letter: what follows in the word, or the next word.
            let mut value = || {
                let inside = &letters[at + letter.len_utf8()..];
                let next = if inside.is_empty() { rest.next().map(String::as_str) } else { Some(inside) };
                next.ok_or_else(|| format!("-{letter} needs a value"))
            };
            match letter {
                'f' | 'F' => self.follow = true,
                'c' => (self.lines, self.counts) = (false, true),
                'C' => self.counts = true,
                'r' => self.relative = true,
                'T' => self.time_in_call = true,
                'q' => self.quiet = true,
                'h' => self.help = true,
                'e' => {
                    self.select(value()?, calls)?;
                    break;
                }
                'o' => {
                    self.output = Some(value()?.into());
                    break;
                }
                'p' => {
                    for word in value()?.split(',') {
                        self.pids.push(word.parse().map_err(|_| format!("'{word}' is no process number"))?);
                    }
                    break;
                }
                's' => {
                    self.bytes = value()?.parse().map_err(|_| "-s needs a number of bytes")?;
                    break;
                }
                _ => return Err(format!("what is '-{letters}'?")),
            }
        }
        Ok(())
    }

    /// [trace=][!]NAME,NAME,%GROUP
    fn select(&mut self, list: &str, calls: &Calls) -> Result<(), String> {
        let list = list.strip_prefix("trace=").unwrap_or(list);
        let (list, turned) = list.strip_prefix('!').map_or((list, false), |list| (list, true));
        let mut chosen = BTreeSet::new();
        for word in list.split(',').filter(|word| !word.is_empty()) {
            let before = chosen.len();
            let matching = calls.0.iter().filter(|(_, call)| matches(word, call)).map(|(number, _)| *number);
            chosen.extend(matching);
            if chosen.len() == before && !calls.0.values().any(|call| matches(word, call)) {
                return Err(format!("there is no call '{word}'"));
            }
        }
        if turned {
            chosen = calls.0.keys().copied().filter(|number| !chosen.contains(number)).collect();
        }
        self.calls = Some(chosen);
        Ok(())
    }
}

/// Whether a word of -e means the call.
fn matches(word: &str, call: &Call) -> bool {
    let has = |kind: &str| call.arguments.iter().any(|argument| argument.kind == kind);
    let begins = |names: &[&str]| names.iter().any(|name| call.name.starts_with(name));
    match word {
        "all" | "%all" => true,
        "%file" => has("Text") && !begins(&["fsetxattr", "fgetxattr", "fremovexattr", "memfd", "mq_"]),
        "%desc" => has("Fd"),
        "%process" => begins(&["clone", "exec", "exit", "wait", "kill", "tkill", "tgkill", "pidfd", "unshare"]),
        "%network" | "%net" => {
            begins(&[
                "socket",
                "bind",
                "listen",
                "accept",
                "connect",
                "getsock",
                "getpeer",
                "send",
                "recv",
                "shutdown",
                "setsockopt",
            ]) && call.name != "sendfile"
        }
        "%signal" => begins(&["rt_sig", "kill", "tkill", "tgkill", "signalfd", "sigaltstack", "pidfd_send_signal"]),
        "%ipc" => begins(&["msg", "sem", "shm", "mq_", "futex"]),
        "%memory" => begins(&[
            "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mlock", "munlock", "msync", "mincore", "shmat",
            "shmdt",
        ]),
        name => call.name == name,
    }
}
