//! ICMP and ICMPv6: echoes are answered, errors are told to the sockets they concern, and our own errors are sent, not too many.

use super::output::Queue;
use super::packet::Packet;
use super::{raw, tcp, udp};
use crate::net::iface;
use crate::prelude::*;
use base::net::build::{self, Ip};
use base::net::packet::{self, Header, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE};
use core::net::IpAddr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Errors sent in one second (net.ipv4.icmp_msgs_per_sec).
const ERRORS_PER_SECOND: u64 = 1000;

/// An error as sockets see it: the errno and whether it ends a connection at once.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub errno: Errno,
    pub is_hard: bool,
    pub kind: u8,
    pub code: u8,
    /// What the message says beside: a path's MTU, or where a header is wrong.
    pub info: u32,
    /// Who sent the message.
    pub offender: IpAddr,
}

/// What an ICMP error means; `None` for what is no error.
fn meaning(protocol: u8, kind: u8, code: u8) -> Option<(Errno, bool)> {
    let meaning = match (protocol, kind, code) {
        (PROTO_ICMP, 3, 0) => (Errno::ENETUNREACH, false),
        (PROTO_ICMP, 3, 1) => (Errno::EHOSTUNREACH, false),
        (PROTO_ICMP, 3, 2) => (Errno::ENOPROTOOPT, true),
        (PROTO_ICMP, 3, 3) => (Errno::ECONNREFUSED, true),
        (PROTO_ICMP, 3, 4) => (Errno::EMSGSIZE, false),
        (PROTO_ICMP, 3, 6 | 9 | 11) => (Errno::ENETUNREACH, false),
        (PROTO_ICMP, 3, _) => (Errno::EHOSTUNREACH, false),
        (PROTO_ICMP, 11, _) => (Errno::EHOSTUNREACH, false),
        (PROTO_ICMP, 12, _) => (Errno::EPROTO, true),
        (PROTO_ICMPV6, 1, 0) => (Errno::ENETUNREACH, false),
        (PROTO_ICMPV6, 1, 1) => (Errno::EACCES, true),
        (PROTO_ICMPV6, 1, 4) => (Errno::ECONNREFUSED, true),
        (PROTO_ICMPV6, 1, _) => (Errno::EHOSTUNREACH, false),
        (PROTO_ICMPV6, 2, _) => (Errno::EMSGSIZE, false),
        (PROTO_ICMPV6, 3, _) => (Errno::EHOSTUNREACH, false),
        (PROTO_ICMPV6, 4, _) => (Errno::EPROTO, true),
        _ => return None,
    };
    Some(meaning)
}

/// What a message with the error carries in its second word.
fn information(protocol: u8, kind: u8, code: u8, word: [u8; 4]) -> u32 {
    let whole = u32::from_be_bytes(word);
    match (protocol, kind, code) {
        (PROTO_ICMP, 3, 4) => whole & 0xffff,
        (PROTO_ICMP, 12, _) => whole >> 24,
        (PROTO_ICMP, ..) => 0,
        _ => whole,
    }
}

/// Takes a message whose sum is right.
pub fn input(interface: u32, header: &Header, message: &[u8], queue: &mut Queue) {
    let (kind, code) = (message[0], message[1]);
    if header.protocol == PROTO_ICMPV6 && super::nd::input(interface, header, message) {
        return;
    }
    match (header.protocol, kind) {
        (PROTO_ICMP, 8) => echo(header, message, 0, queue),
        (PROTO_ICMPV6, 128) => echo(header, message, 129, queue),
        (PROTO_ICMP, 0) | (PROTO_ICMPV6, 129) => raw::echo_reply(interface, header, message),
        (PROTO_ICMPV6, 130) => super::multicast::report_all(interface, true),
        _ => {
            if let Some((errno, is_hard)) = meaning(header.protocol, kind, code)
                && let Some((head, quoted)) = message.split_first_chunk::<8>()
            {
                let word = [head[4], head[5], head[6], head[7]];
                let info = information(header.protocol, kind, code, word);
                report(quoted, Trouble { errno, is_hard, kind, code, info, offender: header.src });
            }
        }
    }
}

