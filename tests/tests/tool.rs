//! The host tool: statuses, input and output, errors in one line.

use machine_tests::{artifacts, crannog, crannog_with, shell};

#[test]
fn exit_statuses_come_through() {
    shell(&[], "exit 0").expect(0).prints("");
    shell(&[], "exit 42").expect(42);
    shell(&[], "kill -TERM $$").expect(143);
    shell(&[], "kill -KILL $$").expect(137);
}

#[test]
fn a_missing_program_is_127() {
    crannog(&["--quiet", "--debs", "busybox-static", "--", "/no/such"]).expect(127);
}

#[test]
fn output_is_the_programs_alone() {
    shell(&[], "echo one; printf 'two\\r\\n'; echo three >&2").expect(0).prints("one\ntwo\r\nthree\n");
}

#[test]
fn the_kernel_log_goes_to_standard_error() {
    let run = crannog(&["--debs", "busybox-static", "--", "/bin/busybox", "true"]).expect(0).prints("");
    run.says("Crannog ");
}

#[test]
fn input_is_forwarded_byte_for_byte() {
    let mut bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    bytes.extend(b"last line without its end");
    let run =
        crannog_with(&["--quiet", "--debs", "busybox-static", "--", "/bin/busybox", "od", "-An", "-v", "-tu1"], &bytes)
            .expect(0);
    let seen: Vec<u8> = run.stdout.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(seen == bytes, "{} bytes of {} came back", seen.len(), bytes.len());
}

#[test]
fn environment_and_directory() {
    shell(&["-e", "COLOUR=green", "-w", "/tmp"], "echo $COLOUR; pwd").expect(0).prints("green\n/tmp\n");
}

#[test]
fn volumes_are_copied_in() {
    let path = std::env::temp_dir().join(format!("crannog-volume-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("note"), "here\n").unwrap();
    let volume = format!("{}:/data", path.display());
    shell(&["-v", &volume], "cat /data/note").expect(0).prints("here\n");
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_machine_that_does_not_end_is_ended() {
    let run =
        crannog(&["--quiet", "--timeout", "3", "--debs", "busybox-static", "--", "/bin/busybox", "sleep", "1000"]);
    run.expect(124);
}

#[test]
fn foreign_programs_are_named() {
    crannog(&["--", "/bin/true"]).expect(125).says("an x86-64 program");
    crannog(&["--", "/no/such/program"]).expect(125).says("no such file");
    crannog(&["--", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]).expect(125).says("not an ELF program");
}

#[test]
fn dry_run_prints_the_command() {
    let run =
        crannog(&["--dry-run", "--cpus", "3", "-m", "64M", "--debs", "busybox-static", "--", "/bin/busybox"]).expect(0);
    assert!(run.stdout.starts_with("qemu-system-aarch64 ") && run.stdout.contains("-smp 3 -m 64M"), "{}", run.stdout);
}

#[test]
fn a_host_program_runs_as_it_is() {
    let abi = artifacts().join("abi");
    let run = crannog(&["--quiet", "--", abi.to_str().unwrap(), "-l"]).expect(0);
    assert!(run.stdout.contains("mm::"), "{}", run.stdout);
}
