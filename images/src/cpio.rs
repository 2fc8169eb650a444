//! Writes newc cpio archives: deterministic, without root.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    next_ino: u32,
    directories: BTreeSet<Vec<u8>>,
    names: BTreeSet<Vec<u8>>,
}

/// The largest file that the format can tell the size of.
const LARGEST_FILE: u64 = u32::MAX as u64;

/// A guest path as the archive names it: absolute, no `.` and `..`, no doubled slashes.
pub fn guest_name(path: &str) -> Result<Vec<u8>> {
    ensure!(path.starts_with('/'), "{path:?} is not an absolute path");
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    ensure!(!parts.contains(&".."), "{path:?}: a path of the guest has no ..");
    Ok(parts.join("/").into_bytes())
}

struct Entry<'a> {
    name: &'a [u8],
    mode: u32,
    data: &'a [u8],
    rdev: (u32, u32),
}

impl Archive {
    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn put(&mut self, entry: &Entry<'_>) {
        self.next_ino += 1;
        self.names.insert(entry.name.to_vec());
        let size = u32::try_from(entry.data.len()).expect("files of the archive are below 4 GiB");
        let fields = [
            self.next_ino,
            entry.mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            entry.rdev.0,
            entry.rdev.1,
            entry.name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(entry.name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(entry.data);
        self.pad();
    }

    /// Makes the directories above `name`.
    fn parents(&mut self, name: &[u8]) {
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.directory(&name[..at], 0o755);
        }
    }

    pub fn directory(&mut self, name: &[u8], mode: u32) {
        // A link of this name (/bin in a merged /usr) leads to a directory already: Linux would put an empty one in its place.
        if name.is_empty() || self.names.contains(name) || !self.directories.insert(name.to_vec()) {
            return;
        }
        self.parents(name);
        self.put(&Entry { name, mode: 0o040000 | mode, data: b"", rdev: (0, 0) });
    }

    /// Whether something of this name was put in.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names.contains(name)
    }

    pub fn file(&mut self, name: &[u8], mode: u32, data: &[u8]) {
        self.parents(name);
        self.put(&Entry { name, mode: 0o100000 | mode, data, rdev: (0, 0) });
    }

    pub fn symlink(&mut self, name: &[u8], target: &[u8]) {
        self.parents(name);
        self.put(&Entry { name, mode: 0o120777, data: target, rdev: (0, 0) });
    }

    pub fn character_device(&mut self, name: &[u8], mode: u32, rdev: (u32, u32)) {
        self.node(name, 0o020000 | mode, rdev);
    }

    /// A device or a FIFO; `mode` has its type.
    fn node(&mut self, name: &[u8], mode: u32, rdev: (u32, u32)) {
        self.parents(name);
        self.put(&Entry { name, mode, data: b"", rdev });
    }

    /// Adds the tree at `from` (a directory or one file) as `to`, sorted by name. Sockets are left out: nobody listens any more.
    pub fn tree(&mut self, from: &Path, to: &[u8]) -> Result<()> {
        let metadata = fs::symlink_metadata(from).with_context(|| from.display().to_string())?;
        let mode = metadata.permissions().mode() & 0o7777;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(from).with_context(|| from.display().to_string())?;
            self.symlink(to, target.as_os_str().as_bytes());
        } else if kind.is_dir() {
            self.directory(to, mode);
            let entries = fs::read_dir(from).with_context(|| from.display().to_string())?;
            let mut names: Vec<_> = entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
            names.sort();
            for name in names {
                let mut below = to.to_vec();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name.as_bytes());
                self.tree(&from.join(&name), &below)?;
            }
        } else if kind.is_file() {
            ensure!(metadata.len() <= LARGEST_FILE, "{}: larger than 4 GiB", from.display());
            let data = fs::read(from).with_context(|| from.display().to_string())?;
            self.file(to, mode, &data);
        } else if !kind.is_socket() {
            let rdev = metadata.rdev();
            self.node(to, metadata.mode(), (libc::major(rdev), libc::minor(rdev)));
        }
        Ok(())
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.put(&Entry { name: b"TRAILER!!!", mode: 0, data: b"", rdev: (0, 0) });
        while !self.bytes.len().is_multiple_of(512) {
            self.bytes.push(0);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file(b"a/b/c", 0o644, b"x");
        archive.file(b"a/b/d", 0o644, b"yy");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 5);
        assert!(text.find("a/b\0").unwrap() < text.find("a/b/c\0").unwrap());
        assert_eq!(bytes.len() % 512, 0);
    }

    #[test]
    fn links_stay_links() {
        let mut archive = Archive::default();
        archive.symlink(b"lib", b"usr/lib");
        archive.file(b"lib/a", 0o644, b"");
        archive.directory(b"lib", 0o755);
        let text = String::from_utf8_lossy(&archive.finish()).into_owned();
        // The link, the file and the trailer: no directory.
        assert_eq!(text.matches("070701").count(), 3);
    }

    #[test]
    fn guest_paths() {
        assert_eq!(guest_name("/a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(guest_name("/").unwrap(), b"");
        assert!(guest_name("a").is_err());
        assert!(guest_name("/a/../b").is_err());
    }
}
