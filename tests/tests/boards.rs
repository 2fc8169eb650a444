//! The Raspberry Pi 3 and 4 as QEMU has them: the same kernel, with the mainline device trees and with none.

use machine_tests::{artifacts, crannog, crannog_with, crannog_with_limit, shell};

const BOARDS: [&str; 2] = ["raspi3b", "raspi4b"];

#[test]
fn all_four_cores_come_up_with_a_device_tree_and_without() {
    for board in BOARDS {
        for tree in [&["--machine", board][..], &["--machine", board, "--device-tree", "none"]] {
            let line = "grep -c ^processor /proc/cpuinfo; for cpu in 0 1 2 3; do taskset -c $cpu echo on $cpu; done";
            shell(tree, line).expect(0).prints("4\non 0\non 1\non 2\non 3\n");
        }
    }
}

#[test]
fn exit_statuses_come_through() {
    for board in BOARDS {
        shell(&["--machine", board], "exit 0").expect(0).prints("");
        shell(&["--machine", board], "exit 42").expect(42);
        shell(&["--machine", board], "kill -KILL $$").expect(137);
        let missing =
            ["--machine", board, "--kernel-arg", "rdinit=/nowhere", "--debs", "busybox-static", "--", "/bin/sh"];
        crannog(&missing).expect(101).says("/nowhere");
        let endless =
            ["--machine", board, "--timeout", "5", "--debs", "busybox-static", "--", "/bin/busybox", "sleep", "99"];
        crannog(&endless).expect(124);
    }
}

#[test]
fn input_is_forwarded_byte_for_byte() {
    let bytes: Vec<u8> = (0..=255).cycle().take(9_000).collect();
    for board in BOARDS {
        let arguments = [
            "--quiet",
            "--machine",
            board,
            "--debs",
            "busybox-static",
            "--",
            "/bin/busybox",
            "od",
            "-An",
            "-v",
            "-tu1",
        ];
        let run = crannog_with(&arguments, &bytes).expect(0);
        let seen: Vec<u8> = run.stdout.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(seen == bytes, "{board}: {} bytes of {} came back", seen.len(), bytes.len());
    }
}

#[test]
fn the_log_has_a_port_of_its_own() {
    for board in BOARDS {
        let arguments = ["--machine", board, "--debs", "busybox-static", "--", "/bin/busybox", "echo", "here"];
        crannog(&arguments).expect(0).prints("here\n").says(" on 4 x Cortex-A");
    }
}

#[test]
fn the_board_says_who_it_is() {
    for (board, revision, model) in
        [("raspi3b", "a02082", "Raspberry Pi 3 Model B"), ("raspi4b", "b03115", "Raspberry Pi 4 Model B")]
    {
        let serial = "Serial\t\t: 0000000000000000";
        let text = format!("Revision\t: {revision}\n{serial}\nModel\t\t: {model}\n");
        shell(&["--machine", board], "tail -n 3 /proc/cpuinfo").expect(0).prints(&text);
        // Without a tree the model comes from the revision code, with its number.
        let run = shell(&["--machine", board, "--device-tree", "none"], "tail -n 1 /proc/cpuinfo").expect(0);
        assert!(run.stdout.starts_with(&format!("Model\t\t: {model} Rev 1.")), "{}", run.stdout);
    }
    let abi = artifacts().join("abi");
    let run = crannog(&["--machine", "raspi3b", "--", abi.to_str().unwrap(), "wild::"]).expect(0);
    run.says("Raspberry Pi 3 Model B, revision a02082, serial number 0000000000000000, Ethernet 52:54:00:12:34:56");
}

#[test]
fn the_hardware_random_number_generator_seeds_ours_and_can_be_read() {
    // raspi3b has one; raspi4b has none in QEMU; the virtual machine's is the host's.
    let line = "dd if=/dev/hwrng bs=100 count=1 2>/dev/null | wc -c";
    shell(&["--machine", "raspi3b"], line).expect(0).prints("100\n");
    shell(&[], line).expect(0).prints("100\n");
    shell(&["--machine", "raspi4b"], "dd if=/dev/hwrng bs=1 count=1 2>&1 | grep -c 'No such device'")
        .expect(0)
        .prints("1\n");
    let abi = artifacts().join("abi");
    let run = crannog(&["--machine", "raspi3b", "--", abi.to_str().unwrap(), "wild::"]).expect(0);
    run.says("bcm2835-rng: 64 bytes for the random number generator");
}

/// What leans on timers, wake-ups between cores and memory.
#[test]
fn abi_tests_pass() {
    let abi = artifacts().join("abi");
    for board in BOARDS {
        for family in ["futex::", "sched::", "signal::", "mm::"] {
            let run = crannog(&["--quiet", "--machine", board, "--", abi.to_str().unwrap(), family]).expect(0);
            assert!(run.stdout.contains(" 0 failed"), "{board}: {}", run.stdout);
        }
    }
}

#[test]
fn the_clock_is_set_and_a_board_is_as_it_is() {
    for board in BOARDS {
        shell(&["--machine", board], "test $(date +%Y) -ge 2025").expect(0);
        for (option, value, why) in [
            ("--cpus", "2", "4 CPUs"),
            ("-m", "3G", "of memory"),
            ("--cpu", "max", "own CPUs"),
            ("--net", "user", "no network card"),
        ] {
            let run = crannog(&["--machine", board, option, value, "--", artifacts().join("abi").to_str().unwrap()]);
            run.expect(125).says(why);
        }
    }
}

/// Every ABI test on both boards: some minutes; `cargo test -p machine-tests --test boards -- --ignored` runs it.
#[test]
#[ignore = "takes minutes"]
fn all_abi_tests_pass() {
    let abi = artifacts().join("abi");
    let run = |board: &str, tests: &[&str]| {
        let mut arguments = vec!["--quiet", "--machine", board, "--", abi.to_str().unwrap()];
        arguments.extend(tests);
        crannog_with_limit(1800, &arguments, b"")
    };
    for board in BOARDS {
        let first = run(board, &[]);
        let failed: Vec<&str> = first.stdout.lines().filter_map(|line| line.trim().strip_prefix("failed: ")).collect();
        let counts = first.stdout.lines().last().unwrap_or_default();
        eprintln!("{board}: {counts} {failed:?}");
        // An emulated machine on a busy host does not keep time: tests that measure it get one more run.
        assert!(failed.len() <= 3 && failed.iter().all(|test| test.starts_with("time::")), "{board}: {}", first.stdout);
        if failed.is_empty() {
            first.expect(0);
        } else {
            run(board, &failed).expect(0);
        }
    }
}
