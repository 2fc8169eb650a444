//! What a Raspberry Pi needs beside our kernel: device trees and the boards' own firmware, from Debian's packages.

use crate::apt::Apt;
use crate::debs::{cache, once, unpack};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// A board: QEMU's name of it and Linux's name of its device tree.
pub struct Board {
    pub machine: &'static str,
    pub device_tree: &'static str,
}

pub const BOARDS: [Board; 2] = [
    Board { machine: "raspi3b", device_tree: "bcm2837-rpi-3-b.dtb" },
    Board { machine: "raspi4b", device_tree: "bcm2711-rpi-4-b.dtb" },
];

/// The mainline device trees of Debian's arm64 kernel package: a directory of .dtb files with the package's copyright file.
pub fn device_trees() -> Result<PathBuf> {
    let target = cache().join("boards/device-trees");
    once(&target, |partial| {
        let apt = Apt::debian()?;
        let package = apt.depends("linux-image-arm64")?;
        let deb = apt.fetch(&package, partial)?;
        unpack(&deb, partial, &["./usr/lib/linux-image-*/broadcom/*.dtb", "./usr/share/doc/linux-image-*/copyright"])?;
        fs::remove_file(&deb)?;
        gather(partial, "usr")
    })
    .context("device trees")?;
    Ok(target)
}

/// The mainline device tree of QEMU's machine `raspi3b` or `raspi4b`.
pub fn device_tree(machine: &str) -> Result<PathBuf> {
    let Some(board) = BOARDS.iter().find(|board| board.machine == machine) else {
        bail!("{machine} is not a board that has a device tree here");
    };
    Ok(device_trees()?.join(board.device_tree))
}

/// Debian's package of the boards' firmware, with its copyright file.
pub fn firmware() -> Result<PathBuf> {
    let target = cache().join("boards/firmware");
    once(&target, |partial| {
        let deb = Apt::firmware()?.fetch("raspi-firmware", partial)?;
        unpack(&deb, partial, &["./usr/lib/raspi-firmware/*", "./usr/share/doc/raspi-firmware/copyright"])?;
        fs::remove_file(&deb)?;
        gather(partial, "usr")
    })?;
    Ok(target)
}

/// Moves all files below `directory`/`below` into `directory`.
fn gather(directory: &Path, below: &str) -> Result<()> {
    let mut pending = vec![directory.join(below)];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                fs::rename(&path, directory.join(path.file_name().context("a file has a name")?))?;
            }
        }
    }
    fs::remove_dir_all(directory.join(below)).context("moving files")
}
