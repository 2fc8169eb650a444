//! What the machine does is seen: the tools ps, top, waits and trace; and that what sleeps executes nothing.

use machine_tests::machine::Scratch;
use machine_tests::net::free_port;
use machine_tests::programs::compile;
use machine_tests::{artifacts, crannog, shell};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The line of `text` in which `word` stands by itself.
#[track_caller]
fn line<'a>(text: &'a str, word: &str) -> &'a str {
    let found = text.lines().find(|line| line.split_whitespace().any(|other| other == word));
    found.unwrap_or_else(|| panic!("no {word:?} in\n{text}"))
}

#[test]
fn tools_name_waits_spinners_and_a_deadlock() {
    let scratch = Scratch::new("seen");
    let program = compile("waits", "seen", &["-static"]);
    std::fs::copy(&program, scratch.path("waits")).unwrap();
    std::fs::remove_file(program).unwrap();
    let volume = format!("{}:/t", scratch.0.display());
    let script = "cd /usr/local/bin; /t/waits & sleep 1000 | cat & (while :; do :; done) & \
        i=0; until ./waits | grep -q Deadlock && [ $(./waits | grep -c Spinning) = 2 ] || [ $i = 300 ]; do sleep 0.1; i=$((i+1)); done; \
        ./waits; echo ==; ./ps -eL -o comm,doing; echo ==; ./ps aux; echo ==; ./top -b -n 2 -d 0.5 -H; echo ==; ./ps -p 1 -o pid=,comm=";
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
    let words =
        ["--quiet", "--net", "none", "--cpus", "2", "-v", &volume, "--recipe", recipe, "--", "/bin/sh", "-c", script];
    let run = crannog(&words).expect(0);
    let parts: Vec<&str> = run.stdout.split("==\n").collect();
    let [waits, threads, aux, top, one] = parts[..] else { panic!("{}", run.stdout) };

    for text in [waits, threads] {
        assert!(line(text, "first").contains("Blocked on futex: mutex at "), "{text}");
        assert!(line(text, "first").contains(" second; "), "{text}");
        assert!(line(text, "second").contains(" first; "), "{text}");
        assert!(line(text, "yielder").contains("Spinning ("), "{text}");
        assert!(line(text, "cat").contains("Blocked on pipe_read: bytes from pipe "), "{text}");
        assert!(line(text, "cat").contains(" sleep; "), "{text}");
        assert!(line(text, "sleep").contains("Blocked on nanosleep ("), "{text}");
        assert!(line(text, "init").contains("Blocked on wait ("), "{text}");
    }
    let cycle = waits.split("Deadlocks:").nth(1).expect("a deadlock");
    assert!(cycle.contains("first") && cycle.contains("second"), "{waits}");
    assert!(aux.starts_with("USER       PID %CPU %MEM    VSZ   RSS TTY     STAT START     TIME COMMAND\n"), "{aux}");
    assert!(line(aux, "/t/waits").starts_with("root "), "{aux}");
    // Two CPUs, two that use all they get.
    let last = top.split("\n\n").last().expect("a page");
    for name in ["yielder", "sh"] {
        let share: f64 = line(last, name).split_whitespace().nth(3).unwrap().parse().unwrap();
        assert!(share > 30.0, "{top}");
        assert!(line(last, name).contains("Spinning ("), "{top}");
    }
    assert!(top.contains("2 spinning"), "{top}");
    assert_eq!(one.split_whitespace().collect::<Vec<_>>(), ["1", "init"], "{one}");
}

