//! A Raspberry Pi's own ways, in QEMU started by hand: activity LED, `panic=`, reset and power-off by the watchdog, exit status by
//! semihosting, cores that come early, late or too late.

use machine_tests::machine::{Monitor, Running, Scratch};
use machine_tests::{artifacts, crannog};
use std::process::Command;
use std::time::{Duration, Instant};

const BOARDS: [&str; 2] = ["raspi3b", "raspi4b"];
const LIMIT: Duration = Duration::from_secs(90);

/// A kernel and an initramfs whose program is a line of shell.
struct Pair {
    scratch: Scratch,
}

impl Pair {
    fn new(name: &str, line: &str) -> Self {
        let scratch = Scratch::new(name);
        let text =
            format!("debs = [\"busybox-static\"]\nbusybox = true\ncommand = [\"/bin/sh\", \"-c\", \"{line}\"]\n");
        let recipe = scratch.write("recipe.toml", text.as_bytes());
        let mut command = Command::new(artifacts().join("crannog"));
        command.arg("build").arg(recipe).arg("-o").arg(scratch.path("pair")).env("CRANNOG_ARTIFACTS", artifacts());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { scratch }
    }
    fn kernel(&self) -> String {
        self.scratch.path("pair/Image").display().to_string()
    }
    /// Starts `board`, the log on its second port, with these words behind the command line and these for QEMU.
    fn start(&self, board: &str, tree: Option<&str>, append: &str, words: &[&str]) -> Running {
        self.start_kernel(&self.kernel(), board, tree, append, words)
    }
    fn start_kernel(&self, kernel: &str, board: &str, tree: Option<&str>, append: &str, words: &[&str]) -> Running {
        let initrd = self.scratch.path("pair/initramfs.cpio").display().to_string();
        let append = format!("log=ttyS1 {append}");
        let mut all = vec!["-M", board, "-kernel", kernel, "-initrd", &initrd, "-append", &append];
        if let Some(tree) = tree {
            all.extend(["-dtb", tree]);
        }
        all.extend(words);
        Running::start(&self.scratch, &all)
    }
}

/// The board's device tree, fetched by the tool if need be.
fn tree(board: &str) -> String {
    let abi = artifacts().join("abi");
    let run = crannog(&["--machine", board, "--dry-run", "--", abi.to_str().unwrap()]).expect(0);
    let mut words = run.stdout.split_whitespace().skip_while(|word| *word != "-dtb");
    words.nth(1).expect("a device tree").to_string()
}

/// How often of a hundred looks the LED of a raspi4b was lit, and how often it had changed.
fn watch_led(monitor: &mut Monitor) -> (u32, u32) {
    /// GPLEV1, and GPIO 42 in it.
    const LEVELS: (u64, u32) = (0xfe20_0038, 10);
    let (mut lit, mut changes, mut last) = (0, 0, None);
    for _ in 0..100 {
        let now = monitor.word(LEVELS.0) >> LEVELS.1 & 1;
        lit += now;
        changes += u32::from(last.is_some_and(|last| last != now));
        last = Some(now);
        std::thread::sleep(Duration::from_millis(30));
    }
    (lit, changes)
}

#[test]
fn the_led_beats_while_the_kernel_runs_and_blinks_after_a_panic() {
    let pair = Pair::new("led", "echo up; sleep 600");
    for tree in [Some(tree("raspi4b")), None] {
        let mut running = pair.start("raspi4b", tree.as_deref(), "", &[]);
        assert!(running.wait_until(LIMIT, |running| running.console().contains("up")), "{}", running.log());
        let (lit, changes) = watch_led(&mut running.monitor());
        // Two short beats in a second and a half.
        assert!((1..45).contains(&lit) && changes >= 2, "heart: lit {lit}, changes {changes}");
        drop(running);
        // Without panic= a board stays, for somebody to see it.
        let mut running = pair.start("raspi4b", tree.as_deref(), "rdinit=/nowhere", &[]);
        assert!(running.wait_until(LIMIT, |running| running.log().contains(PANICKED)), "{}", running.log());
        let (lit, changes) = watch_led(&mut running.monitor());
        assert!((25..75).contains(&lit) && changes >= 8, "panic: lit {lit}, changes {changes}");
        assert!(!running.has_ended());
    }
}

/// The firmware of QEMU's raspi3b has no GPIO expander, on which that board's LED hangs.
#[test]
fn an_led_that_cannot_be_driven_is_told_and_hinders_nothing() {
    let abi = artifacts().join("abi");
    let run = crannog(&["--machine", "raspi3b", "--", abi.to_str().unwrap(), "wild::"]).expect(0);
    run.says("activity LED: Expander(130) cannot be driven here");
}

