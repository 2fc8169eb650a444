//! The temporary folder of one run: for its owner alone, and gone with the run, also when the run before was killed.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "crannog-run-";
/// The file whose lock says that the folder's run still lives.
const ALIVE: &str = "alive";

/// A folder of this run.
pub struct Scratch {
    directory: TempDir,
    _alive: File,
}

impl Scratch {
    /// Makes the folder (mode 0700) and removes those that killed runs of the same user have left.
    pub fn new() -> Result<Self> {
        sweep(&std::env::temp_dir());
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("no temporary directory")?;
        let alive =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(directory.path().join(ALIVE));
        let alive = alive.with_context(|| directory.path().display().to_string())?;
        alive.lock().with_context(|| directory.path().display().to_string())?;
        Ok(Self { directory, _alive: alive })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<PathBuf> {
        let path = self.path().join(name);
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.as_mut()
            .map_err(|error| std::io::Error::from(error.kind()))
            .and_then(|file| std::io::Write::write_all(file, data))
            .with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Leaves the folder where it is.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}

/// Removes the folders of runs that no longer live: whose lock can be had.
fn sweep(place: &Path) {
    // SAFETY: geteuid(2) has no preconditions.
    let me = unsafe { libc::geteuid() };
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == me);
        if is_ours && File::open(path.join(ALIVE)).is_ok_and(|alive| alive.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lives_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = place.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&path).unwrap();
            let file = File::create(path.join(ALIVE)).unwrap();
            (path, file)
        };
        let (dead, _) = folder("dead");
        let (alive, lock) = folder("alive");
        lock.lock().unwrap();
        let other = place.path().join("something-else");
        fs::create_dir(&other).unwrap();
        sweep(place.path());
        assert!(!dead.exists() && alive.exists() && other.exists());
    }

    #[test]
    fn nobody_else_reads_it() {
        let scratch = Scratch::new().unwrap();
        let file = scratch.write("secret", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(scratch.path()), mode(&file)), (0o700, 0o600));
        let path = scratch.path().to_path_buf();
        drop(scratch);
        assert!(!path.exists());
    }
}
