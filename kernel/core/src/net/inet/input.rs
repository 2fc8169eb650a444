//! Packets as they come: frames from a device, IP packets from there or from `lo`, to the protocol they are for.

use super::counters::{self, Of};
use super::output::Queue;
use super::packet::Frame;
use super::{arp, config, icmp, multicast, raw, tcp, udp};
use crate::net::iface;
use crate::prelude::*;
use base::net::packet::{
    self, Header, PROTO_ICMP, PROTO_ICMPV6, PROTO_IGMP, PROTO_NONE, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE,
};
use base::net::reassembly::Reassembly;
use core::net::IpAddr;

const ANY_V4: IpAddr = IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED);

static REASSEMBLY: SpinLock<Reassembly> = SpinLock::new(Reassembly::new());

/// What is known of a packet besides its bytes.
pub struct Arrival<'a> {
    /// TCP's and UDP's checksums need no look.
    pub sums_good: bool,
    /// SO_MARK of the socket of this machine that it comes from.
    pub mark: u32,
    /// Whether the next one is of the same stream, and who waits for it.
    pub held: Option<&'a mut Held>,
}

impl Arrival<'_> {
    /// From this machine itself.
    pub fn local(mark: u32) -> Self {
        Self { sums_good: true, mark, held: None }
    }
}

/// A connection that answers the segments of one burst together: it has taken some and is to be let go
/// ([`super::tcp::let_go`]) when the last one of them has been looked at, whatever became of that.
#[derive(Default)]
pub struct Held {
    pub more: bool,
    pub socket: Option<Arc<super::tcp::Tcp>>,
}

/// Takes one Ethernet frame.
pub fn frame(mut frame: Frame, held: &mut Held, queue: &mut Queue) {
    let Some((link, _)) = frame.bytes.split_at_checked(14) else { return };
    let (kind, is_group) = ([link[12], link[13]], link[0] & 1 != 0);
    let to_us = iface::with(frame.interface, |own| own.is_up() && (is_group || own.mac == link[..6]));
    if to_us != Some(true) {
        return;
    }
    match kind {
        [0x08, 0x06] => {
            arp::input(frame.interface, &frame.bytes[14..]);
            // The client that renews its lease looks for the server itself.
            if frame.bytes.get(20..22) == Some(&[0, 2]) {
                config::dhcp_input(frame.interface, &frame.bytes);
            }
        }
        [0x08, 0x00] if config::wants(frame.interface, &frame.bytes) => {
            config::dhcp_input(frame.interface, &frame.bytes)
        }
        [0x08, 0x00] | [0x86, 0xdd] => {
            let arrival = Arrival { sums_good: frame.meta.checksum_good, mark: 0, held: Some(held) };
            ip(frame.interface, &mut frame.bytes[14..], arrival, queue)
        }
        _ => {}
    }
}

/// Whether this machine is the destination.
fn is_for_us(interface: u32, header: &Header) -> bool {
    if header.dst.is_multicast() {
        return multicast::is_member(interface, header.dst);
    }
    iface::address::owner_of(header.dst).is_some() || iface::address::is_broadcast(header.dst)
}

/// Takes one IP packet. What it brings about joins `queue`.
pub fn ip(interface: u32, bytes: &mut [u8], arrival: Arrival<'_>, queue: &mut Queue) {
    let Some(header) = packet::parse(bytes) else {
        let of = if bytes.first().is_some_and(|byte| byte >> 4 == 6) { ANY_V6 } else { ANY_V4 };
        counters::one(of, Of::InReceives);
        counters::one(of, Of::InHdrErrors);
        return;
    };
    let of = header.src;
    counters::one(of, Of::InReceives);
    counters::add(of, Of::InOctets, header.end);
    if header.dst.is_multicast() {
        counters::one(of, Of::InMulticasts);
    }
    let is_loopback = |address: IpAddr| address.is_loopback();
    let is_foreign = interface != iface::LOOPBACK && (is_loopback(header.src) || is_loopback(header.dst));
    if header.src.is_multicast() || iface::address::is_broadcast(header.src) || is_foreign {
        counters::one(of, Of::InAddrErrors);
        return;
    }
    if !is_for_us(interface, &header) {
        if !header.dst.is_multicast() {
            counters::one(of, Of::InAddrErrors);
        }
        return;
    }
    if header.fragment.is_some() {
        counters::one(of, Of::ReasmReqds);
        let (whole, given_up) = {
            let mut reassembly = REASSEMBLY.lock();
            let whole = reassembly.add(&header, bytes, crate::time::now_ns());
            (whole, reassembly.take_given_up())
        };
        counters::add(of, Of::ReasmFails, given_up);
        if let Some(whole) = whole
            && let Some(header) = packet::parse(&whole).filter(|header| header.fragment.is_none())
        {
            counters::one(of, Of::ReasmOks);
            upper(interface, &header, &whole, Arrival { sums_good: false, mark: 0, held: None }, queue);
        }
        return;
    }
    upper(interface, &header, bytes, arrival, queue);
}

fn upper(interface: u32, header: &Header, bytes: &[u8], arrival: Arrival<'_>, queue: &mut Queue) {
    let Arrival { sums_good, mark, held } = arrival;
    let bytes = &bytes[..header.end];
    let body = &bytes[header.payload_at..];
    let had_raw = raw::input(interface, header, bytes);
    let of = header.src;
    let is_known = matches!(
        header.protocol,
        PROTO_TCP | PROTO_UDP | PROTO_UDPLITE | PROTO_ICMP | PROTO_ICMPV6 | PROTO_IGMP | PROTO_NONE
    );
    counters::one(of, if is_known || had_raw { Of::InDelivers } else { Of::InUnknownProtos });
    match header.protocol {
        PROTO_TCP => {
            counters::tcp(counters::Tcp::InSegs);
            match packet::parse_tcp(header, body, !sums_good) {
                Some(segment) => tcp::input(interface, header, (bytes, &segment), held, queue),
                None => {
                    counters::tcp(counters::Tcp::InErrs);
                    if packet::parse_tcp(header, body, false).is_some() {
                        counters::tcp(counters::Tcp::InSumErrors);
                    }
                }
            }
        }
        PROTO_UDP | PROTO_UDPLITE => {
            // No device knows UDP-Lite's sum.
            let is_lite = header.protocol == PROTO_UDPLITE;
            let parse = |verify| match is_lite {
                true => packet::parse_udplite(header, body, verify),
                false => packet::parse_udp(header, body, verify),
            };
            match parse(is_lite || !sums_good) {
                Some(datagram) => udp::input(interface, header, bytes, &datagram, mark, queue),
                None => {
                    counters::udp(header.protocol, of, counters::Udp::InErrors);
                    if parse(false).is_some() {
                        counters::udp(header.protocol, of, counters::Udp::SumErrors);
                    }
                }
            }
        }
        PROTO_ICMP | PROTO_ICMPV6 if header.src.is_ipv4() == (header.protocol == PROTO_ICMP) => {
            if packet::icmp_is_good(header, body) {
                counters::icmp_in(of, body[0]);
                icmp::input(interface, header, body, queue);
            } else {
                counters::one(of, Of::IcmpInErrors);
                counters::one(of, Of::IcmpSumErrors);
            }
        }
        PROTO_IGMP if body.first() == Some(&0x11) => multicast::report_all(interface, false),
        PROTO_ICMP | PROTO_ICMPV6 | PROTO_IGMP | PROTO_NONE => {}
        _ if had_raw => {}
        _ => icmp::unreachable(header, bytes, icmp::Reason::Protocol, queue),
    }
}
