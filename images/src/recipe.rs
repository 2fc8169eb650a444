//! Recipes: what goes into an image.
//!
//! ```toml
//! debs = ["busybox-static"]          # Debian arm64 packages, with what they depend on
//! files = { "/etc/motd" = "motd" }   # guest path = host path, relative to the recipe
//! links = { "/bin/sh" = "busybox" }  # guest path = target
//! busybox = true                     # a link in /bin for every usual applet
//! tools = true                       # the project's own programs in /usr/local/bin
//! command = ["/bin/sh", "-l"]        # what init starts
//! services = [["/usr/local/bin/page"]]  # what it runs beside that, where there is a network
//! [rpi]                              # for --target rpi
//! config = ["hdmi_force_hotplug=1"]  # more lines for config.txt
//! cmdline = "loglevel=7"             # more words for the kernel's command line
//! ```

use crate::cpio::{Archive, Owners, guest_name};
use crate::{debs, run};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    #[serde(default)]
    pub debs: Vec<String>,
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    #[serde(default)]
    pub busybox: bool,
    #[serde(default)]
    pub tools: bool,
    /// The program and its arguments that init starts.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub services: Vec<Vec<String>>,
    #[serde(default)]
    pub rpi: Rpi,
}

/// What only the SD card of a Raspberry Pi has.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Rpi {
    pub config: Vec<String>,
    pub cmdline: String,
}

/// What userland/tools can be called as.
const TOOLS: &[&str] = &["page", "ps", "top", "trace", "waits"];

const APPLETS: &str = "ash awk basename bzip2 cal cat chgrp chmod chown chroot clear cmp cp cpio cut date dd df diff dirname \
dmesg dnsdomainname du echo ed egrep env expr false fgrep find fold free getopt grep groups gunzip gzip halt head hexdump \
hostname id ifconfig ionice ip ipcalc kill killall less ln logger login logname ls lsmod md5sum mkdir mkfifo mknod mktemp more \
mount mv nc netstat nice nl nohup nproc nslookup od paste patch pidof ping pivot_root poweroff printf ps pwd readlink realpath \
reboot renice reset rev rm rmdir route sed seq setsid sh sha1sum sha256sum sleep sort split stat strings stty sum sync sysctl \
tac tail tar tee telnet test time timeout top touch tr traceroute true truncate tty umount uname uncompress uniq unlink unzip \
uptime usleep vi watch wc wget which who whoami xargs xxd xz yes zcat";

impl Recipe {
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).map_err(|error| {
            let line = text[..error.span().map_or(0, |span| span.start.min(text.len()))].lines().count().max(1);
            anyhow::anyhow!("{}, line {line}: {}", path.display(), error.message().replace('\n', ", "))
        })
    }

    /// Packs the recipe's root file system.
    pub fn pack(&self, base: &Path, archive: &mut Archive) -> Result<()> {
        for name in ["dev", "proc", "sys", "run", "root", "etc", "var"] {
            archive.directory(name.as_bytes(), 0o755);
        }
        archive.directory(b"tmp", 0o1777);
        if !self.debs.is_empty() {
            archive.tree(&debs::tree(&self.debs)?, b"", Owners::Root)?;
        }
        if self.busybox {
            for applet in APPLETS.split_whitespace() {
                archive.symlink(format!("bin/{applet}").as_bytes(), b"busybox");
            }
        }
        if self.tools {
            archive.file(b"usr/local/bin/tools", 0o755, &fs::read(run::artifact("tools")?)?);
            for name in TOOLS {
                archive.symlink(format!("usr/local/bin/{name}").as_bytes(), b"tools");
            }
        }
        for (guest, host) in &self.files {
            let host = base.join(host);
            archive.tree(&host, &guest_name(guest)?, Owners::Root)?;
        }
        for (guest, target) in &self.links {
            archive.symlink(&guest_name(guest)?, target.as_bytes());
        }
        Ok(())
    }
}

/// The recipe's initramfs: its root file system, init and what init starts.
pub fn initramfs(recipe: &Recipe, path: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    recipe.pack(path.parent().unwrap_or(Path::new(".")), &mut archive)?;
    let command = if recipe.command.is_empty() { vec![String::from("/bin/sh")] } else { recipe.command.clone() };
    let start = run::Start { arguments: command, services: recipe.services.clone(), ..run::Start::default() };
    run::pack_init(&mut archive, &start)?;
    if !archive.contains(b"init") {
        // Where a kernel looks when its command line says nothing.
        archive.symlink(b"init", b".crannog/init");
    }
    Ok(archive.finish())
}

/// Builds for a boot loader: `output`/Image and `output`/initramfs.cpio.
pub fn build(path: &Path, output: &Path) -> Result<()> {
    let initramfs = initramfs(&Recipe::load(path)?, path)?;
    fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let put = |name: &str, data: &[u8]| {
        fs::write(output.join(name), data).with_context(|| output.join(name).display().to_string())
    };
    put("initramfs.cpio", &initramfs)?;
    put("Image", &fs::read(run::artifact("Image")?)?)?;
    println!("{}: Image and initramfs.cpio", output.display());
    Ok(())
}

/// Builds one file that a boot loader starts as a kernel: it brings its root file system along.
pub fn build_one_file(path: &Path, output: &Path) -> Result<()> {
    let initramfs = initramfs(&Recipe::load(path)?, path)?;
    let image = crate::image::with_archive(&fs::read(run::artifact("Image")?)?, &initramfs)?;
    fs::write(output, image).with_context(|| output.display().to_string())
}
