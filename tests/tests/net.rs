//! The network: devices, programs over the wire with a real peer on the host, and machines among themselves.

use machine_tests::net::{HOST, Machine, free_port, get, serve_dns, serve_http, talk};
use machine_tests::{crannog, shell};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");

/// A line of shell in a machine on QEMU's network.
fn online(options: &[&str], line: &str) -> machine_tests::Run {
    let mut all = vec!["--net", "user"];
    all.extend(options);
    // The lease first: programs on the command line do not wait for it.
    let wait = "i=0; while ! ip route | grep -q ^default && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; ";
    shell(&all, &format!("{wait}{line}"))
}

/// A machine in the background with the demo's root file system.
fn background(options: &[&str], line: &str) -> Machine {
    let mut all = vec!["--quiet"];
    all.extend(options);
    all.extend(["--recipe", DEMO, "--", "/bin/sh", "-c", line]);
    Machine::start(&all)
}

fn temporary(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("crannog-test-{}-{name}", std::process::id()));
    path.display().to_string()
}

#[test]
fn a_taken_port_is_named_before_the_boot() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let run = crannog(&["-p", &format!("{port}:80"), "--debs", "busybox-static", "--", "/bin/busybox"]);
    run.expect(125).says(&format!("port {port} is taken"));
}

#[test]
fn dry_run_shows_the_network() {
    let dry = |options: &[&str]| {
        let mut all = vec!["--dry-run"];
        all.extend(options);
        all.extend(["--debs", "busybox-static", "--", "/bin/busybox"]);
        crannog(&all).expect(0).stdout
    };
    let port = free_port();
    let user = dry(&["-p", &format!("{port}:80"), "--pcap", "/tmp/frames"]);
    assert!(user.contains(&format!("hostfwd=tcp:127.0.0.1:{port}-:80")), "{user}");
    assert!(user.contains("filter-dump,id=pcap,netdev=net0,file=/tmp/frames"), "{user}");
    assert!(!dry(&["--net", "none"]).contains("virtio-net"));
    let (alpha, beta) = (dry(&["--net", "socket:a", "--name", "x"]), dry(&["--net", "socket:a", "--name", "y"]));
    let word = |text: &str, name: &str| text.split_whitespace().find(|word| word.contains(name)).unwrap().to_string();
    assert_eq!(word(&alpha, "dgram,"), word(&beta, "dgram,"));
    assert_ne!(word(&alpha, "mac="), word(&beta, "mac="));
    assert_ne!(word(&alpha, "ip=10."), word(&beta, "ip=10."));
}

#[test]
fn cards_on_both_transports_are_there() {
    let list = "ls -1 /sys/class/net; cat /sys/class/net/eth0/address; grep -c virtio-net /proc/interrupts";
    for device in ["virtio-net-device,netdev=n", "virtio-net-pci,netdev=n,romfile="] {
        let device = format!("--qemu-arg={device},mac=52:54:00:aa:bb:cc");
        let options = ["--qemu-arg=-netdev", "--qemu-arg=user,id=n", "--qemu-arg=-device", &device];
        shell(&options, list).expect(0).prints("eth0\nlo\n52:54:00:aa:bb:cc\n1\n");
    }
}

#[test]
fn the_lease_is_taken_and_shown() {
    let line = "ip -4 addr show eth0 | grep -o 'inet [0-9./]*'; ip route | head -n 1; cat /etc/resolv.conf; \
                ifconfig eth0 | grep -o 'inet addr:[0-9.]*'; route -n | awk '$1 == \"0.0.0.0\" {print $2, $8}'";
    online(&[], line).expect(0).prints(
        "inet 10.0.2.15/24\ndefault via 10.0.2.2 dev eth0 \nnameserver 10.0.2.3\ninet addr:10.0.2.15\n10.0.2.2 eth0\n",
    );
}

#[test]
fn ping_the_gateway() {
    let run = online(&[], "ping -c 3 -i 0.2 10.0.2.2 | grep received; ip neigh | grep -c lladdr").expect(0);
    assert!(run.stdout.contains("3 packets received, 0% packet loss"), "{}", run.stdout);
}

