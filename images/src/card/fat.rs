//! Reads the boot partition of a card image: partition table, FAT32, files.
//!
//! The image may be anything: every number is checked before it is used, every chain of clusters has an end, and what is wrong is
//! said in one line.

use super::volume::SECTOR;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Something that bytes are read from by their position.
pub trait ReadAt {
    fn size(&self) -> u64;
    /// Fills `buffer`; an error if the end comes first.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let from = usize::try_from(at)?;
        let bytes =
            from.checked_add(buffer.len()).and_then(|to| self.get(from..to)).context("the image is cut short")?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// A file and its size.
pub struct ImageFile(pub File, pub u64);

impl ReadAt for ImageFile {
    fn size(&self) -> u64 {
        self.1
    }
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(buffer, at).context("the image is cut short")
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The first partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partition {
    pub start: u64,
    pub size: u64,
    pub kind: u8,
}

/// Reads the partition table.
pub fn partition(image: &(impl ReadAt + ?Sized)) -> Result<Partition> {
    let mut table = [0; SECTOR as usize];
    ensure!(image.size() >= SECTOR, "too small for a card image: {} bytes", image.size());
    image.read_at(0, &mut table)?;
    ensure!(table[510..] == [0x55, 0xaa], "not a card image: no partition table");
    let entry = &table[446..462];
    let (kind, start, size) = (entry[4], u64::from(u32_at(entry, 8)) * SECTOR, u64::from(u32_at(entry, 12)) * SECTOR);
    ensure!(kind != 0 && start != 0 && size != 0, "not a card image: the first partition is empty");
    ensure!(
        start + size <= image.size(),
        "the image is cut short: its partition ends at byte {}, the image at byte {}",
        start + size,
        image.size()
    );
    Ok(Partition { start, size, kind })
}

/// Clusters below this many make a FAT16 volume, whatever its boot sector says.
const FAT32_LEAST_CLUSTERS: u64 = 65_525;
/// Bounds of what a boot partition may hold: entries of one directory, of all together, nesting.
const MOST_ENTRIES: u64 = 4096;
const MOST_FILES: usize = 16_384;
const DEEPEST: usize = 8;

/// A file or directory as its parent lists it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The path from the partition's root.
    pub path: String,
    pub is_directory: bool,
    pub size: u32,
    first_cluster: u32,
}

/// The FAT32 volume of a card image.
pub struct Volume<'a, I: ReadAt + ?Sized> {
    image: &'a I,
    tables_at: u64,
    data_at: u64,
    cluster_bytes: u64,
    clusters: u64,
    root: u32,
}

impl<'a, I: ReadAt + ?Sized> Volume<'a, I> {
    pub fn open(image: &'a I, partition: Partition) -> Result<Self> {
        ensure!(
            matches!(partition.kind, 0x0b | 0x0c),
            "the first partition is of type {:#04x}; the boards boot from FAT32 (0x0c)",
            partition.kind
        );
        let mut boot = [0; SECTOR as usize];
        image.read_at(partition.start, &mut boot)?;
        ensure!(boot[510..] == [0x55, 0xaa], "the boot partition has no file system");
        ensure!(u16_at(&boot, 11) == SECTOR as u32, "the boot partition has sectors of {} bytes", u16_at(&boot, 11));
        let per_cluster = u64::from(boot[13]);
        ensure!(per_cluster.is_power_of_two() && per_cluster <= 128, "damaged FAT: {per_cluster} sectors in a cluster");
        let (reserved, tables) = (u64::from(u16_at(&boot, 14)), u64::from(boot[16]));
        let sectors = u64::from(u32_at(&boot, 32));
        let table_sectors = u64::from(u32_at(&boot, 36));
        ensure!(u16_at(&boot, 17) == 0 && u16_at(&boot, 22) == 0, "the boot partition is not FAT32");
        ensure!(reserved > 0 && matches!(tables, 1 | 2) && table_sectors > 0, "damaged FAT: no tables");
        ensure!(sectors * SECTOR <= partition.size, "damaged FAT: larger than its partition");
        let data = reserved + tables * table_sectors;
        ensure!(data < sectors, "damaged FAT: the tables are larger than the partition");
        let clusters = (sectors - data) / per_cluster;
        ensure!(clusters >= FAT32_LEAST_CLUSTERS, "the boot partition is too small for FAT32: {clusters} clusters");
        ensure!((clusters + 2) * 4 <= table_sectors * SECTOR, "damaged FAT: the tables are too small");
        Ok(Self {
            image,
            tables_at: partition.start + reserved * SECTOR,
            data_at: partition.start + data * SECTOR,
            cluster_bytes: per_cluster * SECTOR,
            clusters,
            root: u32_at(&boot, 44),
        })
    }

