//! `--disk FILE[,ro][,format=raw|qcow2]`: an image that the machine has as a disk.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Raw,
    Qcow2,
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    file: PathBuf,
    read_only: bool,
    format: Option<Format>,
}

impl FromStr for Wish {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut wish = Wish { file: PathBuf::new(), read_only: false, format: None };
        // From the end: a file's name may have commas.
        let mut rest = text;
        while let Some((before, word)) = rest.rsplit_once(',') {
            match word {
                "ro" => wish.read_only = true,
                "rw" => {}
                "format=raw" => wish.format = Some(Format::Raw),
                "format=qcow2" => wish.format = Some(Format::Qcow2),
                word if word.starts_with("format=") => return Err(format!("{word}: raw or qcow2 is needed")),
                _ => break,
            }
            rest = before;
        }
        wish.file = rest.into();
        if rest.is_empty() { Err(String::from("a file is needed")) } else { Ok(wish) }
    }
}

/// An image in use by this machine, locked until it is dropped.
pub struct Disk {
    path: PathBuf,
    read_only: bool,
    format: Format,
    _lock: File,
}

const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

impl Disk {
    /// Opens and locks the image.
    ///
    /// # Errors
    /// No such file, not a disk image, or in use by another machine: one line each.
    pub fn open(wish: &Wish) -> Result<Self> {
        let name = wish.file.display();
        let mut file = OpenOptions::new().read(true).write(!wish.read_only).open(&wish.file).with_context(|| {
            format!("disk {name}: cannot be opened{}", if wish.read_only { "" } else { " for writing" })
        })?;
        let metadata = file.metadata().with_context(|| format!("disk {name}"))?;
        if metadata.is_dir() {
            bail!("disk {name}: a directory");
        }
        let how = if wish.read_only { libc::LOCK_SH } else { libc::LOCK_EX };
        // SAFETY: a descriptor that `file` owns.
        if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } != 0 {
            bail!("disk {name}: in use by another machine");
        }
        let mut magic = [0; 4];
        let is_qcow2 = file.read_exact(&mut magic).is_ok() && magic == QCOW2_MAGIC;
        let format = wish.format.unwrap_or(if is_qcow2 { Format::Qcow2 } else { Format::Raw });
        if format == Format::Qcow2 && !is_qcow2 {
            bail!("disk {name}: not a qcow2 image");
        }
        if format == Format::Raw && metadata.is_file() && metadata.len() == 0 {
            bail!("disk {name}: an empty file");
        }
        let path = wish.file.canonicalize().with_context(|| format!("disk {name}"))?;
        Ok(Self { path, read_only: wish.read_only, format, _lock: file })
    }
}

/// QEMU's words for the disks, the first of which is to be the guest's first.
pub fn arguments(disks: &[Disk], cpus: u32) -> Vec<String> {
    let mut words = Vec::new();
    // A virt machine's virtio devices are found by rising address, and the last on the command line has the lowest.
    for (number, disk) in disks.iter().enumerate().rev() {
        let format = if disk.format == Format::Raw { "raw" } else { "qcow2" };
        let mode = if disk.read_only { ",readonly=on" } else { ",discard=unmap" };
        words.push(String::from("-drive"));
        words.push(format!("if=none,id=disk{number},file={},format={format}{mode}", quoted(&disk.path)));
        words.push(String::from("-device"));
        words.push(format!("virtio-blk-device,drive=disk{number},num-queues={}", cpus.clamp(1, 8)));
    }
    words
}

/// A name as QEMU's options take it.
fn quoted(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> (String, bool, Option<Format>) {
        let wish: Wish = text.parse().unwrap();
        (wish.file.display().to_string(), wish.read_only, wish.format)
    }

    #[test]
    fn words_behind_the_file() {
        assert_eq!(wish("a.img"), ("a.img".into(), false, None));
        assert_eq!(wish("a,b.img,ro"), ("a,b.img".into(), true, None));
        assert_eq!(wish("a,format=qcow2,ro"), ("a".into(), true, Some(Format::Qcow2)));
        assert_eq!(wish("x,ro,y"), ("x,ro,y".into(), false, None));
        assert!(",ro".parse::<Wish>().is_err());
        assert!("a,format=vmdk".parse::<Wish>().is_err());
    }

    #[test]
    fn an_image_belongs_to_one_machine() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk.img");
        let name = file.to_string_lossy().into_owned();
        let open = |text: &str| Disk::open(&text.parse().unwrap()).map_err(|error| format!("{error:#}"));
        assert!(open(&name).err().unwrap().contains("cannot be opened"));
        std::fs::write(&file, [0; 4096]).unwrap();
        let first = open(&name).unwrap();
        assert_eq!(open(&name).err().unwrap(), format!("disk {name}: in use by another machine"));
        assert!(open(&format!("{name},ro")).is_err());
        let words = arguments(&[first], 2);
        assert!(words[1].ends_with(",format=raw,discard=unmap") && words[3].ends_with("num-queues=2"));
        // Readers share it.
        drop(words);
        let read = format!("{name},ro");
        let one = open(&read).unwrap();
        let two = open(&read).unwrap();
        drop((one, two));
        assert!(open(&format!("{name},format=qcow2")).err().unwrap().contains("not a qcow2 image"));
    }
}
