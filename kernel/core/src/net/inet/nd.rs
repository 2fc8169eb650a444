//! IPv6 neighbour discovery (RFC 4861) as a host: solicitations, advertisements, and what routers advertise.

use super::packet::Packet;
use super::{config, multicast, output};
use crate::net::iface::neighbour::{self, Evidence};
use crate::net::iface::{self};
use crate::prelude::*;
use base::net::build::{self, Ip};
use base::net::packet::{Header, PROTO_ICMPV6};
use core::net::{IpAddr, Ipv6Addr};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const NAME_SERVERS: u8 = 25;

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Only packets that no router has passed on are believed.
const HOP_LIMIT: u8 = 255;

fn send(interface: u32, src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) {
    let (src, dst) = (IpAddr::V6(src), IpAddr::V6(dst));
    let ip =
        Ip { src, dst, protocol: PROTO_ICMPV6, hop_limit: HOP_LIMIT, traffic_class: 0, id: 0, dont_fragment: true };
    let mut packet = Packet::new(40 + message.len());
    packet.bytes_mut()[40..].copy_from_slice(message);
    build::ip_header(packet.bytes_mut(), &ip);
    build::icmp_sum(&mut packet.bytes_mut()[40..], src, dst);
    packet.interface = interface;
    packet.no_loop = true;
    output::send(packet);
}

fn own_source(interface: u32, to: Ipv6Addr) -> Ipv6Addr {
    let own = iface::with(interface, |own| own.addresses.iter().any(|own| own.address.is_ipv6()));
    match iface::source_for(interface, IpAddr::V6(to)) {
        Some(IpAddr::V6(source)) if own == Some(true) => source,
        _ => Ipv6Addr::UNSPECIFIED,
    }
}

fn link_option(kind: u8, interface: u32) -> [u8; 8] {
    let mac = iface::with(interface, |own| own.mac).unwrap_or_default();
    [kind, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]
}

pub fn ask(interface: u32, target: Ipv6Addr) {
    let mut message = alloc::vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&link_option(SOURCE_LINK_ADDRESS, interface));
    send(interface, own_source(interface, target), multicast::solicited_node(target), &message);
}

/// Asks for routers.
pub fn ask_routers(interface: u32) {
    let mut message = alloc::vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&link_option(SOURCE_LINK_ADDRESS, interface));
    send(interface, own_source(interface, ALL_ROUTERS), ALL_ROUTERS, &message);
}

/// The options of a message: (type, the rest of the option).
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::from(*bytes.get(1)?) * 8;
        let option = bytes.get(..len).filter(|option| !option.is_empty())?;
        bytes = &bytes[len..];
        Some((option[0], &option[2..]))
    })
}

fn link_address(bytes: &[u8], kind: u8) -> Option<[u8; 6]> {
    options(bytes).find(|(found, _)| *found == kind).and_then(|(_, body)| body.first_chunk().copied())
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// Takes a message of neighbour discovery whose sum is right; answers false when it is none.
pub fn input(interface: u32, header: &Header, message: &[u8]) -> bool {
    if !(ROUTER_SOLICITATION..=NEIGHBOUR_ADVERTISEMENT).contains(&message[0]) {
        return false;
    }
    let IpAddr::V6(src) = header.src else { return true };
    if header.hop_limit != HOP_LIMIT || message[1] != 0 || interface == iface::LOOPBACK {
        return true;
    }
    let _ = match message[0] {
        NEIGHBOUR_SOLICITATION => solicitation(interface, src, message),
        NEIGHBOUR_ADVERTISEMENT => advertisement(interface, message),
        ROUTER_ADVERTISEMENT => router_advertisement(interface, src, message),
        _ => None,
    };
    true
}

fn is_ours(interface: u32, address: Ipv6Addr) -> bool {
    iface::with(interface, |own| own.addresses.iter().any(|own| own.address == IpAddr::V6(address))) == Some(true)
}

fn solicitation(interface: u32, src: Ipv6Addr, message: &[u8]) -> Option<()> {
    let target = address_at(message, 8)?;
    if target.is_multicast() || !is_ours(interface, target) {
        return None;
    }
    if let Some(mac) = link_address(message.get(24..)?, SOURCE_LINK_ADDRESS)
        && !src.is_unspecified()
    {
        release(interface, src, mac, Evidence::Claim { make: true });
    }
    // Override, and Solicited when somebody asked under a name.
    let solicited = if src.is_unspecified() { 0 } else { 0x40 };
    let mut answer = alloc::vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20 | solicited, 0, 0, 0];
    answer.extend_from_slice(&target.octets());
    answer.extend_from_slice(&link_option(TARGET_LINK_ADDRESS, interface));
    send(interface, target, if solicited == 0 { ALL_NODES } else { src }, &answer);
    Some(())
}

fn advertisement(interface: u32, message: &[u8]) -> Option<()> {
    let target = address_at(message, 8)?;
    let mac = link_address(message.get(24..)?, TARGET_LINK_ADDRESS)?;
    let evidence = if message[4] & 0x40 != 0 { Evidence::Answer } else { Evidence::Claim { make: false } };
    release(interface, target, mac, evidence);
    Some(())
}

fn release(interface: u32, address: Ipv6Addr, mac: [u8; 6], evidence: Evidence) {
    for packet in neighbour::learn(interface, IpAddr::V6(address), mac, evidence) {
        let _ = output::frame(interface, mac, packet);
    }
}

fn seconds(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn router_advertisement(interface: u32, src: Ipv6Addr, message: &[u8]) -> Option<()> {
    if !src.is_unicast_link_local() {
        return None;
    }
    let body = message.get(16..)?;
    if let Some(mac) = link_address(body, SOURCE_LINK_ADDRESS) {
        release(interface, src, mac, Evidence::Claim { make: true });
    }
    let lifetime = u16::from_be_bytes([message[6], message[7]]);
    config::router(interface, src, u32::from(lifetime));
    let mut servers = Vec::new();
    for (kind, option) in options(body) {
        match kind {
            PREFIX if option.len() >= 30 => {
                let (prefix_len, flags) = (option[0], option[1]);
                let (valid, preferred) = (seconds(option, 2)?, seconds(option, 6)?);
                config::prefix(interface, address_at(option, 14)?, prefix_len, flags, valid, preferred);
            }
            MTU => {
                let mtu = seconds(option, 2)?;
                if (1280..=65_535).contains(&mtu) && iface::with(interface, |own| own.mtu > mtu) == Some(true) {
                    let _ = iface::set_mtu(interface, mtu);
                }
            }
            NAME_SERVERS => {
                let list = option.get(6..)?;
                servers.extend(list.chunks_exact(16).filter_map(|octets| address_at(octets, 0)).take(3));
            }
            _ => {}
        }
    }
    if !servers.is_empty() {
        config::advertised_resolvers(servers);
    }
    Some(())
}
