//! /proc/net/snmp, snmp6 and netstat: what is counted when something happens. Others may count at the same time, so numbers are
//! looked at from below.

use super::support::*;

/// The counter `name` of `group` in the two-line tables.
#[track_caller]
fn counter(group: &str, name: &str) -> u64 {
    let mut text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    text.push_str(&std::fs::read_to_string("/proc/net/netstat").unwrap());
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(names.split(' ').count(), values.split(' ').count(), "{names}\n{values}");
    let at = names.split(' ').position(|word| word == name).unwrap_or_else(|| panic!("no {name} in {names}"));
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// Runs `f`; fails unless each counter went up by at least so much.
#[track_caller]
fn counts(wanted: &[(&str, &str, u64)], f: impl FnOnce()) {
    let before: Vec<u64> = wanted.iter().map(|(group, name, _)| counter(group, name)).collect();
    f();
    for ((group, name, least), before) in wanted.iter().zip(before) {
        let more = counter(group, name) - before;
        assert!(more >= *least, "{group} {name}: {more} more");
    }
}

pub fn udp() {
    let bytes = [1u8; 100];
    let to = |fd: i32, port: u16| {
        let address = v4(LOCAL, port);
        unsafe { sendto(fd, bytes.as_ptr().cast(), 100, 0, (&raw const address).cast(), ADDRESS_LEN) }
    };
    let receiver = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(receiver, LOCAL, 0), 0);
    let port = name_v4(receiver).1;
    let sender = new(AF_INET, SOCK_DGRAM);
    let wanted =
        [("Udp", "InDatagrams", 20), ("Udp", "OutDatagrams", 20), ("Ip", "InReceives", 20), ("Ip", "OutRequests", 20)];
    counts(&wanted, || {
        for _ in 0..20 {
            assert_eq!(to(sender, port), 100);
            assert_eq!(get(receiver, 200, 0).unwrap().len(), 100);
        }
    });
    // A look does not count as a receipt: the same datagram comes again.
    counts(&[("IpExt", "InOctets", 128), ("IpExt", "OutOctets", 128), ("Ip", "InDelivers", 1)], || {
        assert_eq!(to(sender, port), 100);
        assert_eq!(get(receiver, 200, MSG_PEEK).unwrap().len(), 100);
    });
    // A full queue.
    set(receiver, SOL_SOCKET, SO_RCVBUF, 2304);
    counts(&[("Udp", "RcvbufErrors", 10), ("Udp", "InErrors", 10)], || {
        for _ in 0..100 {
            assert_eq!(to(sender, port), 100);
        }
    });
    unsafe { close(receiver) };
    // Nobody there: ICMP says so, both ways over `lo`.
    counts(&[("Udp", "NoPorts", 1), ("Icmp", "InDestUnreachs", 1), ("Icmp", "OutDestUnreachs", 1)], || {
        assert_eq!(to(sender, port), 100);
    });
    unsafe { close(sender) };
}

pub fn udplite() {
    let bytes = [1u8; 100];
    let lite = |domain: i32| ok(unsafe { socket(domain, SOCK_DGRAM, IPPROTO_UDPLITE) });
    lo_up();
    let (receiver, sender) = (lite(AF_INET), lite(AF_INET));
    assert_eq!(bind_v4(receiver, LOCAL, 0), 0);
    assert_eq!(connect_v4(sender, LOCAL, name_v4(receiver).1), 0);
    counts(&[("UdpLite", "InDatagrams", 20), ("UdpLite", "OutDatagrams", 20)], || {
        for _ in 0..20 {
            assert_eq!(put(sender, &bytes), Ok(100));
            assert_eq!(get(receiver, 200, 0).unwrap().len(), 100);
        }
    });
    set(receiver, SOL_SOCKET, SO_RCVBUF, 2304);
    counts(&[("UdpLite", "RcvbufErrors", 10), ("UdpLite", "InErrors", 10)], || {
        for _ in 0..100 {
            assert_eq!(put(sender, &bytes), Ok(100));
        }
    });
    unsafe { close(receiver) };
    counts(&[("UdpLite", "NoPorts", 1)], || assert_eq!(put(sender, &bytes), Ok(100)));
    let of_six = |name: &str| of_six_now(&format!("UdpLite6{name}"));
    let before = ["InDatagrams", "OutDatagrams"].map(of_six);
    let (receiver, sender) = (lite(AF_INET6), lite(AF_INET6));
    assert_eq!(bind_v6(receiver, LOCAL6, 0), 0);
    assert_eq!(connect_v6(sender, LOCAL6, name_v6(receiver).1), 0);
    assert_eq!(put(sender, &bytes), Ok(100));
    assert_eq!(get(receiver, 200, 0).unwrap().len(), 100);
    for (name, before) in ["InDatagrams", "OutDatagrams"].into_iter().zip(before) {
        assert!(of_six(name) > before, "{name}");
    }
}

pub fn tcp() {
    let (listener, port) = listener(5);
    counts(&[("Tcp", "ActiveOpens", 3), ("Tcp", "PassiveOpens", 3), ("Tcp", "CurrEstab", 0)], || {
        for _ in 0..3 {
            let client = new(AF_INET, SOCK_STREAM);
            assert_eq!(connect_v4(client, LOCAL, port), 0);
            let server = take(listener);
            unsafe { (close(client), close(server)) };
        }
    });
    let client = new(AF_INET, SOCK_STREAM);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    let server = take(listener);
    assert!(counter("Tcp", "CurrEstab") >= 2);
    // Closed with something unread: one side resets, the other is reset.
    counts(&[("Tcp", "EstabResets", 2), ("TcpExt", "TCPAbortOnClose", 1)], || {
        put(client, b"unread").unwrap();
        assert_eq!(events(server, POLLIN, 5000) & POLLIN, POLLIN);
        unsafe { close(server) };
        assert_ne!(events(client, POLLIN, 5000), 0);
    });
    unsafe { (close(client), close(listener)) };
    counts(&[("Tcp", "AttemptFails", 1), ("Tcp", "OutRsts", 1), ("Tcp", "InSegs", 2), ("Tcp", "OutSegs", 1)], || {
        let client = new(AF_INET, SOCK_STREAM);
        assert_eq!(connect_v4(client, LOCAL, port), ECONNREFUSED);
        unsafe { close(client) };
    });
    assert_eq!(counter("Tcp", "RtoMin"), 200);
}

/// The counter `name` of /proc/net/snmp6.
#[track_caller]
fn of_six_now(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp6").unwrap();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub fn of_six() {
    let receiver = new(AF_INET6, SOCK_DGRAM);
    assert_eq!(bind_v6(receiver, LOCAL6, 0), 0);
    let port = name_v6(receiver).1;
    let sender = new(AF_INET6, SOCK_DGRAM);
    assert_eq!(connect_v6(sender, LOCAL6, port), 0);
    let names = ["Ip6InReceives", "Ip6OutRequests", "Udp6InDatagrams", "Udp6OutDatagrams"];
    let before = names.map(of_six_now);
    for _ in 0..10 {
        put(sender, b"six").unwrap();
        assert_eq!(get(receiver, 10, 0).unwrap(), b"six");
    }
    for (name, before) in names.into_iter().zip(before) {
        assert!(of_six_now(name) >= before + 10, "{name}");
    }
    unsafe { (close(receiver), close(sender)) };
}
