//! Tar files of root file systems, read straight into an archive: nothing of them is ever put onto the host, so that neither
//! device nodes nor set-user-ID files nor links that leave the tree can do anything there.

use crate::cpio::{Archive, Attributes};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::process::{Child, Command, Stdio};
use tar::EntryType;

/// What a compressed file begins with, and the program that unpacks it.
const COMPRESSIONS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// A tar file's bytes, and the program that unpacks them if they are compressed.
struct Input {
    reader: Box<dyn Read>,
    unpacker: Option<(Child, &'static str)>,
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let mut start = [0; 6];
        let len = File::open(path).and_then(|mut file| file.read(&mut start)).with_context(named)?;
        let file = File::open(path).with_context(named)?;
        let Some((_, program)) = COMPRESSIONS.iter().find(|(magic, _)| start[..len].starts_with(magic)) else {
            return Ok(Self { reader: Box::new(BufReader::new(file)), unpacker: None });
        };
        let mut command = Command::new(program);
        command.arg("-dc").stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("{}: {program} is needed to unpack it", named()))?;
        let output = child.stdout.take().context("a pipe")?;
        Ok(Self { reader: Box::new(BufReader::new(output)), unpacker: Some((child, program)) })
    }

    /// Fails if the compressed data was damaged.
    fn close(mut self) -> Result<()> {
        std::io::copy(&mut self.reader, &mut std::io::sink())?;
        drop(self.reader);
        if let Some((child, program)) = &mut self.unpacker
            && !child.wait()?.success()
        {
            bail!("{program} cannot unpack it");
        }
        Ok(())
    }
}

/// A member's name in the guest: below the root, whatever it says.
fn name_of(path: &Path) -> Result<Vec<u8>> {
    let mut name = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend(part.as_bytes());
            }
            Component::ParentDir => bail!("{}: a name with ..", path.display().to_string().escape_debug()),
            _ => {}
        }
    }
    Ok(name)
}

/// Adds everything in the tar file at `path` (plain, or compressed by gzip, xz, bzip2, zstd or lz4) with its owners, modes and times.
pub fn add(path: &Path, archive: &mut Archive) -> Result<()> {
    let named = || path.display().to_string();
    let mut input = Input::open(path)?;
    read(&mut input.reader, archive).with_context(named)?;
    input.close().with_context(named)
}

fn read(reader: impl Read, archive: &mut Archive) -> Result<()> {
    let mut tar = tar::Archive::new(reader);
    // Numbers of the files so far, and what they are, for further names of them.
    let mut files: BTreeMap<Vec<u8>, (u32, Attributes)> = BTreeMap::new();
    let mut members = 0;
    for entry in tar.entries().context("tar")? {
        let mut entry = entry.context("tar: damaged")?;
        members += 1;
        let name = name_of(&entry.path().context("tar: a damaged name")?)?;
        let header = entry.header();
        let number = |value: std::io::Result<u64>| value.unwrap_or(0).min(u32::MAX.into()) as u32;
        let attributes = Attributes {
            mode: header.mode().unwrap_or(0o644) & 0o7777,
            uid: number(header.uid()),
            gid: number(header.gid()),
            mtime: number(header.mtime()),
        };
        let rdev =
            (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0));
        let link = entry.link_name().ok().flatten();
        match entry.header().entry_type() {
            EntryType::Directory => archive.directory_with(&name, attributes),
            _ if name.is_empty() => {}
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if entry.size() > u32::MAX.into() {
                    bail!("{}: larger than 4 GiB", String::from_utf8_lossy(&name).escape_debug());
                }
                let mut data = Vec::new();
                entry.read_to_end(&mut data).context("tar: cut off")?;
                let ino = archive.file_with_links(&name, attributes, &data);
                files.insert(name, (ino, attributes));
            }
            EntryType::Symlink => {
                let target = link.context("tar: a link without its target")?;
                archive.symlink_with(&name, attributes, target.as_os_str().as_bytes());
            }
            EntryType::Link => {
                let target = name_of(&link.context("tar: a link without its target")?)?;
                let Some((ino, attributes)) = files.get(&target).copied() else {
                    bail!(
                        "tar: a hard link to {}, which is not there",
                        String::from_utf8_lossy(&target).escape_debug()
                    );
                };
                archive.hard_link(&name, attributes, ino);
                files.insert(name, (ino, attributes));
            }
            EntryType::Char => archive.node(&name, 0o020000, attributes, rdev),
            EntryType::Block => archive.node(&name, 0o060000, attributes, rdev),
            EntryType::Fifo => archive.fifo(&name, attributes),
            _ => {}
        }
    }
    if members == 0 {
        bail!("tar: nothing in it, or not a tar file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }

    fn archive_of(members: &[(EntryType, &[u8], &str, &[u8])]) -> Result<String> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, link, data) in members {
            member(&mut builder, *kind, name, link, data);
        }
        let mut archive = Archive::default();
        read(&builder.into_inner().unwrap()[..], &mut archive)?;
        Ok(String::from_utf8_lossy(&archive.finish()).into_owned())
    }

    #[test]
    fn members_keep_what_they_are() {
        let text = archive_of(&[
            (EntryType::Directory, b"./bin/", "", b""),
            (EntryType::Regular, b"./bin/su", "", b"data"),
            (EntryType::Link, b"bin/again", "./bin/su", b""),
            (EntryType::Symlink, b"/lib", "/usr/lib", b""),
        ])
        .unwrap();
        // Set-user-ID, uid 7, gid 8, two names, second 9, four bytes.
        assert!(text.contains("000089ED000000070000000800000002000000090000000400"), "{text}");
        assert!(text.contains("bin/again") && text.contains("/usr/lib"));
    }

    #[test]
    fn names_stay_below_the_root() {
        assert!(archive_of(&[(EntryType::Regular, b"../../etc/passwd", "", b"x")]).is_err());
        assert!(archive_of(&[(EntryType::Link, b"a", "/etc/shadow", b"")]).is_err());
        let text = archive_of(&[(EntryType::Regular, b"/etc/passwd", "", b"x")]).unwrap();
        assert!(!text.contains("/etc/passwd") && text.contains("etc/passwd"));
    }

    #[test]
    fn damage_is_told() {
        assert!(archive_of(&[]).is_err());
        let mut archive = Archive::default();
        assert!(read(&[b'x'; 2000][..], &mut archive).is_err());
    }
}
