//! What control data and the error queue tell of datagrams.

use super::support::*;

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const SO_TIMESTAMPING: i32 = 37;
const RX_SOFTWARE: i32 = 1 << 3;
const SOFTWARE: i32 = 1 << 4;
const SO_RCVMARK: i32 = 75;
const IPV6_RECVORIGDSTADDR: i32 = 74;

fn word(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

pub fn timestamping() {
    let (server, client) = pair(AF_INET);
    assert_eq!(option(server, SOL_SOCKET, SO_TIMESTAMPING), Ok(0));
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPING, 1 << 20), EINVAL);
    // OPT_STATS wants OPT_TSONLY.
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPING, 1 << 12), EINVAL);
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE), 0);
    assert_eq!(option(server, SOL_SOCKET, SO_TIMESTAMPING), Ok(RX_SOFTWARE | SOFTWARE));
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPNS, 1), 0);
    assert_eq!(put(client, b"x"), Ok(1));
    let got = message(server, 0).unwrap();
    let [(SOL_SOCKET, SO_TIMESTAMPNS, one), (SOL_SOCKET, SO_TIMESTAMPING, three)] = &got.control[..] else {
        panic!("{:?}", got.control)
    };
    assert_eq!((one.len(), three.len()), (16, 48));
    assert_eq!(one[..], three[..16]);
    assert_eq!(three[16..], [0; 32]);
    let seconds = i64::from_ne_bytes(three[..8].try_into().unwrap());
    let now = unsafe { time(std::ptr::null_mut()) };
    assert!((now - 100..=now).contains(&seconds), "{seconds} {now}");
    // Without SOFTWARE nobody tells.
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPNS, 0), 0);
    assert_eq!(set(server, SOL_SOCKET, SO_TIMESTAMPING, RX_SOFTWARE), 0);
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(message(server, 0).unwrap().control, []);
}

pub fn marks() {
    let (server, client) = pair(AF_INET);
    assert_eq!(set(server, SOL_SOCKET, SO_RCVMARK, 1), 0);
    assert_eq!(option(server, SOL_SOCKET, SO_RCVMARK), Ok(1));
    let told = || message(server, 0).unwrap().control;
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(told(), [(SOL_SOCKET, SO_MARK, word(0))]);
    assert_eq!(set(client, SOL_SOCKET, SO_MARK, 77), 0);
    assert_eq!(put(client, b"x"), Ok(1));
    assert_eq!(told(), [(SOL_SOCKET, SO_MARK, word(77))]);
    assert_eq!(put_with(client, b"x", SOL_SOCKET, SO_MARK, &word(78)), Ok(1));
    assert_eq!(told(), [(SOL_SOCKET, SO_MARK, word(78))]);
    assert_eq!(put_with(client, b"x", SOL_SOCKET, SO_MARK, &[1, 2]), Err(EINVAL));
    // What UNIX sockets take is not looked at.
    assert_eq!(put_with(client, b"x", SOL_SOCKET, SCM_RIGHTS, &word(0)), Ok(1));
    assert_eq!(told(), [(SOL_SOCKET, SO_MARK, word(77))]);
    assert_eq!(put_with(client, b"x", SOL_SOCKET, 99, &word(0)), Err(EINVAL));
}

pub fn lost() {
    let (server, client) = pair(AF_INET);
    assert_eq!(set(server, SOL_SOCKET, SO_RXQ_OVFL, 1), 0);
    assert_eq!(option(server, SOL_SOCKET, SO_RXQ_OVFL), Ok(1));
    assert_eq!(set(server, SOL_SOCKET, SO_RCVBUF, 1), 0);
    let sent = 50;
    for _ in 0..sent {
        assert_eq!(put(client, &[1; 1000]), Ok(1000));
    }
    // Those that came before the first loss tell of none.
    let mut kept = 0;
    while let Ok(got) = message(server, MSG_DONTWAIT) {
        assert_eq!(got.control, []);
        assert_eq!(got.flags & MSG_TRUNC, MSG_TRUNC);
        kept += 1;
    }
    assert!((1..sent).contains(&kept), "{kept}");
    assert_eq!(put(client, b"last"), Ok(4));
    assert_eq!(message(server, 0).unwrap().control, [(SOL_SOCKET, SO_RXQ_OVFL, word(sent - kept))]);
}

