//! NETLINK_ROUTE: links, addresses, routes and neighbours (rtnetlink(7)).

use super::Reply;
use super::message::{Attributes, Builder, NLM_F_EXCL, NLM_F_REPLACE};
use crate::net::iface::{self, AddressFlags, Change, Flags, Interface, Kind, Neighbour, Route};
use crate::net::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use crate::prelude::*;
use crate::task::credentials::cap;
use alloc::vec;
use core::net::IpAddr;

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const GETNEIGH: u16 = 30;
const GETRULE: u16 = 34;
const GETQDISC: u16 = 38;

/// RTNLGRP_*.
const GROUP_LINK: u32 = 1;
const GROUP_NEIGH: u32 = 3;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV4_ROUTE: u32 = 7;
const GROUP_IPV6_ADDRESS: u32 = 9;
const GROUP_IPV6_ROUTE: u32 = 11;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// Carries out one request: EPERM, EINVAL, ENODEV, EOPNOTSUPP, and what the tables say.
pub fn handle(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let kind = reply.header.kind;
    let is_get = kind & 3 == 2;
    if !is_get && !current().creds().has_cap(cap::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    reply.is_dump = is_get && reply.header.is_dump();
    match kind {
        GETLINK => get_link(reply, body),
        NEWLINK | SETLINK => set_link(body),
        GETADDR if reply.is_dump => dump_addresses(reply, body),
        NEWADDR => new_address(reply.header.flags, body),
        DELADDR => delete_address(body),
        GETROUTE if reply.is_dump => dump_routes(reply, body),
        GETROUTE => get_route(reply, body),
        NEWROUTE => new_route(reply.header.flags, body),
        DELROUTE => delete_route(body),
        GETNEIGH if reply.is_dump => dump_neighbours(reply, body),
        NEWNEIGH => set_neighbour(body, true),
        DELNEIGH => set_neighbour(body, false),
        // None of either.
        GETRULE | GETQDISC if reply.is_dump => Ok(()),
        _ => {
            reply.is_dump = false;
            Err(Errno::EOPNOTSUPP)
        }
    }
}

/// A request's fixed part of `len` bytes and its attributes. What is missing of the fixed part is zero, as in the one-byte
/// requests of old programs.
fn split<const LEN: usize>(body: &[u8]) -> ([u8; LEN], Attributes<'_>) {
    let mut fixed = [0; LEN];
    let count = body.len().min(LEN);
    fixed[..count].copy_from_slice(&body[..count]);
    (fixed, Attributes::new(body.get(LEN..).unwrap_or(&[])))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn family_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Whether a dump for `family` has objects of this address.
fn wants(family: u8, address: IpAddr) -> bool {
    u16::from(family) == AF_UNSPEC || u16::from(family) == family_of(address)
}

// Links.

const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_STATS: u16 = 7;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKMODE: u16 = 17;
const IFLA_STATS64: u16 = 23;
const IFLA_GROUP: u16 = 27;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;

/// IF_OPER_*.
const OPER_UNKNOWN: u8 = 0;
const OPER_DOWN: u8 = 2;
const OPER_UP: u8 = 6;

fn link_body(interface: &Interface) -> [u8; 16] {
    let mut body = [0; 16];
    let kind = if interface.kind == Kind::Loopback { ARPHRD_LOOPBACK } else { ARPHRD_ETHER };
    body[2..4].copy_from_slice(&kind.to_ne_bytes());
    body[4..8].copy_from_slice(&interface.index.to_ne_bytes());
    body[8..12].copy_from_slice(&interface.flags.bits().to_ne_bytes());
    body
}

/// `struct rtnl_link_stats64`'s 24 counters.
fn counters(interface: &Interface) -> [u64; 24] {
    let stats = interface.stats();
    let mut all = [0; 24];
    all[..8].copy_from_slice(&[
        stats.rx_frames,
        stats.tx_frames,
        stats.rx_bytes,
        stats.tx_bytes,
        stats.rx_errors,
        stats.tx_errors,
        stats.rx_dropped,
        stats.tx_dropped,
    ]);
    all
}

fn with_link(message: Builder, interface: &Interface) -> Builder {
    let is_lo = interface.kind == Kind::Loopback;
    let running = interface.flags.contains(Flags::RUNNING);
    let state = match (is_lo, running) {
        (true, _) => OPER_UNKNOWN,
        (_, true) => OPER_UP,
        _ => OPER_DOWN,
    };
    let counters = counters(interface);
    let wide: Vec<u8> = counters.iter().flat_map(|counter| counter.to_ne_bytes()).collect();
    let narrow: Vec<u8> = counters.iter().flat_map(|counter| (*counter as u32).to_ne_bytes()).collect();
    message
        .text(IFLA_IFNAME, &interface.name)
        .u32(IFLA_TXQLEN, 1000)
        .u8(IFLA_OPERSTATE, state)
        .u8(IFLA_LINKMODE, 0)
        .u32(IFLA_MTU, interface.mtu)
        .u32(IFLA_GROUP, 0)
        .u32(IFLA_PROMISCUITY, 0)
        .u32(IFLA_NUM_TX_QUEUES, 1)
        .u32(IFLA_NUM_RX_QUEUES, 1)
        .u8(IFLA_CARRIER, u8::from(running))
        .text(IFLA_QDISC, if is_lo { "noqueue" } else { "pfifo_fast" })
        .attribute(IFLA_ADDRESS, &interface.mac)
        .attribute(IFLA_BROADCAST, if is_lo { &[0; 6] } else { &[0xff; 6] })
        .attribute(IFLA_STATS64, &wide)
        .attribute(IFLA_STATS, &narrow)
}

/// The interface a request names by index or name: ENODEV, EINVAL when by neither.
fn named(index: u32, attributes: Attributes<'_>) -> Result<Interface, Errno> {
    if index != 0 {
        return iface::by_index(index).ok_or(Errno::ENODEV);
    }
    let name = attributes.text(IFLA_IFNAME).ok_or(Errno::EINVAL)?;
    iface::by_name(name).ok_or(Errno::ENODEV)
}

fn get_link(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<16>(body);
    let interfaces = if reply.is_dump { iface::interfaces() } else { vec![named(word(&fixed, 4), attributes)?] };
    for interface in &interfaces {
        let message = reply.message(NEWLINK, &link_body(interface));
        reply.push(with_link(message, interface));
    }
    Ok(())
}

fn set_link(body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<16>(body);
    let (flags, change) = (word(&fixed, 8), word(&fixed, 12));
    // Links are devices: none can be made.
    let interface = match named(word(&fixed, 4), attributes) {
        Err(Errno::ENODEV) if word(&fixed, 4) == 0 => return Err(Errno::EOPNOTSUPP),
        interface => interface?,
    };
    if let Some(mtu) = attributes.u32(IFLA_MTU) {
        iface::set_mtu(interface.index, mtu)?;
    }
    let mask = if change == 0 { u32::MAX } else { change };
    let names_flags = change != 0 || flags != 0;
    if names_flags && mask & Flags::UP.bits() != 0 {
        iface::set_up(interface.index, flags & Flags::UP.bits() != 0)?;
    }
    Ok(())
}

// Addresses.

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const FOREVER: u32 = u32::MAX;

fn address_body(index: u32, address: &iface::Address) -> [u8; 8] {
    let mut body = [0; 8];
    body[0] = family_of(address.address) as u8;
    body[1] = address.prefix_len;
    body[2] = address.flags.bits() as u8;
    body[3] = address.scope;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

/// Seconds until a time; for ever without one.
fn seconds_until(until_ns: Option<u64>) -> u32 {
    until_ns.map_or(FOREVER, |until| (until.saturating_sub(crate::time::now_ns()) / 1_000_000_000) as u32)
}

fn with_address(message: Builder, name: &str, address: &iface::Address) -> Builder {
    let mut message = message.address(IFA_ADDRESS, address.address);
    if address.address.is_ipv4() {
        message = message.address(IFA_LOCAL, address.address);
        if let Some(broadcast) = address.broadcast {
            message = message.attribute(IFA_BROADCAST, &broadcast.octets());
        }
        message = message.text(IFA_LABEL, name);
    }
    let cache = [seconds_until(address.preferred_until_ns), seconds_until(address.valid_until_ns), 0, 0];
    let cache: Vec<u8> = cache.iter().flat_map(|word| word.to_ne_bytes()).collect();
    message.u32(IFA_FLAGS, address.flags.bits()).attribute(IFA_CACHEINFO, &cache)
}

fn dump_addresses(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let (fixed, _) = split::<8>(body);
    let only = word(&fixed, 4);
    let interfaces = iface::interfaces();
    // A dump of every family is one of IPv4 and then one of IPv6.
    for is_ipv4 in [true, false] {
        for interface in interfaces.iter().filter(|interface| only == 0 || interface.index == only) {
            let asked = |own: &&iface::Address| own.address.is_ipv4() == is_ipv4 && wants(fixed[0], own.address);
            for address in interface.addresses.iter().filter(asked) {
                let message = reply.message(NEWADDR, &address_body(interface.index, address));
                reply.push(with_address(message, &interface.name, address));
            }
        }
    }
    Ok(())
}

/// The address of a request: its own (IFA_LOCAL) before the network's or peer's (IFA_ADDRESS).
fn own_address(attributes: Attributes<'_>) -> Result<Option<IpAddr>, Errno> {
    Ok(attributes.address(IFA_LOCAL)?.or(attributes.address(IFA_ADDRESS)?))
}

fn new_address(flags: u16, body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<8>(body);
    let own = own_address(attributes)?.ok_or(Errno::EINVAL)?;
    if u16::from(fixed[0]) != family_of(own) {
        return Err(Errno::EINVAL);
    }
    let mut address = iface::Address::permanent(own, fixed[1]);
    // Only when it is named: the ioctls give one by themselves, netlink does not.
    address.broadcast = match attributes.address(IFA_BROADCAST)? {
        Some(IpAddr::V4(broadcast)) => Some(broadcast),
        _ => None,
    };
    let asked = attributes.u32(IFA_FLAGS).unwrap_or(u32::from(fixed[2]));
    address.flags |= AddressFlags::from_bits_truncate(asked) & AddressFlags::NOPREFIXROUTE;
    if let Some(cache) = attributes.find(IFA_CACHEINFO) {
        let (preferred, valid) = (word(cache, 0), word(cache, 4));
        if valid == 0 || preferred > valid {
            return Err(Errno::EINVAL);
        }
        let until =
            |seconds: u32| (seconds != FOREVER).then(|| crate::time::now_ns() + u64::from(seconds) * 1_000_000_000);
        (address.preferred_until_ns, address.valid_until_ns) = (until(preferred), until(valid));
        address.flags.set(AddressFlags::PERMANENT, valid == FOREVER);
    }
    match iface::add_address(word(&fixed, 4), address) {
        Err(Errno::EEXIST) if flags & NLM_F_REPLACE != 0 && flags & NLM_F_EXCL == 0 => Ok(()),
        result => result,
    }
}

fn delete_address(body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<8>(body);
    let index = word(&fixed, 4);
    let interface = iface::by_index(index).ok_or(Errno::ENODEV)?;
    let wanted = own_address(attributes)?;
    let fits = |own: &&iface::Address| {
        wanted.is_none_or(|wanted| wanted == own.address) && (fixed[1] == 0 || own.prefix_len == fixed[1])
    };
    let own = interface.addresses.iter().find(fits).ok_or(Errno::EADDRNOTAVAIL)?;
    iface::remove_address(index, own.address, own.prefix_len)
}

// Routes.

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;

fn route_body(family: u16, prefix_len: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    let mut body = [0; 12];
    body[..2].copy_from_slice(&[family as u8, prefix_len]);
    body[4..8].copy_from_slice(&[table, protocol, scope, kind]);
    body
}

fn with_route(mut message: Builder, route: &Route) -> Builder {
    message = message.u32(RTA_TABLE, u32::from(TABLE_MAIN));
    if route.prefix_len > 0 {
        message = message.address(RTA_DST, route.destination);
    }
    if let Some(gateway) = route.gateway {
        message = message.address(RTA_GATEWAY, gateway);
    }
    if let Some(source) = route.source {
        message = message.address(RTA_PREFSRC, source);
    }
    if route.metric != 0 {
        message = message.u32(RTA_PRIORITY, route.metric);
    }
    message.u32(RTA_OIF, route.interface)
}

fn body_of(route: &Route) -> [u8; 12] {
    let family = family_of(route.destination);
    route_body(family, route.prefix_len, TABLE_MAIN, route.protocol, route.scope, RTN_UNICAST)
}

fn dump_routes(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<12>(body);
    let table = attributes.u32(RTA_TABLE).unwrap_or(u32::from(fixed[4]));
    if table != 0 && table != u32::from(TABLE_MAIN) {
        return Ok(());
    }
    for route in iface::routes().iter().filter(|route| wants(fixed[0], route.destination)) {
        let message = reply.message(NEWROUTE, &body_of(route));
        reply.push(with_route(message, route));
    }
    Ok(())
}

/// `ip route get`: the way to one address. ENETUNREACH.
fn get_route(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let (fixed, attributes) = split::<12>(body);
    let to = attributes.address(RTA_DST)?.ok_or(Errno::EINVAL)?;
    if !wants(fixed[0], to) {
        return Err(Errno::EINVAL);
    }
    let via = iface::lookup(to).ok_or(Errno::ENETUNREACH)?;
    let is_own = via.interface == iface::LOOPBACK;
    let (table, kind) = if is_own { (TABLE_LOCAL, RTN_LOCAL) } else { (TABLE_MAIN, RTN_UNICAST) };
    let whole = if to.is_ipv4() { 32 } else { 128 };
    let body = route_body(family_of(to), whole, table, 0, 0, kind);
    let mut message = reply.message(NEWROUTE, &body).u32(RTA_TABLE, u32::from(table)).address(RTA_DST, to);
    if via.next_hop != to {
        message = message.address(RTA_GATEWAY, via.next_hop);
    }
    message = message.u32(RTA_OIF, via.interface);
    if let Some(source) = via.source.or_else(|| iface::source_for(via.interface, to)) {
        message = message.address(RTA_PREFSRC, source);
    }
    reply.push(message);
    Ok(())
}

/// The route a request describes.
fn described(body: &[u8]) -> Result<Route, Errno> {
    let (fixed, attributes) = split::<12>(body);
    let gateway = attributes.address(RTA_GATEWAY)?;
    let unspecified = match u16::from(fixed[0]) {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return Err(Errno::EINVAL),
    };
    let destination = attributes.address(RTA_DST)?.unwrap_or(unspecified);
    let same = |address: Option<IpAddr>| address.is_none_or(|address| address.is_ipv4() == unspecified.is_ipv4());
    let source = attributes.address(RTA_PREFSRC)?;
    if !same(Some(destination)) || !same(gateway) || !same(source) {
        return Err(Errno::EINVAL);
    }
    let default_metric = if unspecified.is_ipv4() { 0 } else { 1024 };
    Ok(Route {
        destination,
        prefix_len: fixed[1],
        gateway,
        interface: attributes.u32(RTA_OIF).unwrap_or(0),
        metric: attributes.u32(RTA_PRIORITY).filter(|metric| *metric != 0).unwrap_or(default_metric),
        protocol: fixed[5],
        scope: fixed[6],
        source,
    })
}

fn new_route(flags: u16, body: &[u8]) -> Result<(), Errno> {
    let route = described(body)?;
    if flags & NLM_F_REPLACE != 0 {
        match iface::remove_route(route.destination, route.prefix_len, None, 0) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    iface::add_route(route)
}

fn delete_route(body: &[u8]) -> Result<(), Errno> {
    let route = described(body)?;
    iface::remove_route(route.destination, route.prefix_len, route.gateway, route.interface)
}

// Neighbours.

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

fn neighbour_body(neighbour: &Neighbour) -> [u8; 12] {
    let mut body = [0; 12];
    body[0] = family_of(neighbour.address) as u8;
    body[4..8].copy_from_slice(&neighbour.interface.to_ne_bytes());
    body[8..10].copy_from_slice(&(neighbour.state as u16).to_ne_bytes());
    body[11] = RTN_UNICAST;
    body
}

fn with_neighbour(message: Builder, neighbour: &Neighbour) -> Builder {
    let message = message.address(NDA_DST, neighbour.address);
    match neighbour.mac {
        Some(mac) => message.attribute(NDA_LLADDR, &mac),
        None => message,
    }
}

fn dump_neighbours(reply: &mut Reply, body: &[u8]) -> Result<(), Errno> {
    let (fixed, _) = split::<12>(body);
    let only = word(&fixed, 4);
    for neighbour in iface::neighbours() {
        if wants(fixed[0], neighbour.address) && (only == 0 || neighbour.interface == only) {
            let message = reply.message(NEWNEIGH, &neighbour_body(&neighbour));
            reply.push(with_neighbour(message, &neighbour));
        }
    }
    Ok(())
}

fn set_neighbour(body: &[u8], add: bool) -> Result<(), Errno> {
    let (fixed, attributes) = split::<12>(body);
    let interface = iface::by_index(word(&fixed, 4)).ok_or(Errno::ENODEV)?;
    let address = attributes.address(NDA_DST)?.ok_or(Errno::EINVAL)?;
    let mac = match attributes.find(NDA_LLADDR) {
        Some(mac) => Some(<[u8; 6]>::try_from(mac).map_err(|_| Errno::EINVAL)?),
        None if add => return Err(Errno::EINVAL),
        None => None,
    };
    iface::neighbour::set(interface.index, address, if add { mac } else { None }).map(drop)
}

/// The group that hears of a change, and what it hears.
pub fn news(change: &Change) -> Option<(u32, Vec<u8>)> {
    let message = |kind: u16, body: &[u8]| Builder::new(kind, 0, 0, 0, body);
    let by_family = |address: IpAddr, v4: u32, v6: u32| if address.is_ipv4() { v4 } else { v6 };
    let (group, message) = match change {
        Change::Link(interface) => (GROUP_LINK, with_link(message(NEWLINK, &link_body(interface)), interface)),
        Change::AddressAdded(index, address) | Change::AddressRemoved(index, address) => {
            let kind = if matches!(change, Change::AddressAdded(..)) { NEWADDR } else { DELADDR };
            let name = iface::by_index(*index).map(|interface| interface.name).unwrap_or_default();
            let group = by_family(address.address, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS);
            (group, with_address(message(kind, &address_body(*index, address)), &name, address))
        }
        Change::RouteAdded(route) | Change::RouteRemoved(route) => {
            let kind = if matches!(change, Change::RouteAdded(_)) { NEWROUTE } else { DELROUTE };
            let group = by_family(route.destination, GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE);
            (group, with_route(message(kind, &body_of(route)), route))
        }
        Change::Neighbour(neighbour) => {
            (GROUP_NEIGH, with_neighbour(message(NEWNEIGH, &neighbour_body(neighbour)), neighbour))
        }
    };
    Some((group, message.finish()))
}
