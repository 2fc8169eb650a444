//! Debian arm64 packages for the guest: fetched with their dependencies into a cache and unpacked, without root and without
//! touching the system's own package lists.

use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where fetched things are kept: $XDG_CACHE_HOME/crannog.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("crannog")
}

/// apt-get on the private arm64 root.
fn apt(arguments: &[&str]) -> Result<Command> {
    let root = cache().join("apt");
    for directory in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(root.join(directory))?;
    }
    if !root.join("status").exists() {
        fs::write(root.join("status"), "")?;
    }
    let mut command = Command::new("apt-get");
    let option = |key: &str, value: &Path| format!("-o{key}={}", value.display());
    command
        .arg(option("Dir::State::lists", &root.join("lists")))
        .arg(option("Dir::State::status", &root.join("status")))
        .arg(option("Dir::Cache", &root.join("cache")))
        .args(["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oDebug::NoLocking=1"])
        .args(["-oAPT::Sandbox::User=", "-qq"])
        .args(arguments);
    Ok(command)
}

fn checked(mut command: Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{what}: apt-get is needed for Debian packages"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get failed");
        bail!("{what}: {line}");
    }
    Ok(())
}

/// The unpacked tree of `packages` and everything they depend on.
pub fn tree(packages: &[String]) -> Result<PathBuf> {
    let mut names = packages.to_vec();
    names.sort();
    names.dedup();
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    let target = cache().join("trees").join(format!("{:016x}", hasher.finish()));
    if target.join(".complete").exists() {
        return Ok(target);
    }
    let lists = cache().join("apt/lists");
    let have_lists = fs::read_dir(&lists).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    });
    if !have_lists {
        eprintln!("crannog: fetching Debian's arm64 package lists");
        checked(apt(&["update"])?, "package lists")?;
    }
    eprintln!("crannog: fetching {}", names.join(" "));
    // A list of its own for each tree: what apt would install, and only that.
    let archives = target.with_extension("debs");
    fs::create_dir_all(archives.join("partial"))?;
    let place = format!("-oDir::Cache::archives={}", archives.display());
    let mut arguments = vec![place.as_str(), "install", "-y", "--download-only", "--no-install-recommends"];
    arguments.extend(names.iter().map(String::as_str));
    checked(apt(&arguments)?, &names.join(" "))?;
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target)?;
    let mut debs: Vec<_> = fs::read_dir(&archives)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    debs.sort();
    // The merged /usr that Debian's own installer makes before anything else.
    for name in ["bin", "sbin", "lib"] {
        fs::create_dir_all(target.join("usr").join(name))?;
        std::os::unix::fs::symlink(format!("usr/{name}"), target.join(name))?;
    }
    for deb in debs.iter().filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        // Through tar, which keeps the links of a merged /usr that dpkg -x would replace.
        let unpack = format!(
            "dpkg-deb --fsys-tarfile '{}' | tar -x --keep-directory-symlink -C '{}'",
            deb.display(),
            target.display()
        );
        let output = Command::new("sh").args(["-c", &unpack]).output()?;
        if !output.status.success() {
            bail!("{}: {}", deb.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    for directory in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian"] {
        let _ = fs::remove_dir_all(target.join(directory));
    }
    fs::write(target.join(".complete"), "")?;
    Ok(target)
}
