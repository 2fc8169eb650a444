//! Machines: every kind that must boot, bad input, and a machine under pressure.

use machine_tests::{crannog, shell};

#[test]
fn cpu_models() {
    for model in ["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "max"] {
        shell(&["--cpu", model], "echo ok").expect(0).prints("ok\n");
    }
}

#[test]
fn cpu_counts() {
    for count in ["1", "2", "4", "8"] {
        shell(&["--cpus", count], "grep -c ^processor /proc/cpuinfo").expect(0).prints(&format!("{count}\n"));
    }
}

#[test]
fn memory_sizes() {
    for size in ["32M", "64M", "1G", "8G"] {
        shell(&["-m", size], "echo ok").expect(0).prints("ok\n");
    }
}

#[test]
fn interrupt_controllers_and_exception_levels() {
    for machine in
        ["virt,gic-version=2", "virt,gic-version=3", "virt,virtualization=on", "virt,gic-version=3,virtualization=on"]
    {
        shell(&["--machine", machine, "--cpus", "2"], "echo ok").expect(0).prints("ok\n");
    }
}

#[test]
fn a_missing_init_is_named() {
    let run = crannog(&["--kernel-arg", "rdinit=/nowhere", "--debs", "busybox-static", "--", "/bin/busybox"]);
    let run = run.expect(101).says("/nowhere");
    // The panic's report: a backtrace with names, and every task.
    let run = run.says("kernel panic on CPU 0").says("kernel::init::finish_boot").says("current: tid 1 (init)");
    run.says("tid     1 pid     1 R init");
}

#[test]
fn pipelines_and_job_control() {
    shell(&["--cpus", "4"], "seq 1 1000 | sort -rn | head -n 1; sleep 0.2 & wait $!; echo $?")
        .expect(0)
        .prints("1000\n0\n");
}

#[test]
fn fork_storm_leaves_nothing_behind() {
    let line = "i=0; while [ $i -lt 300 ]; do /bin/busybox true; i=$((i+1)); done; echo done";
    shell(&["--cpus", "4", "-m", "64M"], line).expect(0).prints("done\n");
}

/// The ABI tests' program with these words, on 4 CPUs.
fn storm(memory: &str, options: &[&str], words: &[&str]) -> machine_tests::Run {
    let abi = machine_tests::artifacts().join("abi");
    let mut arguments = vec!["--quiet", "--cpus", "4", "-m", memory];
    arguments.extend(options);
    arguments.extend(["--", abi.to_str().unwrap()]);
    arguments.extend(words);
    crannog(&arguments)
}

#[test]
fn a_fork_bomb_ends_in_eagain_and_leaves_nothing_behind() {
    for memory in ["64M", "256M"] {
        storm(memory, &[], &["--storm bomb"]).expect(0).prints("fork: errno 11\nthe machine lives\n");
        storm(memory, &[], &["--storm zombies"]).expect(0).prints("fork: errno 11\nthe machine lives\n");
    }
}

/// Ten minutes; `cargo test -p machine-tests -- --ignored storms` runs it.
#[test]
#[ignore = "takes ten minutes"]
fn storms_for_ten_minutes() {
    let run = storm("512M", &["--timeout", "1500", "-e", "ROUNDS=6000"], &["storm::"]).expect(0);
    assert!(run.stdout.contains("0 failed"), "{}", run.stdout);
}

#[test]
fn a_memory_hog_is_killed_and_the_machine_lives() {
    let line = "(tail /dev/zero) 2>/dev/null; echo status $?";
    let run = shell(&["-m", "64M"], line).expect(0);
    assert!(run.stdout.ends_with("status 137\n"), "{}", run.stdout);
}

/// What a process leaves in the kernel's own memory shows after some thousands.
#[test]
fn processes_leave_no_kernel_memory_behind() {
    let line = "forks() { i=0; while [ $i -lt 2000 ]; do (:); /bin/busybox true; i=$((i+1)); done; }; \
                slab() { sed -n 's/^Slab: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }; \
                forks; before=$(slab); forks; echo $(($(slab) - before))";
    let run = shell(&[], line).expect(0);
    let grown: i64 = run.stdout.trim().parse().unwrap();
    assert!(grown < 128, "{grown} KiB more after 4000 processes");
}

#[test]
fn the_kernel_file_is_small() {
    let bytes = std::fs::metadata(machine_tests::artifacts().join("Image")).unwrap().len();
    assert!(bytes <= 2_726_297, "{bytes} bytes");
}