#[test]
fn trace_prints_calls() {
    let script = "cd /usr/local/bin; echo hello > /tmp/x; export PATH=/bin; \
        ./trace -o /tmp/t cat /tmp/x; echo status $?; cat /tmp/t; echo ==; \
        ./trace -o /tmp/t -e trace=openat,%process sh -c 'cat /none | cat; exit 3'; echo status $?; cat /tmp/t; echo ==; \
        ./trace -c -o /tmp/t sh -c 'kill -9 $$'; echo status $?; cat /tmp/t; echo ==; \
        mkfifo /tmp/f; (read x < /tmp/f; sleep 0.1) & ./trace -e clock_nanosleep,nanosleep -p $! -o /tmp/t & \
        until ./waits | grep -q trace_read; do sleep 0.1; done; echo > /tmp/f; wait; cat /tmp/t; echo ==; \
        ./trace -e none_such true; echo status $?; ./trace none_such; echo status $?";
    let run = shell(&[], script).expect(0);
    let parts: Vec<&str> = run.stdout.split("==\n").collect();
    let [all, several, counts, attached, wrong] = parts[..] else { panic!("{}\n{}", run.stdout, run.stderr) };

    assert!(all.starts_with("hello\nstatus 0\nexecve(\"/bin/cat\", [\"cat\", \"/tmp/x\"], 0x"), "{all}");
    for text in [
        "openat(AT_FDCWD, \"/tmp/x\", O_RDONLY) = 3\n",
        "brk(NULL) = 0x",
        "getrandom(\"",
        " = -1 ENOSYS (Function not implemented)\n",
        "exit_group(0) = ?\n+++ exited with 0 +++\n",
    ] {
        assert!(all.contains(text), "no {text:?} in\n{all}");
    }
    assert!(several.contains("status 3\n"), "{several}");
    for text in [
        "|SIGCHLD, NULL, ",
        "openat(AT_FDCWD, \"/none\", O_RDONLY) = -1 ENOENT (No such file or directory)\n",
        "exit_group(3) = ?\n",
        "--- SIGCHLD ---\n",
        "[pid ",
    ] {
        assert!(several.contains(text), "no {text:?} in\n{several}");
    }
    assert!(!several.contains("brk("), "{several}");
    assert!(counts.contains("status 137\n"), "{counts}");
    assert!(line(counts, "execve").ends_with(" execve") && line(counts, "total").ends_with(" total"), "{counts}");
    assert!(attached.contains("nanosleep(") && attached.contains("exited with 0"), "{attached}");
    assert!(wrong.contains("trace: there is no call 'none_such'") && wrong.contains("\nstatus 2\n"), "{wrong}");
    assert!(wrong.contains("trace: none_such: not found\nstatus 1\n"), "{wrong}");
}

/// The machine's monitor, asked for the number of instructions its CPUs have executed.
struct Monitor {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Monitor {
    fn connect(path: &std::path::Path) -> Self {
        let until = Instant::now() + Duration::from_secs(30);
        let write = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let read = BufReader::new(write.try_clone().unwrap());
        let mut monitor = Self { write, read };
        monitor.ask("qmp_capabilities");
        monitor
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.write, "{{\"execute\": \"{command}\"}}").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.read.read_line(&mut line).unwrap(), 0, "the monitor hung up");
            if line.starts_with("{\"return\"") {
                return line;
            }
        }
    }

    /// With -icount this is exact: every instruction of every CPU.
    fn instructions(&mut self) -> u64 {
        let answer = self.ask("query-replay");
        let digits = answer.split("\"icount\": ").nth(1).expect("a count");
        digits[..digits.find(|letter: char| !letter.is_ascii_digit()).unwrap()].parse().unwrap()
    }
}

/// A machine that counts its instructions: with -icount virtual time is the count of instructions while a CPU runs, and real
/// time while all wait.
struct Counted {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    monitor: Monitor,
    _scratch: Scratch,
}

impl Counted {
    /// The demo's machine with `options`, which runs `script`.
    fn start(name: &str, options: &[&str], script: &str) -> Self {
        let scratch = Scratch::new(name);
        let socket = scratch.path("monitor");
        let monitor = format!("--qemu-arg=unix:{},server=on,wait=off", socket.display());
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
        let mut child = Command::new(artifacts().join("crannog"))
            .args(["run", "--quiet", "--timeout", "120", "--qemu-arg=-icount", "--qemu-arg=shift=3"])
            .args(["--qemu-arg=-qmp", &monitor, "--recipe", recipe])
            .args(options)
            .args(["--", "/bin/sh", "-c", script])
            .env("CRANNOG_ARTIFACTS", artifacts())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let monitor = Monitor::connect(&socket);
        Self { child, lines, monitor, _scratch: scratch }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.lines.next().expect("a line").unwrap()
    }

