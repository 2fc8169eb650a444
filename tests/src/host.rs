//! Debian's programs for this host (redis-benchmark, iperf3, curl): fetched with all they need into a tree of the cache and run
//! from there by their own loader. Nothing is installed, and the host's own libraries do not matter.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("crannog")
}

/// Runs a command to its end; what it printed, or what it complained of.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// apt-get with lists and a status file of our own, for the host's architecture.
fn apt(root: &Path, words: &[&str]) -> Result<String, String> {
    let place = |key: &str, name: &str| format!("-o{key}={}", root.join(name).display());
    let places = [
        place("Dir::State::lists", "lists"),
        place("Dir::State::status", "status"),
        place("Dir::Cache", "cache"),
        place("Dir::Cache::archives", "debs"),
    ];
    run(Command::new("apt-get").args(places).args(["-qq", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User="]).args(words))
}

fn fill(package: &str, root: &Path, into: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let debs = root.join("debs");
    let _ = fs::remove_dir_all(&debs);
    for directory in ["lists/partial", "cache", "debs/partial"] {
        fs::create_dir_all(root.join(directory)).map_err(told)?;
    }
    // An empty status: everything is needed, the C library too.
    fs::write(root.join("status"), "").map_err(told)?;
    let install = ["install", "-y", "--download-only", "--no-install-recommends", package];
    // A mirror drops what it replaces: once more with fresh lists.
    if apt(root, &install).is_err() {
        apt(root, &["update"])?;
        apt(root, &install)?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(into.join("usr").join(name)).map_err(told)?;
        std::os::unix::fs::symlink(format!("usr/{name}"), into.join(name)).map_err(told)?;
    }
    for entry in fs::read_dir(&debs).map_err(told)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            // Through tar, which keeps the links above.
            let script = "set -o pipefail; dpkg-deb --fsys-tarfile \"$0\" | tar -x --keep-directory-symlink -C \"$1\"";
            run(Command::new("bash").args(["-c", script]).arg(entry.path()).arg(into))?;
        }
    }
    fs::remove_dir_all(debs).map_err(told)
}

/// The tree that [`program`] runs a package's programs from.
pub fn root(package: &str) -> PathBuf {
    tree(package)
}

/// The unpacked tree of `package`, made once.
fn tree(package: &str) -> PathBuf {
    let root = cache().join("host");
    let target = root.join(package);
    if target.exists() {
        return target;
    }
    fs::create_dir_all(&root).expect("the cache");
    let lock = File::create(root.join("lock")).expect("a lock file");
    lock.lock().expect("the cache's lock");
    if target.exists() {
        return target;
    }
    let partial = root.join(format!("{package}.partial"));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).expect("the cache");
    fill(package, &root, &partial).unwrap_or_else(|error| panic!("{package} for this host: {error}"));
    fs::rename(&partial, &target).expect("the cache");
    target
}

/// A command that runs `program` (a path below /) of Debian's `package`. Fetching is done when this returns.
pub fn program(package: &str, program: &str) -> Command {
    let tree = tree(package);
    let entries = |directory: &str| fs::read_dir(tree.join(directory)).into_iter().flatten().flatten();
    // x86-64 has its loader in lib64, arm64 in lib.
    let loader = entries("usr/lib64")
        .chain(entries("usr/lib"))
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")))
        .unwrap_or_else(|| panic!("no loader in {}", tree.display()));
    let libraries = entries("usr/lib")
        .map(|entry| entry.path())
        .find(|path| path.join("libc.so.6").exists())
        .unwrap_or_else(|| panic!("no C library in {}", tree.display()));
    let mut command = Command::new(loader);
    command.arg("--library-path").arg(libraries).arg(tree.join(program.trim_start_matches('/')));
    command
}
