//! `crannog run --gdb`: the machine waits at its first instruction, and gdb sees the kernel's source.

use machine_tests::{artifacts, host};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A machine that waits for gdb; dropping it ends it.
struct Waiting {
    tool: Child,
    /// Where gdb is to attach, and with which symbols.
    target: String,
    symbols: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.tool.id().to_string()).status();
        let _ = self.tool.wait();
    }
}

/// Starts a machine whose program ends with status 7, and reads the line that the tool prints.
fn start(option: &str) -> Waiting {
    let mut tool = Command::new(artifacts().join("crannog"))
        .args(["run", "--quiet", "--net", "none", "--timeout", "120", option])
        .args(["--debs", "busybox-static", "--", "/bin/busybox", "sh", "-c", "echo ran; exit 7"])
        .env("CRANNOG_ARTIFACTS", artifacts())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the host tool starts");
    let mut lines = BufReader::new(tool.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let line = lines.find_map(|line| Some(line.split_once("waits at its first instruction for: ")?.1.to_string()));
    let line = line.expect("the line that attaches gdb");
    // What else is said goes nowhere, but somebody must read it.
    std::thread::spawn(move || lines.count());
    let (program, words) = line.split_once(' ').expect("words");
    assert_eq!(program, "gdb-multiarch");
    let (symbols, target) = words.split_once(" -ex 'target remote ").expect("a target");
    Waiting { target: target.trim_end_matches('\'').to_string(), symbols: symbols.to_string(), tool }
}

fn gdb(machine: &Waiting, commands: &[&str]) -> Output {
    let mut gdb = host::program("gdb-multiarch", "/usr/bin/gdb-multiarch");
    gdb.args(["-batch", "-nx", &machine.symbols, "-ex", &format!("target remote {}", machine.target)]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.env("PYTHONHOME", host::root("gdb-multiarch").join("usr"));
    gdb.stdin(Stdio::null()).output().expect("gdb starts")
}

/// The machine's end: what its program printed, and its status.
fn end(machine: &mut Waiting) -> (String, Option<i32>) {
    let mut output = String::new();
    let mut stdout = machine.tool.stdout.take().expect("a pipe");
    std::io::Read::read_to_string(&mut stdout, &mut output).expect("output");
    (output, machine.tool.wait().expect("a child").code())
}

#[test]
fn the_machine_waits_and_gdb_stops_in_the_kernels_source() {
    let mut machine = start("--gdb");
    // It does nothing while it waits.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert!(machine.tool.try_wait().expect("a child").is_none(), "the machine went on by itself");
        std::thread::sleep(Duration::from_millis(100));
    }
    let commands =
        ["printf \"at %#lx\\n\", $pc", "hbreak kernel_main", "continue", "info symbol $pc", "info line *$pc", "detach"];
    let output = gdb(&machine, &commands);
    let text = String::from_utf8_lossy(&output.stdout);
    let all = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // The first instruction of QEMU's virt machine: its boot stub at the beginning of memory.
    assert!(text.contains("at 0x40000000"), "{all}");
    assert!(text.lines().any(|line| line.starts_with("kernel_main")), "{all}");
    assert!(text.contains("main.rs\""), "{all}");
    assert_eq!(end(&mut machine), (String::from("ran\n"), Some(7)), "{all}");
}

#[test]
fn at_a_port() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let mut machine = start(&format!("--gdb={port}"));
    assert_eq!(machine.target, format!("127.0.0.1:{port}"));
    let output = gdb(&machine, &["info registers pc", "detach"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("0x40000000"), "{output:?}");
    assert_eq!(end(&mut machine).1, Some(7));
}
