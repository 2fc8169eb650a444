//! Unpacks the initramfs: one or more newc archives, plain or gzip, one behind the other, into the root file system.
//!
//! Archives are copied piece by piece and their memory given back as they are consumed (see [`source`]), so that it is never
//! needed twice. A damaged archive stops the unpacking with a message; what was unpacked stays.

mod source;

use crate::prelude::*;
use crate::time::Timespec;
use crate::vfs::inode::SetAttr;
use crate::vfs::walk;
use crate::vfs::walk::Walk;
use crate::vfs::{AT_FDCWD, FileType, change};
use base::cpio::{self, CpioError, Header};
use base::device::makedev;
use hashbrown::HashMap;
use source::{Gzip, Plain, Source};
use spin::Once;

/// What went wrong first, for the message of a machine without an init.
static TROUBLE: Once<String> = Once::new();

pub fn trouble() -> Option<&'static str> {
    TROUBLE.get().map(String::as_str)
}

fn report(text: String) {
    crate::error!("initramfs: {text}");
    TROUBLE.call_once(|| text);
}

pub fn unpack() {
    let Some(mut initrd) = hal::boot::take_initrd() else { return };
    let len = initrd.len();
    let mut offset = 0;
    while let Some(start) = skip_padding(&mut Plain(&mut initrd), offset) {
        let is_gzip = Plain(&mut initrd).get(start, 2) == Ok(Gzip::MAGIC);
        let end = if is_gzip {
            Gzip::new(&mut initrd, start).and_then(|mut member| {
                unpack_all(&mut member)?;
                member.end()
            })
        } else {
            unpack_archive(&mut Plain(&mut initrd), start)
        };
        match end {
            Ok(end) => offset = end,
            Err(error) => {
                return report(alloc::format!(
                    "{error} (archive at byte {start} of {len}); what came before it is there"
                ));
            }
        }
    }
}

/// The archives that a gzip member holds.
fn unpack_all(source: &mut dyn Source) -> Result<(), CpioError> {
    let mut offset = 0;
    while let Some(start) = skip_padding(source, offset) {
        offset = unpack_archive(source, start)?;
    }
    Ok(())
}

/// The first byte from `offset` on that is not zero: archives are padded with zeroes, and another may follow.
fn skip_padding(source: &mut dyn Source, mut offset: usize) -> Option<usize> {
    while source.get(offset, 1).ok()? == [0] {
        offset += 1;
        source.consumed(offset);
    }
    Some(offset)
}

/// First names of files that may have more.
type Links = HashMap<(u32, u32, u32), Vec<u8>>;

/// Unpacks the archive at `start`; answers where it ends.
fn unpack_archive(source: &mut dyn Source, start: usize) -> Result<usize, CpioError> {
    let mut offset = start;
    let mut links = Links::default();
    loop {
        let header = Header::parse(source.get(offset, cpio::HEADER_BYTES)?)?;
        let (content, next) = header.extents();
        let name = source.get(offset + cpio::HEADER_BYTES, header.name_bytes as usize - 1)?.to_vec();
        if name == cpio::TRAILER {
            return Ok(offset + next);
        }
        source.consumed(offset + content);
        if let Err(trouble) = member(source, &header, &name, offset + content, &mut links) {
            let name = String::from_utf8_lossy(&name);
            match trouble {
                Trouble::Archive(error) => return Err(error),
                Trouble::Files(Errno::ENOSPC | Errno::ENOMEM) if trouble_is_new() => {
                    report(alloc::format!("{name}: the files do not fit into this machine's memory"));
                }
                Trouble::Files(errno) => crate::warn!("initramfs: {name}: {errno}"),
            }
        }
        offset += next;
        source.consumed(offset);
    }
}

fn trouble_is_new() -> bool {
    trouble().is_none()
}

/// Why a member could not be unpacked.
enum Trouble {
    Archive(CpioError),
    Files(Errno),
}

impl From<CpioError> for Trouble {
    fn from(error: CpioError) -> Self {
        Trouble::Archive(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Trouble::Files(errno)
    }
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

fn member(
    source: &mut dyn Source,
    header: &Header,
    name: &[u8],
    content: usize,
    links: &mut Links,
) -> Result<(), Trouble> {
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
            Err(errno) => return Err(errno.into()),
        },
        FileType::Symlink => {
            if header.file_bytes as usize > cpio::MAX_NAME {
                return Err(Errno::ENAMETOOLONG.into());
            }
            let target = source.get(content, header.file_bytes as usize)?.to_vec();
            return Ok(change::symlink(&target, AT_FDCWD, &path)?);
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
    Ok(target.inode().set_attr(SetAttr {
        mode: Some(header.mode & 0o7777),
        uid: Some(header.uid),
        gid: Some(header.gid),
        size: None,
        atime: Some(time),
        mtime: Some(time),
    })?)
}

/// Copies a file's content, giving the archive's frames back as it goes.
fn write(source: &mut dyn Source, path: &[u8], content: usize, len: usize) -> Result<(), Trouble> {
    const CHUNK: usize = 64 * PAGE_SIZE;
    let object = walk::find(AT_FDCWD, path, Walk::empty())?.inode().mem_object().ok_or(Errno::EINVAL)?;
    let mut done = 0;
    while done < len {
        let n = CHUNK.min(len - done);
        let bytes = source.get(content + done, n)?;
        // Pages of zeroes become holes: the archive has no other way to say that a file is sparse.
        let is_hole = |page: &[u8]| page.iter().all(|byte| *byte == 0);
        let mut rest = bytes;
        while !rest.is_empty() {
            let hole = is_hole(&rest[..rest.len().min(PAGE_SIZE)]);
            let pages = rest.chunks(PAGE_SIZE).take_while(|page| is_hole(page) == hole).count();
            let (run, behind) = rest.split_at(rest.len().min(pages * PAGE_SIZE));
            let at = (done + n - rest.len()) as u64;
            if !hole && object.write(at, &mut UserReader::kernel(run))? != run.len() {
                return Err(Errno::ENOSPC.into());
            }
            rest = behind;
        }
        done += n;
        source.consumed(content + done);
    }
    if object.len() < len as u64 {
        object.truncate(len as u64)?;
    }
    Ok(())
}

use alloc::vec;
