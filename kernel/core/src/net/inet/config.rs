//! How interfaces get their addresses: `ip=` on the command line, DHCP, router advertisements.
//!
//! `ip=dhcp` (the default) brings every Ethernet up and asks for a lease; an address goes to the first one; `ip=off` leaves them down
//! ([`ip_option`](base::net::ip_option) has all forms). With a device in it, the option is for that one, and the others stay down. IPv6 configures itself on every Ethernet that is up: a
//! link-local address, then what routers advertise.
//!
//! Lock order: `STATE` alone; tables of `iface` are changed and frames sent with nothing held. All but [`link_changed`] and
//! [`resolvers`] run in the bottom half.

use super::{bottom_half, hash, nd, output};
use crate::net::iface::route::{PROTO_BOOT, PROTO_DHCP, PROTO_RA};
use crate::net::iface::{self, Address, AddressFlags, Kind, Route};
use crate::prelude::*;
use base::net::dhcp::{self, Client, Event, Lease};
use base::net::ip_option::{IpOption, Method};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use drivers::traits::TxMeta;

const SECOND_NS: u64 = 1_000_000_000;
/// Router solicitations (RFC 4861, 6.3.7).
const MAX_SOLICITATIONS: u8 = 3;
const SOLICITATION_PAUSE_NS: u64 = 4 * SECOND_NS;
/// The metric of routes that routers advertise, as Linux has it.
const ADVERTISED_METRIC: u32 = 1024;
const MAX_ROUTERS: usize = 8;
const MAX_PREFIXES: usize = 16;

struct Port {
    index: u32,
    has_link: bool,
    client: Option<Box<Client>>,
    lease: Option<Lease>,
    solicitations: u8,
    next_solicitation_ns: Option<u64>,
    /// Routers and when they stop to be default ones.
    routers: Vec<(Ipv6Addr, u64)>,
}

struct State {
    ports: Vec<Port>,
    static_resolvers: Vec<IpAddr>,
    advertised: Vec<Ipv6Addr>,
}

static STATE: SpinLock<State> =
    SpinLock::new(State { ports: Vec::new(), static_resolvers: Vec::new(), advertised: Vec::new() });

/// What `ip=` says; `None` when it makes no sense.
fn option() -> Option<IpOption<'static>> {
    IpOption::parse(crate::command_line::option("ip").unwrap_or("dhcp"))
}

/// How interface `index` gets its addresses, and whether the option names it.
fn plan(index: u32) -> (Method, bool) {
    match option() {
        Some(IpOption { device: Some(device), method, .. }) => {
            let is_named = iface::by_name(device).is_some_and(|own| own.index == index);
            (if is_named { method } else { Method::Off }, is_named)
        }
        Some(option) => (option.method, false),
        None => (Method::Off, false),
    }
}

/// The host name that `ip=` gives; says so when the option makes no sense.
pub fn host_name() -> Option<&'static str> {
    match option() {
        Some(option) => option.host_name,
        None => {
            crate::warn!(
                "net: ip={} is not understood; no address is set",
                crate::command_line::option("ip").unwrap_or("")
            );
            None
        }
    }
}

/// A new Ethernet: brings it up unless `ip=off`.
pub fn attached(index: u32) {
    if !matches!(plan(index).0, Method::Off) {
        let _ = iface::set_up(index, true);
    }
}