    fn table_entry(&self, cluster: u32) -> Result<u32> {
        let mut bytes = [0; 4];
        self.image.read_at(self.tables_at + u64::from(cluster) * 4, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes) & 0x0fff_ffff)
    }

    fn is_cluster(&self, number: u32) -> bool {
        number >= 2 && u64::from(number) < self.clusters + 2
    }

    /// The first clusters of the chain that starts at `first`: at least as many as `bytes` take, or all there are.
    fn chain(&self, first: u32, bytes: u64) -> Result<Vec<u32>> {
        let enough = bytes.div_ceil(self.cluster_bytes);
        let mut chain = Vec::new();
        let mut next = first;
        loop {
            ensure!(self.is_cluster(next), "damaged FAT: cluster {next} is outside the partition");
            ensure!((chain.len() as u64) < self.clusters, "damaged FAT: a chain of clusters goes in a circle");
            chain.push(next);
            next = self.table_entry(next)?;
            if next >= 0x0fff_fff8 || chain.len() as u64 >= enough {
                return Ok(chain);
            }
        }
    }

    fn read_chain(&self, chain: &[u32], bytes: u64) -> Result<Vec<u8>> {
        ensure!(bytes <= chain.len() as u64 * self.cluster_bytes, "damaged FAT: a file is longer than its clusters");
        let mut data = vec![0; usize::try_from(bytes)?];
        for (piece, cluster) in data.chunks_mut(self.cluster_bytes as usize).zip(chain) {
            self.image.read_at(self.data_at + u64::from(cluster - 2) * self.cluster_bytes, piece)?;
        }
        Ok(data)
    }

    /// The end of the last cluster in use, as a position in the image: beyond it nothing matters.
    pub fn used_end(&self) -> Result<u64> {
        let mut table = vec![0; (self.clusters as usize + 2) * 4];
        self.image.read_at(self.tables_at, &mut table)?;
        let last = table.chunks_exact(4).rposition(|entry| entry != [0; 4]).unwrap_or(1) as u64;
        Ok(self.data_at + last.saturating_sub(1) * self.cluster_bytes)
    }

    fn directory(&self, path: &str, first: u32) -> Result<Vec<Entry>> {
        let chain = self.chain(first, MOST_ENTRIES * 32)?;
        let bytes = chain.len() as u64 * self.cluster_bytes;
        let data = self.read_chain(&chain, bytes)?;
        Ok(list(&data, path))
    }

    /// Everything on the volume, directories before what is in them.
    pub fn walk(&self) -> Result<Vec<Entry>> {
        let mut found = self.directory("", self.root)?;
        let mut at = 0;
        while let Some(entry) = found.get(at) {
            if entry.is_directory {
                ensure!(entry.path.matches('/').count() < DEEPEST, "damaged FAT: directories nest without end");
                let below = self.directory(&entry.path, entry.first_cluster)?;
                found.extend(below);
                ensure!(found.len() <= MOST_FILES, "damaged FAT: more than {MOST_FILES} files");
            }
            at += 1;
        }
        Ok(found)
    }

    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>> {
        if entry.size == 0 {
            return Ok(Vec::new());
        }
        let chain = self.chain(entry.first_cluster, u64::from(entry.size)).with_context(|| entry.path.clone())?;
        self.read_chain(&chain, u64::from(entry.size)).with_context(|| entry.path.clone())
    }

    /// The file at `path`, found as FAT finds it: without regard to case.
    pub fn file(&self, path: &str) -> Result<Vec<u8>> {
        let path = path.trim_start_matches('/');
        let entry = self.walk()?.into_iter().find(|entry| !entry.is_directory && entry.path.eq_ignore_ascii_case(path));
        match entry {
            Some(entry) => self.read(&entry),
            None => bail!("no {path} on the boot partition"),
        }
    }
}

/// The entries of a directory's bytes.
fn list(data: &[u8], path: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    for raw in data.chunks_exact(32) {
        match raw[0] {
            0 => break,
            0xe5 => {
                long.clear();
                continue;
            }
            _ => {}
        }
        let attributes = raw[11];
        if attributes & 0x3f == 0x0f {
            if raw[0] & 0x40 != 0 {
                long.clear();
            }
            // Pieces of a long name come last piece first.
            let units = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30].map(|at| u16_at(raw, at) as u16);
            if long.len() < 260 {
                long.splice(0..0, units);
            }
            continue;
        }
        let name = if long.is_empty() {
            short_name(raw)
        } else {
            let end = long.iter().position(|unit| matches!(unit, 0 | 0xffff)).unwrap_or(long.len());
            String::from_utf16_lossy(&long[..end])
        };
        long.clear();
        let is_label = attributes & 0x08 != 0;
        if is_label || matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
            continue;
        }
        found.push(Entry {
            path: if path.is_empty() { name } else { format!("{path}/{name}") },
            is_directory: attributes & 0x10 != 0,
            size: u32_at(raw, 28),
            first_cluster: u16_at(raw, 20) << 16 | u16_at(raw, 26),
        });
    }
    found
}

/// A name of eight characters and three; the flags of byte 12 say which half is written small.
fn short_name(raw: &[u8]) -> String {
    let part = |bytes: &[u8], small: bool| {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let text = text.trim_end();
        if small { text.to_ascii_lowercase() } else { text.to_string() }
    };
    let (base, extension) = (part(&raw[..8], raw[12] & 8 != 0), part(&raw[8..11], raw[12] & 16 != 0));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}