const PANICKED: &str = "[crannog] panic";

/// The machine panics; answers whether it ends by itself within `limit` from then on, and how long that took.
#[track_caller]
fn ends_after_panic(mut running: Running, limit: Duration) -> Option<Duration> {
    assert!(running.wait_until(LIMIT, |running| running.log().contains(PANICKED)), "{}", running.log());
    let panicked = Instant::now();
    running.finish(limit).by_itself.then(|| panicked.elapsed())
}

#[test]
fn panic_option_says_what_follows() {
    let pair = Pair::new("panic", "true");
    let short = Duration::from_secs(3);
    for board in BOARDS {
        let run = |append: &str| pair.start(board, None, &format!("rdinit=/nowhere {append}"), &["-no-reboot"]);
        assert!(ends_after_panic(run("panic=-1"), LIMIT).is_some(), "{board}");
        let waited = ends_after_panic(run("panic=4"), LIMIT).expect("an end");
        assert!(waited > Duration::from_secs(2), "{board}: {waited:?}");
        assert!(ends_after_panic(run("panic=0"), short).is_none(), "{board}");
        assert!(ends_after_panic(run(""), short).is_none(), "{board}");
    }
    // The virtual machine is switched off when nothing is said.
    let words = ["-cpu", "cortex-a72", "-nic", "none", "-no-reboot"];
    let virt = |append: &str| pair.start("virt", None, &format!("rdinit=/nowhere {append}"), &words);
    assert!(ends_after_panic(virt(""), LIMIT).is_some());
    assert!(ends_after_panic(virt("panic=1"), LIMIT).is_some());
    assert!(ends_after_panic(virt("panic=0"), short).is_none());
}

#[test]
fn the_watchdog_resets_and_switches_off() {
    let (reboot, off) = (Pair::new("reboot", "echo up; reboot -f"), Pair::new("off", "echo up; poweroff -f"));
    for (board, tree) in BOARDS.into_iter().zip([Some(tree(BOARDS[0])), None]) {
        let mut running = reboot.start(board, tree.as_deref(), "", &[]);
        let ups = |running: &Running| running.console().matches("up").count();
        assert!(running.wait_until(LIMIT, |running| ups(running) >= 2), "{board}: {}", running.log());
        drop(running);
        let end = reboot.start(board, tree.as_deref(), "", &["-no-reboot"]).finish(LIMIT);
        assert!(end.by_itself && end.status == Some(0) && end.console.matches("up").count() == 1, "{board}: {end:?}");
        // Without -no-reboot: what ends QEMU is the power, not a reset.
        let end = off.start(board, tree.as_deref(), "", &[]).finish(LIMIT);
        assert!(end.by_itself && end.status == Some(0) && end.console.matches("up").count() == 1, "{board}: {end:?}");
    }
}

#[test]
fn a_host_that_listens_by_semihosting_hears_the_exit_status() {
    let words = ["-semihosting-config", "enable=on,target=native"];
    for (line, append, status) in
        [("exit 42", "", 42), ("kill -KILL $$", "", 137), ("true", "rdinit=/no panic=-1", 101)]
    {
        let pair = Pair::new("semihosting", line);
        for board in BOARDS {
            let end = pair.start(board, None, &format!("semihosting {append}"), &words).finish(LIMIT);
            assert_eq!(end.status, Some(status), "{board}: {end:?}");
        }
    }
}

/// Instructions, and where their operands are encoded.
mod arm64 {
    pub const fn branch(from: usize, to: usize) -> u32 {
        0x1400_0000 | ((to as i64 - from as i64) / 4) as u32 & 0x03ff_ffff
    }
    /// cbz x2
    pub const fn branch_if_x2_is_0(from: usize, to: usize) -> u32 {
        0xb400_0002 | (((to as i64 - from as i64) / 4) as u32 & 0x7ffff) << 5
    }
    /// adr x1
    pub const fn address_in_x1(from: usize, to: usize) -> u32 {
        let delta = (to as i64 - from as i64) as u32;
        0x1000_0001 | (delta & 3) << 29 | (delta >> 2 & 0x7ffff) << 5
    }
    /// str x1, [x3, #offset]; the boot protocol has 0 in x3.
    pub const fn store_x1_at(offset: u32) -> u32 {
        0xf900_0061 | (offset / 8) << 10
    }
    /// mrs x2, cntvct_el0
    pub const COUNTER_IN_X2: u32 = 0xd53b_e042;
    /// lsr x2, x2, #shift
    pub const fn shift_x2_right(shift: u32) -> u32 {
        0xd340_fc42 | shift << 16
    }
}

