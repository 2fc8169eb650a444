//! Routes: which interface and which neighbour a packet goes to.

use super::address::{self, Address, AddressFlags};
use super::{Change, Kind, LOOPBACK, TABLES, announce};
use crate::prelude::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RTPROT_*: who made a route.
pub const PROTO_KERNEL: u8 = 2;
pub const PROTO_BOOT: u8 = 3;
pub const PROTO_RA: u8 = 9;
pub const PROTO_DHCP: u8 = 16;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The network; unspecified with length 0 is the default route.
    pub destination: IpAddr,
    pub prefix_len: u8,
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    pub metric: u32,
    /// RTPROT_*.
    pub protocol: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// The source address it prefers.
    pub source: Option<IpAddr>,
}

/// The most routes there may be.
const MAX_ROUTES: usize = 1024;

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Via {
    pub interface: u32,
    pub mtu: u32,
    pub kind: Kind,
    /// The neighbour that gets the frame.
    pub next_hop: IpAddr,
    /// The address to leave with when the sender chose none.
    pub source: Option<IpAddr>,
}

/// `address` with all bits beyond the prefix cleared.
pub fn masked(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix_len.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// All routes in the order of their networks, as Linux lists them: default routes first.
pub fn routes() -> Vec<Route> {
    let mut routes = TABLES.lock().routes.clone();
    routes.sort_by_key(|route| (route.destination, route.prefix_len, route.metric));
    routes
}

/// EEXIST, EINVAL, ENODEV, ENETDOWN, ENETUNREACH for a gateway that is not on a link, ENOBUFS.
pub fn add_route(mut route: Route) -> Result<(), Errno> {
    let longest = if route.destination.is_ipv4() { 32 } else { 128 };
    if route.prefix_len > longest || masked(route.destination, route.prefix_len) != route.destination {
        return Err(Errno::EINVAL);
    }
    if let Some(gateway) = route.gateway {
        if gateway.is_ipv4() != route.destination.is_ipv4() {
            return Err(Errno::EINVAL);
        }
        let interface = (route.interface != 0).then_some(route.interface);
        let on_link = lookup_on(gateway, interface).filter(|via| via.next_hop == gateway);
        let is_link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        match on_link {
            Some(via) if route.interface == 0 => route.interface = via.interface,
            Some(_) => {}
            None if is_link_local && route.interface != 0 => {}
            None => return Err(Errno::ENETUNREACH),
        }
    }
    {
        let mut tables = TABLES.lock();
        let interface =
            tables.interfaces.iter().find(|interface| interface.index == route.interface).ok_or(Errno::ENODEV)?;
        if !interface.is_up() {
            return Err(Errno::ENETDOWN);
        }
        if tables.routes.iter().any(|old| same(old, &route) && old.metric == route.metric) {
            return Err(Errno::EEXIST);
        }
        if tables.routes.len() >= MAX_ROUTES {
            return Err(Errno::ENOBUFS);
        }
        let key = |route: &Route| (core::cmp::Reverse(route.prefix_len), route.metric);
        let at = tables.routes.partition_point(|old| key(old) <= key(&route));
        tables.routes.insert(at, route.clone());
    }
    announce(Change::RouteAdded(route));
    Ok(())
}

fn same(one: &Route, other: &Route) -> bool {
    one.destination == other.destination && one.prefix_len == other.prefix_len
}

/// Removes the first route to this network that fits; `None` and interface 0 fit any. ESRCH.
pub fn remove_route(destination: IpAddr, prefix_len: u8, gateway: Option<IpAddr>, interface: u32) -> Result<(), Errno> {
    let gone = {
        let mut tables = TABLES.lock();
        let position = tables.routes.iter().position(|route| {
            route.destination == destination
                && route.prefix_len == prefix_len
                && (gateway.is_none() || route.gateway == gateway)
                && (interface == 0 || route.interface == interface)
        });
        tables.routes.remove(position.ok_or(Errno::ESRCH)?)
    };
    announce(Change::RouteRemoved(gone));
    Ok(())
}

fn remove_where(unwanted: impl Fn(&Route) -> bool) {
    let gone: Vec<Route> = {
        let mut tables = TABLES.lock();
        let gone = tables.routes.iter().filter(|route| unwanted(route)).cloned().collect();
        tables.routes.retain(|route| !unwanted(route));
        gone
    };
    for route in gone {
        announce(Change::RouteRemoved(route));
    }
}

fn prefix_route(index: u32, own: &Address) -> Option<Route> {
    if own.flags.intersects(AddressFlags::SECONDARY | AddressFlags::NOPREFIXROUTE) {
        return None;
    }
    let longest = if own.address.is_ipv4() { 32 } else { 128 };
    // Addresses of `lo` are found without a route.
    if index == LOOPBACK || own.prefix_len == longest {
        return None;
    }
    Some(Route {
        destination: own.network(),
        prefix_len: own.prefix_len,
        gateway: None,
        interface: index,
        metric: if own.address.is_ipv6() { 256 } else { 0 },
        protocol: PROTO_KERNEL,
        scope: if own.address.is_ipv4() { address::SCOPE_LINK } else { address::SCOPE_UNIVERSE },
        source: own.address.is_ipv4().then_some(own.address),
    })
}

pub(super) fn address_added(index: u32, own: &Address) {
    if let Some(route) = prefix_route(index, own) {
        // A down interface gets its routes when it comes up.
        let _ = add_route(route);
    }
}

pub(super) fn address_removed(index: u32, own: &Address) {
    remove_where(|route| {
        route.interface == index
            && (route.source == Some(own.address)
                || route.protocol == PROTO_KERNEL
                    && route.destination == own.network()
                    && route.prefix_len == own.prefix_len)
    });
}

pub(super) fn interface_is_up(index: u32) {
    for own in super::by_index(index).map(|interface| interface.addresses).unwrap_or_default() {
        address_added(index, &own);
    }
}

pub(super) fn interface_is_down(index: u32) {
    remove_where(|route| route.interface == index);
}

/// The way to `to`, or `None` (ENETUNREACH).
pub fn lookup(to: IpAddr) -> Option<Via> {
    lookup_on(to, None)
}

/// As [`lookup`], through one interface only.
pub fn lookup_on(to: IpAddr, only: Option<u32>) -> Option<Via> {
    if let Some(owner) = address::owner_of(to) {
        let source = matches!(to, IpAddr::V4(_) | IpAddr::V6(_)).then_some(to);
        let mtu = super::with(LOOPBACK, |lo| lo.mtu)?;
        let _ = owner;
        return Some(Via { interface: LOOPBACK, mtu, kind: Kind::Loopback, next_hop: to, source });
    }
    let tables = TABLES.lock();
    let usable = |index: u32| tables.interfaces.iter().find(|interface| interface.index == index && interface.is_up());
    let wants = |index: u32| only.is_none_or(|only| only == index);
    for route in &tables.routes {
        if route.destination.is_ipv4() != to.is_ipv4()
            || masked(to, route.prefix_len) != route.destination
            || !wants(route.interface)
        {
            continue;
        }
        if let Some(interface) = usable(route.interface) {
            let next_hop = route.gateway.unwrap_or(to);
            return Some(Via {
                interface: interface.index,
                mtu: interface.mtu,
                kind: interface.kind,
                next_hop,
                source: route.source,
            });
        }
    }
    // What stays on the link needs no route: multicast, limited broadcast, link-local with a named interface.
    let stays = match to {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || only.is_some(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    };
    if !stays {
        return None;
    }
    let mut up = tables.interfaces.iter().filter(|interface| interface.is_up() && wants(interface.index));
    // An Ethernet before `lo`, which has its own only when it is named or alone.
    let interface = up.clone().find(|interface| interface.kind == Kind::Ethernet).or_else(|| up.next())?;
    Some(Via { interface: interface.index, mtu: interface.mtu, kind: interface.kind, next_hop: to, source: None })
}
