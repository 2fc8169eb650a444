//! `crannog flash`: writes a card image to a card, and reads it back.
//!
//! Nothing is written before everything has been looked at: the image from end to end ([`source`]), its block map, the disk
//! ([`rules`]), the person's word. After writing, every byte that was written is read back past the page cache and compared.

pub mod rules;
pub mod source;

use crate::card::sidecar::{BlockMap, beside, hex};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rules::{Disk, Host};
use sha2::{Digest, Sha256};
use source::Source;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, IsTerminal, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub struct Options {
    /// The card image: plain or .xz; IMAGE.bmap beside it is heeded
    image: PathBuf,
    /// The card: a whole disk such as /dev/sdX or /dev/mmcblkN, or a file that exists
    device: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Block map of the image; else IMAGE.bmap if it exists
    #[arg(long, value_name = "FILE")]
    bmap: Option<PathBuf>,
    /// Write every block, even with a block map there
    #[arg(long, conflicts_with = "bmap")]
    no_bmap: bool,
    /// Allow a disk that is not removable
    #[arg(long)]
    fixed: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
}

/// Bytes that are moved at once, and the alignment that reading past the cache needs.
const PIECE: usize = 1 << 20;
const ALIGNMENT: usize = 4096;
/// Bytes between two waits for the card: the bar shows what is on the card, not what is in memory.
const SYNC_EVERY: u64 = 16 << 20;

/// A buffer at an address that O_DIRECT accepts.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Self {
        let bytes = vec![0; PIECE + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }
    fn buffer(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + PIECE]
    }
}

/// Where the image goes.
enum Target {
    Disk(Disk),
    File { bytes: u64 },
}

impl Target {
    fn examine(path: &Path, fixed: bool) -> Result<Self> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{}: no such device", path.display()),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let kind = metadata.file_type();
        if kind.is_block_device() {
            let number = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
            Ok(Self::Disk(rules::examine(&Host::here(), path, number, fixed)?))
        } else if kind.is_file() {
            Ok(Self::File { bytes: metadata.len() })
        } else {
            bail!("{}: not a disk", path.display());
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.bytes,
            Self::File { bytes } => *bytes,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Disk(disk) => format!("{}, {}", disk.description, size(disk.bytes)),
            Self::File { bytes } => format!("a file, {}", size(*bytes)),
        }
    }
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 30 {
        format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

/// The block map to go by: the one named, the one beside the image, or a map of everything.
fn block_map(options: &Options, source: &Source) -> Result<BlockMap> {
    let whole = || Ok(BlockMap::whole(source.bytes));
    if options.no_bmap {
        return whole();
    }
    let plain = options.image.with_extension("");
    let path = match &options.bmap {
        Some(path) => path.clone(),
        None => {
            let beside_it = [beside(&options.image, ".bmap"), beside(&plain, ".bmap")];
            let of_xz = usize::from(source.is_compressed) + 1;
            match beside_it.into_iter().take(of_xz).find(|path| path.exists()) {
                Some(path) => path,
                None => return whole(),
            }
        }
    };
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let map = BlockMap::parse(&text).with_context(|| path.display().to_string())?;
    ensure!(
        map.image_bytes == source.bytes,
        "{}: made for an image of {} bytes; this one has {}",
        path.display(),
        map.image_bytes,
        source.bytes
    );
    Ok(map)
}

fn bar(bytes: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}

/// Passes the bytes of the map's ranges to `take(position, bytes)`; answers the SHA-256 of each range.
fn each_range(
    mut reader: impl Read,
    map: &BlockMap,
    mut take: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<Vec<String>> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    let mut sums = Vec::new();
    for range in &map.ranges {
        let gap = range.start - at;
        let skipped = std::io::copy(&mut reader.by_ref().take(gap), &mut std::io::sink())?;
        ensure!(skipped == gap, "the image became shorter");
        at = range.start;
        let mut hash = Sha256::new();
        while at < range.end {
            let piece = &mut buffer[..PIECE.min((range.end - at) as usize)];
            reader.read_exact(piece).context("the image cannot be read to its end")?;
            hash.update(&*piece);
            take(at, piece)?;
            at += piece.len() as u64;
        }
        sums.push(hex(&hash.finalize()));
    }
    Ok(sums)
}

fn ask(path: &Path, target: &Target) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{}: nobody to ask whether to overwrite it; --yes says so", path.display());
    }
    eprintln!("{}: {}", path.display(), target.describe());
    eprint!("Everything on it will be lost. Write it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Opens the target for us alone: the kernel refuses a disk that anything else has claimed.
fn open_target(path: &Path, target: &Target) -> Result<File> {
    let exclusive = if matches!(target, Target::Disk(_)) { libc::O_EXCL } else { 0 };
    let file = OpenOptions::new().write(true).custom_flags(exclusive).open(path);
    file.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => anyhow::anyhow!("{}: in use by the system", path.display()),
        Some(libc::EACCES | libc::EPERM) => anyhow::anyhow!("{}: no permission to write it (try sudo)", path.display()),
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })
}

