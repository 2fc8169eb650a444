//! A machine that runs out of memory, really and by fault injection, goes on.

use machine_tests::{artifacts, crannog_with_limit};

fn abi() -> String {
    artifacts().join("abi").display().to_string()
}

/// The ABI family that makes each kind of object until it is refused.
fn filled(cpus: &str) {
    let run = crannog_with_limit(900, &["-m", "64M", "--cpus", cpus, "--", &abi(), "exhaust"], b"");
    let run = run.expect(0);
    assert!(run.stdout.contains(" passed, 0 failed"), "{}", run.stdout);
}

#[test]
fn one_cpu_is_filled_with_every_kind_of_object() {
    filled("1");
}

/// With several CPUs the OOM killer is now and then faster than the refusal (seen with message queues).
#[test]
#[ignore = "not always: the OOM killer may come first"]
fn four_cpus_are_filled_with_every_kind_of_object() {
    filled("4");
}

/// All ABI tests while allocations of theirs are refused: what they report does not matter, but they all come to an end, nothing hangs
/// in the kernel, and what they leave behind is bounded.
fn faults(option: &str) {
    let line = "for round in 1 2; do /abi -f >/tmp/log 2>&1; tail -n 1 /tmp/log; grep MemAvailable /proc/meminfo; done; /abi eventfd";
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
    let (volume, option) = (format!("{}:/abi", abi()), format!("--kernel-arg={option}"));
    let arguments =
        ["-m", "512M", "--net", "none", &option, "-v", &volume, "--recipe", recipe, "--", "/bin/sh", "-c", line];
    let run = crannog_with_limit(1800, &arguments, b"").expect(0);
    let free: Vec<i64> = run
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok())
        .collect();
    assert_eq!(free.len(), 2, "{}", run.stdout);
    assert!(free[0] - free[1] < 8192, "{free:?} KiB are available after each round");
}

#[test]
#[ignore = "takes many minutes"]
fn every_hundredth_allocation_is_refused() {
    faults("failslab=100,100,0,-1");
}

#[test]
#[ignore = "takes many minutes"]
fn every_seventh_allocation_is_refused() {
    faults("failslab=7,100,0,-1");
}

#[test]
#[ignore = "takes many minutes"]
fn allocations_are_refused_at_random() {
    faults("failslab=1,3,0,-1");
}
