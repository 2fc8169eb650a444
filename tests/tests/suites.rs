//! Other people's test-suites and servers, unmodified, in the guest: the scripts in tests/suites. Long: `cargo test -- --ignored`.

use machine_tests::{Run, crannog_with_limit};

fn suite(packages: &str, options: &[&str], script: &str, arguments: &[&str]) -> Run {
    let volume = concat!(env!("CARGO_MANIFEST_DIR"), "/suites:/suites");
    let mut words = vec!["--quiet", "--debs", packages, "-v", volume];
    words.extend(options);
    let script = format!("/suites/{script}");
    words.extend(["--", "/bin/sh", &script]);
    words.extend(arguments);
    crannog_with_limit(600, &words, b"").expect(0)
}

/// Fails unless every line is an "ok".
#[track_caller]
fn all_ok(run: &Run, at_least: usize) {
    let ok = run.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(ok >= at_least && ok == run.stdout.lines().count(), "{}\n{}", run.stdout, run.stderr);
}

#[test]
fn postgresql() {
    let packages = "postgresql-15,util-linux,dash,coreutils";
    let run = suite(packages, &["-m", "3G", "--cpus", "4"], "postgres.sh", &["50"]);
    run.prints("ok initdb\nok start\nok psql 42\nok pgbench 400|t\nok stop\n");
}

#[test]
#[ignore = "half a minute, and it measures time"]
fn rt_tests() {
    all_ok(&suite("rt-tests,dash,coreutils", &["-m", "512M", "--cpus", "2"], "rt-tests.sh", &[]), 17);
}

#[test]
fn ipc_tools_of_util_linux() {
    all_ok(&suite("util-linux,grep,sed,dash,coreutils", &["-m", "512M"], "sysv.sh", &[]), 6);
}