/// Tells the socket that sent the quoted packet.
fn report(quoted: &[u8], trouble: Trouble) {
    let Some((header, src_port, dst_port)) = packet::parse_quoted(quoted) else { return };
    let upper = quoted.get(header.payload_at..).unwrap_or(&[]);
    match header.protocol {
        PROTO_TCP => tcp::icmp_error(&header, src_port, dst_port, upper, trouble),
        PROTO_UDP | PROTO_UDPLITE => udp::icmp_error(&header, src_port, dst_port, upper, trouble),
        PROTO_ICMP | PROTO_ICMPV6 => raw::icmp_error(&header, upper, trouble),
        _ => {}
    }
    raw::icmp_error_of_raw(&header, upper, trouble);
}

/// A packet of ours reached nobody: its sender hears of it as if a router had said so.
pub fn host_unreachable(packet: &Packet) {
    let Some(header) = packet::parse(packet.bytes()) else { return };
    let (kind, code) = if header.src.is_ipv4() { (3, 1) } else { (1, 3) };
    let errno = Errno::EHOSTUNREACH;
    report(packet.bytes(), Trouble { errno, is_hard: false, kind, code, info: 0, offender: header.src });
}

fn echo(header: &Header, message: &[u8], kind: u8, queue: &mut Queue) {
    let src = if header.dst.is_multicast() || iface::address::is_broadcast(header.dst) {
        // Broadcast echoes are not answered, as on Linux; multicast ones of IPv6 are.
        match iface::source_for(0, header.src) {
            Some(source) if header.dst.is_ipv6() => source,
            _ => return,
        }
    } else {
        header.dst
    };
    let head = build::ip_header_len(src);
    let mut packet = Packet::new(head + message.len());
    let body = &mut packet.bytes_mut()[head..];
    body.copy_from_slice(message);
    body[0] = kind;
    build::icmp_sum(body, src, header.src);
    let ip = Ip {
        src,
        dst: header.src,
        protocol: header.protocol,
        hop_limit: 64,
        traffic_class: header.traffic_class,
        id: 0,
        dont_fragment: false,
    };
    build::ip_header(packet.bytes_mut(), &ip);
    queue.push_back(packet);
}

/// Whether one more error may be sent in this second.
fn may_send() -> bool {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let second = crate::time::now_ns() / 1_000_000_000;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        COUNT.store(0, Ordering::Relaxed);
    }
    COUNT.fetch_add(1, Ordering::Relaxed) < ERRORS_PER_SECOND
}

/// What is wrong with a packet that came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Port,
    Protocol,
}

/// Answers `packet` with "unreachable".
pub fn unreachable(header: &Header, packet: &[u8], reason: Reason, queue: &mut Queue) {
    if header.dst.is_multicast() || iface::address::is_broadcast(header.dst) || !may_send() {
        return;
    }
    let v6 = header.src.is_ipv6();
    let (kind, code, limit) = match (v6, reason) {
        (false, Reason::Port) => (3, 3, 548),
        (false, Reason::Protocol) => (3, 2, 548),
        (true, Reason::Port) => (1, 4, 1232),
        (true, Reason::Protocol) => (4, 1, 1232),
    };
    let quoted = &packet[..header.end.min(limit)];
    let head = build::ip_header_len(header.dst);
    let mut out = Packet::new(head + 8 + quoted.len());
    let ip = Ip {
        src: header.dst,
        dst: header.src,
        protocol: if v6 { PROTO_ICMPV6 } else { PROTO_ICMP },
        hop_limit: 64,
        traffic_class: 0xc0,
        id: 0,
        dont_fragment: false,
    };
    build::ip_header(out.bytes_mut(), &ip);
    let body = &mut out.bytes_mut()[head..];
    (body[0], body[1]) = (kind, code);
    body[8..].copy_from_slice(quoted);
    build::icmp_sum(body, header.dst, header.src);
    queue.push_back(out);
}

/// The error a socket of `address`'s family hears, for tests of both.
pub fn protocol_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { PROTO_ICMP } else { PROTO_ICMPV6 }
}
