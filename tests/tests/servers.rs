//! Debian's servers in a machine and Debian's clients on the host ([`machine_tests::host`]), over published ports.

use machine_tests::host;
use machine_tests::load::{Connections, requests};
use machine_tests::net::{Machine, PATIENCE, free_port, get, talk};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn nginx_serves_ten_thousand_requests() {
    let page = include_bytes!("../../images/nginx.html");
    let mut curl = host::program("curl", "/usr/bin/curl");
    let port = free_port();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/nginx.toml");
    let publish = format!("{port}:80");
    let _machine = Machine::start(&["--quiet", "-m", "512M", "--cpus", "2", "-p", &publish, "--recipe", recipe]);
    assert_eq!(get(port, "/").as_bytes(), page);
    assert_eq!(requests(port, 20, 400, Connections::Stay, "/", page), 8000);
    assert_eq!(requests(port, 20, 100, Connections::New, "/", page), 2000);
    // Twice on one connection.
    let url = format!("http://127.0.0.1:{port}/index.html");
    let output = curl.args(["-sS", "--max-time", "60", &url, &url]).output().expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, [page.as_slice(), page].concat());
}

/// A connection to redis.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }
    /// Answers the line or, without its length, the text that `command` brings; nothing when the server goes.
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let Some(len) = line.strip_prefix('$') else { return line };
        let mut text = vec![0; len.trim().parse::<usize>().unwrap() + 2];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
    /// The number behind `name` at the start of a line of what `command` brings.
    fn number(&mut self, command: &str, name: &str) -> u64 {
        let text = self.ask(command);
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }
    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}: not yet");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn redis_bears_its_benchmark_and_saves() {
    let port = free_port();
    let benchmark = |words: &[&str]| {
        let mut command = host::program("redis-tools", "/usr/bin/redis-benchmark");
        command.args(["-p", &port.to_string(), "-c", "20", "-q"]).args(words).stdin(Stdio::null());
        command
    };
    // Fetched before anything is awaited.
    let mut for_ever = benchmark(&["-l", "-t", "set", "-r", "100000", "-d", "100"]);
    let publish = format!("{port}:6379");
    let server = "/usr/bin/redis-server --protected-mode no --bind 0.0.0.0 --dir /tmp --save ''";
    let twice = format!("{server}; echo once more; exec {server}");
    let packages = ["--debs", "redis-server,busybox-static", "--", "/bin/busybox", "sh", "-c", &twice];
    let words = ["--quiet", "-m", "512M", "--cpus", "2", "-p", &publish];
    let mut machine = Machine::start(&[&words[..], &packages].concat());
    talk(port, b"PING\r\n", |answer| answer == b"+PONG\r\n");
    // A child of the server writes while clients change what is there.
    let mut clients = for_ever.stdout(Stdio::null()).spawn().expect("redis-benchmark starts");
    let mut redis = Redis::connect(port);
    redis.until("keys", |redis| redis.number("DBSIZE", ":") > 500);
    let (before, start) = (redis.number("INFO stats", "total_commands_processed:"), "+Background saving started");
    assert!(redis.ask("BGSAVE").starts_with(start));
    redis.until("the save", |redis| redis.number("INFO persistence", "rdb_bgsave_in_progress:") == 0);
    let saved = redis.ask("INFO persistence");
    assert!(saved.contains("rdb_last_bgsave_status:ok") && saved.contains("rdb_saves:1\r"), "{saved}");
    redis.until("more", |redis| redis.number("INFO stats", "total_commands_processed:") > before + 100);
    assert!(clients.try_wait().expect("a child").is_none(), "redis-benchmark has ended");
    clients.kill().expect("a signal");
    clients.wait().expect("a child");
    for (command, enough) in [("ping,set,get,incr,lpush,lpop,hset,spop,lrange_100,mset", 11), ("set,get", 2)] {
        let depth = if enough == 2 { "16" } else { "1" };
        let output = benchmark(&["-n", "500", "-P", depth, "-t", command]).output().expect("redis-benchmark runs");
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
        let done = text.lines().filter(|line| line.contains("requests per second")).count();
        assert!(output.status.success() && done >= enough, "{done} tests in {text}");
    }
    // What was saved is whole.
    redis.ask("SHUTDOWN NOSAVE");
    machine.wait_for("once more");
    talk(port, b"PING\r\n", |answer| answer == b"+PONG\r\n");
    let mut redis = Redis::connect(port);
    let keys = redis.number("DBSIZE", ":");
    assert!(keys > 500, "{keys} keys");
    assert_eq!(redis.number("INFO persistence", "rdb_last_load_keys_loaded:"), keys);
}
