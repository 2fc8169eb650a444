//! Writes newc cpio archives: deterministic, without root.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Files of the host with several names, by device and inode: the number they have in the archive.
    links: BTreeMap<(u64, u64), u32>,
}

/// Whom the files of a tree belong to in the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Whom they belong to on the host, by number.
    Kept,
    /// Root, whoever unpacked them.
    Root,
}

/// What a file is besides its name and content.
#[derive(Clone, Copy, Default)]
pub struct Attributes {
    /// Permissions, without the type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Last change, in seconds since 1970.
    pub mtime: u32,
}

impl Attributes {
    /// Root's, never changed.
    pub fn root(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    fn of(metadata: &fs::Metadata, owners: Owners) -> Self {
        let (uid, gid) = if owners == Owners::Root { (0, 0) } else { (metadata.uid(), metadata.gid()) };
        let mode = metadata.permissions().mode() & 0o7777;
        Self { mode, uid, gid, mtime: metadata.mtime().clamp(0, u32::MAX.into()) as u32 }
    }
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

/// One of several names of a file.
#[derive(Clone, Copy)]
enum Link {
    /// The first name, which carries the content, or the only one.
    First,
    /// Another name of the file with this number.
    Again(u32),
}

struct Entry<'a> {
    name: &'a [u8],
    /// Type and permissions.
    mode: u32,
    attributes: Attributes,
    nlink: u32,
    link: Link,
    data: &'a [u8],
    rdev: (u32, u32),
}

impl<'a> Entry<'a> {
    fn new(name: &'a [u8], kind: u32, attributes: Attributes) -> Self {
        let mode = kind | attributes.mode;
        Self { name, mode, attributes, nlink: 1, link: Link::First, data: b"", rdev: (0, 0) }
    }
}

const FIFO: u32 = 0o010000;
const CHARACTER: u32 = 0o020000;
const DIRECTORY: u32 = 0o040000;
const REGULAR: u32 = 0o100000;
const SYMLINK: u32 = 0o120000;

impl Archive {
    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Returns the entry's number.
    fn put(&mut self, entry: &Entry<'_>) -> u32 {
        let ino = match entry.link {
            Link::First => {
                self.next_ino += 1;
                self.next_ino
            }
            Link::Again(ino) => ino,
        };
        self.names.insert(entry.name.to_vec());
        let size = u32::try_from(entry.data.len()).expect("files of the archive are below 4 GiB");
        let attributes = &entry.attributes;
        let fields = [
            ino,
            entry.mode,
            attributes.uid,
            attributes.gid,
            entry.nlink,
            attributes.mtime,
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
        ino
    }

    /// Makes the directories above `name`.
    fn parents(&mut self, name: &[u8]) {
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.directory(&name[..at], 0o755);
        }
    }

    pub fn directory(&mut self, name: &[u8], mode: u32) {
        self.directory_with(name, Attributes::root(mode));
    }

    pub fn directory_with(&mut self, name: &[u8], attributes: Attributes) {
        // A link of this name (/bin in a merged /usr) leads to a directory already: Linux would put an empty one in its place.
        if name.is_empty() || self.names.contains(name) || !self.directories.insert(name.to_vec()) {
            return;
        }
        self.parents(name);
        self.put(&Entry::new(name, DIRECTORY, attributes));
    }

    /// Whether something of this name was put in.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names.contains(name)
    }

    pub fn file(&mut self, name: &[u8], mode: u32, data: &[u8]) {
        self.put_file(name, Attributes::root(mode), data, 1);
    }

    /// A file that may have further names ([`Archive::hard_link`]); returns its number.
    pub fn file_with_links(&mut self, name: &[u8], attributes: Attributes, data: &[u8]) -> u32 {
        self.put_file(name, attributes, data, 2)
    }

    fn put_file(&mut self, name: &[u8], attributes: Attributes, data: &[u8], nlink: u32) -> u32 {
        self.parents(name);
        self.put(&Entry { data, nlink, ..Entry::new(name, REGULAR, attributes) })
    }

    /// Another name of the file with number `ino`.
    pub fn hard_link(&mut self, name: &[u8], attributes: Attributes, ino: u32) {
        self.parents(name);
        self.put(&Entry { nlink: 2, link: Link::Again(ino), ..Entry::new(name, REGULAR, attributes) });
    }

