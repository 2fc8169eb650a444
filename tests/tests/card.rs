//! SD card images: built, looked into, written to cards, damaged, and booted.

use machine_tests::{Run, artifacts};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory that goes away with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crannog-card-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    /// Stand-ins for firmware and device trees: what the tool looks at is right, the rest is nothing.
    fn firmware(&self) -> String {
        for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", "LICENCE.broadcom"] {
            fs::write(self.0.join(name), format!("not really {name}\n")).unwrap();
        }
        let mut tree = vec![0; 100];
        tree[..4].copy_from_slice(&0xd00d_feedu32.to_be_bytes());
        tree[4..8].copy_from_slice(&100u32.to_be_bytes());
        for name in ["bcm2837-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb"] {
            fs::write(self.0.join(name), &tree).unwrap();
        }
        self.0.to_str().unwrap().to_string()
    }

    /// A card that needs nothing from outside, with these options; answers its path.
    fn card(&self, options: &[&str]) -> String {
        let (firmware, recipe, card) = (self.firmware(), self.path("recipe.toml"), self.path("card.img"));
        fs::write(&recipe, "tools = true\n").unwrap();
        let mut arguments = vec!["build", "--target", "rpi", "--firmware", &firmware, "--device-trees", &firmware];
        arguments.extend(options);
        arguments.extend([recipe.as_str(), "-o", &card]);
        tool(&arguments).expect(0);
        card
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tool(arguments: &[&str]) -> Run {
    let output = Command::new(artifacts().join("crannog"))
        .args(arguments)
        .env("CRANNOG_ARTIFACTS", artifacts())
        .stdin(Stdio::null())
        .output()
        .expect("the host tool starts");
    Run {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The tool refuses, in one line that contains `text`.
#[track_caller]
fn refused(arguments: &[&str], text: &str) {
    let run = tool(arguments).expect(125).says(text);
    assert!(run.stderr.lines().count() == 1 && run.stderr.starts_with("crannog: "), "{}", run.stderr);
}

/// An empty file of `bytes`, to be written like a card.
fn blank(path: &str, bytes: u64) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let place = Place::new("same");
    let card = place.card(&["--xz", "--bmap"]);
    let read = || ["img.xz", "img.bmap"].map(|ending| fs::read(Path::new(&card).with_extension(ending)).unwrap());
    let first = read();
    place.card(&["--xz", "--bmap"]);
    assert!(read() == first);
}

#[test]
fn what_is_on_a_card() {
    let place = Place::new("content");
    let card = place.card(&["--sha256", "--manifest", "--size", "128M"]);
    assert_eq!(fs::metadata(&card).unwrap().len(), 128 << 20);
    let out = place.path("out");
    let run = tool(&["inspect", &card, "-x", &out]).expect(0);
    for line in [
        "bootcode.bin",
        "LICENCE.broadcom",
        "initramfs: initramfs.cpio at 0x8000000",
        "starts: raspi3b",
        "starts: raspi4b",
    ] {
        assert!(run.stdout.contains(line), "no {line} in\n{}", run.stdout);
    }
    let kernel = fs::read(Path::new(&out).join("kernel8.img")).unwrap();
    assert!(kernel == fs::read(artifacts().join("Image")).unwrap());
    let config = fs::read_to_string(Path::new(&out).join("config.txt")).unwrap();
    assert!(config.contains("\ninitramfs initramfs.cpio 0x08000000\n"), "{config}");
    assert_eq!(fs::read_to_string(Path::new(&out).join("cmdline.txt")).unwrap().lines().count(), 1);
    let sum = fs::read_to_string(format!("{card}.sha256")).unwrap();
    let manifest = fs::read_to_string(format!("{card}.json")).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    assert!(sum.len() == 64 && manifest.contains(sum) && manifest.contains("pi4-64bit"), "{manifest}");
}

#[test]
fn the_firmwares_overlays_come_along() {
    let place = Place::new("overlays");
    fs::create_dir(place.path("overlays")).unwrap();
    for name in ["disable-bt.dtbo", "i2c-rtc.dtbo", "overlay_map.dtb", "notes.txt"] {
        fs::write(Path::new(&place.path("overlays")).join(name), name).unwrap();
    }
    let (card, out) = (place.card(&[]), place.path("out"));
    let run = tool(&["inspect", &card, "-x", &out]).expect(0);
    for line in ["overlays/disable-bt.dtbo", "overlays/i2c-rtc.dtbo", "overlays/overlay_map.dtb"] {
        assert!(run.stdout.contains(line), "no {line} in\n{}", run.stdout);
    }
    assert!(!run.stdout.contains("notes.txt"), "{}", run.stdout);
    let config = fs::read_to_string(Path::new(&out).join("config.txt")).unwrap();
    assert!(config.contains("\ndtoverlay=disable-bt\n"), "{config}");
}

#[test]
fn what_cannot_be_built_is_told() {
    let place = Place::new("wrong");
    let (firmware, recipe, card) = (place.firmware(), place.path("recipe.toml"), place.path("card.img"));
    let build = |options: &[&str], text: &str| {
        let mut arguments = vec!["build", "--target", "rpi", &recipe, "-o", &card, "--device-trees", &firmware];
        arguments.extend(options);
        refused(&arguments, text);
    };
    build(&["--firmware", &firmware], "recipe.toml: No such file");
    fs::write(&recipe, "tools = true\n").unwrap();
    build(&["--firmware", "/no/such"], "/no/such: no such directory");
    build(&["--firmware", &firmware, "--size", "100M"], "power of two");
    build(&["--firmware", &firmware, "--size", "32M"], "at least 64 MiB");
    fs::remove_file(place.path("LICENCE.broadcom")).unwrap();
    build(&["--firmware", &firmware], "licence");
    fs::remove_file(place.path("start4.elf")).unwrap();
    build(&["--firmware", &firmware], "no start4.elf");
    refused(&["build", &recipe, "-o", &card, "--xz"], "--xz goes with --target rpi");
    assert!(!Path::new(&card).exists(), "nothing is left of what failed");
}

#[test]
fn damaged_images_are_told_in_one_line() {
    let place = Place::new("damaged");
    let card = place.card(&["--bmap"]);
    let good = fs::read(&card).unwrap();
    let bad = place.path("bad.img");
    for end in [0, 1, 511, 512, 4 << 20, (4 << 20) + 600, 5 << 20, good.len() - 1] {
        fs::write(&bad, &good[..end]).unwrap();
        refused(&["inspect", &bad], "bad.img: ");
        refused(&["flash", &bad, &card, "--yes"], "bad.img: ");
    }
    // The partition table, the boot sector, the first of the tables' sectors and the root directory, each overwritten.
    let start = 4 << 20;
    let tables = u32::from_le_bytes(good[start + 36..start + 40].try_into().unwrap()) as usize;
    let directory = start + (8 + 2 * tables) * 512;
    assert_eq!(&good[directory..directory + 11], b"CRANNOG    ");
    for (at, length) in [(446, 66), (start, 90), (start + 8 * 512, 512), (directory, 512)] {
        let mut image = good.clone();
        image[at..at + length].fill(0x3c);
        fs::write(&bad, &image).unwrap();
        refused(&["inspect", &bad], "bad.img: ");
    }
    // A block map of another image, and an image that is not its block map's.
    let blank_card = place.path("blank");
    blank(&blank_card, 64 << 20);
    let mut image = good.clone();
    image[5 << 20] ^= 1;
    fs::write(&bad, &image).unwrap();
    refused(&["flash", &bad, &blank_card, "--yes", "--bmap", &format!("{card}.bmap")], "not what its block map says");
    fs::write(place.path("bad.img.bmap"), "<bmap/>").unwrap();
    refused(&["flash", &bad, &blank_card, "--yes"], "bad.img.bmap: no ImageSize");
    assert!(fs::read(&blank_card).unwrap().iter().all(|byte| *byte == 0), "nothing is written before all is checked");
}

#[test]
fn flashing_a_file_with_and_without_map_and_compression() {
    let place = Place::new("flash");
    let card = place.card(&["--bmap"]);
    let image = fs::read(&card).unwrap();
    let target = place.path("target");
    blank(&target, 80 << 20);
    let run = tool(&["flash", &card, &target, "--yes"]).expect(0);
    assert!(run.stdout.contains("and equal"), "{}", run.stdout);
    assert!(fs::read(&target).unwrap()[..image.len()] == image, "all that matters is there");
    // Without the map every block is written: old bytes behind the used part go.
    fs::write(&target, vec![0xaa; 80 << 20]).unwrap();
    tool(&["flash", &card, &target, "--yes", "--no-bmap"]).expect(0);
    let written = fs::read(&target).unwrap();
    assert!(written[..image.len()] == image && written[image.len()..].iter().all(|byte| *byte == 0xaa));
    place.card(&["--xz", "--bmap"]);
    fs::remove_file(&card).unwrap();
    blank(&target, 0);
    blank(&target, 64 << 20);
    tool(&["flash", &format!("{card}.xz"), &target, "--yes"]).expect(0);
    assert!(fs::read(&target).unwrap() == image);
    tool(&["inspect", &format!("{card}.xz")]).expect(0);
}

#[test]
fn what_must_not_be_written_is_refused() {
    let place = Place::new("refuse");
    let card = place.card(&[]);
    let small = place.path("small");
    blank(&small, 10 << 20);
    refused(&["flash", &card, &small, "--yes"], "too small: it has 10 MiB, the image 64 MiB");
    refused(&["flash", &card, "/dev/no-such-disk", "--yes"], "no such device");
    refused(&["flash", &card, "/dev/null", "--yes"], "not a disk");
    refused(&["flash", &card, "/tmp", "--yes"], "not a disk");
    refused(&["flash", "/no/such.img", &small, "--yes"], "no such file");
    refused(&["flash", artifacts().join("Image").to_str().unwrap(), &small, "--yes"], "not a card image");
    blank(&small, 64 << 20);
    refused(&["flash", &card, &small], "--yes says so");
    // The disk below this very system, where there is one.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).and_then(|line| line.split(' ').next());
    match root.filter(|root| root.starts_with("/dev/") && Path::new(root).exists()) {
        Some(root) => refused(&["flash", &card, root, "--yes", "--fixed"], root),
        None => eprintln!("skipped: the root file system here is on no disk"),
    }
}

/// A loop device on `file`, or why there is none.
fn loop_device(file: &str) -> Result<String, String> {
    let output = Command::new("losetup").args(["-f", "--show", file]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
    }
}

#[test]
fn flashing_a_loop_device() {
    let place = Place::new("loop");
    let card = place.card(&["--bmap"]);
    let disk = place.path("disk");
    blank(&disk, 128 << 20);
    let device = match loop_device(&disk) {
        Ok(device) => device,
        Err(why) => return eprintln!("skipped: no loop devices here: {why}"),
    };
    let run = tool(&["flash", &card, &device, "--yes"]);
    let written = fs::read(&disk).unwrap();
    // While it is mounted it is refused.
    let mount = place.path("mount");
    fs::create_dir(&mount).unwrap();
    let succeeds = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let mounted = succeeds(Command::new("mke2fs").args(["-q", "-F", &device]))
        && succeeds(Command::new("mount").args([&device, &mount]));
    let busy = mounted.then(|| tool(&["flash", &card, &device, "--yes"]));
    if mounted {
        let _ = Command::new("umount").arg(&mount).status();
    }
    let _ = Command::new("losetup").args(["-d", &device]).status();
    run.expect(0);
    assert!(written[..64 << 20] == fs::read(&card).unwrap());
    match busy {
        Some(busy) => drop(busy.expect(125).says(&format!("is mounted on {mount}; umount"))),
        None => eprintln!("skipped: no file system can be made and mounted here"),
    }
}

/// Boots what a board would load from `card` in QEMU's `machine`, with the card in its slot; answers what the serial line said.
fn boot_from(card: &str, out: &str, machine: &str, device_tree: &str) -> String {
    let read = |name: &str| fs::read_to_string(Path::new(out).join(name)).unwrap();
    let path = |name: &str| Path::new(out).join(name).to_str().unwrap().to_string();
    // timeout(1) ends a machine that does not end.
    let output = Command::new("timeout")
        .args([
            "-k",
            "5",
            "120",
            "qemu-system-aarch64",
            "-M",
            machine,
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
        ])
        .args(["-serial", "stdio", "-kernel", &path("kernel8.img"), "-dtb", &path(device_tree)])
        .args(["-initrd", &path("initramfs.cpio"), "-append", read("cmdline.txt").trim()])
        .args(["-drive", &format!("if=sd,format=raw,snapshot=on,file={card}")])
        .stdin(Stdio::null())
        .output()
        .expect("QEMU starts");
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{machine}: {}\n--- serial\n{said}\n--- QEMU\n{errors}", output.status);
    said
}

#[test]
fn a_card_boots_on_both_boards() {
    let place = Place::new("boot");
    let (recipe, card, out) = (place.path("recipe.toml"), place.path("card.img"), place.path("out"));
    let command = "echo from the card of $(uname -m) with $(nproc) CPUs; exit 42";
    let text = format!("debs = [\"busybox-static\"]\nbusybox = true\ncommand = [\"/bin/sh\", \"-c\", \"{command}\"]\n");
    fs::write(&recipe, text).unwrap();
    tool(&["build", "--target", "rpi", &recipe, "-o", &card]).expect(0);
    tool(&["inspect", &card, "--extract", &out]).expect(0);
    for (machine, device_tree) in [("raspi3b", "bcm2837-rpi-3-b.dtb"), ("raspi4b", "bcm2711-rpi-4-b.dtb")] {
        let said = boot_from(&card, &out, machine, device_tree);
        assert!(said.contains("\nfrom the card of aarch64 with 4 CPUs\n"), "{machine}: {said}");
        assert!(said.contains("[crannog] exit 42"), "{machine}: {said}");
    }
}
