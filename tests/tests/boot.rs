//! What a boot loader may hand over: one file, gzip, several archives, damaged archives, damaged device trees, little memory.

use machine_tests::machine::{End, Scratch, qemu};
use machine_tests::{artifacts, crannog};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A recipe that prints one line, built: the pair in `scratch`.
fn build(scratch: &Scratch, more: &[&str], output: &str) {
    let recipe = "debs = [\"busybox-static\"]\ncommand = [\"/bin/busybox\", \"echo\", \"it\", \"works\"]\n";
    let recipe = scratch.write("recipe.toml", recipe.as_bytes());
    let status = Command::new(artifacts().join("crannog"))
        .arg("build")
        .arg(recipe)
        .args(more)
        .arg("-o")
        .arg(scratch.path(output))
        .env("CRANNOG_ARTIFACTS", artifacts())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

fn boot(scratch: &Scratch, kernel: &Path, initrd: Option<&Path>, memory: &str) -> End {
    let mut words = vec!["-m", memory, "-kernel", kernel.to_str().unwrap()];
    if let Some(initrd) = initrd {
        words.extend(["-initrd", initrd.to_str().unwrap()]);
    }
    qemu(scratch, &words, LIMIT)
}

#[track_caller]
fn works(end: &End) {
    assert!(
        end.by_itself && end.console.contains("it works"),
        "by itself: {}; console: {:?}; log: {:?}",
        end.by_itself,
        end.console,
        end.log
    );
    assert!(end.log.contains("[crannog] exit 0"), "{}", end.log);
}

fn gzip(bytes: &[u8], scratch: &Scratch) -> Vec<u8> {
    let path = scratch.write("plain", bytes);
    let output = Command::new("gzip").args(["-c", "-9"]).arg(path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_pair_and_one_file() {
    let scratch = Scratch::new("pair");
    build(&scratch, &[], "pair");
    works(&boot(&scratch, &scratch.path("pair/Image"), Some(&scratch.path("pair/initramfs.cpio")), "64M"));
    build(&scratch, &["--one-file"], "one");
    works(&boot(&scratch, &scratch.path("one"), None, "64M"));
}

#[test]
fn gzip_and_several_archives() {
    let scratch = Scratch::new("gzip");
    build(&scratch, &[], "pair");
    let kernel = scratch.path("pair/Image");
    let plain = std::fs::read(scratch.path("pair/initramfs.cpio")).unwrap();
    let packed = gzip(&plain, &scratch);
    assert!(packed.len() < plain.len() * 3 / 4);
    works(&boot(&scratch, &kernel, Some(&scratch.write("gz", &packed)), "32M"));
    // A plain archive first, zeroes, then a member; and two members.
    let small = scratch.path("small");
    std::fs::create_dir_all(small.join("etc")).unwrap();
    std::fs::write(small.join("etc/first"), "x").unwrap();
    let list =
        Command::new("sh").args(["-c", "cd \"$0\" && find . | cpio -o -H newc 2>/dev/null"]).arg(&small).output();
    if let Ok(list) = list
        && list.status.success()
        && !list.stdout.is_empty()
    {
        let both = [list.stdout.as_slice(), &[0; 512], &packed].concat();
        works(&boot(&scratch, &kernel, Some(&scratch.write("both", &both)), "32M"));
    }
    let (front, back) = (gzip(&plain, &scratch), gzip(&plain, &scratch));
    works(&boot(&scratch, &kernel, Some(&scratch.write("twice", &[front, back].concat())), "64M"));
}

#[test]
fn damaged_archives_end_in_a_message() {
    let scratch = Scratch::new("damaged");
    build(&scratch, &[], "pair");
    let kernel = scratch.path("pair/Image");
    let plain = std::fs::read(scratch.path("pair/initramfs.cpio")).unwrap();
    let packed = gzip(&plain, &scratch);
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let mut bad_header = plain.clone();
    bad_header[0] = b'X';
    let mut endless = plain.clone();
    endless[54..62].copy_from_slice(b"FFFFFFFF");
    let cases: &[(&str, &[u8], &str)] = &[
        ("plain, cut off", &plain[..plain.len() / 2], "the archive is cut off"),
        ("gzip, cut off", &packed[..packed.len() / 2], "the archive is cut off"),
        ("gzip, a byte changed", &flipped, "initramfs: "),
        ("no archive", &bad_header, "not a newc archive, nor gzip"),
        ("a header of nothing", &plain[..100], "the archive is cut off"),
        ("a file of 4 GiB", &endless, "initramfs: "),
    ];
    for (what, bytes, message) in cases {
        let end = boot(&scratch, &kernel, Some(&scratch.write("initrd", bytes)), "64M");
        assert!(end.by_itself, "{what}: still running; log:\n{}", end.log);
        assert!(end.log.contains(message), "{what}: no {message:?} in\n{}", end.log);
    }
}

#[test]
fn a_root_file_system_that_does_not_fit_is_named() {
    let scratch = Scratch::new("full");
    let zeroes = scratch.write("zeroes", &vec![7; 24 << 20]);
    let volume = format!("{}:/data", zeroes.display());
    let run = crannog(&["-m", "32M", "-v", &volume, "--debs", "busybox-static", "--", "/bin/busybox", "true"]);
    assert_ne!(run.status, 0);
    assert_ne!(run.status, 124, "{}", run.stderr);
}

#[test]
fn twelve_mebibytes_are_enough_for_a_shell() {
    let line = "echo $((6 * 7)) | cat; for i in 1 2 3; do (exit $i); done; echo $?";
    crannog(&["--quiet", "-m", "12M", "--debs", "busybox-static", "--", "/bin/busybox", "sh", "-c", line])
        .expect(0)
        .prints("42\n3\n");
}

/// Kernel, device tree and archive put into memory by hand, with a first instruction of our own: QEMU would refuse a damaged tree.
fn boot_with_tree(scratch: &Scratch, tree: &[u8]) -> End {
    const KERNEL: u64 = 0x4028_0000;
    const TREE: u64 = 0x4700_0000;
    const START: u64 = 0x47f0_0000;
    let mut start = Vec::new();
    // ldr x0, tree; ldr x1, kernel; br x1
    for word in [0x5800_0080u32, 0x5800_00a1, 0xd61f_0020, 0xd503_201f] {
        start.extend(word.to_le_bytes());
    }
    start.extend(TREE.to_le_bytes());
    start.extend(KERNEL.to_le_bytes());
    let kernel = scratch.path("pair/Image");
    let load = |path: &Path, at: u64| format!("loader,file={},addr={at:#x},force-raw=on", path.display());
    let words = [
        load(&kernel, KERNEL),
        load(&scratch.write("tree", tree), TREE),
        load(&scratch.write("start", &start), START),
        load(&scratch.path("pair/initramfs.cpio"), 0x4800_0000),
        format!("loader,addr={START:#x},cpu-num=0"),
    ];
    let mut all = vec!["-m", "256M"];
    for word in &words {
        all.extend(["-device", word]);
    }
    qemu(scratch, &all, Duration::from_secs(15))
}

/// The device tree that QEMU makes for what `boot_with_tree` starts.
fn tree_of_qemu(scratch: &Scratch) -> Vec<u8> {
    build(scratch, &[], "pair");
    let (kernel, initrd) = (scratch.path("pair/Image"), scratch.path("pair/initramfs.cpio"));
    let dump = scratch.path("dump");
    let status = Command::new("qemu-system-aarch64")
        .args(["-M", &format!("virt,dumpdtb={}", dump.display()), "-cpu", "cortex-a72", "-m", "256M", "-nic", "none"])
        .args(["-display", "none", "-serial", "null", "-serial", "null", "-kernel"])
        .arg(&kernel)
        .arg("-initrd")
        .arg(&initrd)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let mut tree = std::fs::read(&dump).unwrap();
    let size = u32::from_be_bytes(tree[4..8].try_into().unwrap()) as usize;
    tree.truncate(size);
    tree
}

/// `tree` with other bytes in the place of some that are there.
fn replace(tree: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut tree = tree.to_vec();
    let places: Vec<_> = tree.windows(old.len()).enumerate().filter(|(_, at)| *at == old).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "not in the tree");
    places.into_iter().for_each(|at| tree[at..at + new.len()].copy_from_slice(new));
    tree
}

/// A `reg` of two cells each.
fn reg(address: u64, len: u64) -> Vec<u8> {
    [address.to_be_bytes(), len.to_be_bytes()].concat()
}

#[test]
fn registers_that_a_tree_puts_over_memory_or_other_registers_are_left_alone() {
    let scratch = Scratch::new("lies");
    let tree = tree_of_qemu(&scratch);
    let over_memory = replace(&tree, &reg(0x901_0000, 0x1000), &reg(0x4800_0000, 0x1000));
    let lies = replace(&over_memory, &reg(0xa00_3e00, 0x200), &reg(0x800_0100, 0x200));
    let end = boot_with_tree(&scratch, &lies);
    works(&end);
    assert!(end.log.contains("pl031@9010000: registers 0x48000000+0x1000 left alone: Ram"), "{}", end.log);
    assert!(end.log.contains("virtio_mmio@a003e00: registers 0x8000100+0x200 left alone: Taken"), "{}", end.log);
}

#[test]
fn a_generic_uart_is_a_console() {
    let scratch = Scratch::new("sbsa");
    let tree = tree_of_qemu(&scratch);
    let generic = replace(&tree, b"arm,pl011\0arm,primecell\0", b"arm,sbsa-uart\0x,nothing\0");
    works(&boot_with_tree(&scratch, &generic));
}

#[test]
fn damaged_device_trees() {
    let scratch = Scratch::new("tree");
    let tree = tree_of_qemu(&scratch);
    works(&boot_with_tree(&scratch, &tree));
    let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap()) as usize;
    let (structure, strings) = (word(8), word(12));
    let set = |at: usize, value: u32| {
        let mut bad = tree.clone();
        bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
        bad
    };
    // Trees that are none: the machine says so and stops, or runs without one as far as it gets.
    for (what, bad) in [
        ("the structure block far away", set(8, 0x7fff_fff0)),
        ("the strings far away", set(12, 0xffff_ff00)),
        ("an unknown token", set(structure, 0x1234_5678)),
        ("a node that never ends", set(structure + word(36) - 4, 4)),
        ("a property longer than the tree", set(structure + 12, 0x7fff_ffff)),
    ] {
        let end = boot_with_tree(&scratch, &bad);
        let text = format!("{}{}", end.console, end.log);
        assert!(text.contains("device tree is damaged") || text.contains("it works"), "{what}: {text}");
    }
    // One bit here and there: it boots, or says something; it is never silent and never a fault of the kernel's own.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..40 {
        let mut bad = tree.clone();
        for _ in 0..1 + round % 3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = structure + (state >> 16) as usize % (strings.max(structure + 1) - structure);
            let at = at.min(bad.len() - 1);
            bad[at] ^= 1 << (state & 7);
        }
        let end = boot_with_tree(&scratch, &bad);
        let text = format!("{}{}", end.console, end.log);
        assert!(end.by_itself || !text.is_empty(), "round {round}: silent");
        // Registers where nothing is answer with an external abort, and no one can tell before.
        let nothing_there = text.contains("esr 96000010");
        for fault in ["kernel fault", "index out of bounds", "with overflow", "unwrap"] {
            assert!(nothing_there || !text.contains(fault), "round {round}: {text}");
        }
    }
}
