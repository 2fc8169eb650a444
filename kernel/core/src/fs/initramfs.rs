//! Unpacks the initramfs: one or more newc archives, plain or gzip, into the root file system.
//!
//! Plain archives are copied page by page and their frames given back as they are consumed, so that memory is never needed
//! twice. A damaged archive stops the unpacking with a message; what was unpacked stays.

use super::walk::{self, Walk};
use super::{AT_FDCWD, FileType, change};
use crate::file::device::makedev;
use crate::fs::inode::SetAttr;
use crate::prelude::*;
use crate::time::Timespec;
use base::cpio::{self, CpioError, Header};
use hal::boot::Initrd;
use hashbrown::HashMap;

/// Where archive bytes come from.
enum Source {
    Boot(Initrd),
    Memory(Vec<u8>),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Source::Boot(initrd) => initrd.len(),
            Source::Memory(bytes) => bytes.len(),
        }
    }
    fn get(&self, offset: usize, len: usize) -> Result<&[u8], CpioError> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(CpioError::Truncated);
        }
        Ok(match self {
            Source::Boot(initrd) => initrd.bytes(offset, len),
            Source::Memory(bytes) => &bytes[offset..offset + len],
        })
    }
    fn consumed(&mut self, offset: usize) {
        if let Source::Boot(initrd) = self {
            initrd.release_before(offset);
        }
    }
}

pub fn unpack() -> Result<(), Errno> {
    let Some(initrd) = hal::boot::take_initrd() else { return Ok(()) };
    let mut source = Source::Boot(initrd);
    if source.get(0, 2) == Ok(&[0x1f, 0x8b]) {
        source = inflate(&source)?;
    }
    if let Err((error, offset)) = unpack_all(&mut source) {
        crate::error!("initramfs: {error:?} at byte {offset} of {}", source.len());
    }
    Ok(())
}

/// Decompresses a gzip archive: header, deflate stream; the check sum is not looked at.
fn inflate(source: &Source) -> Result<Source, Errno> {
    let bytes = source.get(0, source.len()).map_err(|_| Errno::EINVAL)?;
    let start = gzip_payload(bytes).ok_or(Errno::EINVAL)?;
    match miniz_oxide::inflate::decompress_to_vec(&bytes[start..]) {
        Ok(plain) => Ok(Source::Memory(plain)),
        Err(_) => {
            crate::error!("initramfs: damaged gzip data");
            Err(Errno::EINVAL)
        }
    }
}

/// Where the deflate stream of a gzip member begins (RFC 1952).
fn gzip_payload(bytes: &[u8]) -> Option<usize> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CRC: u8 = 2;
    let flags = *bytes.get(3)?;
    let mut at = 10;
    if flags & EXTRA != 0 {
        at += 2 + usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    }
    for bit in [NAME, COMMENT] {
        if flags & bit != 0 {
            at += bytes.get(at..)?.iter().position(|&b| b == 0)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

type Links = HashMap<(u32, u32, u32), Vec<u8>>;

fn unpack_all(source: &mut Source) -> Result<(), (CpioError, usize)> {
    let mut offset = 0;
    let mut links = Links::default();
    while offset < source.len() {
        // Archives are padded with zeroes, and another may follow.
        if source.get(offset, 1) == Ok(&[0]) {
            offset += 1;
            continue;
        }
        let header = source.get(offset, cpio::HEADER_BYTES).and_then(Header::parse).map_err(|error| (error, offset))?;
        let (content, next) = header.extents();
        let name = source
            .get(offset + cpio::HEADER_BYTES, header.name_bytes as usize - 1)
            .map_err(|error| (error, offset))?
            .to_vec();
        if name == cpio::TRAILER {
            links.clear();
        } else {
            source.get(offset + content, header.file_bytes as usize).map_err(|error| (error, offset))?;
            if let Err(errno) = member(source, &header, &name, offset + content, &mut links) {
                crate::warn!("initramfs: {}: {errno}", String::from_utf8_lossy(&name));
            }
        }
        offset += next;
        source.consumed(offset);
    }
    Ok(())
}

fn file_type(mode: u32) -> Option<FileType> {
    Some(match mode >> 12 & 15 {
        1 => FileType::Fifo,
        2 => FileType::Char,
        4 => FileType::Directory,
        6 => FileType::Block,
        8 => FileType::Regular,
        10 => FileType::Symlink,
        12 => FileType::Socket,
        _ => return None,
    })
}

fn member(source: &mut Source, header: &Header, name: &[u8], content: usize, links: &mut Links) -> Result<(), Errno> {
    let mut path = vec![b'/'];
    path.extend(name.strip_prefix(b"./").unwrap_or(name));
    let kind = file_type(header.mode).ok_or(Errno::EINVAL)?;
    if path == b"/." || path == b"/" {
        return Ok(());
    }
    if kind != FileType::Directory {
        // A later member replaces an earlier one.
        let _ = change::unlink(AT_FDCWD, &path);
    }
    match kind {
        FileType::Directory => match change::mkdir(AT_FDCWD, &path, 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        },
        FileType::Symlink => {
            let target = source.get(content, header.file_bytes as usize).map_err(|_| Errno::EINVAL)?.to_vec();
            return change::symlink(&target, AT_FDCWD, &path);
        }
        FileType::Regular => {
            let key = (header.ino, header.dev.0, header.dev.1);
            if header.nlink > 1
                && let Some(first) = links.get(&key)
            {
                let old = walk::find(AT_FDCWD, first, Walk::empty())?;
                change::link(&old, AT_FDCWD, &path)?;
            } else {
                change::mknod(AT_FDCWD, &path, FileType::Regular, 0o600, 0)?;
                if header.nlink > 1 {
                    links.insert(key, path.clone());
                }
            }
            // Of several links the last one carries the content.
            write(source, &path, content, header.file_bytes as usize)?;
        }
        FileType::Char | FileType::Block | FileType::Fifo | FileType::Socket => {
            change::mknod(AT_FDCWD, &path, kind, 0o600, makedev(header.rdev.0, header.rdev.1))?;
        }
    }
    let target = walk::find(AT_FDCWD, &path, Walk::empty())?;
    let time = Timespec { sec: i64::from(header.mtime), nsec: 0 };
    target.inode().set_attr(SetAttr {
        mode: Some(header.mode & 0o7777),
        uid: Some(header.uid),
        gid: Some(header.gid),
        size: None,
        atime: Some(time),
        mtime: Some(time),
    })
}

/// Copies a file's content, giving the archive's frames back as it goes.
fn write(source: &mut Source, path: &[u8], content: usize, len: usize) -> Result<(), Errno> {
    const CHUNK: usize = 64 * PAGE_SIZE;
    let object = walk::find(AT_FDCWD, path, Walk::empty())?.inode().mem_object().ok_or(Errno::EINVAL)?;
    let mut done = 0;
    while done < len {
        let n = CHUNK.min(len - done);
        let bytes = source.get(content + done, n).map_err(|_| Errno::EINVAL)?;
        let written = object.write(done as u64, &mut UserReader::kernel(bytes))?;
        if written == 0 {
            return Err(Errno::ENOSPC);
        }
        done += written;
        source.consumed(content + done);
    }
    Ok(())
}

use alloc::vec;
