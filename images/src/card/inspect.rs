//! `crannog inspect`: looks into a card image, checks that a board can start from it, and takes out what it would load.

use super::config::{self, Boot};
use super::fat::{self, Entry, ImageFile, ReadAt, Volume};
use super::volume::{PARTITION_START, SECTOR};
use crate::boards::BOARDS;
use crate::flash::source;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct InspectOptions {
    /// The card image, plain or .xz
    image: PathBuf,
    /// Take kernel, command line, initramfs, device trees and config.txt out, into this directory
    #[arg(short = 'x', long, value_name = "DIR")]
    extract: Option<PathBuf>,
}

/// What a board would start from a card.
pub struct Card {
    pub entries: Vec<Entry>,
    pub boot: Boot,
    pub kernel: Vec<u8>,
    pub cmdline: String,
    pub initramfs: Option<Vec<u8>>,
    /// Names and bytes.
    pub device_trees: Vec<(String, Vec<u8>)>,
    pub config: String,
    /// Nothing beyond this byte of the image matters.
    pub used_end: u64,
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Checks the header of an arm64 Image; answers where it ends in memory.
fn kernel_end(name: &str, kernel: &[u8]) -> Result<u64> {
    ensure!(kernel.get(56..60) == Some(b"ARM\x64"), "{name} is not an arm64 kernel image");
    let (offset, size) = (u64_at(kernel, 8).unwrap_or(0), u64_at(kernel, 16).unwrap_or(0));
    let end = offset.checked_add(size.max(kernel.len() as u64));
    end.filter(|end| *end < 1 << 30).with_context(|| format!("{name}: its header has impossible sizes"))
}

/// Checks the header of a flattened device tree.
fn check_device_tree(name: &str, tree: &[u8]) -> Result<()> {
    let word =
        |at: usize| tree.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    ensure!(word(0) == Some(0xd00d_feed), "{name} is not a device tree");
    ensure!(word(4).is_some_and(|size| size as usize <= tree.len()), "{name} is cut short");
    Ok(())
}

/// Reads all of a card that a board reads, and checks it.
pub fn check(image: &(impl ReadAt + ?Sized)) -> Result<Card> {
    let volume = Volume::open(image, fat::partition(image)?)?;
    let entries = volume.walk()?;
    let config = String::from_utf8_lossy(&volume.file("config.txt")?).into_owned();
    let boot = config::read(&config)?;
    let kernel = volume.file(&boot.kernel)?;
    let end = kernel_end(&boot.kernel, &kernel)?;
    let cmdline = String::from_utf8_lossy(&volume.file("cmdline.txt")?).trim().to_string();
    ensure!(!cmdline.contains('\n'), "cmdline.txt has more than one line");
    let mut initramfs = None;
    if let Some((name, at)) = &boot.initramfs {
        let data = volume.file(name)?;
        ensure!(*at >= end, "{name} at {at:#x} would overwrite the kernel, which ends at {end:#x}");
        let is_archive = data.starts_with(b"070701") || data.starts_with(&[0x1f, 0x8b]);
        ensure!(is_archive, "{name} is not an initramfs (a newc cpio archive, plain or gzip)");
        initramfs = Some(data);
    }
    let mut device_trees = Vec::new();
    // Those in the first directory: what lies among the overlays is no board's.
    let is_tree = |entry: &Entry| !entry.is_directory && entry.path.ends_with(".dtb") && !entry.path.contains('/');
    for entry in entries.iter().filter(|entry| is_tree(entry)) {
        let data = volume.read(entry)?;
        check_device_tree(&entry.path, &data)?;
        device_trees.push((entry.path.clone(), data));
    }
    let used_end = volume.used_end()?;
    Ok(Card { entries, boot, kernel, cmdline, initramfs, device_trees, config, used_end })
}

/// What a board needs and this card lacks.
fn missing(card: &Card) -> Vec<&'static str> {
    let needed = super::FIRMWARE.iter().copied().chain(BOARDS.iter().map(|board| board.device_tree));
    needed.filter(|name| !card.entries.iter().any(|entry| entry.path.eq_ignore_ascii_case(name))).collect()
}

fn extract(card: &Card, into: &Path) -> Result<()> {
    let put = |name: &str, data: &[u8]| -> Result<()> {
        // A name from the image never leaves the directory.
        ensure!(!name.contains('/') && name != "..", "{name}: not in the boot partition's first directory");
        fs::write(into.join(name), data).with_context(|| into.join(name).display().to_string())
    };
    fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    put(config::KERNEL, &card.kernel)?;
    put("cmdline.txt", card.cmdline.as_bytes())?;
    put("config.txt", card.config.as_bytes())?;
    if let Some(initramfs) = &card.initramfs {
        put(config::INITRAMFS, initramfs)?;
    }
    card.device_trees.iter().try_for_each(|(name, tree)| put(name, tree))
}

fn report(card: &Card, size: u64) {
    println!("card image: {} MiB, used up to byte {}", size >> 20, card.used_end);
    println!("boot partition: FAT32 from sector {}", PARTITION_START / SECTOR);
    for entry in &card.entries {
        if entry.is_directory {
            println!("          - {}/", entry.path);
        } else {
            println!("{:>11} {}", entry.size, entry.path);
        }
    }
    for board in BOARDS.iter().filter(|board| card.device_trees.iter().any(|(name, _)| name == board.device_tree)) {
        println!("starts: {} ({})", board.machine, board.device_tree);
    }
    println!("kernel: {}", card.boot.kernel);
    if let Some((name, at)) = &card.boot.initramfs {
        println!("initramfs: {name} at {at:#x}");
    }
    println!("command line: {}", card.cmdline);
}

pub fn inspect(options: &InspectOptions) -> Result<()> {
    let path = options.image.display();
    let source = source::open(&options.image)?;
    let (card, size) = if source.is_compressed {
        let size = usize::try_from(source.bytes)?;
        ensure!(size <= 4 << 30, "{path}: {} MiB when unpacked are too much to look into", size >> 20);
        let mut image = Vec::with_capacity(size);
        source.reader()?.take(source.bytes + 1).read_to_end(&mut image).with_context(|| path.to_string())?;
        (check(image.as_slice()), image.len() as u64)
    } else {
        let file = ImageFile(File::open(&options.image)?, source.bytes);
        (check(&file), source.bytes)
    };
    let card = card.with_context(|| path.to_string())?;
    report(&card, size);
    if let Some(into) = &options.extract {
        extract(&card, into)?;
    }
    let missing = missing(&card);
    if !missing.is_empty() {
        bail!("{path}: a board will not start from it: no {}", missing.join(", "));
    }
    if !size.is_power_of_two() {
        bail!("{path}: {size} bytes are not a power of two, which QEMU asks of a card");
    }
    Ok(())
}
