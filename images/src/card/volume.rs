//! Writes a card: a partition table with one FAT32 partition and the files in it. The same files give the same bytes.

use anyhow::{Context, Result, bail};
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use sha2::{Digest, Sha256};
use std::io::{Cursor, Write};

pub const SECTOR: u64 = 512;
/// Where the partition starts: 4 MiB, a multiple of the erase blocks of usual cards.
pub const PARTITION_START: u64 = 4 << 20;
/// FAT32 with 32-bit addressing.
pub const PARTITION_TYPE: u8 = 0x0c;
/// The smallest card: below it FAT32 has too few clusters.
const SMALLEST: u64 = 64 << 20;
const LARGEST: u64 = 4 << 30;

/// A file of the boot partition, by its path there.
pub struct BootFile {
    pub path: String,
    pub data: Vec<u8>,
}

impl BootFile {
    pub fn new(path: &str, data: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), data: data.into() }
    }
}

/// Cluster sizes as cards of that size usually have, and never so large that the volume would not count as FAT32.
fn cluster_bytes(partition_bytes: u64) -> u64 {
    let mut bytes = 4096;
    while bytes > SECTOR && partition_bytes / bytes < 70_000 {
        bytes /= 2;
    }
    bytes
}

/// Whether the files fit into a card of `image_bytes`, with a little room to edit them.
fn fits(files: &[BootFile], image_bytes: u64) -> bool {
    let partition = image_bytes - PARTITION_START;
    let cluster = cluster_bytes(partition);
    let tables = partition / cluster * 8 + 64 * SECTOR;
    let content: u64 = files.iter().map(|file| (file.data.len() as u64).next_multiple_of(cluster) + 2 * cluster).sum();
    content + tables + (1 << 20) <= partition
}

/// The image's size: the power of two that was asked for, or the smallest that does.
pub fn choose_size(files: &[BootFile], asked: Option<u64>) -> Result<u64> {
    let smallest = std::iter::successors(Some(SMALLEST), |size| Some(size * 2))
        .take_while(|size| *size <= LARGEST)
        .find(|size| fits(files, *size));
    let total: u64 = files.iter().map(|file| file.data.len() as u64).sum();
    let Some(smallest) = smallest else {
        bail!("{} MiB of files do not fit into a card image of {} MiB", total >> 20, LARGEST >> 20);
    };
    match asked {
        None => Ok(smallest),
        Some(asked) if !asked.is_power_of_two() => bail!("--size {asked}: a card's size must be a power of two"),
        Some(asked) if asked > LARGEST => bail!("--size {asked}: at most {} MiB", LARGEST >> 20),
        Some(asked) if asked < smallest => bail!("--size {asked}: at least {} MiB are needed", smallest >> 20),
        Some(asked) => Ok(asked),
    }
}

/// Numbers that tell cards apart, from what is on them.
fn identity(files: &[BootFile]) -> u32 {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.path.len() as u64).to_le_bytes());
        hash.update(&file.path);
        hash.update((file.data.len() as u64).to_le_bytes());
        hash.update(&file.data);
    }
    let digest = hash.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) | 1
}

/// The partition table: one FAT32 partition from 4 MiB to the end, its cylinder numbers saying "use the sector numbers".
fn partition_table(image: &mut [u8], identity: u32) {
    let sectors = ((image.len() as u64 - PARTITION_START) / SECTOR) as u32;
    image[440..444].copy_from_slice(&identity.to_le_bytes());
    let entry = &mut image[446..462];
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[4] = PARTITION_TYPE;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&((PARTITION_START / SECTOR) as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
}

/// FAT's first day, always: nothing of the day of its making is in a card.
#[derive(Debug)]
struct FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }
    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// The whole card.
pub fn write(files: &[BootFile], image_bytes: u64) -> Result<Vec<u8>> {
    let identity = identity(files);
    let mut image = vec![0; usize::try_from(image_bytes)?];
    partition_table(&mut image, identity);
    let partition = &mut image[PARTITION_START as usize..];
    let cluster = cluster_bytes(partition.len() as u64) as u32;
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster)
        .volume_id(identity)
        .volume_label(*b"CRANNOG    ");
    fatfs::format_volume(Cursor::new(&mut *partition), options).context("formatting the boot partition")?;
    let volume = FileSystem::new(Cursor::new(&mut *partition), FsOptions::new().time_provider(&FirstDay))?;
    for file in files {
        let mut directory = volume.root_dir();
        let mut parts = file.path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                directory = directory.create_dir(part).with_context(|| file.path.clone())?;
            } else {
                let mut out = directory.create_file(part).with_context(|| file.path.clone())?;
                out.write_all(&file.data).and_then(|()| out.flush()).with_context(|| file.path.clone())?;
            }
        }
    }
    // Asked once, the free clusters are counted and kept.
    volume.stats().context("counting free clusters")?;
    volume.unmount().context("closing the boot partition")?;
    // The sectors before the partition, in the boot sector and its copy: some readers want them told twice.
    let hidden = ((PARTITION_START / SECTOR) as u32).to_le_bytes();
    for sector in [0, 6] {
        let at = sector * SECTOR as usize + 0x1c;
        partition[at..at + 4].copy_from_slice(&hidden);
    }
    Ok(image)
}
