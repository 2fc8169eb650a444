//! `crannog run`: one program in a machine of its own.

use crate::cpio::{Archive, Owners};
use crate::network::{Mode, Network, Publish};
use crate::qemu::{self, End, Machine, Sink};
use crate::recipe::Recipe;
use crate::scratch::Scratch;
use crate::shape::{Shape, Wish};
use crate::volume::Volume;
use crate::{debs, disk, program, tar};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub struct Options {
    /// Memory of the machine [default: 256M, or more where the files need it; a board has what it has]
    #[arg(short, long)]
    memory: Option<String>,
    /// Number of CPUs [default: 1; a board has 4]
    #[arg(long)]
    cpus: Option<u32>,
    /// CPU model (QEMU's names)
    #[arg(long)]
    cpu: Option<String>,
    /// Machine type and its options: virt, raspi3b or raspi4b
    #[arg(long, default_value = "virt")]
    machine: String,
    /// Device tree for the machine, or `none` [default: what the machine makes itself, or a board's from Debian's kernel package]
    #[arg(long, value_name = "FILE")]
    device_tree: Option<String>,
    /// Environment variable K=V for the program
    #[arg(short, long, value_name = "K=V", value_parser = parse_variable)]
    env: Vec<String>,
    /// Working directory in the guest
    #[arg(short, long, default_value = "/")]
    workdir: String,
    /// Copy a host directory or file into the guest, with owners, modes and times; ro: nobody can write there
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro]")]
    volumes: Vec<String>,
    /// A disk image, which is the machine's /dev/vda; several are /dev/vdb and so on
    #[arg(long = "disk", value_name = "FILE[,ro][,format=raw|qcow2]")]
    disks: Vec<disk::Wish>,
    /// Root file system: a directory or a tar file; PROGRAM is then a path in it
    #[arg(long)]
    rootfs: Option<PathBuf>,
    /// Debian arm64 packages to put into the root file system, with what they depend on; PROGRAM is then a guest path
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    debs: Vec<String>,
    /// Recipe whose root file system is used; PROGRAM is then a guest path
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Network: user, socket:NAME (a link that machines of this host share), tap:DEV or none [default: user]
    #[arg(long, value_name = "MODE")]
    net: Option<Mode>,
    /// Publish a port of the machine on this host, at 127.0.0.1 unless ADDRESS says otherwise; host port 0 is any free one
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]")]
    publish: Vec<Publish>,
    /// The machine's name: its host name, and on --net socket its address
    #[arg(long, default_value = "crannog")]
    name: String,
    /// Another machine on the same --net socket, to be found by its name
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// Write every frame the machine's network device sees to this file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Words for the kernel's command line
    #[arg(long, value_name = "WORD")]
    kernel_arg: Vec<String>,
    /// Boot this kernel image instead of Crannog's
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Print the QEMU command instead of running it
    #[arg(long)]
    dry_run: bool,
    /// Keep the kernel log to yourself
    #[arg(short, long)]
    quiet: bool,
    /// Write the kernel log to this file instead of standard error
    #[arg(long)]
    log_file: Option<PathBuf>,
    /// End the machine after this many seconds, with status 124
    #[arg(long, value_name = "SECS", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// Stop the machine at its first instruction and print the line that attaches gdb: at a socket of its own, or at 127.0.0.1:PORT
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true)]
    gdb: Option<Option<u16>>,
    /// More words for QEMU
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// The program: a host path, or a guest path with --rootfs, --debs or --recipe (which may name one itself)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds < 1e9);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| String::from("a positive number of seconds is needed"))
}

fn parse_variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_string()),
        _ => Err(String::from("NAME=VALUE is needed")),
    }
}

/// The variables without those that a later one of the same name replaces.
fn last_of_each(variables: &[String]) -> Vec<String> {
    let name = |text: &String| text.split('=').next().unwrap_or_default().to_string();
    let later = |at: usize| variables[at + 1..].iter().any(|other| name(other) == name(&variables[at]));
    (0..variables.len()).filter(|at| !later(*at)).map(|at| variables[at].clone()).collect()
}

