//! Power cuts at every write (T1): whatever of a script's writes is on disk, e2fsck -p repairs it without a question, what was
//! synced is there, no file shows another's bytes, and recovery by this crate ends with the same files as recovery by e2fsck.
//!
//! A default run looks at a sample of the cuts; EXT4_LONG=1 at all cuts of 200 scripts.

mod common;

use common::script::{Promise, Runner, is_object, owner};
use common::*;
use ext4::{ErrorPolicy, Ext4, MountOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const KINDS: [(&str, u64, &[&str]); 5] = [
    ("1 KiB", 16, &["-b", "1024"]),
    ("4 KiB, small groups", 16, &["-b", "4096", "-J", "size=4", "-g", "1024", "-O", "^resize_inode"]),
    ("1.47.2", 12, &["-b", "1024", "-O", "metadata_csum_seed,orphan_file"]),
    ("no checksums", 12, &["-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"]),
    ("1 KiB, nearly full", 3, &["-b", "1024", "-N", "128"]),
];

/// How what has not been flushed reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// All of it.
    Prefix,
    /// Any of the writes.
    Subset,
    /// Any of their sectors (the superblock, two sectors, is whole or old).
    Torn,
}

fn apply(image: &mut [u8], sector: u64, bytes: &[u8], keep: impl FnMut() -> bool) {
    let mut keep = keep;
    let at = sector as usize * 512;
    if at < 2048 && at + bytes.len() > 1024 {
        if keep() {
            image[at..at + bytes.len()].copy_from_slice(bytes);
        }
        return;
    }
    for (i, part) in bytes.chunks(512).enumerate() {
        if keep() {
            image[at + i * 512..at + i * 512 + part.len()].copy_from_slice(part);
        }
    }
}

/// The disk after the first `count` events.
fn cut_image(start: &[u8], log: &[Event], count: usize, cut: Cut, random: &mut Random) -> Vec<u8> {
    let mut image = start.to_vec();
    let flushed = log[..count].iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |at| at + 1);
    for (i, event) in log[..count].iter().enumerate() {
        let Event::Write { sector, bytes, fua } = event else { continue };
        // A write with FUA is on disk when it has returned; the last one may not have.
        let is_durable = i < flushed || (*fua && (i + 1 < count || cut == Cut::Subset)) || cut == Cut::Prefix;
        match cut {
            _ if is_durable => apply(&mut image, *sector, bytes, || true),
            Cut::Torn => apply(&mut image, *sector, bytes, || random.below(2) == 0),
            _ => {
                let keep = random.below(2) == 0;
                apply(&mut image, *sector, bytes, || keep);
            }
        }
    }
    image
}

fn le32(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}

/// Where the journal's superblock is: its magic number and type at the start of a block.
fn journal_at(image: &[u8]) -> Option<usize> {
    (0..image.len()).step_by(1024).find(|at| image[*at..*at + 8] == [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4])
}

/// `count` events happened, of which the last may not have been acknowledged.
#[derive(Clone, Copy)]
struct Moment {
    acknowledged: usize,
    count: usize,
}

impl Moment {
    fn new(log: &[Event], count: usize, cut: Cut) -> Self {
        // A torn write with FUA has not returned.
        let is_torn = cut == Cut::Torn && matches!(log[..count].last(), Some(Event::Write { fua: true, .. }));
        Moment { acknowledged: count - usize::from(is_torn), count }
    }
}

fn promises_hold(what: &str, tree: &Tree, promises: &[Promise], moment: Moment) {
    let holds = |promise: &&Promise| promise.from <= moment.acknowledged && moment.count <= promise.to;
    for promise in promises.iter().filter(holds) {
        let node = tree.get(promise.path.as_bytes()).unwrap_or_else(|| panic!("{what}: {} is lost", promise.path));
        assert!(
            is_object(node, &promise.object),
            "{what}: {} is not as it was synced: {} bytes",
            promise.path,
            node.content.len()
        );
    }
}