pub fn tx_time() {
    let (server, client) = pair(AF_INET);
    let put_at = |bytes: &[u8]| put_with(client, b"x", SOL_SOCKET, SO_TXTIME, bytes);
    assert_eq!(put_at(&[0; 8]), Err(EINVAL));
    let choose = |clock: i32, flags: u32, len: u32| {
        let value = [clock as u32, flags, 0];
        errno_of(unsafe { setsockopt(client, SOL_SOCKET, SO_TXTIME, value.as_ptr().cast(), len) })
    };
    assert_eq!(choose(CLOCK_MONOTONIC, 0, 4), EINVAL);
    assert_eq!(choose(CLOCK_MONOTONIC, 0, 12), EINVAL);
    assert_eq!(choose(CLOCK_MONOTONIC, 4, 8), EINVAL);
    assert_eq!(choose(CLOCK_MONOTONIC, 2, 8), 0);
    let (mut value, mut len) = ([7u32; 2], 8);
    ok(unsafe { getsockopt(client, SOL_SOCKET, SO_TXTIME, value.as_mut_ptr().cast(), &mut len) });
    assert_eq!((value, len), ([CLOCK_MONOTONIC as u32, 2], 8));
    assert_eq!(put_at(&[0; 4]), Err(EINVAL));
    assert_eq!(put_at(&[0; 8]), Ok(1));
    assert_eq!(message(server, 0).unwrap().bytes, b"x");
}

pub fn original_v6() {
    let (server, client) = pair(AF_INET6);
    assert_eq!(set(server, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1), 0);
    assert_eq!(option(server, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR), Ok(1));
    assert_eq!(put(client, b"x"), Ok(1));
    let got = message(server, 0).unwrap();
    let [(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, data)] = &got.control[..] else { panic!("{:?}", got.control) };
    assert_eq!(data.len(), 28);
    assert_eq!(data[2..4], name_v6(server).1.to_be_bytes());
    assert_eq!(data[8..24], LOCAL6);
    assert_eq!(set(client, IPPROTO_IPV6, IPV6_DONTFRAG, 1), 0);
    assert_eq!(option(client, IPPROTO_IPV6, IPV6_DONTFRAG), Ok(1));
    assert_eq!(put(client, b"y"), Ok(1));
    assert_eq!(get(server, 1, 0).unwrap(), b"y");
}

pub fn segments() {
    let (server, client) = pair(AF_INET);
    assert_eq!(option(client, SOL_UDP, UDP_SEGMENT), Ok(0));
    assert_eq!(set(client, SOL_UDP, UDP_SEGMENT, 65_536), EINVAL);
    assert_eq!(set(client, SOL_UDP, UDP_SEGMENT, -1), EINVAL);
    assert_eq!(set(client, SOL_UDP, UDP_SEGMENT, 4), 0);
    assert_eq!(option(client, SOL_UDP, UDP_SEGMENT), Ok(4));
    let parts = || {
        let mut parts = Vec::new();
        while let Ok(part) = get(server, 99, MSG_DONTWAIT) {
            parts.push(part);
        }
        parts
    };
    assert_eq!(put(client, b"one two six"), Ok(11));
    assert_eq!(parts(), [&b"one "[..], b"two ", b"six"]);
    assert_eq!(put(client, b"8 bytes."), Ok(8));
    assert_eq!(parts(), [b"8 by", b"tes."]);
    assert_eq!(put(client, b"few"), Ok(3));
    assert_eq!(parts(), [b"few"]);
    // One send chooses for itself; no more than 128 of them.
    let part = |bytes: &[u8], len: u16| put_with(client, bytes, SOL_UDP, UDP_SEGMENT, &len.to_ne_bytes());
    assert_eq!(part(b"abcde", 2), Ok(5));
    assert_eq!(parts(), [&b"ab"[..], b"cd", b"e"]);
    assert_eq!(part(b"whole", 0), Ok(5));
    assert_eq!(parts(), [b"whole"]);
    assert_eq!(part(&[1; 129], 1), Err(EINVAL));
    assert_eq!(put_with(client, b"x", SOL_UDP, UDP_SEGMENT, &word(2)), Err(EINVAL));
    assert_eq!(put_with(client, b"x", SOL_UDP, 99, &word(2)), Err(EINVAL));
    assert_eq!(parts(), [b""; 0]);
}

/// UDP_GRO: what one send made many datagrams of is received by one call, with their length beside.
pub fn runs() {
    const UDP_GRO: i32 = 104;
    for domain in [AF_INET, AF_INET6] {
        let (server, client) = pair(domain);
        assert_eq!(option(server, SOL_UDP, UDP_GRO), Ok(0));
        assert_eq!(set(server, SOL_UDP, UDP_GRO, 1), 0);
        assert_eq!(option(server, SOL_UDP, UDP_GRO), Ok(1));
        assert_eq!(set(client, SOL_UDP, UDP_SEGMENT, 4), 0);
        let told = |len: u32| vec![(SOL_UDP, UDP_GRO, word(len))];
        assert_eq!(put(client, b"one two six"), Ok(11));
        let got = message(server, MSG_PEEK).unwrap();
        assert_eq!((&got.bytes[..], got.control), (&b"one two six"[..], told(4)));
        // A new one does not join what was seen, nor what ended with a short one.
        assert_eq!(put(client, b"eight by"), Ok(8));
        let got = message(server, 0).unwrap();
        assert_eq!((&got.bytes[..], got.control), (&b"one two six"[..], told(4)));
        let got = message(server, 0).unwrap();
        assert_eq!((&got.bytes[..], got.control), (&b"eight by"[..], told(4)));
        // One by itself tells nothing, and is told nothing of.
        assert_eq!(put(client, b"few"), Ok(3));
        let got = message(server, 0).unwrap();
        assert_eq!((&got.bytes[..], got.control), (&b"few"[..], vec![]));
        // No room for all: the rest is lost as of any datagram.
        assert_eq!(put(client, b"one two six"), Ok(11));
        assert_eq!(get(server, 6, 0).unwrap(), b"one tw");
        assert_eq!(get(server, 6, MSG_DONTWAIT), Err(EAGAIN));
        // Off again, each comes by itself.
        assert_eq!(set(server, SOL_UDP, UDP_GRO, 0), 0);
        assert_eq!(put(client, b"one two"), Ok(7));
        let got = message(server, 0).unwrap();
        assert_eq!((&got.bytes[..], got.control), (&b"one "[..], vec![]));
        assert_eq!(message(server, 0).unwrap().bytes, b"two");
    }
}