/// The second word of the header, which becomes a second entry: primary_entry's.
const ENTRY: usize = 4;
/// The header's words from its flags to its magic number, which QEMU does not look at.
const CODE: usize = 24;

/// The kernel file with code in its header that the first core runs before the kernel's own.
fn with_header_code(kernel: &str, code: &[u32]) -> Vec<u8> {
    let mut image = std::fs::read(kernel).unwrap();
    let mut put = |at: usize, word: u32| image[at..at + 4].copy_from_slice(&word.to_le_bytes());
    assert!(code.len() * 4 <= 56 - CODE);
    for (index, word) in code.iter().enumerate() {
        put(CODE + 4 * index, *word);
    }
    let first = u32::from_le_bytes(std::fs::read(kernel).unwrap()[..4].try_into().unwrap());
    assert_eq!(first >> 26, 0b000101, "the kernel file begins with a branch");
    put(ENTRY, first - (ENTRY / 4) as u32);
    put(0, arm64::branch(0, CODE));
    image
}

/// The release words of cores 1, 2 and 3.
const RELEASE: [u32; 3] = [0xe0, 0xe8, 0xf0];

/// All cores enter the kernel at its first instruction, as some loaders have it.
fn early_cores(kernel: &str) -> Vec<u8> {
    let mut code = vec![arm64::address_in_x1(CODE, ENTRY)];
    code.extend(RELEASE.map(arm64::store_x1_at));
    code.push(arm64::branch(CODE + 16, ENTRY));
    with_header_code(kernel, &code)
}

/// Core 1 leaves the firmware's loop at once, but enters the kernel only when the counter has reached 2^`bit`.
fn late_core(kernel: &str, bit: u32) -> Vec<u8> {
    let wait = CODE + 12;
    let code = [
        arm64::address_in_x1(CODE, wait),
        arm64::store_x1_at(RELEASE[0]),
        arm64::branch(CODE + 8, ENTRY),
        arm64::COUNTER_IN_X2,
        arm64::shift_x2_right(bit),
        arm64::branch_if_x2_is_0(wait + 8, wait),
        arm64::branch(wait + 12, ENTRY),
    ];
    with_header_code(kernel, &code)
}

#[test]
fn cores_may_come_early_and_late() {
    let line = "grep -c ^processor /proc/cpuinfo; for cpu in 0 1 2 3; do taskset $((1 << cpu)) echo on $cpu; done";
    let pair = Pair::new("cores", line);
    for (board, tree) in BOARDS.into_iter().zip([Some(tree(BOARDS[0])), None]) {
        // 2^27 of 62.5 MHz: two seconds.
        for kernel in [early_cores(&pair.kernel()), late_core(&pair.kernel(), 27)] {
            let kernel = pair.scratch.write("changed", &kernel).display().to_string();
            let end = pair.start_kernel(&kernel, board, tree.as_deref(), "", &["-no-reboot"]).finish(LIMIT);
            let console = end.console.replace('\r', "");
            assert!(end.by_itself && console.contains("4\non 0\non 1\non 2\non 3\n"), "{board}: {end:?}");
        }
    }
}

#[test]
fn a_core_that_comes_too_late_is_done_without() {
    // 2^30 of 62.5 MHz is 17 s; the kernel waits for 5. The program is there when the core comes.
    let line = "nproc; for wait in 3 3 3 3 3; do sleep $wait; done; nproc; for cpu in 0 1 2; do taskset $((1 << cpu)) echo on $cpu; done";
    let pair = Pair::new("too-late", line);
    let kernel = pair.scratch.write("changed", &late_core(&pair.kernel(), 30)).display().to_string();
    let end = pair.start_kernel(&kernel, "raspi3b", None, "", &["-no-reboot"]).finish(LIMIT);
    let console = end.console.replace('\r', "");
    assert!(end.by_itself && console.contains("3\n3\non 0\non 1\non 2\n"), "{end:?}");
    assert!(end.log.contains("1 CPUs did not come up in time"), "{end:?}");
}

#[test]
fn absent_devices_are_a_message() {
    let abi = artifacts().join("abi");
    let arguments = ["--machine", "raspi4b", "--device-tree", "none", "--", abi.to_str().unwrap(), "wild::"];
    let run = crannog(&arguments).expect(0);
    run.says("iproc-rng200 at 0xfe104000: nothing answers there (external abort), left alone")
        .says("GENET at 0xfd580000: nothing answers there (external abort), left alone");
}