fn no_foreign_bytes(what: &str, tree: &Tree) {
    for (path, node) in tree.iter().filter(|(_, node)| node.mode & 0o170000 == 0o100000) {
        let path = String::from_utf8_lossy(path);
        assert!(owner(&node.content).is_some(), "{what}: {path} shows bytes that are not its own");
    }
}

/// Looks at one image as a crash left it.
fn check_cut(what: &str, image: &[u8], promises: &[Promise], moment: Moment) {
    if let Some(journal) = journal_at(image)
        && image[journal + 28..journal + 32] != [0; 4]
    {
        assert!(le32(image, 1024 + 0x60) & 4 != 0, "{what}: the journal is in use and RECOVER is not set");
    }
    let keep = |suffix: &str, image: &[u8]| {
        if let Ok(path) = std::env::var("EXT4_KEEP") {
            std::fs::write(format!("{path}.{suffix}"), image).unwrap();
        }
    };
    let file = to_file(image, "cut");
    let path = file.0.to_str().unwrap();
    let (status, text) = run("e2fsck", &["-fp", path]);
    if status > 1 {
        keep("cut", image);
        panic!("{what}: e2fsck -fp: {status}\n{text}");
    }
    if is_long() {
        let (status, text) = run("e2fsck", &["-fn", path]);
        assert_eq!(status, 0, "{what}: e2fsck -fn after -fp: {text}");
    }
    let theirs_disk = MemDisk::new(std::fs::read(&file.0).unwrap());
    let theirs = tree(&mount_ro(&theirs_disk)).unwrap();
    promises_hold(&format!("{what}, e2fsck"), &theirs, promises, moment);
    no_foreign_bytes(&format!("{what}, e2fsck"), &theirs);

    let disk = MemDisk::new(image.to_vec());
    let fs = mount(&disk);
    let ours = tree(&fs).unwrap_or_else(|error| panic!("{what}: {} {:?}", error.name(), disk.lines));
    fs.unmount().unwrap();
    let (status, text) = fsck_n(&disk.image());
    if status != 0 {
        keep("cut", image);
        keep("ours", &disk.image());
        panic!("{what}: our recovery, e2fsck -fn: {status}\n{text}\n{:?}", disk.lines);
    }
    if let Some((path, _)) = ours.iter().find(|(path, node)| theirs.get(*path) != Some(*node)) {
        keep("cut", image);
        let path_text = String::from_utf8_lossy(path);
        panic!("{what}: {path_text}: {:?} is not e2fsck's {:?}", short(ours.get(path)), short(theirs.get(path)));
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: e2fsck has other files");
}

fn short(node: Option<&Node>) -> Option<Node> {
    node.cloned().map(|mut node| {
        node.content.truncate(16);
        node
    })
}

/// Runs a script and cuts it `samples` times in each way (all cuts for `None`), its recovery too.
fn crash_script(what: &str, mib: u64, options: &[&str], seed: u64, samples: Option<u64>) {
    let start = mke2fs(mib, options);
    let disk = MemDisk::recording(start.clone());
    let mut runner = Runner::new(&disk, seed * 977 + 5);
    runner.full = mib < 8;
    for _ in 0..60 {
        runner.step().unwrap_or_else(|error| panic!("{what}: {}: {:?}", error.name(), runner.trace.last()));
    }
    runner.check();
    runner.unmount().unwrap();
    let log = disk.log.lock().unwrap().take().unwrap();
    let mut random = Random::new(seed + 1);
    let cuts: Vec<usize> = match samples {
        Some(samples) => (0..samples).map(|_| random.below(log.len() as u64 + 1) as usize).collect(),
        None => (0..=log.len()).collect(),
    };
    for count in cuts {
        let kinds = [Cut::Prefix, Cut::Subset, Cut::Torn];
        let some = match samples {
            Some(_) => &kinds[random.below(3) as usize..][..1],
            None => &kinds[..],
        };
        for cut in some {
            let what = format!("{what}, seed {seed}, {cut:?} at {count} of {}", log.len());
            let image = cut_image(&start, &log, count, *cut, &mut random);
            let moment = Moment::new(&log, count, *cut);
            let result = std::panic::catch_unwind(|| check_cut(&what, &image, &runner.promises, moment));
            if result.is_err() {
                panic!("{what}; the last of {:#?}", &runner.trace[runner.trace.len().saturating_sub(60)..]);
            }
            if random.below(4) == 0 {
                cut_recovery(&what, &image, &runner.promises, moment, &mut random);
            }
        }
    }
}

/// Cuts the recovery of an image too.
fn cut_recovery(what: &str, image: &[u8], promises: &[Promise], moment: Moment, random: &mut Random) {
    let disk = MemDisk::recording(image.to_vec());
    mount(&disk).unmount().unwrap();
    let log = disk.log.lock().unwrap().take().unwrap();
    let at = random.below(log.len() as u64 + 1) as usize;
    let cut = [Cut::Prefix, Cut::Subset, Cut::Torn][random.below(3) as usize];
    let what = format!("{what}; then its recovery, {cut:?} at {at} of {}", log.len());
    check_cut(&what, &cut_image(image, &log, at, cut, random), promises, moment);
}

fn crash_kind(kind: usize) {
    let (what, mib, options) = KINDS[kind];
    let (seeds, samples) = if is_long() { (40, None) } else { (6, Some(6)) };
    for seed in 0..seeds {
        crash_script(what, mib, options, seed, samples);
    }
}

#[test]
fn cuts_with_1_kib_blocks() {
    crash_kind(0);
}

#[test]
fn cuts_with_4_kib_blocks_and_several_groups() {
    crash_kind(1);
}

#[test]
fn cuts_with_the_newest_features() {
    crash_kind(2);
}

#[test]
fn cuts_without_checksums() {
    crash_kind(3);
}

#[test]
fn cuts_on_a_full_disk() {
    crash_kind(4);
}

/// A write that fails stops the file system: everybody hears EIO or EROFS, and the disk is as after a crash at that write.
#[test]
fn an_io_error_at_any_write_leaves_what_a_crash_leaves() {
    let start = mke2fs(12, &["-b", "1024"]);
    let whole = MemDisk::new(start.clone());
    let mut runner = Runner::new(&whole, 4711);
    (0..80).for_each(|_| runner.step().unwrap());
    runner.unmount().unwrap();
    let all = whole.count.load(Ordering::SeqCst);
    let step = if is_long() { 1 } else { all / 40 + 1 };
    for at in (4..all).step_by(step as usize) {
        for once in [false, true] {
            let mut disk = MemDisk::recording(start.clone());
            disk.fail_once = once;
            disk.fail_at.store(at, Ordering::SeqCst);
            let what = format!("EIO at {at} of {all}, once: {once}");
            let mut runner = Runner::new(&disk, 4711);
            let mut failed = false;
            for _ in 0..80 {
                // The model does not follow an operation that failed.
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runner.step())) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        assert!(matches!(error.name(), "EIO" | "EROFS"), "{what}: {}", error.name());
                        failed = true;
                        break;
                    }
                    Err(_) => panic!("{what}: {:?}", runner.trace.last()),
                }
            }
            let unmounted = runner.unmount();
            assert!(failed || unmounted.is_err() || once, "{what}: nobody heard of it");
            let count = disk.log_len();
            let moment = Moment { acknowledged: count, count };
            let (status, text) = {
                let file = to_file(&disk.image(), "eio");
                run("e2fsck", &["-fp", file.0.to_str().unwrap()])
            };
            assert!(status <= 1, "{what}: e2fsck -fp: {status} {text}");
            let after = MemDisk::new(disk.image());
            let fs = mount(&after);
            let tree = tree(&fs).unwrap();
            no_foreign_bytes(&what, &tree);
            promises_hold(&what, &tree, &runner.promises, moment);
            fs.unmount().unwrap();
        }
    }
}

