//! /proc/PID/fd and /proc/PID/fdinfo.

use super::process::{Subject, owner_of};
use super::{Directory, Listed, Node, number};
use crate::prelude::*;
use crate::vfs::anonymous;
use crate::vfs::inode::FileType;
use crate::vfs::{OpenFile, OpenFlags};
use core::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Info {
    /// fd: links to the files.
    Link,
    /// fdinfo: what is known of them.
    Text,
}

pub struct Descriptors {
    pub ino: u64,
    pub subject: Subject,
    pub info: Info,
}

fn file_of(subject: &Subject, fd: i32) -> Result<Arc<OpenFile>, Errno> {
    subject.task()?.files.get().get(fd).ok_or(Errno::ENOENT)
}

impl Directory for Descriptors {
    fn is_own(&self) -> bool {
        self.subject.process.pid == current().process.pid
    }
    fn lookup(&self, name: &str) -> Option<Arc<Node>> {
        let fd: i32 = name.parse().ok().filter(|fd| *fd >= 0)?;
        self.subject.check_inspect().ok()?;
        let file = file_of(&self.subject, fd).ok()?;
        let owner = owner_of(&self.subject.process);
        let ino = number(self.ino, name);
        let subject = self.subject.clone();
        if self.info == Info::Text {
            return Some(Node::text(ino, 0o444, owner, move || describe(&subject, fd)));
        }
        let other = subject.clone();
        let mode = 0o100 | if file.is_readable() { 0o400 } else { 0 } | if file.is_writable() { 0o200 } else { 0 };
        Some(Node::magic_link(
            ino,
            mode,
            owner,
            move || {
                subject.check_inspect()?;
                let file = file_of(&subject, fd)?;
                Ok(match (&file.path, file.ops.anonymous_name()) {
                    (_, Some(name)) => name.into_bytes(),
                    (Some(path), None) => path.display(),
                    (None, None) => b"anon_inode:[unknown]".to_vec(),
                })
            },
            move || {
                other.check_inspect()?;
                let file = file_of(&other, fd)?;
                Ok(file.path.clone().unwrap_or_else(|| anonymous::place(file)))
            },
        ))
    }
    fn list(&self) -> Vec<Listed> {
        if self.subject.check_inspect().is_err() {
            return Vec::new();
        }
        let Ok(task) = self.subject.task() else { return Vec::new() };
        let kind = if self.info == Info::Link { FileType::Symlink } else { FileType::Regular };
        // As much of it as there is memory for.
        let numbers = task.files.get().numbers().unwrap_or_default();
        let mut list = Vec::with_room(numbers.len()).unwrap_or_default();
        for fd in numbers {
            if admit(64).is_err()
                || list.try_push(Listed { position: fd as u64, name: alloc::format!("{fd}"), kind }).is_err()
            {
                break;
            }
        }
        list
    }
}

fn describe(subject: &Subject, fd: i32) -> Result<Vec<u8>, Errno> {
    subject.check_inspect()?;
    let task = subject.task()?;
    let table = task.files.get();
    let file = table.get(fd).ok_or(Errno::ENOENT)?;
    let cloexec = table.flags(fd).is_ok_and(|flags| flags.contains(crate::vfs::FdFlags::CLOEXEC));
    let flags = file.flags().bits() | if cloexec { OpenFlags::CLOEXEC.bits() } else { 0 };
    let position = file.shown_position();
    let (mount, ino) = match &file.path {
        Some(path) => (path.mount.id, path.inode().stat().ino),
        None => (0, file.ops.stat(&file).map_or(0, |stat| stat.ino)),
    };
    let mut out = String::new();
    let _ = write!(out, "pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n");
    out.push_str(&file.ops.fdinfo(&file));
    Ok(out.into_bytes())
}
