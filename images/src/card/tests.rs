//! Cards written and read back; damaged ones.

use super::fat::{self, Volume};
use super::volume::{BootFile, choose_size, write};
use super::{config, inspect};
use proptest::prelude::*;
use std::sync::LazyLock;

fn kernel(fill: u8) -> Vec<u8> {
    let mut kernel = vec![fill; 60_000];
    kernel[8..16].copy_from_slice(&0x8_0000u64.to_le_bytes());
    kernel[16..24].copy_from_slice(&400_000u64.to_le_bytes());
    kernel[56..60].copy_from_slice(b"ARM\x64");
    kernel
}

fn device_tree() -> Vec<u8> {
    let mut tree = vec![0; 1000];
    tree[..4].copy_from_slice(&0xd00d_feedu32.to_be_bytes());
    tree[4..8].copy_from_slice(&1000u32.to_be_bytes());
    tree
}

/// A card's files, filled with what is not looked at.
fn filled(fill: u8) -> Vec<BootFile> {
    vec![
        BootFile::new("bootcode.bin", vec![fill; 52_460]),
        BootFile::new("overlays/disable-bt.dtbo", vec![fill; 1073]),
        BootFile::new("config.txt", config::config_txt(true, &[])),
        BootFile::new("cmdline.txt", config::cmdline_txt("").unwrap()),
        BootFile::new("bcm2837-rpi-3-b.dtb", device_tree()),
        BootFile::new("LICENCE.broadcom", "licence\n"),
        BootFile::new("empty", ""),
        BootFile::new(config::KERNEL, kernel(fill)),
        BootFile::new(config::INITRAMFS, [b"070701".as_slice(), &[fill; 70_000]].concat()),
    ]
}

fn files() -> Vec<BootFile> {
    filled(7)
}

static CARD: LazyLock<Vec<u8>> = LazyLock::new(|| write(&files(), 64 << 20).unwrap());

#[test]
fn what_is_written_is_read_back() {
    let image = CARD.as_slice();
    let volume = Volume::open(image, fat::partition(image).unwrap()).unwrap();
    for file in files() {
        assert!(volume.file(&file.path).unwrap() == file.data, "{}", file.path);
    }
    let entries = volume.walk().unwrap();
    assert_eq!(entries.iter().filter(|entry| !entry.is_directory).count(), files().len());
    let card = inspect::check(image).unwrap();
    assert_eq!(card.boot.initramfs, Some((config::INITRAMFS.into(), config::INITRAMFS_AT)));
    assert!(card.kernel == kernel(7) && card.device_trees.len() == 1);
    assert!(image[card.used_end as usize..].iter().all(|byte| *byte == 0), "beyond the used end nothing is written");
    assert!(card.used_end < 8 << 20);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    assert!(write(&files(), 64 << 20).unwrap() == *CARD);
    let mut other = files();
    other[5].data.push(b'x');
    let other = write(&other, 64 << 20).unwrap();
    assert!(other[440..444] != CARD[440..444], "other cards have other numbers");
}

#[test]
fn sizes_are_powers_of_two_that_hold_everything() {
    assert_eq!(choose_size(&files(), None).unwrap(), 64 << 20);
    assert_eq!(choose_size(&files(), Some(1 << 30)).unwrap(), 1 << 30);
    for wrong in [100 << 20, 32 << 20, 1 << 40] {
        assert!(choose_size(&files(), Some(wrong)).is_err());
    }
    let large = [BootFile::new("large", vec![1; 70 << 20])];
    let size = choose_size(&large, None).unwrap();
    assert_eq!(size, 128 << 20);
    let image = write(&large, size).unwrap();
    let volume = Volume::open(image.as_slice(), fat::partition(image.as_slice()).unwrap()).unwrap();
    assert!(volume.file("large").unwrap() == large[0].data);
}

#[test]
fn every_truncation_is_told_in_one_line() {
    for end in (0..CARD.len()).step_by(1 << 20).chain([1, 511, 512, 513, CARD.len() - 1]) {
        let error = inspect::check(&CARD[..end]).err().unwrap_or_else(|| panic!("{end} bytes are taken for a card"));
        assert!(!format!("{error:#}").contains('\n'));
    }
}

/// A card to damage: small, and noughts where damage would not matter.
static FRAGILE: LazyLock<Vec<u8>> = LazyLock::new(|| write(&filled(0), 64 << 20).unwrap());

/// Bytes where damage matters: partition table, boot sector, tables, directories, the first bytes of files.
static PLACES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let end = inspect::check(FRAGILE.as_slice()).unwrap().used_end as usize;
    (0..end).filter(|at| FRAGILE[*at] != 0 || *at % 4096 < 64).collect()
});

fn one_line_at_most(result: anyhow::Result<inspect::Card>) {
    if let Err(error) = result {
        let text = format!("{error:#}");
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }))]

    /// Whatever is damaged, the reader ends, with what it read or with one line.
    #[test]
    fn damaged_cards_never_harm(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        thread_local! {
            static SCRATCH: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(FRAGILE.clone());
        }
        SCRATCH.with_borrow_mut(|image| {
            let places = damage.iter().map(|(index, byte)| (PLACES[index.index(PLACES.len())], *byte));
            places.clone().for_each(|(at, byte)| image[at] = byte);
            one_line_at_most(inspect::check(image.as_slice()));
            places.for_each(|(at, _)| image[at] = FRAGILE[at]);
        });
    }
}

/// Chains that go in circles, and clusters that are not there, in every entry of the used part of the table.
#[test]
fn damaged_tables_never_harm() {
    let mut image = FRAGILE.clone();
    let tables = super::volume::PARTITION_START as usize + 8 * 512;
    for cluster in 2..140 {
        let at = tables + cluster * 4;
        for wrong in [0u32, 1, 2, 3, cluster as u32, 0x0fff_fff7, 0x0fff_ffff, 0x0123_4567] {
            image[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
            one_line_at_most(inspect::check(image.as_slice()));
        }
        image[at..at + 4].copy_from_slice(&FRAGILE[at..at + 4]);
    }
}