/// A read that fails is EIO for who reads, and leaves the disk in order.
#[test]
fn an_io_error_at_any_read_leaves_a_disk_that_can_be_repaired() {
    let start = mke2fs(12, &["-b", "1024"]);
    for at in (0..600).step_by(if is_long() { 1 } else { 13 }) {
        let disk = MemDisk::new(start.clone());
        disk.reads_fail_at.store(at, Ordering::SeqCst);
        let options =
            MountOptions { errors: Some(ErrorPolicy::RemountReadOnly), cache_blocks: 16, ..MountOptions::default() };
        let Ok(fs) = Ext4::<_, Lock>::mount(&disk, &options) else { continue };
        let root = fs.root().unwrap();
        for i in 0..40 {
            let name = format!("file{i}");
            let made =
                fs.create(&root, Some(name.as_bytes()), &ext4::NewInode { mode: 0o100644, ..Default::default() });
            if let Ok(inode) = made {
                let _ = fs.write(&inode, 0, &[7; 3000]);
                let _ = fs.truncate(&inode, 100);
            }
            fs.shrink();
            if i % 3 == 0
                && let Ok(inode) = fs.unlink(&root, name.as_bytes())
            {
                let _ = fs.release(&inode);
            }
        }
        drop(root);
        let _ = fs.unmount();
        let file = to_file(&disk.image(), "read");
        let (status, text) = run("e2fsck", &["-fp", file.0.to_str().unwrap()]);
        assert!(status <= 1, "EIO at read {at}: e2fsck -fp: {status} {text} {:?}", disk.lines);
    }
}

