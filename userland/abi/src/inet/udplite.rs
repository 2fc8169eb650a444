//! UDP-Lite (udplite(7)): UDP whose checksum covers as much as a program asks for.

use super::support::*;

const SOL_UDP: i32 = 17;
const SOL_UDPLITE: i32 = 136;
const UDPLITE_SEND_CSCOV: i32 = 10;
const UDPLITE_RECV_CSCOV: i32 = 11;
const UDP_CORK: i32 = 1;

fn lite(domain: i32) -> i32 {
    lo_up();
    ok(unsafe { socket(domain, SOCK_DGRAM, IPPROTO_UDPLITE) })
}

pub fn echo() {
    let server = lite(AF_INET);
    assert_eq!(option(server, SOL_SOCKET, SO_PROTOCOL), Ok(136));
    assert_eq!(option(server, SOL_SOCKET, SO_TYPE), Ok(SOCK_DGRAM));
    assert_eq!(bind_v4(server, LOCAL, 0), 0);
    let port = name_v4(server).1;
    // UDP's ports are others.
    let plain = new(AF_INET, SOCK_DGRAM);
    assert_eq!(bind_v4(plain, LOCAL, port), 0);
    let client = lite(AF_INET);
    assert_eq!(connect_v4(client, LOCAL, port), 0);
    assert_eq!(put(client, b"lite"), Ok(4));
    assert_eq!(get(server, 9, 0).unwrap(), b"lite");
    assert_eq!(get(plain, 9, MSG_DONTWAIT), Err(EAGAIN));
    // A port where nobody is answers as UDP's does.
    unsafe { close(server) };
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(events(client, POLLERR, 5000), POLLERR);
    assert_eq!(get(client, 9, 0), Err(ECONNREFUSED));
    let six = lite(AF_INET6);
    assert_eq!(bind_v6(six, LOCAL6, 0), 0);
    let client = lite(AF_INET6);
    assert_eq!(connect_v6(client, LOCAL6, name_v6(six).1), 0);
    let long = vec![7u8; 30_001];
    assert_eq!(put(client, &long), Ok(long.len()));
    assert_eq!(get(six, 40_000, 0).unwrap(), long);
    let shown = std::fs::read_to_string("/proc/net/udplite6").unwrap();
    assert!(shown.contains(&format!(":{:04X} ", name_v6(six).1)), "{shown}");
}

pub fn coverage() {
    let server = lite(AF_INET);
    assert_eq!(bind_v4(server, LOCAL, 0), 0);
    let client = lite(AF_INET);
    assert_eq!(connect_v4(client, LOCAL, name_v4(server).1), 0);
    for (name, value, kept) in [
        (UDPLITE_SEND_CSCOV, 3, 8),
        (UDPLITE_RECV_CSCOV, -1, 8),
        (UDPLITE_SEND_CSCOV, 70_000, 65_535),
        (UDPLITE_RECV_CSCOV, 20, 20),
        (UDPLITE_SEND_CSCOV, 12, 12),
    ] {
        assert_eq!(set(client, SOL_UDPLITE, name, value), 0);
        assert_eq!(option(client, SOL_UDPLITE, name), Ok(kept));
    }
    assert_eq!(set(client, SOL_UDPLITE, 99, 1), ENOPROTOOPT);
    assert_eq!(option(client, SOL_UDPLITE, 99), Err(ENOPROTOOPT));
    assert_eq!(set(client, SOL_UDP, UDP_CORK, 1), 0);
    assert_eq!(option(client, SOL_UDPLITE, UDP_CORK), Ok(1));
    assert_eq!(set(client, SOL_UDPLITE, UDP_CORK, 0), 0);
    let plain = new(AF_INET, SOCK_DGRAM);
    assert_eq!(set(plain, SOL_UDPLITE, UDPLITE_SEND_CSCOV, 8), ENOPROTOOPT);
    // What goes over the wire: the covered length in the place of UDP's, which is never more than there is; 0 is all.
    let raw = ok(unsafe { socket(AF_INET, SOCK_RAW, IPPROTO_UDPLITE) });
    let seen = |payload: &[u8]| {
        assert_eq!(put(client, payload), Ok(payload.len()));
        assert_eq!(get(server, 99, 0).unwrap(), payload);
        let packet = get(raw, 99, 0).unwrap();
        assert_eq!(&packet[28..], payload);
        assert_ne!(packet[26..28], [0, 0]);
        u16::from_be_bytes([packet[24], packet[25]])
    };
    assert_eq!(seen(b"long enough"), 12);
    assert_eq!(seen(b"four"), 12);
    assert_eq!(seen(b"few"), 11);
    assert_eq!(set(client, SOL_UDPLITE, UDPLITE_SEND_CSCOV, 0), 0);
    assert_eq!(seen(b"long enough"), 0);
    // A receiver that wants more covered than was does not get it.
    assert_eq!(set(server, SOL_UDPLITE, UDPLITE_RECV_CSCOV, 16), 0);
    for (covered, comes) in [(8, false), (15, false), (16, true), (0, true)] {
        assert_eq!(set(client, SOL_UDPLITE, UDPLITE_SEND_CSCOV, covered), 0);
        assert_eq!(put(client, b"twenty bytes of text"), Ok(20));
        assert_eq!(get(server, 20, MSG_DONTWAIT).is_ok(), comes, "{covered}");
    }
    // All of it, when that was asked for by name.
    assert_eq!(set(server, SOL_UDPLITE, UDPLITE_RECV_CSCOV, 0), 0);
    for (covered, comes) in [(16, false), (0, true)] {
        assert_eq!(set(client, SOL_UDPLITE, UDPLITE_SEND_CSCOV, covered), 0);
        assert_eq!(put(client, b"twenty bytes of text"), Ok(20));
        assert_eq!(get(server, 20, MSG_DONTWAIT).is_ok(), comes, "{covered}");
    }
}