/// `struct sock_extended_err` and the address behind it.
fn told(got: &Got, level: i32, kind: i32) -> (u32, [u8; 3], u32, Vec<u8>) {
    assert_eq!(got.flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
    let [(l, k, data)] = &got.control[..] else { panic!("{:?}", got.control) };
    assert_eq!((*l, *k), (level, kind));
    let number = |at: usize| u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
    (number(0), [data[4], data[5], data[6]], number(8), data[16..].to_vec())
}

pub fn errors() {
    let (gone, client) = pair(AF_INET);
    let port = name_v4(gone).1;
    unsafe { close(gone) };
    assert_eq!(message(client, MSG_ERRQUEUE), Err(EAGAIN));
    assert_eq!(set(client, IPPROTO_IP, IP_RECVERR, 1), 0);
    assert_eq!(put(client, b"first"), Ok(5));
    assert_eq!(events(client, POLLERR, 5000), POLLERR);
    // The error is pending beside: the next send has it.
    assert_eq!(put(client, b"x"), Err(ECONNREFUSED));
    assert_eq!(put(client, b"second"), Ok(6));
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), Ok(ECONNREFUSED));
    assert_eq!(events(client, POLLERR, 0), POLLERR);
    let got = message(client, MSG_ERRQUEUE).unwrap();
    assert_eq!(got.bytes, b"first");
    let mut expected = v4(LOCAL, 0);
    let bytes = |address: &sockaddr_in| unsafe { *(address as *const sockaddr_in).cast::<[u8; 16]>() };
    let (errno, [origin, kind, code], info, offender) = told(&got, IPPROTO_IP, IP_RECVERR);
    assert_eq!((errno, origin, kind, code, info), (ECONNREFUSED as u32, 2, 3, 3, 0));
    assert_eq!(offender, bytes(&expected));
    expected.sin_port = port.to_be();
    assert_eq!(got.name, bytes(&expected));
    // Taking one makes the next pending; taking the last, none.
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), Ok(ECONNREFUSED));
    assert_eq!(message(client, MSG_ERRQUEUE).unwrap().bytes, b"second");
    assert_eq!(message(client, MSG_ERRQUEUE), Err(EAGAIN));
    assert_eq!(events(client, POLLERR, 0), 0);
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), Ok(0));
    // Who is not connected hears too; turned off, all is forgotten.
    let client = new(AF_INET, SOCK_DGRAM);
    assert_eq!(set(client, IPPROTO_IP, IP_RECVERR, 1), 0);
    let to = v4(LOCAL, port);
    for _ in 0..2 {
        ok(unsafe { sendto(client, b"third".as_ptr().cast(), 5, 0, (&raw const to).cast(), 16) });
        assert_eq!(events(client, POLLERR, 5000), POLLERR);
        assert_eq!(get(client, 9, MSG_DONTWAIT), Err(ECONNREFUSED));
    }
    assert_eq!(message(client, MSG_ERRQUEUE).unwrap().bytes, b"third");
    assert_eq!(set(client, IPPROTO_IP, IP_RECVERR, 0), 0);
    assert_eq!(message(client, MSG_ERRQUEUE), Err(EAGAIN));
}

pub fn errors_v6() {
    let (gone, client) = pair(AF_INET6);
    unsafe { close(gone) };
    assert_eq!(set(client, IPPROTO_IPV6, IPV6_RECVERR, 1), 0);
    assert_eq!(put(client, b"six"), Ok(3));
    assert_eq!(events(client, POLLERR, 5000), POLLERR);
    let got = message(client, MSG_ERRQUEUE).unwrap();
    assert_eq!((&got.bytes[..], &got.name[8..24]), (&b"six"[..], &LOCAL6[..]));
    let (errno, [origin, kind, code], _, offender) = told(&got, IPPROTO_IPV6, IPV6_RECVERR);
    assert_eq!((errno, origin, kind, code), (ECONNREFUSED as u32, 3, 1, 4));
    assert_eq!((offender.len(), &offender[8..24]), (28, &LOCAL6[..]));
    assert_eq!(option(client, SOL_SOCKET, SO_ERROR), Ok(0));
}
