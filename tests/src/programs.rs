//! Guest programs that tests build with the host's cross compiler.

use crate::artifacts;
use std::path::{Path, PathBuf};
use std::process::Command;

/// tests/programs/NAME.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

fn checked(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Compiles and links tests/programs/`name`.c with more `options`; answers the program.
pub fn compile(name: &str, label: &str, options: &[&str]) -> PathBuf {
    let program = std::env::temp_dir().join(format!("crannog-{name}-{label}-{}", std::process::id()));
    let source = source(&format!("{name}.c"));
    checked(
        Command::new("aarch64-linux-gnu-gcc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).args(options),
    );
    program
}

/// As [`compile`], statically with Debian's arm64 musl.
pub fn compile_with_musl(name: &str) -> PathBuf {
    let tree = checked(
        Command::new(artifacts().join("crannog")).args(["packages", "musl-dev"]).env("CRANNOG_ARTIFACTS", artifacts()),
    );
    let headers = checked(Command::new("aarch64-linux-gnu-gcc").arg("-print-file-name=include"));
    let musl = format!("{tree}/usr/lib/aarch64-linux-musl");
    let include = format!("{tree}/usr/include/aarch64-linux-musl");
    let [start, before, after] = ["crt1.o", "crti.o", "crtn.o"].map(|file| format!("{musl}/{file}"));
    let libraries = format!("-L{musl}");
    compile(
        name,
        "musl",
        &[
            "-static",
            "-nostdinc",
            "-isystem",
            &include,
            "-isystem",
            &headers,
            "-nostdlib",
            "-nostartfiles",
            &start,
            &before,
            &libraries,
            "-lc",
            "-lgcc",
            "-lgcc_eh",
            "-lc",
            &after,
        ],
    )
}
