//! Groups that sockets of this machine listen to, counted per interface. Routers and switches hear of them by IGMPv2 and MLDv1
//! reports when a group is joined first and left last.

use super::output;
use super::packet::Packet;
use crate::net::iface::{self, Kind};
use crate::prelude::*;
use base::net::build::{self, Ip};
use base::net::packet::{PROTO_ICMPV6, PROTO_IGMP, sum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

static GROUPS: SpinLock<Vec<(u32, IpAddr, u32)>> = SpinLock::new(Vec::new());

const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The group that neighbour discovery asks for `address` in.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&low[13..]);
    Ipv6Addr::from(group)
}

/// Whether packets to `group` that come by `interface` are ours to look at.
pub fn is_member(interface: u32, group: IpAddr) -> bool {
    match group {
        IpAddr::V4(ALL_HOSTS) => return true,
        IpAddr::V6(v6) if v6 == ALL_NODES || v6.octets()[1] & 0xf == 1 => return true,
        IpAddr::V6(v6) => {
            let asked_for = iface::with(interface, |interface| {
                interface
                    .addresses
                    .iter()
                    .any(|own| matches!(own.address, IpAddr::V6(own) if solicited_node(own) == v6))
            });
            if asked_for == Some(true) {
                return true;
            }
        }
        IpAddr::V4(_) => {}
    }
    GROUPS.lock().iter().any(|(at, own, _)| *at == interface && *own == group)
}

pub fn join(interface: u32, group: IpAddr) {
    let is_first = {
        let mut groups = GROUPS.lock();
        match groups.iter_mut().find(|(at, own, _)| (*at, *own) == (interface, group)) {
            Some((_, _, count)) => {
                *count += 1;
                false
            }
            None => {
                groups.push((interface, group, 1));
                true
            }
        }
    };
    if is_first {
        report(interface, group, true);
    }
}

pub fn leave(interface: u32, group: IpAddr) {
    let was_last = {
        let mut groups = GROUPS.lock();
        let Some(at) = groups.iter().position(|(at, own, _)| (*at, *own) == (interface, group)) else { return };
        groups[at].2 -= 1;
        let last = groups[at].2 == 0;
        if last {
            groups.swap_remove(at);
        }
        last
    };
    if was_last {
        report(interface, group, false);
    }
}

/// Answers a router's question.
pub fn report_all(interface: u32, v6: bool) {
    let groups: Vec<IpAddr> = {
        let groups = GROUPS.lock();
        groups.iter().filter(|(at, group, _)| *at == interface && group.is_ipv6() == v6).map(|entry| entry.1).collect()
    };
    for group in groups {
        report(interface, group, true);
    }
}

fn report(interface: u32, group: IpAddr, joined: bool) {
    if iface::with(interface, |interface| interface.kind) != Some(Kind::Ethernet) {
        return;
    }
    let Some(src) = iface::source_for(interface, group) else { return };
    let message = match group {
        IpAddr::V4(v4) => {
            let mut message = alloc::vec![if joined { 0x16 } else { 0x17 }, 0, 0, 0];
            message.extend_from_slice(&v4.octets());
            let total = !(sum(&message, 0) as u16);
            message[2..4].copy_from_slice(&total.to_be_bytes());
            message
        }
        IpAddr::V6(v6) => {
            let mut message = alloc::vec![if joined { 131 } else { 132 }, 0, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(&v6.octets());
            message
        }
    };
    let (dst, protocol) = match group {
        IpAddr::V4(_) => (if joined { group } else { IpAddr::V4(ALL_ROUTERS) }, PROTO_IGMP),
        IpAddr::V6(_) => (if joined { group } else { IpAddr::V6(ALL_ROUTERS_V6) }, PROTO_ICMPV6),
    };
    let ip = Ip { src, dst, protocol, hop_limit: 1, traffic_class: 0, id: 0, dont_fragment: true };
    let head = build::ip_header_len(src);
    let mut packet = Packet::new(head + message.len());
    packet.bytes_mut()[head..].copy_from_slice(&message);
    build::ip_header(packet.bytes_mut(), &ip);
    if group.is_ipv6() {
        build::icmp_sum(&mut packet.bytes_mut()[head..], src, dst);
    }
    packet.interface = interface;
    packet.no_loop = true;
    output::send(packet);
}
