//! Routes: which interface and which neighbour a packet goes to.

use super::address::{self, Address, AddressFlags};
use super::{Change, Kind, LOOPBACK, TABLES, announce};
use crate::prelude::*;
use base::net::route::longest_prefix;
pub use base::net::route::{Route, masked};
use core::net::IpAddr;

/// RTPROT_*: who made a route.
pub const PROTO_KERNEL: u8 = 2;
pub const PROTO_BOOT: u8 = 3;
pub const PROTO_RA: u8 = 9;
pub const PROTO_DHCP: u8 = 16;

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

/// All routes in the order of their networks, as Linux lists them: default routes first.
pub fn routes() -> Vec<Route> {
    TABLES.lock().routes.listed()
}

/// EEXIST, EINVAL, ENODEV, ENETDOWN, ENETUNREACH for a gateway that is not on a link, ENOBUFS.
pub fn add_route(mut route: Route) -> Result<(), Errno> {
    route.check()?;
    if let Some(gateway) = route.gateway {
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
        tables.routes.insert(route.clone())?;
    }
    announce(Change::RouteAdded(route));
    Ok(())
}

/// Removes the first route to this network that fits; `None` and interface 0 fit any. ESRCH.
pub fn remove_route(destination: IpAddr, prefix_len: u8, gateway: Option<IpAddr>, interface: u32) -> Result<(), Errno> {
    let gone = TABLES.lock().routes.remove(destination, prefix_len, gateway, interface)?;
    announce(Change::RouteRemoved(gone));
    Ok(())
}

fn remove_where(unwanted: impl Fn(&Route) -> bool) {
    let gone = TABLES.lock().routes.remove_where(unwanted);
    for route in gone {
        announce(Change::RouteRemoved(route));
    }
}

fn prefix_route(index: u32, own: &Address) -> Option<Route> {
    if own.flags.intersects(AddressFlags::SECONDARY | AddressFlags::NOPREFIXROUTE) {
        return None;
    }
    // Addresses of `lo` are found without a route.
    if index == LOOPBACK || own.prefix_len == longest_prefix(own.address) {
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
    let way = tables.routes.find(to, |index| if wants(index) { usable(index) } else { None });
    if let Some((route, interface)) = way {
        return Some(Via {
            interface: interface.index,
            mtu: interface.mtu,
            kind: interface.kind,
            next_hop: route.gateway.unwrap_or(to),
            source: route.source,
        });
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
