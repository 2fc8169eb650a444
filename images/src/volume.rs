//! `-v HOST:/GUEST[:ro|:copy]`: a directory or file of the host in the guest, as a copy.
//!
//! Where the guest's own mounts would hide it (/tmp, /run, /dev), or where nobody is to write, the copy stands beside them and
//! init mounts it.

use crate::cpio::{Archive, Owners, guest_name};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// One `-v`.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    host: PathBuf,
    /// The guest's path, without the first slash.
    guest: Vec<u8>,
    /// Where in the archive the copy is when init mounts it.
    beside: Option<String>,
    read_only: bool,
}

/// Where init mounts file systems of its own.
const HIDDEN: &[&str] = &["tmp", "run", "dev"];
/// What is no place for files.
const NOT_FILES: &[&str] = &["proc", "sys"];

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Volume {
    /// Reads the option's text; `number` tells this one from the others.
    pub fn parse(text: &str, number: usize) -> Result<Self> {
        let (rest, read_only) = match (text.strip_suffix(":ro"), text.strip_suffix(":copy")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        // The last colon before a slash: a host path may have colons of its own.
        let colon = rest.rfind(":/").with_context(|| format!("-v {text}: HOST:/GUEST[:ro|:copy] expected"))?;
        let (host, guest) = (PathBuf::from(&rest[..colon]), &rest[colon + 1..]);
        if let Some(odd) = guest.rsplit_once(':').map(|(_, odd)| odd).filter(|odd| !odd.contains('/')) {
            bail!("-v {text}: no option {odd} (ro and copy are known)");
        }
        let guest = guest_name(guest).with_context(|| format!("-v {text}"))?;
        let name = String::from_utf8_lossy(&guest).into_owned();
        if NOT_FILES.iter().any(|top| is_below(&name, top)) {
            bail!("-v {text}: /{name} holds the kernel's own files");
        }
        let is_hidden = HIDDEN.iter().any(|top| is_below(&name, top));
        let beside = (is_hidden || read_only).then(|| format!(".crannog/volumes/{number}"));
        if beside.is_some() && name.is_empty() {
            bail!("-v {text}: the root itself cannot be read-only");
        }
        Ok(Self { host, guest, beside, read_only })
    }

    /// Puts the copy into the archive.
    pub fn pack(&self, archive: &mut Archive) -> Result<()> {
        let to = self.beside.as_ref().map_or(&*self.guest, |path| path.as_bytes());
        archive.tree(Path::new(&self.host), to, Owners::Kept).with_context(|| format!("-v {}", self.host.display()))
    }

    /// What init has to mount for it: the copy's path, the guest's, read-only.
    pub fn mount(&self) -> Option<(String, String, bool)> {
        let beside = self.beside.as_ref()?;
        Some((format!("/{beside}"), format!("/{}", String::from_utf8_lossy(&self.guest)), self.read_only))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let volume = |text| Volume::parse(text, 3).unwrap();
        let plain = volume("/a:b:/c/d");
        assert_eq!((plain.host.to_str(), &*plain.guest, plain.mount()), (Some("/a:b"), &b"c/d"[..], None));
        assert_eq!(volume("a:/b:copy").mount(), None);
        let mounted = |text| volume(text).mount().unwrap();
        assert_eq!(mounted("a:/b:ro"), ("/.crannog/volumes/3".into(), "/b".into(), true));
        assert_eq!(mounted("a:/tmp"), ("/.crannog/volumes/3".into(), "/tmp".into(), false));
        assert_eq!(mounted("a:/dev/shm/x").1, "/dev/shm/x");
        assert_eq!(volume("a:/tmpfile").mount(), None);
        for bad in ["a", "a:b", "a:/b:rx", "a:/proc", "a:/sys/x", "a:/:ro", "a:/x/../y"] {
            assert!(Volume::parse(bad, 0).is_err(), "{bad}");
        }
    }
}