#[test]
fn wget_from_the_host() {
    let body: &'static [u8] = (0..3_000_000u32).map(|byte| ((byte * 7) >> 3) as u8).collect::<Vec<_>>().leak();
    let port = serve_http(body);
    online(
        &["--cpus", "2"],
        &format!("wget -q -O /tmp/file http://{HOST}:{port}/ && wc -c < /tmp/file && md5sum < /tmp/file"),
    )
    .expect(0)
    .prints(&format!("{}\n{}", body.len(), md5sum(body)));
}

/// What md5sum(1) of this host prints for `bytes`.
fn md5sum(bytes: &'static [u8]) -> String {
    let mut child = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum starts");
    let mut input = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(bytes));
    let output = child.wait_with_output().expect("md5sum ends");
    writer.join().expect("the writer ends").expect("md5sum reads");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn names_are_looked_up() {
    let port = serve_dns();
    let run = online(&[], &format!("nslookup -port={port} -type=a crannog.example {HOST}")).expect(0);
    assert!(run.stdout.contains("192.0.2.7"), "{}", run.stdout);
}

#[test]
fn connections_from_the_host() {
    let port = free_port();
    let _machine = background(&["-p", &format!("{port}:7")], "while :; do nc -l -p 7 -e /bin/cat; done");
    let text = b"over and back\n".repeat(1000);
    for _ in 0..3 {
        assert_eq!(talk(port, &text, |answer| answer.len() >= text.len()), text);
    }
}

#[test]
fn the_demo_shows_itself() {
    let port = free_port();
    let _machine = background(&["-p", &format!("{port}:8080"), "--cpus", "2"], "sleep 200");
    assert!(get(port, "/").contains("<title>Crannog</title>"));
    let live = get(port, "/live");
    for word in ["sleep", "page", "MemFree:", "eth0", "LISTEN", "nanosleep"] {
        assert!(live.contains(word), "no {word} in\n{live}");
    }
}

#[test]
fn python_serves_and_fetches() {
    let port = free_port();
    let host = serve_http(b"from the host\n");
    let script = format!(
        "import urllib.request, http.server\n\
         for _ in range(100):\n    try: print(urllib.request.urlopen('http://{HOST}:{host}/').read().decode(), flush=True); break\n    \
         except OSError as e: import time; time.sleep(0.1); last = e\n\
         class H(http.server.BaseHTTPRequestHandler):\n    protocol_version = 'HTTP/1.1'\n    def do_GET(self):\n        \
         b = b'from the guest ' + self.path.encode(); self.send_response(200); \
         self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)\n\
         http.server.ThreadingHTTPServer(('', 80), H).serve_forever()\n"
    );
    let publish = format!("{port}:80");
    let mut machine = Machine::start(&[
        "--quiet",
        "-m",
        "512M",
        "--cpus",
        "2",
        "-p",
        &publish,
        "--debs",
        "python3",
        "--",
        "/usr/bin/python3",
        "-c",
        &script,
    ]);
    machine.wait_for("from the host");
    assert_eq!(get(port, "/a"), "from the guest /a");
    assert_eq!(get(port, "/b"), "from the guest /b");
}

#[test]
fn two_machines_on_a_link() {
    let link = format!("socket:test{}", std::process::id());
    let server = "for i in 1 2; do nc -l -p 7000 -e /bin/cat; done";
    let _alpha = background(&["--net", &link, "--name", "alpha"], server);
    let client = "i=0; until echo hello from beta | nc -w 5 alpha 7000 | grep hello || [ $i -ge 60 ]; do sleep 0.5; i=$((i+1)); done; \
                  ping -c 2 alpha | grep -c 'bytes from'";
    let beta = background(&["--net", &link, "--name", "beta", "--peer", "alpha"], client);
    let (status, text) = beta.end();
    assert!(status == 0 && text.contains("hello from beta\n2"), "{status}: {text}");
}