/// What init is told.
#[derive(Default)]
pub struct Start {
    pub arguments: Vec<String>,
    pub env: Vec<String>,
    pub workdir: String,
    /// The console is a pipe on the host's side: no echo, no output processing.
    pub raw: bool,
    /// What init mounts before it starts anything: (directory of the archive, guest path, read-only).
    pub mounts: Vec<(String, String, bool)>,
    /// Rows and columns of the terminal.
    pub terminal: Option<(u16, u16)>,
    /// Programs beside it, and their arguments.
    pub services: Vec<Vec<String>>,
    /// The machine's name.
    pub hostname: String,
    /// For a kernel that does not configure itself: ADDRESS/LENGTH, gateway, name server.
    pub address: Option<String>,
}

/// Something the build scripts made: target/crannog/NAME.
pub fn artifact(name: &str) -> Result<PathBuf> {
    let directory =
        std::env::var_os("CRANNOG_ARTIFACTS").map_or_else(|| PathBuf::from("target/crannog"), PathBuf::from);
    let path = directory.join(name);
    if !path.exists() {
        bail!("{} is missing (scripts/crannog builds it)", path.display());
    }
    Ok(path)
}

/// Adds init and its orders.
pub fn pack_init(archive: &mut Archive, start: &Start) -> Result<()> {
    archive.directory(b"dev", 0o755);
    archive.character_device(b"dev/console", 0o600, (5, 1));
    archive.file(b".crannog/init", 0o755, &fs::read(artifact("init")?)?);
    let mut orders = Vec::new();
    let mut order = |key: &str, value: &str| {
        orders.extend(key.bytes());
        orders.push(b'=');
        orders.extend(value.bytes());
        orders.push(0);
    };
    order("cwd", if start.workdir.is_empty() { "/" } else { &start.workdir });
    if start.raw {
        order("raw", "1");
    }
    if !start.hostname.is_empty() {
        order("hostname", &start.hostname);
    }
    if let Some(address) = &start.address {
        order("address", address);
    }
    if let Some((rows, columns)) = start.terminal {
        order("terminal", &format!("{rows}x{columns}"));
    }
    for (from, to, read_only) in &start.mounts {
        order("mount", &[from.as_str(), to, if *read_only { "ro" } else { "rw" }].join("\x1f"));
    }
    for service in &start.services {
        order("service", &service.join("\x1f"));
    }
    for variable in &start.env {
        order("env", variable);
    }
    for argument in &start.arguments {
        order("arg", argument);
    }
    archive.file(b".crannog/run", 0o644, &orders);
    Ok(())
}

/// The modules that a Linux kernel outside its distribution's initramfs needs for its network card and disks, in the order of loading;
/// left out where the kernel has none beside it.
fn network_modules(kernel: &Path, archive: &mut Archive) -> Result<()> {
    const MODULES: &[&str] = &[
        "drivers/virtio/virtio_ring.ko",
        "drivers/virtio/virtio.ko",
        "drivers/virtio/virtio_mmio.ko",
        "net/core/failover.ko",
        "drivers/net/net_failover.ko",
        "drivers/net/virtio_net.ko",
        "drivers/block/virtio_blk.ko",
        "drivers/block/loop.ko",
        "crypto/crc32c_generic.ko",
        "lib/crc16.ko",
        "fs/mbcache.ko",
        "fs/jbd2/jbd2.ko",
        "fs/ext4/ext4.ko",
    ];
    let name = kernel.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(release) = name.strip_prefix("vmlinuz-") else { return Ok(()) };
    let Some(root) = kernel.parent().and_then(Path::parent) else { return Ok(()) };
    let modules = root.join("lib/modules").join(release).join("kernel");
    for (number, module) in MODULES.iter().enumerate() {
        if let Ok(data) = fs::read(modules.join(module)) {
            archive.file(format!(".crannog/modules/{number}.ko").as_bytes(), 0o644, &data);
        }
    }
    Ok(())
}

