//! The image to write: plain or xz, known by its first bytes, not by its name.

use crate::card::fat;
use anyhow::{Context, Result, bail, ensure};
use lzma_rust2::XzReader;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// What an xz stream may ask for: the strongest preset needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    pub is_compressed: bool,
    /// Bytes of the image as it will be on the card.
    pub bytes: u64,
    /// The first sector.
    start: Vec<u8>,
}

fn unpacked(file: File) -> impl Read {
    XzReader::new_mem_limit(BufReader::with_capacity(1 << 20, file), true, XZ_MEMORY_KIB)
}

/// Opens the image and measures it; a compressed one is unpacked once for that, which also proves it whole.
pub fn open(path: &Path) -> Result<Source> {
    let name = path.display();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{name}: no such file"),
        Err(error) => return Err(error).context(name.to_string()),
    };
    let metadata = file.metadata().with_context(|| name.to_string())?;
    ensure!(metadata.is_file(), "{name}: not a file");
    let mut start = Vec::new();
    file.by_ref().take(512).read_to_end(&mut start).with_context(|| name.to_string())?;
    ensure!(!start.is_empty(), "{name}: empty");
    if !start.starts_with(XZ_MAGIC) {
        return Ok(Source { path: path.to_path_buf(), is_compressed: false, bytes: metadata.len(), start });
    }
    let mut reader = unpacked(File::open(path)?);
    let damaged = || format!("{name}: a damaged or incomplete xz file");
    start.clear();
    reader.by_ref().take(512).read_to_end(&mut start).with_context(damaged)?;
    let bytes = start.len() as u64 + std::io::copy(&mut reader, &mut std::io::sink()).with_context(damaged)?;
    Ok(Source { path: path.to_path_buf(), is_compressed: true, bytes, start })
}

impl Source {
    /// The image's bytes from the first on.
    pub fn reader(&self) -> Result<Box<dyn Read>> {
        let file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        Ok(if self.is_compressed { Box::new(unpacked(file)) } else { Box::new(file) })
    }

    /// Refuses what is not an image of a whole disk, or only the beginning of one.
    pub fn check_start(&self) -> Result<()> {
        let name = self.path.display();
        ensure!(self.start.get(510..) == Some(&[0x55, 0xaa]), "{name}: not a card image: it has no partition table");
        // With a GPT the first entry only says so.
        if self.start[446 + 4] != 0xee {
            let head = Head { bytes: &self.start, size: self.bytes };
            fat::partition(&head).with_context(|| name.to_string())?;
        }
        Ok(())
    }
}

/// An image of which only the first sector is at hand.
struct Head<'a> {
    bytes: &'a [u8],
    size: u64,
}

impl fat::ReadAt for Head<'_> {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.bytes.read_at(at, buffer)
    }
}
