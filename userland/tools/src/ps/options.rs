//! The command line of ps: UNIX options with a dash, BSD ones without, and long ones.

use super::columns::{SORTABLE, Shown, find};
use crate::machine::{Process, Users};

#[derive(Default)]
pub struct Options {
    pub help: bool,
    pub threads: bool,
    pub heads: bool,
    pub wide: bool,
    pub columns: Vec<Shown>,
    /// A column, and whether the largest comes first.
    pub sort: Option<(String, bool)>,
    all: bool,
    deselect: bool,
    pids: Vec<u32>,
    names: Vec<String>,
    users: Vec<String>,
    terminals: Vec<String>,
}

/// The words of a list: separated by commas or blanks.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).filter(|word| !word.is_empty())
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { heads: true, ..Self::default() };
        let mut format = "";
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if let Some(long) = argument.strip_prefix("--") {
                options.long(long, &mut rest)?;
                continue;
            }
            let bsd = !argument.starts_with('-');
            let letters = argument.trim_start_matches('-');
            if bsd && letters.starts_with(|first: char| first.is_ascii_digit()) {
                options.pids(letters)?;
                continue;
            }
            for (at, letter) in letters.char_indices() {
                // The value of a letter: what follows in the word, or the next word.
                let mut value = || {
                    let inside = &letters[at + letter.len_utf8()..];
                    let next = if inside.is_empty() { rest.next().map(String::as_str) } else { Some(inside) };
                    next.ok_or_else(|| format!("'{letter}' needs a list"))
                };
                match (letter, bsd) {
                    ('e' | 'A', false) | ('a' | 'x' | 'g', _) => options.all = true,
                    ('L' | 'T', false) | ('H' | 'm', true) => options.threads = true,
                    ('f', false) => format = "full",
                    ('F', false) => format = "full",
                    ('l', _) => format = "long",
                    ('j', _) => format = "job",
                    ('u', true) => format = "user",
                    ('N', false) => options.deselect = true,
                    ('w', _) => options.wide = true,
                    ('h', true) => options.heads = false,
                    ('o' | 'O', _) => {
                        options.columns(value()?)?;
                        break;
                    }
                    ('p' | 'q', _) => {
                        options.pids(value()?)?;
                        break;
                    }
                    ('C', false) => {
                        options.names.extend(words(value()?).map(String::from));
                        break;
                    }
                    ('u' | 'U', false) | ('U', true) => {
                        options.users.extend(words(value()?).map(String::from));
                        break;
                    }
                    ('t', _) => {
                        options.terminals.extend(words(value()?).map(|name| name.trim_start_matches("/dev/").into()));
                        break;
                    }
                    ('h', false) => options.help = true,
                    // Trees and environments are not drawn; the lines are there all the same.
                    ('f' | 'e' | 'c' | 'n' | 'r', true) | ('y' | 'c' | 'H', false) => {}
                    _ => return Err(format!("what is '{argument}'?")),
                }
            }
        }
        if options.columns.is_empty() {
            let list = match (format, options.threads) {
                ("full", false) => "user,pid,ppid,c,start,tty,time,args",
                ("full", true) => "user,pid,ppid,tid,c,nlwp,start,tty,time,args",
                ("user", false) => "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,args",
                ("user", true) => "user,pid,tid,pcpu,pmem,vsz,rss,tty,stat,start,time,args",
                ("job", _) => "ppid,pid,pgid,sid,tty,tpgid,stat,uid,time,args",
                ("long", false) => "s,uid,pid,ppid,c,pri,ni,rss,vsz,wchan,tty,time,comm",
                ("long", true) => "s,uid,pid,ppid,tid,c,pri,ni,rss,vsz,wchan,tty,time,comm",
                (_, false) => "pid,user,s,pcpu,time,comm,doing",
                (_, true) => "pid,tid,user,s,pcpu,time,comm,doing",
            };
            options.columns(list)?;
        }
        Ok(options)
    }

    fn long(&mut self, option: &str, rest: &mut std::slice::Iter<'_, String>) -> Result<(), String> {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let mut value = || value.or_else(|| rest.next().map(String::as_str)).ok_or(format!("--{name} needs a value"));
        match name {
            "help" => self.help = true,
            "no-headers" | "no-heading" | "noheaders" => self.heads = false,
            "headers" => self.heads = true,
            "deselect" => self.deselect = true,
            "pid" => self.pids(value()?)?,
            "user" => self.users.extend(words(value()?).map(String::from)),
            "tty" => self.terminals.extend(words(value()?).map(String::from)),
            "format" => self.columns(value()?)?,
            "sort" => {
                let key = value()?;
                let name = key.trim_start_matches(['-', '+']);
                if !SORTABLE.contains(&name) {
                    return Err(format!("cannot sort by '{name}'"));
                }
                self.sort = Some((name.into(), key.starts_with('-')));
            }
            _ => return Err(format!("what is '--{option}'?")),
        }
        Ok(())
    }

    fn pids(&mut self, list: &str) -> Result<(), String> {
        for word in words(list) {
            self.pids.push(word.parse().map_err(|_| format!("'{word}' is no process number"))?);
        }
        Ok(())
    }

    /// NAME or NAME=HEAD; an empty head leaves it away.
    fn columns(&mut self, list: &str) -> Result<(), String> {
        for word in words(list) {
            let (name, head) = word.split_once('=').map_or((word, None), |(name, head)| (name, Some(head)));
            let mut shown = find(&name.to_ascii_lowercase()).ok_or_else(|| format!("there is no column '{name}'"))?;
            if let Some(head) = head {
                shown.column.head = String::from(head).leak();
                shown.column.width = 0;
            }
            self.columns.push(shown);
        }
        Ok(())
    }

    pub fn selects(&self, process: &Process, users: &Users) -> bool {
        let chosen =
            !self.pids.is_empty() || !self.names.is_empty() || !self.users.is_empty() || !self.terminals.is_empty();
        if self.all || !chosen {
            return true;
        }
        let matches = self.pids.contains(&process.pid)
            || self.names.contains(&process.comm)
            || self.users.iter().any(|user| users.number(user) == Some(process.uid))
            || self.terminals.contains(&process.terminal());
        matches != self.deselect
    }
}
