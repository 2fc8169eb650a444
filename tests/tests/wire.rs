//! Two machines on a link, the server on Crannog, the client on Debian's Linux where `scripts/test` has fetched it and else on
//! Crannog, and the other way round.

use machine_tests::link::Peer;
use machine_tests::net::Machine;
use machine_tests::{oracle, sample};
use std::time::{Duration, Instant};

/// So long a whole pair may take, in seconds.
const LIMIT_S: u32 = 1200;

/// Where a machine's kernel comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Crannog,
    LinuxIfThere,
}

/// One of two machines.
struct Side<'a> {
    kernel: Kernel,
    packages: &'a str,
    options: &'a [&'a str],
    /// A script for busybox's shell.
    script: &'a str,
}

fn start(link: &str, name: &str, peer: &str, side: &Side<'_>) -> Machine {
    let packages = format!("busybox-static,{}", side.packages);
    let packages = packages.trim_end_matches(',');
    let volume = format!("{}:/usr/local/bin/services", sample("services"));
    let linux = oracle().filter(|_| side.kernel == Kernel::LinuxIfThere);
    let mut words = vec!["--quiet", "--net", link, "--name", name, "--peer", peer, "--debs", packages, "-v", &volume];
    if let Some(kernel) = &linux {
        words.extend(["--kernel", kernel]);
    }
    words.extend(side.options);
    // busybox finds its own tools by name where no other program has it.
    words.extend(["--", "/bin/busybox", "sh", "-c", side.script]);
    Machine::start_for(LIMIT_S, &words)
}

/// Starts `server`, waits until it says `ready`, runs `client` to its end, and answers what that said.
#[track_caller]
fn pair(name: &str, server: &Side<'_>, ready: &str, client: &Side<'_>) -> String {
    let link = format!("socket:{name}{}", std::process::id());
    let mut machine = start(&link, "server", "client", server);
    machine.wait_for(ready);
    let (status, text) = start(&link, "client", "server", client).end();
    assert_eq!(status, 0, "{text}");
    text
}

const BIG: &[&str] = &["-m", "512M", "--cpus", "2"];

#[test]
fn iperf3_both_ways() {
    let both = |server: Kernel, client: Kernel| {
        let server =
            Side { kernel: server, packages: "iperf3", options: BIG, script: "/usr/bin/iperf3 -s --forceflush" };
        // Between two runs the server does not listen for a moment.
        let script = "run() { tries=0; until /usr/bin/iperf3 -c server -t 1 --connect-timeout 20000 $* > /tmp/out 2>&1; do
                tries=$((tries + 1)); grep -q refused /tmp/out && [ $tries -lt 30 ] || { cat /tmp/out; exit 1; }; sleep 1; done
            grep -E 'receiver' /tmp/out; }
            run; run -R; run -P 4; run -u -b 10M; run -u -b 10M -R; echo done";
        let client = Side { kernel: client, packages: "iperf3", options: BIG, script };
        let text = pair("iperf", &server, "Server listening", &client);
        // Parallel streams report one by one and together.
        assert_eq!(text.matches("receiver").count(), 9, "{text}");
        assert!(!text.contains(" 0.00 bits/sec") && !text.contains("(100%)"), "{text}");
        println!("{text}");
    };
    both(Kernel::Crannog, Kernel::LinuxIfThere);
    both(Kernel::LinuxIfThere, Kernel::Crannog);
}

/// TCP and UDP over IPv4, over link-local IPv6 and over addresses that the machines make from a router's prefix, and `mib` MiB
/// each way with a checksum; `server` listens.
#[track_caller]
fn transfers(name: &str, server: Kernel, client: Kernel, mib: u32) {
    // Random bytes, so that nothing can be lost or change its place unseen; the same 4 MiB again and again.
    let data = format!(
        "head -c 4194304 /dev/urandom > /tmp/block
        echo 'i=0; while [ $i -lt {} ]; do cat /tmp/block; i=$((i+1)); done' > /tmp/data; sh /tmp/data | md5sum > /tmp/sum",
        mib / 4
    );
    let serve = format!(
        "busybox ln -sf /bin/busybox /bin/sh; {data}; echo 'ip -6 addr show eth0' > /tmp/addresses
        nc -ll -p 8001 -e /bin/sh /tmp/data & nc -ll -p 8002 -e /bin/busybox md5sum &
        nc -ll -p 8003 -e /bin/busybox cat /tmp/sum & nc -ll -p 8004 -e /bin/sh /tmp/addresses &
        exec /usr/local/bin/services"
    );
    let ask = format!(
        "busybox ln -sf /bin/busybox /bin/sh; {data}
        often() {{ i=0; until eval \"$1\" || [ $i -ge 60 ]; do sleep 0.2; i=$((i+1)); done; }}
        far() {{ nc -w 5 server 8004 | sed -n \"s/.*inet6 \\($1[^/]*\\).*/\\1/p\" | head -n 1; }}
        own() {{ ip -6 addr show eth0 | grep -v tentative | grep -c \"inet6 $1\"; }}
        both() {{ often \"echo tcp $1 | socat -t 5 - TCP:$2:7 | grep tcp\"; often \"echo udp $1 | socat -t 1 - UDP:$2:7 | grep udp\"; }}
        both v4 server
        often '[ $(own fe80) = 1 ]'; often '[ -n \"$(far fe80)\" ]'; both link-local [$(far fe80)%eth0]
        often '[ $(own 2001:db8) = 1 ]'; often '[ -n \"$(far 2001:db8)\" ]'; both global [$(far 2001:db8)]
        ping -c 2 $(far 2001:db8) | grep -c 'bytes from'
        [ \"$(socat -u -b 65536 TCP:server:8001 - | md5sum)\" = \"$(nc server 8003)\" ] && echo came whole
        [ \"$(sh /tmp/data | socat -t 60 -b 65536 - TCP:server:8002)\" = \"$(cat /tmp/sum)\" ] && echo went whole"
    );
    let link = format!("socket:{name}{}", std::process::id());
    let side = |kernel, script| Side { kernel, packages: "socat", options: BIG, script };
    let mut machine = start(&link, "server", "client", &side(server, &serve));
    let mut router = Peer::on(&link, "server");
    machine.wait_for("services are there");
    let mut last = Instant::now();
    let (status, text) = start(&link, "client", "server", &side(client, &ask)).end_with(|| {
        if last.elapsed() > Duration::from_millis(500) {
            last = Instant::now();
            router.advertise(0x77);
        }
        router.drain();
    });
    assert_eq!(status, 0, "{text}");
    for (kind, over) in ["tcp", "udp"].iter().flat_map(|kind| ["v4", "link-local", "global"].map(|over| (kind, over))) {
        assert!(text.contains(&format!("{kind} {over}")), "no {kind} over {over} in\n{text}");
    }
    for expected in ["\n2\n", "came whole", "went whole"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn crannog_and_crannog() {
    transfers("same", Kernel::Crannog, Kernel::Crannog, 64);
}

#[test]
fn linux_asks_crannog() {
    transfers("mixed", Kernel::Crannog, Kernel::LinuxIfThere, 64);
}

#[test]
fn crannog_asks_linux() {
    transfers("other", Kernel::LinuxIfThere, Kernel::Crannog, 64);
}

#[test]
#[ignore = "takes many minutes"]
fn a_gibibyte_each_way() {
    transfers("gigs", Kernel::Crannog, Kernel::Crannog, 1024);
    transfers("gigm", Kernel::Crannog, Kernel::LinuxIfThere, 1024);
}
