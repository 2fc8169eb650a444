//! The rules against made-up hosts.

use super::rules::{Host, examine};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A sysfs tree that goes away with the test.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crannog-rules-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("dev/block")).unwrap();
        Self(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A disk of 64 GiB at `place`/`name` with these (partition, number)s.
    fn disk(&self, place: &str, name: &str, number: &str, partitions: &[(&str, &str)]) {
        let disk = format!("{place}/{name}");
        self.put(&format!("{disk}/dev"), number);
        self.put(&format!("{disk}/size"), "134217728\n");
        self.put(&format!("{disk}/ro"), "0\n");
        self.put(&format!("{disk}/removable"), "0\n");
        fs::create_dir_all(self.0.join(&disk).join("holders")).unwrap();
        symlink(self.0.join(&disk), self.0.join("dev/block").join(number)).unwrap();
        for (partition, number) in partitions {
            self.put(&format!("{disk}/{partition}/dev"), number);
            self.put(&format!("{disk}/{partition}/partition"), "1\n");
            fs::create_dir_all(self.0.join(&disk).join(partition).join("holders")).unwrap();
            symlink(self.0.join(&disk).join(partition), self.0.join("dev/block").join(number)).unwrap();
        }
    }

    fn host(&self, mounts: &str, swaps: &str) -> Host {
        let swaps = format!("Filename Type Size Used Priority\n{swaps}");
        Host { sys: self.0.clone(), mounts: mounts.into(), swaps }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const STICK: &str = "devices/pci0/usb1/1-1/block";
const INTERNAL: &str = "devices/pci0/ata1/block";

fn refusal(host: &Host, number: (u32, u32)) -> String {
    let error = examine(host, Path::new("/dev/x"), number, false).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with("/dev/x: ") && !text.contains('\n'), "{text}");
    text
}

#[test]
fn a_stick_that_nothing_uses_is_taken() {
    let tree = Tree::new("stick");
    tree.disk(STICK, "sdb", "8:16", &[("sdb1", "8:17")]);
    tree.put(&format!("{STICK}/sdb/device/model"), "Reader  \n");
    let host = tree.host("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "");
    let disk = examine(&host, Path::new("/dev/sdb"), (8, 16), false).unwrap();
    assert_eq!((disk.bytes, disk.description.as_str()), (64 << 30, "Reader"));
}

#[test]
fn an_sd_card_in_a_built_in_reader_is_taken_and_its_chip_sibling_is_not() {
    let tree = Tree::new("mmc");
    tree.disk("devices/mmc/block", "mmcblk0", "179:0", &[]);
    tree.put("devices/mmc/block/mmcblk0/device/type", "SD\n");
    tree.disk("devices/mmc/block", "mmcblk1", "179:8", &[]);
    tree.put("devices/mmc/block/mmcblk1/device/type", "MMC\n");
    let host = tree.host("", "");
    assert!(examine(&host, Path::new("/dev/mmcblk0"), (179, 0), false).is_ok());
    assert!(refusal(&host, (179, 8)).contains("not a removable disk"));
}

#[test]
fn partitions_are_refused_and_the_disk_named() {
    let tree = Tree::new("partition");
    tree.disk(STICK, "sdb", "8:16", &[("sdb1", "8:17")]);
    assert!(refusal(&tree.host("", ""), (8, 17)).contains("/dev/sdb"));
}

#[test]
fn mounted_disks_are_refused() {
    let tree = Tree::new("mounted");
    tree.disk(STICK, "sdb", "8:16", &[("sdb1", "8:17"), ("sdb2", "8:18")]);
    let host = tree.host("22 1 8:18 / /media/my\\040card rw - vfat /dev/sdb2 rw\n", "");
    assert!(refusal(&host, (8, 16)).contains("/dev/sdb2 is mounted on /media/my card"));
    // btrfs has a number of its own; its source tells.
    let host = tree.host("22 1 0:40 / /media/b rw shared:1 - btrfs /dev/sdb1 rw\n", "");
    assert!(refusal(&host, (8, 16)).contains("/dev/sdb1 is mounted on /media/b"));
    // The whole disk, without a partition table.
    let host = tree.host("22 1 8:16 / /mnt rw - ext4 /dev/sdb rw\n", "");
    assert!(refusal(&host, (8, 16)).contains("/dev/sdb is mounted on /mnt"));
}

#[test]
fn the_systems_disks_are_refused_even_on_sticks() {
    let tree = Tree::new("system");
    tree.disk(STICK, "sdb", "8:16", &[("sdb1", "8:17"), ("sdb2", "8:18")]);
    for point in ["/", "/boot/efi", "/home", "/usr"] {
        let mounts =
            format!("20 1 8:18 / /media/z rw - ext4 /dev/sdb2 rw\n22 1 8:17 / {point} rw - ext4 /dev/sdb1 rw\n");
        let text = refusal(&tree.host(&mounts, ""), (8, 16));
        assert!(text.contains(&format!("running system ({point} is on it)")), "{text}");
    }
    let host = tree.host("", "/dev/sdb2 partition 1024 0 -2\n");
    assert!(refusal(&host, (8, 16)).contains("swaps to /dev/sdb2"));
}

#[test]
fn disks_that_others_are_made_of_are_refused() {
    let tree = Tree::new("holders");
    tree.disk(STICK, "sdb", "8:16", &[("sdb1", "8:17")]);
    tree.put(&format!("{STICK}/sdb/sdb1/holders/dm-0"), "");
    assert!(refusal(&tree.host("", ""), (8, 16)).contains("/dev/sdb1 is a part of /dev/dm-0"));
    tree.put(&format!("{STICK}/sdb/holders/md0"), "");
    assert!(refusal(&tree.host("", ""), (8, 16)).contains("/dev/sdb is a part of /dev/md0"));
}

#[test]
fn internal_disks_need_a_word_more() {
    let tree = Tree::new("fixed");
    tree.disk(INTERNAL, "sda", "8:0", &[("sda1", "8:1")]);
    let host = tree.host("", "");
    assert!(refusal(&host, (8, 0)).contains("--fixed"));
    assert!(examine(&host, Path::new("/dev/sda"), (8, 0), true).is_ok());
    let host = tree.host("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "");
    assert!(examine(&host, Path::new("/dev/sda"), (8, 0), true).is_err(), "--fixed does not unlock the system's disk");
}

#[test]
fn empty_and_protected_readers_are_refused() {
    let tree = Tree::new("empty");
    tree.disk(STICK, "sdb", "8:16", &[]);
    tree.put(&format!("{STICK}/sdb/size"), "0\n");
    assert!(refusal(&tree.host("", ""), (8, 16)).contains("no card in it"));
    tree.put(&format!("{STICK}/sdb/size"), "1000\n");
    tree.put(&format!("{STICK}/sdb/ro"), "1\n");
    assert!(refusal(&tree.host("", ""), (8, 16)).contains("write-protected"));
    assert!(refusal(&tree.host("", ""), (9, 9)).contains("does not know this disk"));
}