/// Files whose writers wait for them are on disk when they hear so, and writers share commits.
#[test]
fn many_writers_share_commits() {
    let disk = MemDisk::new(mke2fs(16, &["-b", "1024"]));
    let fs = Arc::new(mount(&disk));
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let fs = fs.clone();
            scope.spawn(move || {
                let root = fs.root().unwrap();
                let name = format!("writer{writer}");
                let new = ext4::NewInode { mode: 0o100644, ..Default::default() };
                let file = fs.create(&root, Some(name.as_bytes()), &new).unwrap();
                for i in 0..40u64 {
                    fs.write(&file, i * 700, &[writer + 1; 700]).unwrap();
                    fs.fsync(&file, i % 2 == 0).unwrap();
                    let other = format!("w{writer}-{i}");
                    let new = fs.create(&root, Some(other.as_bytes()), &new).unwrap();
                    fs.write(&new, 0, &[writer; 100]).unwrap();
                    if i % 3 == 0 {
                        let (from, to) = (other.as_bytes(), name_of(writer));
                        let mode = ext4::RenameMode::Replace;
                        if let Some(old) = fs.rename(&root, from, &root, to.as_bytes(), mode).unwrap() {
                            fs.release(&old).unwrap();
                        }
                    } else if i % 3 == 1 {
                        fs.release(&fs.unlink(&root, other.as_bytes()).unwrap()).unwrap();
                    }
                }
            });
        }
    });
    let crashed = disk.image();
    let tree_now = tree(&fs).unwrap();
    Arc::into_inner(fs).unwrap().unmount().unwrap();
    assert_clean(&disk.image(), "eight writers");
    let after = MemDisk::new(crashed);
    let fs = mount(&after);
    for writer in 0..8u8 {
        let node = &tree(&fs).unwrap()[format!("/writer{writer}").as_bytes()];
        assert_eq!(node.content.len(), 28_000);
        assert!(node.content.iter().all(|byte| *byte == writer + 1));
    }
    assert_eq!(tree_now.len(), 8 * (1 + 1 + 13));
}

fn name_of(writer: u8) -> String {
    format!("latest{writer}")
}
