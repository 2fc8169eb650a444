//! apt-get on a root of its own in the cache: the system's configured mirrors and keys, arm64's package lists.
//!
//! Callers hold the cache's lock ([`crate::debs::lock`]).

use crate::debs::cache;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Apt {
    root: PathBuf,
    /// A sources.list of our own instead of the system's.
    sources: Option<PathBuf>,
}

impl Apt {
    /// The sources that the system has.
    pub fn debian() -> Result<Self> {
        Self::at(cache().join("apt"), None)
    }

    /// The parts of Debian that hold non-free firmware, on the mirror the system uses, whether or not it has them enabled.
    pub fn firmware() -> Result<Self> {
        let sources = configured().into_iter().filter(|source| source.has_main).map(|source| {
            let option = source.signed_by.map_or_else(String::new, |key| format!("[signed-by={key}] "));
            format!("deb {option}{} {} non-free-firmware non-free\n", source.uri, source.suite)
        });
        let sources: String = sources.collect();
        if sources.is_empty() {
            bail!("no Debian mirror is configured in /etc/apt");
        }
        Self::at(cache().join("apt-firmware"), Some(sources))
    }

    fn at(root: PathBuf, sources: Option<String>) -> Result<Self> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(directory)).with_context(|| root.display().to_string())?;
        }
        if !root.join("status").exists() {
            fs::write(root.join("status"), "")?;
        }
        let sources = match sources {
            Some(text) => {
                let path = root.join("sources.list");
                if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                    fs::write(&path, text)?;
                }
                Some(path)
            }
            None => None,
        };
        Ok(Self { root, sources })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |key: &str, value: &Path| format!("-o{key}={}", value.display());
        command
            .arg(option("Dir::State::lists", &self.root.join("lists")))
            .arg(option("Dir::State::status", &self.root.join("status")))
            .arg(option("Dir::Cache", &self.root.join("cache")))
            .args(["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oDebug::NoLocking=1"])
            .arg("-oAPT::Sandbox::User=");
        if let Some(sources) = &self.sources {
            command.arg(option("Dir::Etc::sourcelist", sources)).arg("-oDir::Etc::sourceparts=-");
        }
        command
    }

    fn update(&self) -> Result<()> {
        eprintln!("crannog: fetching Debian's arm64 package lists");
        let mut command = self.command("apt-get");
        command.args(["-qq", "update"]);
        checked(command, "package lists").map(drop)
    }

    /// Runs `command` with package lists that exist; once more with fresh ones when it fails, for a mirror drops what it replaces.
    fn with_lists(&self, what: &str, command: impl Fn() -> Command) -> Result<Vec<u8>> {
        let have = fs::read_dir(self.root.join("lists")).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
        });
        if !have {
            self.update()?;
            return checked(command(), what);
        }
        checked(command(), what)
            .or_else(|error| self.update().map_err(|_| error).and_then(|()| checked(command(), what)))
    }

    /// Puts the .debs of `names` and of all they depend on into `archives`.
    pub fn fetch_with_dependencies(&self, names: &[String], archives: &Path) -> Result<()> {
        eprintln!("crannog: fetching {}", names.join(" "));
        fs::create_dir_all(archives.join("partial"))?;
        let place = format!("-oDir::Cache::archives={}", archives.display());
        self.with_lists(&names.join(" "), || {
            let mut command = self.command("apt-get");
            command.args([&place, "-qq", "install", "-y", "--download-only", "--no-install-recommends"]).args(names);
            command
        })?;
        Ok(())
    }

    /// Puts the .deb of `package` alone into the directory `into`; answers its path.
    pub fn fetch(&self, package: &str, into: &Path) -> Result<PathBuf> {
        eprintln!("crannog: fetching {package}");
        self.with_lists(package, || {
            let mut command = self.command("apt-get");
            command.args(["-qq", "download", package]).current_dir(into);
            command
        })?;
        let start = format!("{package}_");
        let found = fs::read_dir(into)?.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
        Ok(found.with_context(|| format!("{package}: apt-get left no file"))?.path())
    }

    /// The package that `package`, which is only a name for the latest of its kind, depends on.
    pub fn depends(&self, package: &str) -> Result<String> {
        let output = self.with_lists(package, || {
            let mut command = self.command("apt-cache");
            command.args(["-qq", "depends", "--important", package]);
            command
        })?;
        let text = String::from_utf8_lossy(&output);
        let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: ").map(String::from));
        name.with_context(|| format!("{package}: it depends on nothing"))
    }
}

/// Runs an apt command: its output, or its first error in one line.
fn checked(mut command: Command, what: &str) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{what}: apt-get is needed for Debian packages"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get failed");
        bail!("{what}: {}", line.trim_start_matches("E: "));
    }
    Ok(output.stdout)
}

/// One configured package source.
#[derive(Debug, PartialEq)]
struct Source {
    uri: String,
    suite: String,
    signed_by: Option<String>,
    has_main: bool,
}

/// The system's sources of its own release.
fn configured() -> Vec<Source> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("stable");
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    files.extend(more);
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => found.extend(stanzas(&text)),
            Some("list") => found.extend(text.lines().filter_map(one_line)),
            _ => {}
        }
    }
    found.retain(|source| source.suite == codename);
    found
}

/// Sources of the deb822 form.
fn stanzas(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for stanza in
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().split(|line| line.trim().is_empty())
    {
        let field = |name: &str| {
            stanza.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let words = |name: &str| field(name).unwrap_or_default().split_whitespace();
        if !words("Types").any(|word| word == "deb") || field("Enabled") == Some("no") {
            continue;
        }
        let key = field("Signed-By").filter(|key| key.starts_with('/')).map(String::from);
        for uri in words("URIs") {
            for suite in words("Suites") {
                let has_main = words("Components").any(|word| word == "main");
                found.push(Source { uri: uri.into(), suite: suite.into(), signed_by: key.clone(), has_main });
            }
        }
    }
    found
}

/// A source of the one-line form.
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(String::from);
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?.into(), words.next()?.into());
    Some(Source { uri, suite, signed_by, has_main: words.any(|word| word == "main") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_sources_are_read() {
        let text = "Types: deb\n# a comment\nURIs: mirror:/debian\nSuites: one two\nComponents: main contrib\n\
                    Signed-By: /usr/share/keyrings/k.gpg\n\nTypes: deb-src\nURIs: mirror:/debian\nSuites: one\n\n\
                    Types: deb\nEnabled: no\nURIs: x\nSuites: one\n";
        let found = stanzas(text);
        assert_eq!(found.len(), 2);
        let source = Source {
            uri: "mirror:/debian".into(),
            suite: "two".into(),
            signed_by: Some("/usr/share/keyrings/k.gpg".into()),
            has_main: true,
        };
        assert_eq!(found[1], source);
        assert_eq!(
            one_line("deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] mirror:/debian two main"),
            Some(source)
        );
        assert_eq!(one_line("# deb mirror:/debian two main"), None);
        assert_eq!(one_line("deb mirror:/debian"), None);
    }
}
