//! Debian's network programs between two machines on a link: the server on Crannog, the client on Debian's Linux where
//! `scripts/test` has fetched it and else on Crannog, and the other way round. Long:
//! `cargo test -p machine-tests --test wire -- --ignored --test-threads=1`.

use machine_tests::link::Peer;
use machine_tests::net::{Machine, free_port, talk};
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
#[ignore = "two machines: a minute or two on a busy host"]
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

#[test]
#[ignore = "two machines: a minute or two on a busy host"]
fn ssh_by_dropbear() {
    let server = "mkdir -p /root /etc/dropbear /tmp; hash=$(busybox mkpasswd -m sha512 secret)
        echo \"root:$hash:0:0::/root:/bin/sh\" > /etc/passwd; echo 'root:x:0:' > /etc/group; echo /bin/sh > /etc/shells
        busybox ln -sf /bin/busybox /bin/sh; for t in cat md5sum echo uname; do busybox ln -sf /bin/busybox /bin/$t; done
        echo ready; exec /usr/sbin/dropbear -F -E -R";
    let client = "mkdir -p /root /tmp; echo 'root:x:0:0::/root:/bin/sh' > /etc/passwd; export HOME=/root DROPBEAR_PASSWORD=secret
        far() { /usr/bin/dbclient -y -y root@server \"$@\" 2>/tmp/err || { cat /tmp/err; exit 1; }; }
        i=0; until busybox nc -w 2 server 22 </dev/null | grep -q SSH || [ $i -ge 60 ]; do sleep 0.5; i=$((i+1)); done
        far 'echo over there: $((6 * 7))'
        dd if=/dev/urandom of=/tmp/file bs=65536 count=32 2>/dev/null
        far 'cat > /tmp/copy' < /tmp/file; far 'cat /tmp/copy' > /tmp/back; far 'md5sum < /tmp/copy' > /tmp/sum
        cmp /tmp/file /tmp/back && md5sum < /tmp/file | cmp - /tmp/sum && echo copied
        far 'exit 7'; echo not here";
    let packages = "dropbear-bin";
    let server = Side { kernel: Kernel::Crannog, packages, options: BIG, script: server };
    let client_side = Side {
        kernel: Kernel::LinuxIfThere,
        packages,
        options: BIG,
        script: &client.replace("far 'exit 7'; echo not here", "(far 'exit 7') >/dev/null; echo status $?"),
    };
    let text = pair("ssh", &server, "ready", &client_side);
    for expected in ["over there: 42", "copied", "status 1"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn telnetd_on_a_terminal() {
    let port = free_port();
    let publish = format!("{port}:23");
    let script = "busybox ln -sf /bin/busybox /bin/sh; exec busybox telnetd -F -l /bin/sh";
    let _machine = Machine::start(&[
        "--quiet",
        "-p",
        &publish,
        "--debs",
        "busybox-static",
        "--",
        "/bin/busybox",
        "sh",
        "-c",
        script,
    ]);
    let question = b"tty; echo the answer is $((6 * 7)); exit\r\n";
    let answer = talk(port, question, |answer| String::from_utf8_lossy(answer).contains("the answer is 42"));
    assert!(String::from_utf8_lossy(&answer).contains("/dev/pts/"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
#[ignore = "two machines: a minute or two on a busy host"]
fn postgresql_over_the_wire() {
    let server = "export PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin:/bin LC_ALL=C
        echo 'postgres:x:101:101::/tmp:/bin/sh' > /etc/passwd; mkdir -p /dev/shm /var/pg /run/postgresql /tmp; chmod 1777 /tmp
        chown 101:101 /var/pg /run/postgresql; s='/usr/bin/setpriv --reuid 101 --regid 101 --clear-groups'
        $s initdb -D /var/pg/data -A trust --no-sync > /tmp/log 2>&1 || cat /tmp/log
        echo 'host all all all trust' >> /var/pg/data/pg_hba.conf
        exec $s postgres -D /var/pg/data -c listen_addresses='*' -c unix_socket_directories= -c shared_buffers=16MB 2>&1";
    let client = "export LC_ALL=C PAGER=cat; psql() { /usr/lib/postgresql/15/bin/psql -h server -U postgres -d postgres -qAt \"$@\"; }
        psql -c 'create table t as select n, md5(n::text) m from generate_series(1, 20000) n' || exit 1
        psql -c 'select count(*), sum(length(m)) from t'
        psql -c 'copy t to stdout' > /tmp/t; wc -l < /tmp/t
        psql -c 'truncate t'; psql -c 'copy t from stdin' < /tmp/t; psql -c 'select count(distinct m) from t'
        for i in 1 2 3 4; do psql -c 'update t set n = n + 1' & done; wait; psql -c 'select max(n) from t'";
    let server = Side {
        kernel: Kernel::Crannog,
        packages: "postgresql-15,util-linux,dash,coreutils",
        options: &["-m", "1G", "--cpus", "2"],
        script: server,
    };
    let client = Side {
        kernel: Kernel::LinuxIfThere,
        packages: "postgresql-client-15,dash,coreutils",
        options: BIG,
        script: client,
    };
    let text = pair("postgres", &server, "ready to accept connections", &client);
    for expected in ["20000|640000", "20004"] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| *line == "20000").count(), 2, "{text}");
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