/// Reads back what was written; answers how, or fails where the card gives other bytes.
fn verify(path: &Path, map: &BlockMap, sums: &[String]) -> Result<&'static str> {
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let (file, how) = match direct {
        Ok(file) => (file, "read back past the cache and equal"),
        Err(_) => {
            let file = File::open(path)?;
            // SAFETY: posix_fadvise(2) takes a descriptor and numbers; it touches no memory.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            (file, "read back with the cache dropped, as far as this file system does that, and equal")
        }
    };
    let total = map.ranges.iter().map(|range| range.end - range.start).sum();
    let progress = bar(total, "reading back");
    let mut aligned = Aligned::new();
    for (range, sum) in map.ranges.iter().zip(sums) {
        let mut hash = Sha256::new();
        // Past the cache only whole blocks can be read: the first may begin before the range.
        let mut at = range.start - range.start % ALIGNMENT as u64;
        while at < range.end {
            let count =
                file.read_at(aligned.buffer(), at).with_context(|| format!("{}: at byte {at}", path.display()))?;
            ensure!(count > 0, "{}: ends at byte {at}", path.display());
            let from = range.start.saturating_sub(at) as usize;
            let to = count.min((range.end - at) as usize);
            hash.update(&aligned.buffer()[from.min(to)..to]);
            progress.inc((to - from.min(to)) as u64);
            at += count as u64;
        }
        ensure!(
            hex(&hash.finalize()) == *sum,
            "{}: reads back otherwise than it was written, between bytes {} and {}: a bad card or reader",
            path.display(),
            range.start,
            range.end
        );
    }
    progress.finish_and_clear();
    Ok(how)
}

pub fn flash(options: &Options) -> Result<u8> {
    let path = &options.device;
    let target = Target::examine(path, options.fixed)?;
    let source = source::open(&options.image)?;
    source.check_start()?;
    let map = block_map(options, &source)?;
    let total: u64 = map.ranges.iter().map(|range| range.end - range.start).sum();
    ensure!(
        source.bytes <= target.bytes(),
        "{}: too small: it has {}, the image {}",
        path.display(),
        size(target.bytes()),
        size(source.bytes)
    );
    let sums =
        each_range(source.reader()?, &map, |_, _| Ok(())).with_context(|| options.image.display().to_string())?;
    for (range, sum) in map.ranges.iter().zip(&sums) {
        ensure!(
            range.sha256.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(sum)),
            "{}: not what its block map says, between bytes {} and {}",
            options.image.display(),
            range.start,
            range.end
        );
    }
    if !options.yes && !ask(path, &target)? {
        eprintln!("crannog: nothing was written");
        return Ok(1);
    }
    let started = Instant::now();
    let file = open_target(path, &target)?;
    let progress = bar(total, "writing");
    let mut unsynced = 0;
    let written = each_range(source.reader()?, &map, |at, piece| {
        let failed = || format!("{}: writing failed at byte {at}; the card is not usable now", path.display());
        file.write_all_at(piece, at).with_context(failed)?;
        unsynced += piece.len() as u64;
        if unsynced >= SYNC_EVERY {
            file.sync_data().with_context(failed)?;
            unsynced = 0;
        }
        progress.inc(piece.len() as u64);
        Ok(())
    })?;
    file.sync_all().with_context(|| format!("{}: writing failed; the card is not usable now", path.display()))?;
    progress.finish_and_clear();
    ensure!(written == sums, "{}: changed while it was written", options.image.display());
    let verified = if options.no_verify { "not read back" } else { verify(path, &map, &sums)? };
    if matches!(target, Target::Disk(_)) {
        // SAFETY: BLKRRPART takes no argument: the kernel reads the new partition table. It may refuse; the card is right anyway.
        unsafe { libc::ioctl(file.as_raw_fd(), BLKRRPART) };
    }
    println!("{}: {} written in {:.1} s, {verified}", path.display(), size(total), started.elapsed().as_secs_f64());
    Ok(0)
}

/// _IO(0x12, 95) of linux/fs.h.
const BLKRRPART: libc::Ioctl = 0x125f;

#[cfg(test)]
mod tests;