/// An interface came up or went down, or its cable did.
pub fn link_changed(index: u32) {
    let flags = iface::with(index, |own| (own.kind, own.flags.contains(iface::Flags::UP | iface::Flags::RUNNING)));
    let Some((Kind::Ethernet, has_link)) = flags else { return };
    let (plan, is_named) = plan(index);
    let is_first = {
        let mut state = STATE.lock();
        let is_first = state.ports.is_empty() || state.ports[0].index == index;
        let at = match state.ports.iter().position(|port| port.index == index) {
            Some(at) => at,
            None => {
                state.ports.push(Port {
                    index,
                    has_link: false,
                    client: None,
                    lease: None,
                    solicitations: 0,
                    next_solicitation_ns: None,
                    routers: Vec::new(),
                });
                state.ports.len() - 1
            }
        };
        let port = &mut state.ports[at];
        if port.has_link == has_link {
            return;
        }
        port.has_link = has_link;
        if has_link {
            port.solicitations = 0;
            port.next_solicitation_ns = Some(0);
            match (&mut port.client, &plan) {
                (Some(client), _) => client.restart(),
                (None, Method::Dhcp) => {
                    let mac = iface::device(index).map(|device| device.mac()).unwrap_or_default();
                    port.client = Some(Client::new(mac, hash::random_u64(), crate::time::now_ns()));
                }
                (None, _) => {}
            }
        }
        is_first
    };
    if let Method::Static { address, prefix_len, gateway, servers } = plan
        && has_link
        && (is_first || is_named)
    {
        STATE.lock().static_resolvers = servers;
        let _ = iface::add_address(index, Address::permanent(address, prefix_len));
        if let Some(gateway) = gateway {
            set_default_route(index, gateway, 0, PROTO_BOOT);
        }
    }
    if has_link {
        // The ring's interrupt is off until it has been looked at once.
        bottom_half::schedule(index);
    }
    bottom_half::kick();
}

fn set_default_route(index: u32, gateway: IpAddr, metric: u32, protocol: u8) {
    let any = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let route = Route {
        destination: any,
        prefix_len: 0,
        gateway: Some(gateway),
        interface: index,
        metric,
        protocol,
        scope: 0,
        source: None,
    };
    match iface::add_route(route) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => crate::warn!("net: no route to {gateway}: {error}"),
    }
}

/// Name servers that the command line, a lease or a router named.
pub fn resolvers() -> Vec<IpAddr> {
    let state = STATE.lock();
    let mut all = state.static_resolvers.clone();
    for lease in state.ports.iter().filter_map(|port| port.lease.as_ref()) {
        all.extend(lease.name_servers.iter().map(|server| IpAddr::V4(*server)));
    }
    all.extend(state.advertised.iter().map(|server| IpAddr::V6(*server)));
    all
}

/// Whether a frame is an answer that a client of `index` waits for.
pub fn wants(index: u32, frame: &[u8]) -> bool {
    dhcp::is_answer(frame) && STATE.lock().ports.iter().any(|port| port.index == index && port.client.is_some())
}

/// Gives such a frame, or an ARP reply, to the client.
pub fn dhcp_input(index: u32, frame: &[u8]) {
    {
        let mut state = STATE.lock();
        let port = state.ports.iter_mut().find(|port| port.index == index);
        let Some(client) = port.and_then(|port| port.client.as_mut()) else { return };
        client.input(frame, crate::time::now_ns());
    }
    bottom_half::kick();
}

/// Works on what is due; answers when to look again.
pub fn tick() -> Option<u64> {
    let indexes: Vec<u32> = STATE.lock().ports.iter().filter(|port| port.has_link).map(|port| port.index).collect();
    let next = indexes.into_iter().filter_map(|index| {
        let times = [lease_tick(index), solicitation_tick(index), router_tick(index)];
        times.into_iter().flatten().min()
    });
    next.min()
}

fn lease_tick(index: u32) -> Option<u64> {
    let now = crate::time::now_ns();
    let mut frames = Vec::new();
    let (event, old, next) = {
        let mut state = STATE.lock();
        let port = state.ports.iter_mut().find(|port| port.index == index)?;
        let client = port.client.as_mut()?;
        let event = client.poll(now, &mut frames);
        let next = client.poll_at(now);
        let old = match &event {
            Some(Event::Granted(lease)) => port.lease.replace(lease.clone()),
            Some(Event::Lost) => port.lease.take(),
            None => None,
        };
        (event, old, next)
    };
    for frame in frames {
        output::send_frame(index, &frame, TxMeta::default());
    }
    match event {
        Some(Event::Granted(lease)) => {
            if let Some(old) = old.filter(|old| old.address != lease.address) {
                let _ = iface::remove_address(index, IpAddr::V4(old.address), old.prefix_len);
            }
            let own = Address::permanent(IpAddr::V4(lease.address), lease.prefix_len);
            if iface::add_address(index, own).is_ok() {
                crate::info!("net: {}/{} by DHCP", lease.address, lease.prefix_len);
            }
            if let Some(router) = lease.router {
                set_default_route(index, IpAddr::V4(router), 0, PROTO_DHCP);
            }
        }
        Some(Event::Lost) => {
            if let Some(old) = old {
                let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let _ = iface::remove_route(any, 0, old.router.map(IpAddr::V4), index);
                let _ = iface::remove_address(index, IpAddr::V4(old.address), old.prefix_len);
            }
        }
        None => {}
    }
    next
}

