//! Programs of many makes: C with glibc and musl, static and dynamic, Rust's standard library, and a compiler at work.

use machine_tests::programs::{compile, compile_with_musl, source};
use machine_tests::{Run, artifacts, crannog};
use std::path::Path;

fn run(program: &Path) -> Run {
    crannog(&["--quiet", "--cpus", "4", "--", program.to_str().unwrap()])
}

#[test]
fn c_threads_static() {
    let program = compile("threads", "static", &["-static"]);
    run(&program).expect(0).prints("threads: all well\n");
    std::fs::remove_file(program).unwrap();
}

#[test]
fn c_threads_dynamic_with_libraries_fetched() {
    let program = compile("threads", "dynamic", &[]);
    run(&program).expect(0).prints("threads: all well\n");
    std::fs::remove_file(program).unwrap();
}

#[test]
fn c_threads_static_musl() {
    let program = compile_with_musl("threads");
    run(&program).expect(0).prints("threads: all well\n");
    std::fs::remove_file(program).unwrap();
}

#[test]
fn rust_standard_library() {
    run(&artifacts().join("sample-std"))
        .expect(0)
        .prints("threads: 2 CPUs or more\nfiles: all well\nprocesses: all well\n");
}

#[test]
fn make_with_four_jobs() {
    let project = format!("{}:/src", source("project").display());
    let packages = "gcc,libc6-dev,make,dash,coreutils,diffutils";
    let command = ["/usr/bin/make", "-j4", "CC=gcc"];
    let mut arguments =
        vec!["--quiet", "-m", "1G", "--cpus", "4", "--debs", packages, "-v", &project, "-w", "/src", "--"];
    arguments.extend(command);
    let run = crannog(&arguments).expect(0);
    assert!(run.stdout.ends_with("./words one three two | diff - expected\n"), "{}", run.stdout);
}
