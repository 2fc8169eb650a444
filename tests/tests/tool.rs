//! The host tool: statuses, input and output, errors in one line, and no machine left behind.

use machine_tests::{artifacts, crannog, crannog_with, shell};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    let path = std::env::temp_dir().join(format!("crannog-volume:{}", std::process::id()));
    std::fs::create_dir_all(path.join("closed")).unwrap();
    std::fs::write(path.join("note"), "here\n").unwrap();
    std::fs::write(path.join("two words\n'and' more"), "odd\n").unwrap();
    std::fs::write(path.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), "bytes\n").unwrap();
    std::fs::write(path.join("script"), "#!/bin/sh\necho ran\n").unwrap();
    let mode = |name: &str, bits| std::fs::set_permissions(path.join(name), PermissionsExt::from_mode(bits)).unwrap();
    mode("script", 0o4751);
    mode("note", 0o604);
    mode("closed", 0o1700);
    symlink("note", path.join("link")).unwrap();
    symlink("/nowhere", path.join("dangling")).unwrap();
    assert!(Command::new("mkfifo").arg(path.join("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let volume = format!("{}:/data/deep", path.display());
    let line = "cd /data/deep; cat link; cat two*; cat not' '*; ./script; stat -c '%a %F' note script closed fifo; \
                readlink dangling; ls | wc -l";
    shell(&["-v", &volume], line)
        .expect(0)
        .prints("here\nodd\nbytes\nran\n604 regular file\n4751 regular file\n1700 directory\n644 fifo\n/nowhere\n8\n");
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_volume_on_a_link_leaves_the_link() {
    let cargo = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml:/lib/here");
    let line = "test -L /lib && grep -c ^name /usr/lib/here";
    shell(&["--debs", "libc6", "-v", cargo], line).expect(0).prints("1\n");
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

/// Where the tool has unpacked a Debian package.
fn crannog_packages(name: &str) -> String {
    let output = Command::new(artifacts().join("crannog")).args(["packages", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// The tool with another QEMU on its path: a script of these lines, or none.
fn with_qemu(script: Option<&str>) -> String {
    let place = std::env::temp_dir().join(format!("crannog-qemu-{}-{}", script.is_some(), std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    if let Some(script) = script {
        use std::os::unix::fs::PermissionsExt;
        let program = place.join("qemu-system-aarch64");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = std::process::Command::new(artifacts().join("crannog"))
        .args(["run", "--quiet", "--", artifacts().join("abi").to_str().unwrap()])
        .env("CRANNOG_ARTIFACTS", artifacts())
        .env("PATH", &place)
        .output()
        .unwrap();
    std::fs::remove_dir_all(place).unwrap();
    assert_eq!(output.status.code(), Some(125));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn qemu_missing_or_too_old() {
    assert_eq!(with_qemu(None), "crannog: qemu-system-aarch64 is not installed (scripts/setup installs it)\n");
    let old = with_qemu(Some("echo QEMU emulator version 7.2.15"));
    assert!(old.starts_with("crannog: QEMU 7.2.15 is too old: 9.1 or newer") && old.lines().count() == 1, "{old}");
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

#[test]
fn wrong_options_are_one_line() {
    let cases: &[(&[&str], &str)] = &[
        (&["--no-such-option", "--", "x"], "no-such-option"),
        (&["--no-such-option"], "no option --no-such-option"),
        (&["--cpus", "many", "--", "x"], "invalid value 'many'"),
        (&["--timeout", "-1", "--", "x"], "positive number of seconds"),
        (&["--timeout", "nan", "--", "x"], "positive number of seconds"),
        (&["--timeout", "1e300", "--", "x"], "positive number of seconds"),
        (&["-e", "NAME", "--", "x"], "NAME=VALUE"),
        (&["-v", "/tmp", "--", "x"], "HOST:/GUEST"),
        (&["-v", "/no/such/place:/x", "--", "x"], "/no/such/place"),
        (&["-v", "/etc/hostname:/a/../b", "--", "x"], "no .."),
        (&["--rootfs", "/no/such", "--", "x"], "/no/such: no such file"),
        (&["--rootfs", "/etc/hostname", "--", "x"], "/etc/hostname: tar"),
        (&["--rootfs", "/dev/null", "--", "x"], "/dev/null: neither a directory nor a tar file"),
        (&["-v", "/etc/hostname:/b:rx", "--", "x"], "no option rx"),
        (&["-v", "/etc/hostname:/proc/x", "--", "x"], "kernel's own files"),
        (&["--cpus", "9", "--", "x"], "8 at the most"),
        (&["--machine", "virt,secure=on", "--", "x"], "secure=on"),
        (&["--recipe", "/no/such", "--", "x"], "/no/such"),
        (&["--debs", "no-such-package-at-all", "--", "x"], "no-such-package-at-all"),
        (&["--debs", "-oX=y", "--", "x"], "not a Debian package's name"),
        (&["--rootfs", "/var/empty-or-not", "--", "x"], "/var/empty-or-not: no such file"),
        (&[], "no program given"),
    ];
    let abi = artifacts().join("abi");
    let abi = abi.to_str().unwrap();
    let machines: &[(&[&str], &str)] = &[
        (&["-m", "plenty", "--", abi], "plenty"),
        (&["--cpus", "0", "--", abi], "QEMU: "),
        (&["--cpus", "100000", "--", abi], "8 at the most"),
        (&["--kernel", "/etc/passwd", "--", abi], "/etc/passwd: not a kernel"),
        (&["--kernel", "/dev/null", "--", abi], "no such kernel"),
        (&["--cpu", "z80", "--", abi], "z80"),
        (&["--machine", "toaster", "--", abi], "toaster"),
        (&["--qemu-arg=-nonsense", "--", abi], "-nonsense"),
        (&["--kernel", "/no/such", "--", abi], "/no/such: no such kernel"),
        (&["--log-file", "/no/such/log", "--", abi], "/no/such/log"),
    ];
    for (options, text) in cases.iter().chain(machines) {
        let mut arguments = vec!["--quiet"];
        arguments.extend(*options);
        let run = crannog(&arguments).expect(125).says(text);
        let tells = |line: &&str| !line.contains(": fetching ") && !line.contains(": waiting for ");
        let lines: Vec<_> = run.stderr.lines().filter(tells).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("crannog: "), "{options:?}: {}", run.stderr);
    }
}

/// `crannog run` of a program that does not end by itself, once it runs.
fn endless(output: Stdio) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(artifacts().join("crannog"));
    // A shell starts what runs in the background with these ignored.
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGQUIT, libc::SIG_DFL);
            Ok(())
        });
    }
    command
        .args(["run", "--quiet", "--timeout", "120", "--debs", "busybox-static", "--", "/bin/busybox", "yes"])
        .env("CRANNOG_ARTIFACTS", artifacts())
        .stdin(Stdio::null())
        .stdout(output)
        .spawn()
        .expect("the host tool starts")
}

/// The QEMU that `tool` has started, once it has.
fn machine_of(tool: u32) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((head, tail)) = stat.rsplit_once(')') else { continue };
            if head.contains("qemu-system") && tail.split_whitespace().nth(1) == Some(&tool.to_string()) {
                return pid;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no QEMU below process {tool}");
}

/// Fails unless the process ends soon.
#[track_caller]
fn is_gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(Instant::now() < deadline, "QEMU is left behind: {}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_machine_outlives_the_tool() {
    for (signal, status) in
        [("TERM", Some(143)), ("INT", Some(130)), ("HUP", Some(129)), ("KILL", None), ("QUIT", None)]
    {
        let mut tool = endless(Stdio::null());
        let machine = machine_of(tool.id());
        let killed = Command::new("kill").args([format!("-{signal}"), tool.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let end = tool.wait().unwrap();
        is_gone(machine);
        assert_eq!(end.code(), status, "{signal}");
        assert!(status.is_some() || end.signal().is_some(), "{signal}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_machine() {
    let mut tool = endless(Stdio::piped());
    let machine = machine_of(tool.id());
    let mut output = tool.stdout.take().unwrap();
    let mut some = [0; 4];
    std::io::Read::read_exact(&mut output, &mut some).unwrap();
    assert_eq!(&some, b"y\ny\n");
    drop(output);
    assert_eq!(tool.wait().unwrap().code(), Some(141));
    is_gone(machine);
}

#[test]
fn closed_descriptors_do_no_harm() {
    let tool = artifacts().join("crannog");
    let line = |redirection: &str, program: &str| {
        format!(
            "exec {} run --quiet --timeout 60 --debs busybox-static -- /bin/busybox {program} {redirection}",
            tool.display()
        )
    };
    let run = |redirection: &str, program: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &line(redirection, program)]).env("CRANNOG_ARTIFACTS", artifacts());
        command.output().unwrap()
    };
    let output = run("<&-", "cat");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    assert_eq!(run(">&- 2>&-", "true").status.code(), Some(0));
    // Nothing is lost in silence.
    let full = run(">/dev/full", "echo lost");
    let text = String::from_utf8_lossy(&full.stderr);
    assert!(full.status.code() == Some(125) && text.starts_with("crannog: standard output: No space left"), "{text}");
}

#[test]
fn the_log_goes_anywhere_and_the_status_comes_through() {
    let options = |log: &str| {
        crannog(&["--quiet", "--log-file", log, "--debs", "busybox-static", "--", "/bin/busybox", "sh", "-c", "exit 5"])
    };
    options("/dev/null").expect(5);
    let full = options("/dev/full").expect(5);
    assert!(full.stderr.contains("/dev/full: No space left"), "{}", full.stderr);
    let place = std::env::temp_dir().join(format!("crannog-log-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let fifo = place.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    options(fifo.to_str().unwrap()).expect(125).says("nobody reads this FIFO");
    let file = place.join("log");
    options(file.to_str().unwrap()).expect(5);
    assert!(std::fs::read_to_string(&file).unwrap().contains("[crannog] exit 5"));
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn volumes_keep_what_files_are() {
    let place = std::env::temp_dir().join(format!("crannog-kept-{}", std::process::id()));
    let tree = place.join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("a"), "x").unwrap();
    std::fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(tree.join("a")).unwrap().set_modified(time).unwrap();
    symlink("tree", place.join("link")).unwrap();
    let metadata = std::fs::metadata(tree.join("a")).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
    let at = |guest: &str| format!("{}:{guest}", place.join("link").display());
    let line = "cd /d; stat -c '%u %Y %h' a; stat -c %s sparse; [ $(stat -c %b sparse) -lt 64 ] && echo holes; cat /tmp/in/a;                 cat /dev/shm/a; cat /ro/a; echo y > /ro/a || echo refused; echo y > /tmp/in/a && echo written";
    let run =
        shell(&["-v", &at("/d"), "-v", &at("/tmp/in"), "-v", &at("/dev/shm"), "-v", &at("/ro:ro")], line).expect(0);
    assert_eq!(
        run.stdout.replace("/bin/sh: can't create /ro/a: Read-only file system\n", ""),
        format!("{owner} 1000000000 2\n8388608\nholes\nxxxrefused\nwritten\n"),
        "{}",
        run.stderr
    );
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn a_tar_file_is_read_as_it_is() {
    let place = std::env::temp_dir().join(format!("crannog-tar-{}", std::process::id()));
    std::fs::create_dir_all(place.join("bin")).unwrap();
    let tree = crannog_packages("busybox-static");
    std::fs::copy(format!("{tree}/bin/busybox"), place.join("bin/busybox")).unwrap();
    std::fs::write(place.join("su"), "").unwrap();
    std::fs::set_permissions(place.join("su"), PermissionsExt::from_mode(0o4755)).unwrap();
    let tar = place.with_extension("tar.gz");
    let pack = Command::new("tar")
        .args(["-czf", tar.to_str().unwrap(), "--owner=7", "--group=8", "-C", place.to_str().unwrap(), "bin", "su"])
        .status();
    assert!(pack.unwrap().success());
    let line = "/bin/busybox stat -c '%a %u %g' /su";
    crannog(&["--quiet", "--net", "none", "--rootfs", tar.to_str().unwrap(), "--", "/bin/busybox", "sh", "-c", line])
        .expect(0)
        .prints("4755 7 8\n");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::remove_file(tar).unwrap();
}

#[test]
fn memory_grows_with_the_files() {
    let place = std::env::temp_dir().join(format!("crannog-large-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("large"), vec![b'x'; 300 << 20]).unwrap();
    let volume = format!("{}:/large", place.display());
    let line = "stat -c %s /large/large";
    shell(&["-v", &volume], line).expect(0).prints("314572800\n");
    shell(&["-m", "256M", "-v", &volume], line).expect(125).says("-m ");
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn what_may_not_be_executed_is_126() {
    let file = std::env::temp_dir().join(format!("crannog-plain-{}", std::process::id()));
    std::fs::copy(artifacts().join("abi"), &file).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    crannog(&["--", file.to_str().unwrap()]).expect(126).says("may not be executed");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_full_disk_is_told() {
    let line = format!(
        "ulimit -f 1; exec {} run --quiet -- {}",
        artifacts().join("crannog").display(),
        artifacts().join("abi").display()
    );
    let mut command = Command::new("sh");
    let output =
        command.args(["-c", &format!("trap '' XFSZ; {line}")]).env("CRANNOG_ARTIFACTS", artifacts()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.lines().count() == 1 && text.contains("initramfs.cpio"), "{text}");
}

#[test]
fn runs_side_by_side_share_the_package_cache() {
    let cache = std::env::temp_dir().join(format!("crannog-cache-{}", std::process::id()));
    let start = || {
        Command::new(artifacts().join("crannog"))
            .args(["run", "--quiet", "--dry-run", "--debs", "libcap2", "--", "/bin/true"])
            .env("CRANNOG_ARTIFACTS", artifacts())
            .env("XDG_CACHE_HOME", &cache)
            .env("TMPDIR", &cache)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    std::fs::create_dir_all(&cache).unwrap();
    let runs: Vec<Child> = (0..3).map(|_| start()).collect();
    let texts: Vec<String> = runs
        .into_iter()
        .map(|run| {
            let output = run.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{text}");
            text
        })
        .collect();
    let fetched = texts.iter().filter(|text| text.contains("fetching libcap2")).count();
    let trees = std::fs::read_dir(cache.join("crannog/trees")).unwrap().flatten().map(|entry| entry.path());
    let left: Vec<_> = trees.filter(|path| path.extension().is_some()).collect();
    std::fs::remove_dir_all(&cache).unwrap();
    assert_eq!(fetched, 1, "{texts:?}");
    assert!(left.is_empty(), "left behind: {left:?}");
}
