//! What this crate writes is what e2fsprogs reads (T2): attributes, names, deep trees, large directories, and the operations that
//! random scripts do not know.

mod common;

use common::*;
use ext4::{Errno, FallocateMode, NewInode, RenameMode, Seek, SetAttr, State, Time};
use std::sync::Arc;

const REGULAR: NewInode<'static> = NewInode { mode: 0o100644, uid: 0, gid: 0, device: 0, attributes: &[] };

/// debugfs with these requests; what it says.
fn debugfs(image: &[u8], requests: &str) -> String {
    let file = to_file(image, "debugfs");
    let script = TempFile(scratch("requests"));
    std::fs::write(&script.0, requests).unwrap();
    let (status, text) = run("debugfs", &["-f", script.0.to_str().unwrap(), file.0.to_str().unwrap()]);
    assert_eq!(status, 0, "{text}");
    text
}

#[test]
fn debugfs_reads_attributes_as_they_were_written() {
    let disk = MemDisk::new(mke2fs(16, &["-b", "1024"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let new = |mode, device| NewInode { mode, uid: 70_000, gid: 80_000, device, attributes: &[] };
    let file = fs.create(&root, Some(b"file"), &new(0o104751, 0)).unwrap();
    fs.write(&file, 0, b"what is in it\n").unwrap();
    // Beyond 2038 and before 1970.
    let far = Time { seconds: 5_000_000_000, nanos: 123_456_789 };
    let early = Time { seconds: -5, nanos: 999_999_999 };
    let attr = SetAttr { atime: Some(early), mtime: Some(far), ..SetAttr::default() };
    fs.set_attr(&file, &attr).unwrap();
    fs.create(&root, Some(b"tty"), &new(0o020620, 4 << 8 | 64)).unwrap();
    fs.create(&root, Some(b"big"), &new(0o060660, 300 << 8 | 7 | 1 << 20)).unwrap();
    fs.create(&root, Some(b"fifo"), &new(0o010600, 0)).unwrap();
    fs.create(&root, Some(b"socket"), &new(0o140755, 0)).unwrap();
    fs.symlink(&root, b"fast", b"short", &NewInode::default()).unwrap();
    fs.symlink(&root, b"slow", &[b'x'; 300], &NewInode::default()).unwrap();
    for (name, len) in [("user.small", 20), ("user.large", 700), ("trusted.t", 3), ("security.capability", 20)] {
        fs.set_xattr(&file, name.as_bytes(), Some(&vec![b'a'; len]), 0).unwrap();
    }
    let acl = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255]
        .iter()
        .chain(&[0x10, 0, 4, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255])
        .copied()
        .collect::<Vec<u8>>();
    fs.set_xattr(&file, b"system.posix_acl_access", Some(&acl), 0).unwrap();
    assert_eq!(fs.get_xattr(&file, b"system.posix_acl_access").unwrap(), acl);
    let stat = fs.stat(&file);
    assert_eq!((stat.atime, stat.mtime, stat.uid, stat.gid), (early, far, 70_000, 80_000));
    fs.unmount().unwrap();
    let image = disk.image();
    assert_clean(&image, "attributes");
    let text = debugfs(
        &image,
        "stat /file\nstat /tty\nstat /big\nstat /fifo\nstat /socket\nstat /fast\nstat /slow\ncat /file\nea_list /file\n\
         ea_get /file user.small\n",
    );
    for expected in [
        "Mode:  04751",
        "User: 70000   Group: 80000",
        "what is in it",
        "mtime: 0x2a05f200:1d6f3455",
        "atime: 0xfffffffb:ee6b27fc",
        "Type: character special    Mode:  0620",
        "Device major/minor number: 04:64 (hex 04:40)",
        "Type: block special    Mode:  0660",
        "Device major/minor number: 300:263",
        "Type: FIFO    Mode:  0600",
        "Type: socket    Mode:  0755",
        "Fast link dest: \"short\"",
        "user.small (20)",
        "user.large (700)",
        "trusted.t (3)",
        "security.capability (20)",
        "system.posix_acl_access",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn large_directories_are_indexed_and_listed_once() {
    for options in [&["-b", "1024", "-N", "9000"][..], &["-b", "1024", "-N", "9000", "-O", "^metadata_csum,uninit_bg"]]
    {
        let disk = MemDisk::new(mke2fs(24, options));
        let fs = mount(&disk);
        let root = fs.root().unwrap();
        let dir = fs.create(&root, Some(b"dir"), &NewInode { mode: 0o040755, ..REGULAR }).unwrap();
        let name = |i: u32| format!("{i:06}-{}", "n".repeat((i % 40) as usize * 4));
        // A lister that is at work all the time: names that are always there are seen once by each of its passes.
        let always: Vec<String> = (0..50).map(|i| format!("always-{i}")).collect();
        for name in &always {
            fs.create(&dir, Some(name.as_bytes()), &REGULAR).unwrap();
        }
        let (mut cookie, mut seen) = (0, Vec::new());
        let file = fs.lookup(&dir, b"always-0").unwrap();
        for i in 0..6000 {
            fs.link(&file, &dir, name(i).as_bytes()).unwrap();
            if i % 3 == 0 {
                fs.unlink(&dir, name(i / 2).as_bytes()).ok();
            }
            if i % 20 == 0 && cookie < i64::MAX as u64 {
                let mut left = 5;
                fs.readdir(&dir, cookie, |entry| {
                    seen.push(String::from_utf8_lossy(entry.name).into_owned());
                    cookie = entry.next;
                    left -= 1;
                    left > 0
                })
                .unwrap();
            }
        }
        cookie = fs
            .readdir(&dir, cookie, |entry| {
                seen.push(String::from_utf8_lossy(entry.name).into_owned());
                true
            })
            .unwrap();
        assert_eq!(cookie, i64::MAX as u64);
        for name in &always {
            assert_eq!(seen.iter().filter(|seen| *seen == name).count(), 1, "{name}");
        }
        let listed = names(&fs, &dir).unwrap();
        let mut sorted: Vec<_> = listed.iter().map(|(name, ..)| name).collect();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), listed.len());
        for (name, number, _) in listed.iter().step_by(37).filter(|(name, ..)| name[0] != b'.') {
            assert_eq!(fs.lookup(&dir, name).unwrap().number, *number);
        }
        assert_eq!(fs.lookup(&dir, b"not there").err(), Some(Errno::ENOENT));
        fs.unmount().unwrap();
        let image = disk.image();
        assert_clean(&image, "large directory");
        let text = debugfs(&image, "htree_dump /dir\n");
        assert!(text.contains("Indirect levels: 1"), "{}", &text[..text.len().min(600)]);
        let fs = mount(&disk);
        let dir = fs.lookup(&fs.root().unwrap(), b"dir").unwrap();
        assert_eq!(names(&fs, &dir).unwrap().len(), listed.len());
        // All of it goes again.
        for (name, ..) in listed.iter().filter(|(name, ..)| name[0] != b'.') {
            let inode = fs.unlink(&dir, name).unwrap();
            fs.release(&inode).unwrap();
        }
        let gone = fs.rmdir(&fs.root().unwrap(), b"dir").unwrap();
        fs.release(&gone).unwrap();
        drop((dir, gone));
        fs.unmount().unwrap();
        assert_clean(&disk.image(), "large directory removed");
    }
}

#[test]
fn deep_extent_trees_grow_and_go() {
    let disk = MemDisk::new(mke2fs(96, &["-b", "1024", "-J", "size=4"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let file = fs.create(&root, Some(b"deep"), &REGULAR).unwrap();
    let free = fs.statfs().free;
    let mut random = Random::new(3);
    // Every other block, in a random order of stretches: depth 3.
    let mut stretches: Vec<u64> = (0..300).collect();
    for i in (1..stretches.len()).rev() {
        stretches.swap(i, random.below(i as u64 + 1) as usize);
    }
    let keep = FallocateMode::Allocate { keep_size: false };
    for stretch in &stretches {
        for i in 0..100 {
            fs.fallocate(&file, keep, (stretch * 200 + i * 2) * 1024, 1024).unwrap();
        }
    }
    let mut written = Vec::new();
    for _ in 0..500 {
        let block = random.below(60_000);
        fs.write(&file, block * 1024 + 10, &[(block % 250) as u8 + 1; 50]).unwrap();
        written.push(block);
    }
    let check = |fs: &Fs<'_>| {
        let file = fs.lookup(&fs.root().unwrap(), b"deep").unwrap();
        for block in &written {
            let mut bytes = [0; 64];
            fs.read(&file, block * 1024, &mut bytes).unwrap();
            assert_eq!(bytes[..10], [0; 10]);
            assert_eq!(bytes[10..60], [(block % 250) as u8 + 1; 50], "block {block}");
        }
    };
    check(&fs);
    drop(file);
    fs.unmount().unwrap();
    let image = disk.image();
    assert_clean(&image, "deep tree");
    let text = debugfs(&image, "dump_extents -n /deep\n");
    assert!(text.contains(" 2/ 3"), "{}", &text[..text.len().min(600)]);
    let fs = mount(&disk);
    check(&fs);
    let file = fs.lookup(&fs.root().unwrap(), b"deep").unwrap();
    fs.fallocate(&file, FallocateMode::PunchHole, 1000 * 1024, 30_000 * 1024).unwrap();
    fs.fallocate(&file, FallocateMode::CollapseRange, 1000 * 1024, 30_000 * 1024).unwrap();
    fs.fallocate(&file, FallocateMode::InsertRange, 500 * 1024, 1000 * 1024).unwrap();
    assert_eq!(fs.map(&file, 600, 10).unwrap().state, State::Hole);
    assert_eq!(fs.seek(&file, 501 * 1024, fs.stat(&file).size, Seek::Hole), Ok(501 * 1024));
    fs.truncate(&file, 0).unwrap();
    assert_eq!(fs.stat(&file).sectors, 0);
    fs.sync().unwrap();
    assert_eq!(fs.statfs().free, free);
    drop(file);
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "deep tree removed");
}

#[test]
fn operations_say_no_as_linux_does() {
    let disk = MemDisk::new(mke2fs(16, &["-b", "1024"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let dir = fs.create(&root, Some(b"dir"), &NewInode { mode: 0o040755, ..REGULAR }).unwrap();
    let file = fs.create(&root, Some(b"file"), &REGULAR).unwrap();
    fs.create(&dir, Some(b"inside"), &REGULAR).unwrap();
    let create = |dir: &_, name: &[u8]| fs.create(dir, Some(name), &REGULAR).map(|_| ()).unwrap_err();
    assert_eq!(create(&root, b"file"), Errno::EEXIST);
    assert_eq!(create(&root, &[b'x'; 256]), Errno::ENAMETOOLONG);
    assert_eq!(create(&file, b"x"), Errno::ENOTDIR);
    assert_eq!(fs.unlink(&root, b"dir").err(), Some(Errno::EISDIR));
    assert_eq!(fs.rmdir(&root, b"file").err(), Some(Errno::ENOTDIR));
    assert_eq!(fs.rmdir(&root, b"dir").err(), Some(Errno::ENOTEMPTY));
    assert_eq!(fs.link(&dir, &root, b"x"), Err(Errno::EPERM));
    assert_eq!(fs.link(&file, &root, b"dir"), Err(Errno::EEXIST));
    let rename = |from: &[u8], to: &[u8], mode| fs.rename(&root, from, &root, to, mode).err();
    assert_eq!(rename(b"file", b"dir", RenameMode::Replace), Some(Errno::EISDIR));
    assert_eq!(rename(b"dir", b"file", RenameMode::Replace), Some(Errno::ENOTDIR));
    assert_eq!(rename(b"dir", b"file", RenameMode::NoReplace), Some(Errno::EEXIST));
    assert_eq!(rename(b"dir", b"none", RenameMode::Exchange), Some(Errno::ENOENT));
    assert_eq!(rename(b"none", b"file", RenameMode::Replace), Some(Errno::ENOENT));
    assert_eq!(fs.get_xattr(&file, b"user.none").err(), Some(Errno::ENODATA));
    assert_eq!(fs.set_xattr(&file, b"other.x", Some(b""), 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(fs.set_xattr(&file, b"user.", Some(b""), 0), Err(Errno::EINVAL));
    assert_eq!(fs.set_xattr(&file, b"user.x", Some(&[0; 5000]), 0), Err(Errno::ENOSPC));
    fs.set_xattr(&file, b"user.x", Some(b"1"), 1).unwrap();
    assert_eq!(fs.set_xattr(&file, b"user.x", Some(b"1"), 1), Err(Errno::EEXIST));
    assert_eq!(fs.set_xattr(&file, b"user.y", Some(b"1"), 2), Err(Errno::ENODATA));
    assert_eq!(fs.truncate(&file, u64::MAX), Err(Errno::EFBIG));
    assert_eq!(fs.truncate(&dir, 0), Err(Errno::EISDIR));
    // Immutable and append-only.
    fs.set_flags(&file, fs.flags(&file) | 0x10).unwrap();
    assert_eq!(fs.write(&file, 0, b"x"), Err(Errno::EPERM));
    assert_eq!(fs.truncate(&file, 5), Err(Errno::EPERM));
    assert_eq!(fs.unlink(&root, b"file").err(), Some(Errno::EPERM));
    assert_eq!(fs.set_attr(&file, &SetAttr::default()), Err(Errno::EPERM));
    fs.set_flags(&file, fs.flags(&file) & !0x10).unwrap();
    fs.set_flags(&dir, fs.flags(&dir) | 0x20).unwrap();
    assert_eq!(fs.unlink(&dir, b"inside").err(), Some(Errno::EPERM));
    fs.create(&dir, Some(b"another"), &REGULAR).unwrap();
    assert_eq!(fs.set_flags(&file, 0x1000), Err(Errno::EOPNOTSUPP));
    drop((dir, file, root));
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "errors");
}

#[test]
fn files_without_names_get_one_or_go() {
    let disk = MemDisk::new(mke2fs(16, &["-b", "1024"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let named = fs.create(&root, None, &REGULAR).unwrap();
    let lost = fs.create(&root, None, &REGULAR).unwrap();
    let third = fs.create(&root, None, &REGULAR).unwrap();
    fs.write(&named, 0, b"kept").unwrap();
    fs.write(&lost, 0, &[1; 10_000]).unwrap();
    fs.link(&named, &root, b"named").unwrap();
    fs.sync().unwrap();
    // The machine stops here: two orphans.
    let image = disk.image();
    fs.release(&third).unwrap();
    fs.release(&lost).unwrap();
    drop((named, lost, third, root));
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "files without names");
    let after = MemDisk::new(image);
    let fs = mount(&after);
    assert!(after.said("2 orphans"));
    let tree = tree(&fs).unwrap();
    assert_eq!(tree.len(), 1);
    assert_eq!(tree[&b"/named"[..]].content, b"kept");
    fs.unmount().unwrap();
    assert_clean(&after.image(), "orphans after a crash");
}

#[test]
fn what_an_orphan_file_names_is_cleaned_up() {
    let disk = MemDisk::new(mke2fs(12, &["-b", "1024", "-O", "orphan_file"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    let file = fs.create(&root, Some(b"open"), &REGULAR).unwrap();
    fs.write(&file, 0, &[1; 20_000]).unwrap();
    let number = file.number;
    let orphan_file = fs.geometry().orphan_file_inode;
    let block = fs.map(&fs.inode(orphan_file).unwrap(), 0, 1).unwrap().block.unwrap();
    let generation = fs.stat(&fs.inode(orphan_file).unwrap()).generation;
    let seed = fs.geometry().csum_seed;
    drop((file, root));
    fs.unmount().unwrap();
    // As Linux leaves it: the name gone, the inode with no link, its number in the file, the feature set.
    let file = to_file(&disk.image(), "orphan");
    let script = TempFile(scratch("requests"));
    std::fs::write(
        &script.0,
        format!("unlink /open\nset_inode_field <{number}> links_count 0\nfeature orphan_present\n"),
    )
    .unwrap();
    let (_, text) = run("debugfs", &["-w", "-f", script.0.to_str().unwrap(), file.0.to_str().unwrap()]);
    let mut image = std::fs::read(&file.0).unwrap();
    let at = block as usize * 1024;
    image[at..at + 4].copy_from_slice(&number.to_le_bytes());
    let crc = ext4::checksum::crc32c;
    let sum = crc(crc(seed, &orphan_file.to_le_bytes()), &generation.to_le_bytes());
    let sum = crc(crc(sum, &block.to_le_bytes()), &image[at..at + 1016]);
    image[at + 1020..at + 1024].copy_from_slice(&sum.to_le_bytes());
    if image[1024 + 0x66] & 1 == 0 {
        image[1024 + 0x66] |= 1;
        let sum = crc(!0, &image[1024..1024 + 0x3FC]);
        image[1024 + 0x3FC..2048].copy_from_slice(&sum.to_le_bytes());
    }
    let after = MemDisk::new(image);
    let fs = mount(&after);
    assert!(after.said("1 orphans"), "{:?} {text}", after.lines);
    fs.unmount().unwrap();
    assert_clean(&after.image(), "orphan file");
}

#[test]
fn space_is_promised_and_kept() {
    let disk = MemDisk::new(mke2fs(8, &["-b", "1024"]));
    let fs = mount(&disk);
    let available = fs.statfs().available;
    assert_eq!(fs.reserve(available + 100, false), Err(Errno::ENOSPC));
    fs.reserve(available / 2, false).unwrap();
    assert_eq!(fs.statfs().available, available - available / 2);
    assert_eq!(fs.reserve(available, false), Err(Errno::ENOSPC));
    // The administrator's reserve.
    fs.reserve(available.div_ceil(2) + 100, true).unwrap();
    fs.unreserve(available.div_ceil(2) + 100 + available / 2);
    assert_eq!(fs.statfs().available, available);
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "reservations");
}

/// A full disk: everything that fails says ENOSPC, and what is freed can be used at once.
#[test]
fn a_full_disk_says_so_and_recovers() {
    let disk = MemDisk::new(mke2fs(3, &["-b", "1024", "-N", "64"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    for round in 0..3 {
        let file = fs.create(&root, Some(b"filler"), &REGULAR).unwrap();
        let mut at = 0;
        let error = loop {
            match fs.write(&file, at, &[round; 3000]) {
                Ok(len) => at += len as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::ENOSPC);
        assert!(at > 1_000_000, "only {at} bytes in round {round}");
        assert_eq!(
            fs.fallocate(&file, FallocateMode::Allocate { keep_size: false }, 1 << 20, 1 << 22),
            Err(Errno::ENOSPC)
        );
        let mut made = 0;
        let error = loop {
            let name = format!("{}{made}", "inode".repeat(30));
            match fs.create(&root, Some(name.as_bytes()), &REGULAR) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::ENOSPC);
        for i in 0..made {
            let name = format!("{}{i}", "inode".repeat(30));
            fs.release(&fs.unlink(&root, name.as_bytes()).unwrap()).unwrap();
        }
        fs.release(&fs.unlink(&root, b"filler").unwrap()).unwrap();
    }
    drop(root);
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "full disk");
}

#[test]
fn remount_freeze_and_trim() {
    let disk = MemDisk::new(mke2fs(16, &["-b", "1024"]));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    fs.create(&root, Some(b"one"), &REGULAR).unwrap();
    fs.remount(true).unwrap();
    assert_clean(&disk.image(), "read-only");
    assert_eq!(fs.create(&root, Some(b"two"), &REGULAR).err(), Some(Errno::EROFS));
    fs.remount(false).unwrap();
    fs.create(&root, Some(b"two"), &REGULAR).unwrap();
    fs.freeze().unwrap();
    assert_clean(&disk.image(), "frozen");
    fs.thaw().unwrap();
    assert_eq!(fs.trim(0..u64::MAX, 1), Err(Errno::EOPNOTSUPP));
    fs.create(&root, Some(b"three"), &REGULAR).unwrap();
    assert_eq!(names(&fs, &root).unwrap().len(), 2 + 1 + 3);
    drop(root);
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "remounted");
}

/// A transaction that holds many operations, and inode numbers and blocks that are used again and again.
#[test]
fn rename_over_keeps_the_old_or_the_new_file() {
    let disk = Arc::new(MemDisk::new(mke2fs(12, &["-b", "1024"])));
    let fs = mount(&disk);
    let root = fs.root().unwrap();
    for i in 0..300u32 {
        let file = fs.create(&root, Some(b"tmp"), &REGULAR).unwrap();
        fs.write(&file, 0, &i.to_le_bytes().repeat(3000)).unwrap();
        if i % 7 == 0 {
            fs.fsync(&file, false).unwrap();
        }
        if let Some(old) = fs.rename(&root, b"tmp", &root, b"file", RenameMode::Replace).unwrap() {
            fs.release(&old).unwrap();
        }
        if i % 10 == 9 {
            // As the disk is now: whole files only.
            let crashed = MemDisk::new(disk.image());
            let tree = tree(&mount(&crashed)).unwrap();
            for node in tree.values().filter(|node| !node.content.is_empty()) {
                assert_eq!(node.content.len(), 12_000);
                assert!(node.content.chunks(4).all(|word| word == &node.content[..4]), "mixed content");
            }
        }
    }
    drop(root);
    fs.unmount().unwrap();
    assert_clean(&disk.image(), "rename over");
}