    #[track_caller]
    fn until(&mut self, word: &str) {
        while self.line().trim() != word {}
    }

    /// Instructions executed in `time`.
    fn instructions_in(&mut self, time: Duration) -> u64 {
        let before = self.monitor.instructions();
        assert!(before > 1_000_000, "the machine counts: {before}");
        std::thread::sleep(time);
        self.monitor.instructions() - before
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_sleeps_executes_nothing_and_who_spins_gets_all() {
    // Asleep in many ways; then one that spins for as long as it is let.
    let script = "sleep 1000 | cat | cat & mkfifo /tmp/f; cat /tmp/f & (read x < /tmp/f) & \
        until [ $(grep -o '\"activity\":\"blocked\"' /proc/waits | wc -l) -ge 7 ]; do sleep 0.1; done; \
        echo asleep; sleep 11; \
        (while :; do :; done) & p=$!; echo spinning; sleep 3; cat /proc/$p/stat; cut -d' ' -f1 /proc/uptime; sleep 2; \
        cat /proc/$p/stat; cut -d' ' -f1 /proc/uptime";
    let mut machine = Counted::start("idle", &["--net", "none"], script);

    machine.until("asleep");
    std::thread::sleep(Duration::from_millis(500));
    let slept = machine.instructions_in(Duration::from_secs(10));
    assert!(slept < 10_000, "{slept} instructions in 10 s in which every task slept");

    machine.until("spinning");
    let spun = machine.instructions_in(Duration::from_secs(1));
    assert!(spun > 1_000_000, "only {spun} instructions in a second of spinning");

    // The spinner's own time, and the machine's, in hundredths of a second.
    let mut sample = || {
        let stat = machine.line();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_whitespace().collect();
        let own: f64 = fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap();
        let uptime: f64 = machine.line().trim().parse().unwrap();
        (own, uptime * 100.0)
    };
    let (first, second) = (sample(), sample());
    let share = (second.0 - first.0) / (second.1 - first.1);
    assert!(share > 0.95, "the spinner had {share} of the CPU");
    assert!(machine.child.wait().unwrap().success());
}

/// A card with its lease, connections over the wire and over loopback, listeners and a UDP socket, and nothing said.
#[test]
fn a_network_at_rest_costs_no_timer_interrupts() {
    let port = free_port();
    let (published, programs) = (format!("{port}:7"), format!("{}:/sample", artifacts().display()));
    // The 20 s are for what the first minute brings: the lease, routers asked for, neighbours that are forgotten.
    let script = "/sample/sample-services & \
        until ip route | grep -q ^default; do sleep 0.1; done; \
        until netstat -ltn | grep -q ':7 '; do sleep 0.1; done; \
        sleep 1000 | nc 127.0.0.1 7 & \
        until [ $(netstat -tn | grep -c ESTABLISHED) = 3 ]; do sleep 0.1; done; \
        netstat -un | grep -c ':7 '; sleep 20; \
        grep arch_timer /proc/interrupts; echo quiet; sleep 12; grep arch_timer /proc/interrupts";
    let options = ["--net", "user", "-p", &published, "-v", &programs];
    let mut machine = Counted::start("quiet", &options, script);
    let mut peer = loop {
        let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut byte = [0];
        // QEMU takes connections before the guest listens.
        if peer.write_all(b"!").is_ok() && peer.read_exact(&mut byte).is_ok() {
            break peer;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let interrupts = |line: String| -> u64 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    let before = loop {
        let line = machine.line();
        if line.contains("arch_timer") {
            break interrupts(line);
        }
    };
    machine.until("quiet");
    std::thread::sleep(Duration::from_millis(500));
    let executed = machine.instructions_in(Duration::from_secs(10));
    let timers = interrupts(machine.line()) - before;
    // All is still there.
    let mut byte = [0];
    peer.write_all(b"?").unwrap();
    peer.read_exact(&mut byte).unwrap();
    assert!(executed < 10_000, "{executed} instructions in 10 s in which nothing was said");
    // One ends the shell's sleep; the load averages look every 5 s; the time slices of what prints are the others.
    assert!(timers <= 10, "{timers} timer interrupts in 12 s");
}