/// Puts the root file system together; returns the program's path in the guest and what its recipe runs beside it.
fn pack_root(options: &Options, volumes: &[Volume], archive: &mut Archive) -> Result<(String, Vec<Vec<String>>)> {
    let name = options.command.first().context("no program given")?.clone();
    if name.starts_with('-') {
        bail!("no option {name} (crannog run --help lists them)");
    }
    let mut guest_path = false;
    let mut services = Vec::new();
    if let Some(rootfs) = &options.rootfs {
        match fs::metadata(rootfs) {
            Ok(metadata) if metadata.is_dir() => archive.tree(rootfs, b"", Owners::Kept)?,
            Ok(metadata) if metadata.is_file() => tar::add(rootfs, archive)?,
            Ok(_) => bail!("{}: neither a directory nor a tar file", rootfs.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{}: no such file", rootfs.display()),
            Err(error) => return Err(error).context(rootfs.display().to_string()),
        }
        guest_path = true;
    }
    if let Some(recipe) = &options.recipe {
        let loaded = Recipe::load(recipe)?;
        loaded.pack(recipe.parent().unwrap_or(Path::new(".")), archive)?;
        services = loaded.services;
        guest_path = true;
    }
    if !options.debs.is_empty() {
        archive.tree(&debs::tree(&options.debs)?, b"", Owners::Root)?;
        guest_path = true;
    }
    for name in ["dev", "proc", "sys", "run"] {
        archive.directory(name.as_bytes(), 0o755);
    }
    archive.directory(b"tmp", 0o1777);
    for volume in volumes {
        volume.pack(archive)?;
    }
    if guest_path {
        return Ok((name, services));
    }
    let host = PathBuf::from(&name);
    let program = program::inspect(&host)?;
    if let Some(interpreter) = &program.interpreter {
        let packages: &[&str] =
            if interpreter.contains("/ld-musl-") { &["musl"] } else { &["libc6", "libgcc-s1", "libstdc++6"] };
        let packages: Vec<String> = packages.iter().map(|package| String::from(*package)).collect();
        let tree = debs::tree(&packages).with_context(|| format!("{name} is dynamic (it wants {interpreter})"))?;
        if tree.join(interpreter.trim_start_matches('/')).symlink_metadata().is_err() {
            bail!("{name} wants the loader {interpreter}, which Debian does not have: give --rootfs");
        }
        let have = |library: &str| {
            ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib"]
                .iter()
                .any(|dir| tree.join(dir).join(library).exists())
        };
        if let Some(missing) = program.needed.iter().find(|library| !have(library)) {
            bail!("{name} needs {missing}: name its Debian package with --debs, or give --rootfs");
        }
        archive.tree(&tree, b"", Owners::Root)?;
    }
    let base = host.file_name().map_or_else(|| String::from("program"), |base| base.to_string_lossy().into_owned());
    let guest = format!("/.crannog/bin/{base}");
    archive.file(guest.trim_start_matches('/').as_bytes(), 0o755, &program.data);
    Ok((guest, services))
}

/// QEMU's words for a machine that waits for gdb, and where gdb finds it.
fn gdb_stub(port: Option<u16>, scratch: &Path) -> (Vec<String>, String) {
    let (device, target) = match port {
        Some(port) => (format!("tcp:127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        None => (String::from("chardev:gdb"), scratch.join("gdb").display().to_string()),
    };
    let mut words = vec![String::from("-S"), String::from("-gdb"), device];
    if port.is_none() {
        words.extend([String::from("-chardev"), format!("socket,id=gdb,path={target},server=on,wait=off")]);
    }
    (words, target)
}

/// The line that attaches gdb: with the symbols of our own kernel where it was built here.
fn gdb_line(target: &str, is_ours: bool) -> String {
    let mut words = vec![String::from("gdb-multiarch")];
    if let (true, Ok(symbols)) = (is_ours, artifact("kernel.elf")) {
        words.push(symbols.canonicalize().unwrap_or(symbols).display().to_string());
    } else {
        words.extend([String::from("-ex"), String::from("set architecture aarch64")]);
    }
    words.extend([String::from("-ex"), format!("target remote {target}")]);
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    words.join(" ")
}

/// Whether QEMU can start it: Linux's Image (whose magic number stands at byte 56), gzip data, a PE or an ELF file.
fn is_bootable(path: &Path) -> bool {
    let mut start = Vec::new();
    let file = fs::File::open(path).map(|file| std::io::Read::take(file, 64));
    let read = file.and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut start));
    read.is_ok()
        && (start.get(56..60) == Some(b"ARMd")
            || [&b"\x1f\x8b"[..], b"MZ", b"\x7fELF"].iter().any(|magic| start.starts_with(magic)))
}

pub fn run(mut options: Options) -> Result<u8> {
    // A reader of our output that goes away is seen by the write that fails, and then the machine is ended.
    // SAFETY: no thread has been started yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if let (true, Some(recipe)) = (options.command.is_empty(), &options.recipe) {
        options.command = Recipe::load(recipe)?.command;
    }
    let mut shape = Shape::of(&Wish {
        machine: &options.machine,
        cpu: options.cpu.as_deref(),
        cpus: options.cpus,
        own_kernel: options.kernel.is_none(),
        memory: options.memory.as_deref(),
        network: options.net.as_ref().is_some_and(|mode| *mode != Mode::None) || !options.publish.is_empty(),
        device_tree: options.device_tree.as_deref(),
    })?;
    if shape.is_board && !options.disks.is_empty() {
        bail!("--disk: a board has no virtio disks");
    }
    let disks = options.disks.iter().map(disk::Disk::open).collect::<Result<Vec<_>>>()?;
    let mode = if shape.is_board { Some(Mode::None) } else { options.net.clone() };
    let network = Network::new(mode, &options.name, &options.publish, options.pcap.as_deref())?;
    let scratch = Scratch::new()?;
    let volumes: Vec<Volume> =
        options.volumes.iter().enumerate().map(|(number, text)| Volume::parse(text, number)).collect::<Result<_>>()?;
    let is_on_host = options.rootfs.is_none() && options.recipe.is_none() && options.debs.is_empty();
    if let Some(program) = options.command.first().filter(|_| is_on_host)
        && fs::metadata(program).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 == 0)
        && program::inspect(Path::new(program)).is_ok()
    {
        // As a shell has it.
        eprintln!("crannog: {program}: it may not be executed (chmod +x)");
        return Ok(126);
    }
    let mut archive = Archive::default();
    let (program, mut services) = pack_root(&options, &volumes, &mut archive)?;
    if !network.is_there() {
        services.clear();
    }
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut arguments = options.command.clone();
    arguments[0] = program;
    let start = Start {
        arguments,
        env: last_of_each(&options.env),
        workdir: options.workdir.clone(),
        raw: !interactive,
        mounts: volumes.iter().filter_map(Volume::mount).collect(),
        terminal: if interactive { qemu::terminal_size() } else { None },
        services,
        hostname: options.name.clone(),
        address: network.fixed_address(),
    };
    if let Some(kernel) = &options.kernel {
        network_modules(kernel, &mut archive)?;
    }
    if options.kernel.is_none() && network.is_there() && !archive.contains(b"etc/resolv.conf") {
        // The name servers that the kernel learnt.
        archive.symlink(b"etc/resolv.conf", b"/proc/net/pnp");
    }
    if !archive.contains(b"etc/hosts") || !options.peer.is_empty() {
        archive.file(b"etc/hosts", 0o644, network.hosts(&options.peer)?.as_bytes());
    }
    pack_init(&mut archive, &start)?;
    let initramfs = archive.finish();
    shape.fit_memory(initramfs.len(), options.memory.is_some())?;
    let initrd = scratch.write("initramfs.cpio", &initramfs)?;
    let kernel = match &options.kernel {
        Some(kernel) if !kernel.is_file() => bail!("{}: no such kernel", kernel.display()),
        Some(kernel) if !is_bootable(kernel) => {
            bail!("{}: not a kernel for arm64 (an Image, plain or gzip, a PE or an ELF file is)", kernel.display())
        }
        Some(kernel) => kernel.clone(),
        None => artifact("Image")?,
    };
    let mut append = String::from("console=ttyAMA0 rdinit=/.crannog/init");
    append.push_str(&shape.append);
    if options.quiet {
        append.push_str(" quiet");
    }
    if interactive {
        append.push_str(" banner");
    }
    if let (Some(address), None) = (network.own_address(), &options.kernel) {
        append.push_str(&format!(" ip={address}"));
    }
    for word in &options.kernel_arg {
        append.push(' ');
        append.push_str(word);
    }
    let mut extra = options.qemu_arg.clone();
    let mut attach = None;
    if let Some(port) = options.gdb {
        let (words, target) = gdb_stub(port, scratch.path());
        extra.extend(words);
        attach = Some(gdb_line(&target, options.kernel.is_none()));
    }
    let machine = Machine {
        machine: options.machine.clone(),
        cpu: options.cpu.clone(),
        cpus: shape.cpus,
        memory: shape.memory,
        kernel,
        initrd,
        device_tree: shape.device_tree,
        is_board: shape.is_board,
        append,
        interactive,
        network: network.arguments(),
        disks: disk::arguments(&disks, shape.cpus),
        extra,
    };
    if options.dry_run {
        let log = options.log_file.unwrap_or_else(|| scratch.path().join("log")).display().to_string();
        let words: Vec<String> = machine.arguments(&log).iter().map(|word| quote(word)).collect();
        println!("{} {}", qemu::PROGRAM, words.join(" "));
        // The command is there to be run: what it names stays, without the mark of a run that lives.
        let _ = fs::remove_file(scratch.path().join("alive"));
        scratch.keep();
        return Ok(0);
    }
    if !options.quiet {
        eprintln!("crannog: {} CPUs, {}, {}", machine.cpus, machine.memory, machine.accelerator());
    }
    if let Some(line) = attach {
        eprintln!("crannog: the machine waits at its first instruction for: {line}");
    }
    let sink = match &options.log_file {
        Some(path) => Sink::file(path)?,
        // A terminal that a program draws on is not written over.
        None if options.quiet || interactive => Sink::Kept,
        None => Sink::Shown,
    };
    let (end, kept) = qemu::run(&machine, options.timeout, sink)?;
    if !options.quiet || !matches!(end, End::Exit(_)) {
        eprint!("{kept}");
    }
    match end {
        End::Exit(status) => Ok(status),
        End::Panic => Ok(101),
        End::TimedOut => {
            eprintln!("crannog: timed out");
            Ok(124)
        }
        End::Signal(signal) => Ok(128 + signal as u8),
        End::Unread(None) => Ok(128 + libc::SIGPIPE as u8),
        End::Unread(Some(why)) => bail!("standard output: {why}"),
        End::Left => Ok(0),
        End::Silent(complaint) => bail!(complaint),
    }
}

/// A word as a shell reads it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        String::from(word)
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{gdb_line, gdb_stub, last_of_each, quote};
    use std::path::Path;

    #[test]
    fn gdb_finds_the_machine() {
        let (words, target) = gdb_stub(None, Path::new("/tmp/x y"));
        assert_eq!(target, "/tmp/x y/gdb");
        assert_eq!(words.join(" "), "-S -gdb chardev:gdb -chardev socket,id=gdb,path=/tmp/x y/gdb,server=on,wait=off");
        let (words, target) = gdb_stub(Some(1234), Path::new("/tmp"));
        assert_eq!((words.join(" ").as_str(), target.as_str()), ("-S -gdb tcp:127.0.0.1:1234", "127.0.0.1:1234"));
        assert_eq!(
            gdb_line(&target, false),
            "gdb-multiarch -ex 'set architecture aarch64' -ex 'target remote 127.0.0.1:1234'"
        );
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let variables = ["X=1", "Y=", "X=2=3"].map(String::from);
        assert_eq!(last_of_each(&variables), ["Y=", "X=2=3"]);
    }

    #[test]
    fn words_are_quoted_for_shells() {
        assert_eq!(quote("a=b"), "a=b");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }
}
