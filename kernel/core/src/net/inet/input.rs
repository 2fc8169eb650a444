//! Packets as they come: frames from a device, IP packets from there or from `lo`, to the protocol they are for.

use super::output::Queue;
use super::packet::Frame;
use super::{arp, config, icmp, multicast, raw, tcp, udp};
use crate::net::iface;
use crate::prelude::*;
use base::net::packet::{self, Header, PROTO_ICMP, PROTO_ICMPV6, PROTO_IGMP, PROTO_NONE, PROTO_TCP, PROTO_UDP};
use base::net::reassembly::Reassembly;
use core::net::IpAddr;

static REASSEMBLY: SpinLock<Reassembly> = SpinLock::new(Reassembly::new());

/// Takes one Ethernet frame.
pub fn frame(mut frame: Frame, queue: &mut Queue) {
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
        [0x08, 0x00] | [0x86, 0xdd] => ip(frame.interface, &mut frame.bytes[14..], frame.meta.checksum_good, queue),
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

/// Takes one IP packet; `sums_good`: TCP's and UDP's checksums need no look. What it brings about joins `queue`.
pub fn ip(interface: u32, bytes: &mut [u8], sums_good: bool, queue: &mut Queue) {
    let Some(header) = packet::parse(bytes) else { return };
    let is_loopback = |address: IpAddr| address.is_loopback();
    let is_foreign = interface != iface::LOOPBACK && (is_loopback(header.src) || is_loopback(header.dst));
    if header.src.is_multicast() || iface::address::is_broadcast(header.src) || is_foreign {
        return;
    }
    if !is_for_us(interface, &header) {
        return;
    }
    if header.fragment.is_some() {
        let whole = REASSEMBLY.lock().add(&header, bytes, crate::time::now_ns());
        if let Some(whole) = whole
            && let Some(header) = packet::parse(&whole).filter(|header| header.fragment.is_none())
        {
            upper(interface, &header, &whole, false, queue);
        }
        return;
    }
    upper(interface, &header, bytes, sums_good, queue);
}

fn upper(interface: u32, header: &Header, bytes: &[u8], sums_good: bool, queue: &mut Queue) {
    let bytes = &bytes[..header.end];
    let body = &bytes[header.payload_at..];
    let had_raw = raw::input(interface, header, bytes);
    match header.protocol {
        PROTO_TCP => {
            if let Some(segment) = packet::parse_tcp(header, body, !sums_good) {
                tcp::input(interface, header, bytes, &segment, queue);
            }
        }
        PROTO_UDP => {
            if let Some(datagram) = packet::parse_udp(header, body, !sums_good) {
                udp::input(interface, header, bytes, &datagram, queue);
            }
        }
        PROTO_ICMP if header.src.is_ipv4() && packet::icmp_is_good(header, body) => {
            icmp::input(interface, header, body, queue);
        }
        PROTO_ICMPV6 if header.src.is_ipv6() && packet::icmp_is_good(header, body) => {
            icmp::input(interface, header, body, queue);
        }
        PROTO_IGMP if body.first() == Some(&0x11) => multicast::report_all(interface, false),
        PROTO_ICMP | PROTO_ICMPV6 | PROTO_IGMP | PROTO_NONE => {}
        _ if had_raw => {}
        _ => icmp::unreachable(header, bytes, icmp::Reason::Protocol, queue),
    }
}
