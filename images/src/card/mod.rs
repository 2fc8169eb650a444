//! SD card images for the Raspberry Pi 3 and 4: `crannog build --target rpi`, without root.
//!
//! [`volume`] writes the image and [`fat`] reads one back, independently of each other; [`config`] has the two texts of the boot
//! partition, [`sidecar`] the files that go with an image, [`mod@inspect`] the command that looks into one.

mod config;
pub mod fat;
mod inspect;
pub mod sidecar;
pub mod volume;

pub use inspect::{InspectOptions, inspect};

use crate::boards::{self, BOARDS};
use crate::{recipe, run};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use volume::BootFile;

#[derive(Args, Default)]
pub struct Options {
    /// Directory with the boards' firmware (bootcode.bin, start*.elf, fixup*.dat, its licence); else from Debian's raspi-firmware
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Directory with device trees; else from Debian's arm64 kernel package
    #[arg(long, value_name = "DIR")]
    device_trees: Option<PathBuf>,
    /// Size of the card image, a power of two; else the smallest that holds everything
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Compress the image: OUT.xz instead of OUT
    #[arg(long)]
    xz: bool,
    /// Write OUT.bmap too, the map of the blocks that matter
    #[arg(long)]
    bmap: bool,
    /// Write OUT.sha256 too (OUT.xz.sha256 with --xz)
    #[arg(long)]
    sha256: bool,
    /// Write OUT.json too, a list for Raspberry Pi Imager that has this image in it
    #[arg(long)]
    manifest: bool,
    /// Where people will download the image from, for --manifest; else the file where it lies
    #[arg(long, value_name = "URL", requires = "manifest")]
    url: Option<String>,
}

impl Options {
    /// The first option given that only a card has.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.firmware.is_some(), "--firmware"),
            (self.device_trees.is_some(), "--device-trees"),
            (self.size.is_some(), "--size"),
            (self.xz, "--xz"),
            (self.bmap, "--bmap"),
            (self.sha256, "--sha256"),
            (self.manifest, "--manifest"),
        ];
        given.iter().find(|(is_given, _)| *is_given).map(|(_, name)| *name)
    }
}

/// `64M`, `1G` or bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.chars().last() {
        Some('K' | 'k') => (&text[..text.len() - 1], 10),
        Some('M' | 'm') => (&text[..text.len() - 1], 20),
        Some('G' | 'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| String::from("a size is a number of bytes, or one with K, M or G"))
}

/// The firmware that a card carries: the whole-featured build of each generation.
const FIRMWARE: [&str; 5] = ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
/// What its licence may be called, in the order of preference.
const LICENCES: [&str; 4] = ["LICENCE.broadcom", "LICENCE", "LICENSE", "copyright"];
const OVERLAYS: &str = "overlays";
/// Which overlay a name means on which board.
const OVERLAY_MAP: &str = "overlay_map.dtb";
/// Gives the PL011 to the header instead of to Bluetooth.
const CONSOLE_OVERLAY: &str = "disable-bt.dtbo";
/// The smallest board has 1 GiB, the top of it for the firmware.
const INITRAMFS_MOST: usize = 512 << 20;

/// The firmware's files in `directory`; answers whether the console's overlay is among them.
fn firmware_files(directory: &Path, files: &mut Vec<BootFile>) -> Result<bool> {
    let place = directory.display();
    ensure!(directory.is_dir(), "{place}: no such directory");
    for name in FIRMWARE {
        let data = fs::read(directory.join(name));
        let data = data.with_context(|| format!("{place}: no {name}; the boards do not start without it"))?;
        files.push(BootFile::new(name, data));
    }
    let licence = LICENCES.iter().find_map(|name| fs::read(directory.join(name)).ok());
    let licence = licence.with_context(|| {
        format!("{place}: no {} with the firmware's licence, which must go wherever the firmware goes", LICENCES[0])
    })?;
    files.push(BootFile::new("LICENCE.broadcom", licence));
    overlay_files(&directory.join(OVERLAYS), files)
}

