//! Crannog beside Debian's Linux, the same programs in the same QEMU, by the clock: `scripts/bench net`.
//!
//! Both machines are up at once and are asked in turns, so that whatever else the host does slows both. The figures are the
//! medians of the rounds; only the ratios mean something.

use machine_tests::load::{Connections, requests};
use machine_tests::net::{Machine, PATIENCE, free_port, get, talk};
use machine_tests::{host, oracle};
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

/// Starts one machine of each kind; answers the host's ports, which lead to the guests' `ports`.
fn both<const N: usize>(ports: [u16; N], words: &[&str]) -> [(Machine, [u16; N]); 2] {
    let linux = oracle().expect("Debian's kernel, which scripts/bench fetches");
    [Some(linux), None].map(|kernel| {
        let here = ports.map(|_| free_port());
        let mut all: Vec<String> = ["--quiet", "-m", "512M", "--cpus", "2"].map(String::from).to_vec();
        for (here, there) in here.iter().zip(ports) {
            all.extend(["-p".into(), format!("{here}:{there}")]);
        }
        if let Some(kernel) = kernel {
            all.extend(["--kernel".into(), kernel]);
        }
        all.extend(words.iter().map(|word| (*word).to_string()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        (Machine::start_for(3600, &all), here)
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both machines in turns and prints a line.
fn compare<const N: usize>(what: &str, machines: &[(Machine, [u16; N]); 2], measure: impl Fn(&[u16; N]) -> f64) {
    // Once for nothing: caches, and what is made at first use.
    for (_, ports) in machines {
        measure(ports);
    }
    let mut values = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (values, (_, ports)) in values.iter_mut().zip(machines) {
            values.push(measure(ports));
        }
    }
    let [linux, crannog] = values.map(median);
    println!("{what:<44} {linux:>10.0} {crannog:>10.0} {:>6.2}", crannog / linux);
}

/// The number in front of `unit`, of the last line that has it.
fn number_before(text: &str, unit: &str) -> f64 {
    let found = text.lines().rev().find_map(|line| line.split(unit).next().filter(|_| line.contains(unit)));
    let word = found.and_then(|text| text.split_whitespace().last());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {unit} in {text}"))
}

/// What a program of the host printed, which it must end well.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program of the host");
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The number in front of Mbits/sec of what the receivers counted, all together.
fn received(text: &str) -> f64 {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("receiver")).collect();
    number_before(&lines.join("\n"), " Mbits/sec")
}

fn iperf(port: u16, words: &[&str]) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = host::program("iperf3", "/usr/bin/iperf3");
        command.args(["-c", "127.0.0.1", "-p", &port.to_string(), "-t", "2", "-f", "m"]).args(words);
        let output = command.output().expect("iperf3 runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return received(&text);
        }
        // The server takes one at a time and may not have done with the last.
        assert!(text.contains("busy") && Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "measures, for minutes: scripts/bench net"]
fn side_by_side() {
    host::program("iperf3", "/usr/bin/iperf3");
    host::program("redis-tools", "/usr/bin/redis-benchmark");
    println!("{:<44} {:>10} {:>10} {:>6}", "by the clock", "Linux", "Crannog", "ratio");

    let script = "export PATH=/usr/bin:/bin; busybox ln -sf /bin/busybox /bin/sh
        iperf3 -s -D > /dev/null; echo 'iperf3 -c 127.0.0.1 -t 2 -f m 2>&1' > /tmp/loop
        exec busybox nc -ll -p 9000 -e /bin/busybox sh /tmp/loop";
    let words = ["--debs", "iperf3,busybox-static", "--", "/bin/busybox", "sh", "-c", script];
    let machines = both([5201, 9000], &words);
    for (_, [_, lo]) in &machines {
        talk(*lo, b"", |answer| String::from_utf8_lossy(answer).contains("receiver"));
    }
    compare("host to guest, Mbit/s", &machines, |[port, _]| iperf(*port, &[]));
    compare("guest to host, Mbit/s", &machines, |[port, _]| iperf(*port, &["-R"]));
    compare("host to guest, 4 connections, Mbit/s", &machines, |[port, _]| iperf(*port, &["-P", "4"]));
    compare("guest to host, 4 connections, Mbit/s", &machines, |[port, _]| iperf(*port, &["-P", "4", "-R"]));
    compare("loopback, Mbit/s", &machines, |[_, lo]| {
        let answer = talk(*lo, b"", |answer| String::from_utf8_lossy(answer).contains("receiver"));
        received(&String::from_utf8_lossy(&answer))
    });
    drop(machines);

    let page = include_bytes!("../../images/nginx.html");
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/nginx.toml");
    let machines = both([80], &["--recipe", recipe]);
    for (_, [port]) in &machines {
        get(*port, "/");
    }
    let per_second = |port: u16, connections, count: usize| {
        let start = Instant::now();
        assert_eq!(requests(port, 8, count, connections, "/", page), 8 * count);
        (8 * count) as f64 / start.elapsed().as_secs_f64()
    };
    compare("nginx, 8 connections that stay, requests/s", &machines, |[port]| {
        per_second(*port, Connections::Stay, 300)
    });
    compare("nginx, a connection each, requests/s", &machines, |[port]| per_second(*port, Connections::New, 40));
    drop(machines);

    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/redis.toml");
    let machines = both([6379], &["--recipe", recipe]);
    for (_, [port]) in &machines {
        talk(*port, b"PING\r\n", |answer| answer == b"+PONG\r\n");
    }
    for (what, words) in
        [("SET", &["-t", "set"][..]), ("GET", &["-t", "get"]), ("SET, 16 at a time", &["-t", "set", "-P", "16"])]
    {
        compare(&format!("redis-benchmark, 8 clients, {what}, requests/s"), &machines, |[port]| {
            let mut command = host::program("redis-tools", "/usr/bin/redis-benchmark");
            command.args(["-p", &port.to_string(), "-c", "8", "-n", "3000", "-q"]).args(words);
            number_before(&output(&mut command), " requests per second")
        });
    }
}
