//! Images with wrong bytes: mounting, walking, changing and unmounting them may fail, and must not panic, hang or ask for more memory
//! than there is. EXT4_LONG=1: 100,000 of them.

mod common;

use common::*;
use ext4::{ErrorPolicy, Ext4, FallocateMode, Inode, MountOptions, NewInode, RenameMode, Result};
use std::sync::Arc;

/// Checksums are put right after bytes were changed, so that what is behind them is tested: by making images without any.
const KINDS: [&[&str]; 3] = [
    &["-b", "1024", "-O", "^metadata_csum,^uninit_bg"],
    &["-b", "1024"],
    &["-b", "4096", "-J", "size=4", "-O", "^metadata_csum"],
];

fn populated(options: &[&str]) -> Vec<u8> {
    let disk = MemDisk::new(mke2fs(12, options));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let new = NewInode { mode: 0o100644, ..NewInode::default() };
    let dir = fs.create(&root, Some(b"dir"), &NewInode { mode: 0o040755, ..new }).unwrap();
    for i in 0..150 {
        let name = format!("name-{i}-{}", "x".repeat(i % 50));
        let file = fs.create(&dir, Some(name.as_bytes()), &new).unwrap();
        if i < 8 {
            for block in 0..60 {
                fs.write(&file, block * 8192, &[i as u8; 100]).unwrap();
            }
            fs.set_xattr(&file, b"user.long", Some(&[b'l'; 500]), 0).unwrap();
        }
    }
    fs.symlink(&root, b"slow", &[b'y'; 200], &NewInode::default()).unwrap();
    fs.sync().unwrap();
    let open = fs.create(&root, None, &new).unwrap();
    fs.write(&open, 0, &[9; 5000]).unwrap();
    fs.sync().unwrap();
    // Not unmounted: the journal is full of things to replay.
    disk.image()
}

fn walk(fs: &Fs<'_>, dir: &Inode<Lock>, depth: u32, budget: &mut u32) -> Result<()> {
    let mut list = Vec::new();
    fs.readdir(dir, 0, |entry| {
        list.push(entry.name.to_vec());
        list.len() < 300
    })?;
    for name in list {
        *budget = budget.saturating_sub(1);
        if *budget == 0 {
            break;
        }
        let Ok(inode) = fs.lookup(dir, &name) else { continue };
        let mut bytes = vec![0; 20_000];
        let _ = fs.read(&inode, 0, &mut bytes);
        let size = fs.stat(&inode).size;
        let _ = fs.read(&inode, size.saturating_sub(5000), &mut bytes);
        let _ = fs.read_link(&inode);
        if let Ok(names) = fs.list_xattr(&inode) {
            for name in names.split(|byte| *byte == 0) {
                let _ = fs.get_xattr(&inode, name);
            }
        }
        if depth < 3 && name != b"." && name != b".." {
            let _ = walk(fs, &inode, depth + 1, budget);
        }
    }
    Ok(())
}

fn change(fs: &Fs<'_>, random: &mut Random) -> Result<()> {
    let root = fs.root()?;
    let new = NewInode { mode: 0o100644, ..NewInode::default() };
    let dir = fs.lookup(&root, b"dir").unwrap_or(root.clone());
    for i in 0..30u64 {
        let name = format!("new-{i}-{}", "z".repeat(60));
        let Ok(file) = fs.create(&dir, Some(name.as_bytes()), &new) else { continue };
        let _ = fs.write(&file, random.below(1 << 20), &[1; 3000]);
        let _ = fs.fallocate(&file, FallocateMode::Allocate { keep_size: true }, 0, 100_000);
        let _ = fs.set_xattr(&file, b"user.x", Some(&[2; 300]), 0);
        let _ = fs.truncate(&file, random.below(50_000));
    }
    let mut list = Vec::new();
    let _ = fs.readdir(&dir, 0, |entry| {
        list.push(entry.name.to_vec());
        list.len() < 60
    });
    for name in list {
        let Ok(inode) = fs.lookup(&dir, &name) else { continue };
        match random.below(4) {
            0 => drop(fs.unlink(&dir, &name).map(|inode: Arc<Inode<Lock>>| fs.release(&inode))),
            1 => drop(fs.rename(&dir, &name, &root, b"moved", RenameMode::Replace)),
            2 => drop(fs.fallocate(&inode, FallocateMode::CollapseRange, 0, 4096)),
            _ => drop(fs.truncate(&inode, 100)),
        }
    }
    fs.sync()
}

#[test]
fn wrong_bytes_do_not_panic() {
    let rounds = if is_long() { 33_334 } else { 250 };
    for (kind, options) in KINDS.iter().enumerate() {
        let image = populated(options);
        // Where anything is: changes elsewhere would be of no use.
        let used: Vec<usize> =
            (0..image.len() / 1024).filter(|i| image[i * 1024..(i + 1) * 1024].iter().any(|byte| *byte != 0)).collect();
        for round in 0..rounds {
            let mut random = Random::new(round * 31 + kind as u64);
            let mut bad = image.clone();
            for _ in 0..1 + random.below(12) {
                let block = used[random.below(used.len() as u64) as usize];
                let at = block * 1024 + random.below(1024) as usize;
                match random.below(4) {
                    0 => bad[at] = random.next() as u8,
                    1 => bad[at] ^= 1 << random.below(8),
                    2 => bad[at / 4 * 4..][..4].copy_from_slice(&[0xFF; 4]),
                    _ => {
                        let other = used[random.below(used.len() as u64) as usize];
                        bad.copy_within(other * 1024..(other + 1) * 1024, block * 1024);
                    }
                }
            }
            // Most of the time the superblock stays, and its checksum is right.
            if random.below(8) != 0 {
                bad[1024..2048].copy_from_slice(&image[1024..2048]);
            } else {
                let sum = ext4::checksum::crc32c(!0, &bad[1024..1024 + 0x3FC]);
                bad[1024 + 0x3FC..2048].copy_from_slice(&sum.to_le_bytes());
            }
            let disk = MemDisk::new(bad);
            let policy = if random.below(2) == 0 { ErrorPolicy::Continue } else { ErrorPolicy::RemountReadOnly };
            let options = MountOptions { errors: Some(policy), cache_blocks: 64, ..MountOptions::default() };
            let Ok(fs) = Ext4::<_, Lock>::mount(&disk, &options) else { continue };
            if let Ok(root) = fs.root() {
                let _ = walk(&fs, &root, 0, &mut 400);
                let _ = change(&fs, &mut random);
            }
            let _ = fs.unmount();
        }
    }
}