/// The overlays that go with the firmware, for `dtoverlay=` in config.txt; answers whether the console's is among them.
fn overlay_files(directory: &Path, files: &mut Vec<BootFile>) -> Result<bool> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".dtbo") || name == OVERLAY_MAP)
        .collect();
    names.sort();
    for name in &names {
        let path = directory.join(name);
        let data = fs::read(&path).with_context(|| path.display().to_string())?;
        files.push(BootFile::new(&format!("{OVERLAYS}/{name}"), data));
    }
    Ok(names.iter().any(|name| name == CONSOLE_OVERLAY))
}

/// All device trees in `directory`: one for each board the kernel may meet.
fn device_tree_files(directory: &Path, files: &mut Vec<BootFile>) -> Result<()> {
    let place = directory.display();
    let mut paths: Vec<_> =
        fs::read_dir(directory).with_context(|| place.to_string())?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "dtb"));
    paths.sort();
    for path in &paths {
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        if name.starts_with("bcm27") || name.starts_with("bcm2837") {
            files.push(BootFile::new(&name, fs::read(path).with_context(|| name.clone())?));
        }
    }
    for board in &BOARDS {
        ensure!(files.iter().any(|file| file.path == board.device_tree), "{place}: no {}", board.device_tree);
    }
    if let Ok(copyright) = fs::read(directory.join("copyright")) {
        files.push(BootFile::new("LICENCE.device-trees", copyright));
    }
    Ok(())
}

/// Everything that goes on the boot partition.
fn boot_files(recipe_path: &Path, options: &Options) -> Result<Vec<BootFile>> {
    let recipe = recipe::Recipe::load(recipe_path)?;
    let kernel = fs::read(run::artifact("Image")?)?;
    let initramfs = recipe::initramfs(&recipe, recipe_path)?;
    if initramfs.len() > INITRAMFS_MOST {
        bail!("{}: {} MiB are too much for a board with 1 GiB", recipe_path.display(), initramfs.len() >> 20);
    }
    let firmware = match &options.firmware {
        Some(directory) => directory.clone(),
        None => boards::firmware().context("no firmware (--firmware DIR takes it from a directory)")?,
    };
    let device_trees = match &options.device_trees {
        Some(directory) => directory.clone(),
        None => boards::device_trees().context("--device-trees DIR takes them from a directory")?,
    };
    // bootcode.bin comes first: the boot ROM reads few file systems as well as we do.
    let mut files = Vec::new();
    let overlays = firmware_files(&firmware, &mut files)?;
    files.push(BootFile::new("config.txt", config::config_txt(overlays, &recipe.rpi.config)));
    files.push(BootFile::new("cmdline.txt", config::cmdline_txt(&recipe.rpi.cmdline)?));
    device_tree_files(&device_trees, &mut files)?;
    files.push(BootFile::new(config::KERNEL, kernel));
    files.push(BootFile::new(config::INITRAMFS, initramfs));
    Ok(files)
}

/// Builds the card image `output` and what was asked for beside it.
pub fn build(recipe: &Path, output: &Path, options: &Options) -> Result<()> {
    if output.is_dir() {
        bail!("{}: a directory; a card image is a file", output.display());
    }
    let files = boot_files(recipe, options)?;
    let size = volume::choose_size(&files, options.size)?;
    let image = volume::write(&files, size)?;
    // What is written is what a reader finds: checked before anyone trusts a card with it.
    let used = inspect::check(image.as_slice()).context("the card image that was made is not right")?.used_end;
    let written = sidecar::write(&image, used, output, options)?;
    println!("{}: {} MiB, {} MiB of them in use", written.display(), size >> 20, used.div_ceil(1 << 20));
    println!("crannog flash {} DEVICE puts it on a card", written.display());
    Ok(())
}

#[cfg(test)]
mod tests;
