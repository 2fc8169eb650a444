//! Debian's servers in a machine and Debian's clients on the host ([`machine_tests::host`]), over published ports.

use machine_tests::host;
use machine_tests::load::{Connections, requests};
use machine_tests::machine::Scratch;
use machine_tests::net::{Machine, PATIENCE, free_port, get, talk};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
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

#[test]
fn telnetd_on_a_terminal() {
    let port = free_port();
    let publish = format!("{port}:23");
    let script = "busybox ln -sf /bin/busybox /bin/sh; exec busybox telnetd -F -l /bin/sh";
    let words = ["--quiet", "-p", &publish, "--debs", "busybox-static", "--", "/bin/busybox", "sh", "-c", script];
    let _machine = Machine::start(&words);
    let question = b"tty; echo the answer is $((6 * 7)); exit\r\n";
    let answer = talk(port, question, |answer| String::from_utf8_lossy(answer).contains("the answer is 42"));
    assert!(String::from_utf8_lossy(&answer).contains("/dev/pts/"), "{}", String::from_utf8_lossy(&answer));
}

/// Runs a client to its end with `input` to read; answers its status and what it printed.
#[track_caller]
fn client(mut command: Command, input: &[u8]) -> (Option<i32>, Vec<u8>) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("the client starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // A client that needs no more of it may be gone before it is written.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("a child")
    });
    (output.status.code(), output.stdout)
}

#[test]
fn dropbear_lets_the_host_in() {
    let home = Scratch::new("ssh");
    let port = free_port();
    let ssh = |line: &str, input: &[u8]| {
        let mut command = host::program("dropbear-bin", "/usr/bin/dbclient");
        command.args(["-y", "-y", "-p", &port.to_string(), "root@127.0.0.1", line]);
        command.env("HOME", home.path("")).env("DROPBEAR_PASSWORD", "secret");
        client(command, input)
    };
    let script = "mkdir -p /root /etc/dropbear /tmp; hash=$(busybox mkpasswd -m sha512 secret)
        echo \"root:$hash:0:0::/root:/bin/sh\" > /etc/passwd; echo 'root:x:0:' > /etc/group; echo /bin/sh > /etc/shells
        busybox ln -sf /bin/busybox /bin/sh; busybox ln -sf /bin/busybox /bin/cat; exec /usr/sbin/dropbear -F -E -R";
    let publish = format!("{port}:22");
    let packages = ["--debs", "busybox-static,dropbear-bin", "--", "/bin/busybox", "sh", "-c", script];
    let _machine = Machine::start(&[&["--quiet", "-p", &publish], &packages[..]].concat());
    talk(port, b"", |greeting| greeting.starts_with(b"SSH-2.0-dropbear"));
    assert_eq!(ssh("echo over there: $((6 * 7))", b""), (Some(0), b"over there: 42\n".to_vec()));
    assert_eq!(ssh("exit 7", b"").0, Some(7));
    let file: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(ssh("cat > /tmp/copy", &file).0, Some(0));
    assert!(ssh("cat /tmp/copy", b"").1 == file, "another file came back");
}

#[test]
fn postgresql_answers_the_host() {
    let port = free_port();
    let psql = |command: &str, input: &[u8]| {
        let mut program = host::program("postgresql-client-15", "/usr/lib/postgresql/15/bin/psql");
        program.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-qAt",
            "-c",
            command,
        ]);
        let (status, output) = client(program, input);
        assert_eq!(status, Some(0), "{command}");
        String::from_utf8(output).unwrap()
    };
    let script = "export PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin:/bin LC_ALL=C
        echo 'postgres:x:101:101::/tmp:/bin/sh' > /etc/passwd; mkdir -p /dev/shm /var/pg /run/postgresql /tmp; chmod 1777 /tmp
        chown 101:101 /var/pg /run/postgresql; s='/usr/bin/setpriv --reuid 101 --regid 101 --clear-groups'
        $s initdb -D /var/pg/data -A trust --no-sync > /tmp/log 2>&1 || cat /tmp/log
        echo 'host all all all trust' >> /var/pg/data/pg_hba.conf; echo data made
        exec $s postgres -D /var/pg/data -c listen_addresses='*' -c unix_socket_directories= -c shared_buffers=16MB 2>&1";
    let publish = format!("{port}:5432");
    let packages =
        ["--debs", "postgresql-15,util-linux,dash,coreutils,busybox-static", "--", "/bin/busybox", "sh", "-c", script];
    let options = ["--quiet", "-m", "1G", "--cpus", "2", "-p", &publish];
    let mut machine = Machine::start(&[&options[..], &packages].concat());
    machine.wait_for("data made");
    machine.wait_for("ready to accept connections");
    psql("create table t as select n, md5(n::text) m from generate_series(1, 20000) n", b"");
    assert_eq!(psql("select count(*), sum(length(m)) from t", b""), "20000|640000\n");
    let rows = psql("copy t to stdout", b"");
    assert_eq!(rows.lines().count(), 20000);
    psql("truncate t", b"");
    psql("copy t from stdin", rows.as_bytes());
    assert_eq!(psql("select count(distinct m) from t", b""), "20000\n");
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| psql("update t set n = n + 1", b"")))));
    assert_eq!(psql("select max(n) from t", b""), "20004\n");
}
