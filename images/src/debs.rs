//! Debian arm64 packages for the guest: fetched with their dependencies into a cache and unpacked, without root and without
//! touching the system's own package lists.
//!
//! The cache is shared by all runs of the tool. What is complete stands under its final name and is only read; everything that
//! writes holds the cache's lock, works under a name ending in `.partial` and renames at the end, so that neither a second run nor
//! an interrupted one leaves half a tree behind.

use crate::apt::Apt;
use anyhow::{Context, Result, bail};
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
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

/// The cache, ours alone until the file is dropped.
pub fn lock() -> Result<File> {
    let path = cache().join("lock");
    fs::create_dir_all(cache()).with_context(|| cache().display().to_string())?;
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        eprintln!("crannog: waiting for another run that is fetching packages");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}

/// Makes the directory `target` of the cache by `fill`, once: complete or not at all.
pub fn once(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let complete = || target.join(".complete").exists();
    if complete() {
        return Ok(());
    }
    let _lock = lock()?;
    if complete() {
        return Ok(());
    }
    let partial = target.with_extension("partial");
    for stale in [target, &partial] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
        }
    }
    fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
    fill(&partial)?;
    fs::write(partial.join(".complete"), "").with_context(|| partial.display().to_string())?;
    fs::rename(&partial, target).with_context(|| target.display().to_string())
}

/// Unpacks those files of `deb` whose names match the shell patterns; all of them when there are none.
///
/// Through tar, which keeps the links of a merged /usr that `dpkg -x` would replace.
pub fn unpack(deb: &Path, into: &Path, patterns: &[&str]) -> Result<()> {
    let script =
        "set -o pipefail; dpkg-deb --fsys-tarfile \"$0\" | tar -x --keep-directory-symlink --wildcards -C \"$@\"";
    let output = Command::new("bash").args(["-c", script]).arg(deb).arg(into).args(patterns).output();
    let output = output.context("unpacking packages takes bash, dpkg-deb and tar")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", deb.display(), text.lines().next().unwrap_or("cannot be unpacked").trim());
    }
    Ok(())
}

/// The unpacked tree of `packages` and everything they depend on.
pub fn tree(packages: &[String]) -> Result<PathBuf> {
    let mut names = packages.to_vec();
    names.sort();
    names.dedup();
    if let Some(bad) = names.iter().find(|name| !is_package_name(name)) {
        bail!("{bad:?} is not a Debian package's name");
    }
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    let target = cache().join("trees").join(format!("{:016x}", hasher.finish()));
    once(&target, |partial| {
        // A list of its own for each tree: what apt would install, and only that.
        let archives = target.with_extension("debs");
        Apt::debian()?.fetch_with_dependencies(&names, &archives)?;
        // The merged /usr that Debian's own installer makes before anything else.
        for name in ["bin", "sbin", "lib"] {
            fs::create_dir_all(partial.join("usr").join(name))?;
            std::os::unix::fs::symlink(format!("usr/{name}"), partial.join(name))?;
        }
        let mut debs: Vec<_> =
            fs::read_dir(&archives)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
        debs.sort();
        for deb in debs.iter().filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
            unpack(deb, partial, &[])?;
        }
        for directory in ["doc", "man", "locale", "info", "lintian"] {
            let _ = fs::remove_dir_all(partial.join("usr/share").join(directory));
        }
        let _ = fs::remove_dir_all(archives);
        Ok(())
    })?;
    Ok(target)
}

/// Letters, digits and `+-.:`, as Debian's policy has it; apt would take other words for options or patterns.
fn is_package_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.:".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed) && !name.ends_with(['+', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names() {
        for good in ["libc6", "lua5.4", "gcc-12", "libc6:arm64", "0ad"] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in ["", "-y", "a b", "../x", "x-", "foo*", "a/b", "a'b"] {
            assert!(!is_package_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_directory_is_made_once_and_never_half() {
        let place = std::env::temp_dir().join(format!("crannog-once-{}", std::process::id()));
        let target = place.join("thing");
        assert!(
            once(&target, |partial| fs::write(partial.join("a"), "").context("a").and(Err(anyhow::anyhow!("no"))))
                .is_err()
        );
        assert!(!target.exists());
        once(&target, |partial| fs::write(partial.join("b"), "").context("b")).unwrap();
        once(&target, |_| panic!("made twice")).unwrap();
        assert!(target.join("b").exists() && !target.join("a").exists());
        fs::remove_dir_all(place).unwrap();
    }
}