#[test]
fn a_linux_machine_on_the_same_link() {
    let Some(kernel) = machine_tests::oracle() else { return };
    let link = format!("socket:linux{}", std::process::id());
    let server = "for i in 1 2; do nc -l -p 7000 -e /bin/cat; done";
    let _linux = background(&["--net", &link, "--name", "linux", "--kernel", &kernel], server);
    let client = "i=0; until echo hello from crannog | nc -w 5 linux 7000 | grep hello || [ $i -ge 60 ]; do sleep 0.5; i=$((i+1)); done; \
                  ping -c 2 linux | grep -c 'bytes from'";
    let (status, text) = background(&["--net", &link, "--name", "beta", "--peer", "linux"], client).end();
    assert!(status == 0 && text.contains("hello from crannog\n2"), "{status}: {text}");
}

/// The device raises its line before the kernel has a handler for it.
#[test]
fn frames_come_before_the_machine_is_there() {
    let link = format!("socket:flood{}", std::process::id());
    let on_link = ["--net", &link, "--name", "alpha"];
    let dry =
        crannog(&["--net", &link, "--name", "alpha", "--dry-run", "--recipe", DEMO, "--", "/bin/sh"]).expect(0).stdout;
    let value = |key: &str| {
        let (_, rest) = dry.split_once(key).unwrap();
        rest.split([',', ' ', '\'', '\n']).next().unwrap().to_string()
    };
    let group: Ipv4Addr = value("remote.host=").parse().unwrap();
    let port: u16 = value("remote.port=").parse().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = is_over.clone();
    let flood = std::thread::spawn(move || {
        // A multicast goes out where its source address is: it stays on this host.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut frame = [0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
        // An experiment's protocol: nobody answers.
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        while !stop.load(Ordering::Relaxed) {
            socket.send_to(&frame, (group, port)).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let mut alpha = background(&on_link, "ip -4 addr show eth0; sleep 200");
    alpha.wait_for("inet ");
    is_over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let client = "i=0; until ping -c 1 -W 1 alpha >/dev/null || [ $i -ge 20 ]; do i=$((i+1)); done; [ $i -lt 20 ] && echo answered";
    let (status, text) = background(&["--net", &link, "--name", "beta", "--peer", "alpha"], client).end();
    assert!(status == 0 && text.contains("answered"), "{status}: {text}");
}

#[test]
fn frames_are_written_to_a_file() {
    let file = temporary("frames.pcap");
    online(&["--pcap", &file], "ping -c 1 10.0.2.2 >/dev/null").expect(0);
    let bytes = std::fs::read(&file).unwrap();
    let _ = std::fs::remove_file(&file);
    assert_eq!(bytes[..4], 0xa1b2_c3d4u32.to_ne_bytes());
    assert!(bytes.windows(4).any(|four| four == [10, 0, 2, 15]), "no frame of ours in {} bytes", bytes.len());
}

#[test]
fn cable_out_and_in() {
    let socket = temporary("qmp");
    let monitor = format!("--qemu-arg=unix:{socket},server=on,wait=off");
    let line = "s() { cat /sys/class/net/eth0/operstate; }; \
                until [ $(s) = up ]; do sleep 0.1; done; echo ready; until [ $(s) = down ]; do sleep 0.1; done; echo out; \
                until [ $(s) = up ]; do sleep 0.1; done; \
                i=0; until ping -c 1 -W 1 10.0.2.2 >/dev/null || [ $i -ge 30 ]; do i=$((i+1)); done; [ $i -lt 30 ] && echo again";
    let mut machine = background(&["--qemu-arg=-qmp", &monitor], line);
    machine.wait_for("ready");
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
    let mut set = |up: bool| {
        let order = format!("{{\"execute\":\"set_link\",\"arguments\":{{\"name\":\"net0\",\"up\":{up}}}}}\n");
        stream.write_all(order.as_bytes()).unwrap();
    };
    set(false);
    machine.wait_for("out");
    set(true);
    machine.wait_for("again");
}