fn solicitation_tick(index: u32) -> Option<u64> {
    let now = crate::time::now_ns();
    let due = {
        let mut state = STATE.lock();
        let port = state.ports.iter_mut().find(|port| port.index == index)?;
        let at = port.next_solicitation_ns?;
        if at > now {
            return Some(at);
        }
        port.solicitations += 1;
        let is_last = port.solicitations >= MAX_SOLICITATIONS;
        port.next_solicitation_ns = (!is_last).then_some(now + SOLICITATION_PAUSE_NS);
        port.next_solicitation_ns
    };
    nd::ask_routers(index);
    due
}

/// Routers whose time is over are default ones no longer.
fn router_tick(index: u32) -> Option<u64> {
    let now = crate::time::now_ns();
    let (gone, next) = {
        let mut state = STATE.lock();
        let port = state.ports.iter_mut().find(|port| port.index == index)?;
        let gone: Vec<Ipv6Addr> =
            port.routers.iter().filter(|(_, until)| *until <= now).map(|(router, _)| *router).collect();
        port.routers.retain(|(_, until)| *until > now);
        (gone, port.routers.iter().map(|(_, until)| *until).min())
    };
    for router in gone {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let _ = iface::remove_route(any, 0, Some(IpAddr::V6(router)), index);
    }
    next
}

/// A router advertised itself for so long (0: no longer).
pub fn router(index: u32, from: Ipv6Addr, lifetime_s: u32) {
    let is_new = {
        let mut state = STATE.lock();
        let Some(port) = state.ports.iter_mut().find(|port| port.index == index) else { return };
        port.next_solicitation_ns = None;
        let until = crate::time::now_ns() + u64::from(lifetime_s) * SECOND_NS;
        let is_full = port.routers.len() >= MAX_ROUTERS;
        match port.routers.iter_mut().find(|(router, _)| *router == from) {
            Some(entry) => {
                entry.1 = until;
                false
            }
            None if lifetime_s == 0 || is_full => false,
            None => {
                port.routers.push((from, until));
                true
            }
        }
    };
    if is_new {
        set_default_route(index, IpAddr::V6(from), ADVERTISED_METRIC, PROTO_RA);
    }
    bottom_half::kick();
}

/// A router advertised a prefix: an address is made of it (SLAAC).
pub fn prefix(index: u32, prefix: Ipv6Addr, len: u8, flags: u8, valid_s: u32, preferred_s: u32) {
    const AUTONOMOUS: u8 = 0x40;
    if flags & AUTONOMOUS == 0 || len != 64 || preferred_s > valid_s || prefix.is_unicast_link_local() {
        return;
    }
    let Some(interface) = iface::by_index(index) else { return };
    let mut high = [0u8; 8];
    high.copy_from_slice(&prefix.octets()[..8]);
    let own = iface::address::eui64(high, &interface.mac);
    if valid_s == 0 {
        let _ = iface::remove_address(index, IpAddr::V6(own), len);
        return;
    }
    let learned = interface.addresses.iter().filter(|own| own.valid_until_ns.is_some()).count();
    let now = crate::time::now_ns();
    let until = |seconds: u32| (seconds != u32::MAX).then(|| now + u64::from(seconds) * SECOND_NS);
    let mut address = Address::permanent(IpAddr::V6(own), len);
    address.flags = AddressFlags::empty();
    address.valid_until_ns = until(valid_s);
    address.preferred_until_ns = until(preferred_s);
    if learned < MAX_PREFIXES && iface::add_address(index, address).is_ok() {
        crate::info!("net: {own}/{len} by router advertisement");
    }
    bottom_half::kick();
}

pub fn advertised_resolvers(servers: Vec<Ipv6Addr>) {
    STATE.lock().advertised = servers;
}