    pub fn symlink(&mut self, name: &[u8], target: &[u8]) {
        self.symlink_with(name, Attributes::default(), target);
    }

    pub fn symlink_with(&mut self, name: &[u8], attributes: Attributes, target: &[u8]) {
        self.parents(name);
        self.put(&Entry { data: target, ..Entry::new(name, SYMLINK, Attributes { mode: 0o777, ..attributes }) });
    }

    pub fn character_device(&mut self, name: &[u8], mode: u32, rdev: (u32, u32)) {
        self.node(name, CHARACTER, Attributes::root(mode), rdev);
    }

    pub fn fifo(&mut self, name: &[u8], attributes: Attributes) {
        self.node(name, FIFO, attributes, (0, 0));
    }

    /// A device or a FIFO.
    pub fn node(&mut self, name: &[u8], kind: u32, attributes: Attributes, rdev: (u32, u32)) {
        self.parents(name);
        self.put(&Entry { rdev, ..Entry::new(name, kind, attributes) });
    }

    /// Adds the tree at `from` (a directory or one file) as `to`, sorted by name. Where `from` itself is a link, what it leads to
    /// is meant. Sockets are left out: nobody listens any more.
    pub fn tree(&mut self, from: &Path, to: &[u8], owners: Owners) -> Result<()> {
        // Copies of one file in two trees are two files.
        self.links.clear();
        let metadata = fs::metadata(from).with_context(|| from.display().to_string())?;
        self.add(from, to, owners, &metadata)
    }

    fn add(&mut self, from: &Path, to: &[u8], owners: Owners, metadata: &fs::Metadata) -> Result<()> {
        let named = || from.display().to_string();
        let attributes = Attributes::of(metadata, owners);
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(from).with_context(named)?;
            self.symlink_with(to, attributes, target.as_os_str().as_bytes());
        } else if kind.is_dir() {
            self.directory_with(to, attributes);
            let entries = fs::read_dir(from).with_context(named)?;
            let mut names: Vec<_> = entries.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
            names.sort();
            for name in names {
                let mut below = to.to_vec();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name.as_bytes());
                let path = from.join(&name);
                let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
                self.add(&path, &below, owners, &metadata)?;
            }
        } else if kind.is_file() {
            let key = (metadata.dev(), metadata.ino());
            if let Some(ino) = self.links.get(&key).copied() {
                self.hard_link(to, attributes, ino);
                return Ok(());
            }
            ensure!(metadata.len() <= LARGEST_FILE, "{}: larger than 4 GiB", from.display());
            let data = fs::read(from).with_context(named)?;
            if metadata.nlink() > 1 {
                let ino = self.file_with_links(to, attributes, &data);
                self.links.insert(key, ino);
            } else {
                self.put_file(to, attributes, &data, 1);
            }
        } else if !kind.is_socket() {
            let rdev = metadata.rdev();
            self.node(to, metadata.mode() & 0o170000, attributes, (libc::major(rdev), libc::minor(rdev)));
        }
        Ok(())
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.put(&Entry::new(b"TRAILER!!!", 0, Attributes::default()));
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
    fn files_keep_their_owners_times_and_names() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("a"), "content").unwrap();
        fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
        std::os::unix::fs::symlink("tree", place.path().join("link")).unwrap();
        let metadata = fs::metadata(tree.join("a")).unwrap();
        let mut archive = Archive::default();
        // A link to the tree is the tree.
        archive.tree(&place.path().join("link"), b"", Owners::Kept).unwrap();
        let bytes = archive.finish();
        let member = |name: &str| {
            let at = bytes.windows(name.len() + 2).position(|window| window == format!("{name}\0\0").as_bytes());
            let at = at.or_else(|| bytes.windows(name.len() + 1).position(|w| w == format!("{name}\0").as_bytes()));
            base::cpio::Header::parse(&bytes[at.unwrap() - base::cpio::HEADER_BYTES..]).unwrap()
        };
        let (a, b) = (member("a"), member("b"));
        assert_eq!((a.ino, a.uid, a.mtime), (b.ino, metadata.uid(), metadata.mtime() as u32));
        assert_eq!((a.file_bytes, b.file_bytes, a.nlink), (7, 0, 2));
    }

    #[test]
    fn guest_paths() {
        assert_eq!(guest_name("/a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(guest_name("/").unwrap(), b"");
        assert!(guest_name("a").is_err());
        assert!(guest_name("/a/../b").is_err());
    }
}
