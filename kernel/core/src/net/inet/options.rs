//! Levels IPPROTO_IP and IPPROTO_IPV6: what every socket of the internet families keeps.

use super::address::Endpoint;
use super::multicast;
use crate::net::iface;
use crate::net::options::{OptionIn, SO_BINDTODEVICE, SOL_SOCKET};
use crate::net::socket::AF_INET6;
use crate::prelude::*;
use crate::task::credentials::cap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const IPPROTO_IP: i32 = 0;
pub const IPPROTO_IPV6: i32 = 41;

pub const IP_TOS: i32 = 1;
pub const IP_TTL: i32 = 2;
const IP_HDRINCL: i32 = 3;
const IP_OPTIONS: i32 = 4;
const IP_RECVOPTS: i32 = 6;
pub const IP_PKTINFO: i32 = 8;
const IP_MTU_DISCOVER: i32 = 10;
pub const IP_RECVERR: i32 = 11;
const IP_RECVTTL: i32 = 12;
const IP_RECVTOS: i32 = 13;
const IP_MTU: i32 = 14;
const IP_FREEBIND: i32 = 15;
const IP_TRANSPARENT: i32 = 19;
pub const IP_RECVORIGDSTADDR: i32 = 20;
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
const IP_MULTICAST_IF: i32 = 32;
const IP_MULTICAST_TTL: i32 = 33;
const IP_MULTICAST_LOOP: i32 = 34;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_DROP_MEMBERSHIP: i32 = 36;
const IP_MULTICAST_ALL: i32 = 49;

const IPV6_UNICAST_HOPS: i32 = 16;
const IPV6_MULTICAST_IF: i32 = 17;
const IPV6_MULTICAST_HOPS: i32 = 18;
const IPV6_MULTICAST_LOOP: i32 = 19;
const IPV6_JOIN_GROUP: i32 = 20;
const IPV6_LEAVE_GROUP: i32 = 21;
const IPV6_MTU_DISCOVER: i32 = 23;
const IPV6_MTU: i32 = 24;
pub const IPV6_RECVERR: i32 = 25;
const IPV6_V6ONLY: i32 = 26;
const IPV6_RECVPKTINFO: i32 = 49;
pub const IPV6_PKTINFO: i32 = 50;
const IPV6_RECVHOPLIMIT: i32 = 51;
pub const IPV6_HOPLIMIT: i32 = 52;
pub const IPV6_DONTFRAG: i32 = 62;
const IPV6_RECVTCLASS: i32 = 66;
pub const IPV6_TCLASS: i32 = 67;
const IPV6_AUTOFLOWLABEL: i32 = 70;
pub const IPV6_RECVORIGDSTADDR: i32 = 74;
const IPV6_FREEBIND: i32 = 78;
bitflags! {
    /// Options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Switch: u32 {
        const PKTINFO = 1 << 0;
        const RECVTTL = 1 << 1;
        const RECVTOS = 1 << 2;
        const RECVERR = 1 << 3;
        const FREEBIND = 1 << 4;
        const MULTICAST_LOOP = 1 << 5;
        const V6ONLY = 1 << 6;
        const PKTINFO6 = 1 << 7;
        const RECVHOPLIMIT6 = 1 << 8;
        const RECVTCLASS6 = 1 << 9;
        const HDRINCL = 1 << 10;
        const RECVERR6 = 1 << 11;
        const TRANSPARENT = 1 << 12;
        const NO_PORT = 1 << 13;
        const RECVOPTS = 1 << 14;
        const ORIGDST = 1 << 15;
        const MULTICAST_ALL = 1 << 16;
        const ORIGDST6 = 1 << 17;
        const DONTFRAG6 = 1 << 18;
    }
}

/// What the IP levels set.
pub struct IpOptions {
    switches: AtomicU32,
    /// IP_TTL and IPV6_UNICAST_HOPS; -1: the system's 64.
    ttl: AtomicI32,
    multicast_ttl: AtomicI32,
    pub tos: AtomicI32,
    /// The interface multicast leaves by; 0: the route's.
    multicast_interface: AtomicU32,
    mtu_discover: AtomicI32,
    /// Groups this socket joined.
    pub groups: SpinLock<Vec<(u32, IpAddr)>>,
}

const DEFAULT_TTL: i32 = 64;
/// net.ipv4.igmp_max_memberships.
const MAX_GROUPS: usize = 64;

impl IpOptions {
    pub fn new() -> Self {
        Self {
            switches: AtomicU32::new((Switch::MULTICAST_LOOP | Switch::MULTICAST_ALL).bits()),
            ttl: AtomicI32::new(-1),
            multicast_ttl: AtomicI32::new(1),
            tos: AtomicI32::new(0),
            multicast_interface: AtomicU32::new(0),
            mtu_discover: AtomicI32::new(1),
            groups: SpinLock::new(Vec::new()),
        }
    }
    /// A copy for a connection that a listener made.
    pub fn inherited(&self) -> Self {
        let new = Self::new();
        new.switches.store(self.switches.load(Ordering::Relaxed), Ordering::Relaxed);
        new.ttl.store(self.ttl.load(Ordering::Relaxed), Ordering::Relaxed);
        new.tos.store(self.tos.load(Ordering::Relaxed), Ordering::Relaxed);
        new
    }
    pub fn is_on(&self, switch: Switch) -> bool {
        self.switches.load(Ordering::Relaxed) & switch.bits() != 0
    }
    pub fn switch(&self, switch: Switch, on: bool) {
        if on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }
    /// The hop limit of a packet to `to`.
    pub fn hop_limit(&self, to: IpAddr) -> u8 {
        let chosen = if to.is_multicast() { &self.multicast_ttl } else { &self.ttl };
        match chosen.load(Ordering::Relaxed) {
            -1 => DEFAULT_TTL as u8,
            ttl => ttl as u8,
        }
    }
    pub fn traffic_class(&self) -> u8 {
        self.tos.load(Ordering::Relaxed) as u8
    }
    /// IP_PMTUDISC_DO and _PROBE, or IPV6_DONTFRAG: never fragment a packet to `to`.
    pub fn forbids_fragments(&self, to: IpAddr) -> bool {
        matches!(self.mtu_discover.load(Ordering::Relaxed), 2 | 3) || to.is_ipv6() && self.is_on(Switch::DONTFRAG6)
    }
    pub fn multicast_interface(&self) -> u32 {
        self.multicast_interface.load(Ordering::Relaxed)
    }
    /// Whether control data about each packet is wanted.
    pub fn wants_control(&self) -> bool {
        const WANTED: Switch = Switch::PKTINFO
            .union(Switch::RECVTTL)
            .union(Switch::RECVTOS)
            .union(Switch::PKTINFO6)
            .union(Switch::RECVHOPLIMIT6)
            .union(Switch::RECVTCLASS6)
            .union(Switch::ORIGDST)
            .union(Switch::ORIGDST6);
        self.is_on(WANTED)
    }
    /// IP_RECVERR or IPV6_RECVERR: errors about packets to `to` are to be told, and kept.
    pub fn wants_errors(&self, to: IpAddr) -> bool {
        self.is_on(if to.is_ipv4() { Switch::RECVERR } else { Switch::RECVERR6 })
    }
    /// Leaves every group: the socket is closed.
    pub fn leave_all(&self) {
        let groups = core::mem::take(&mut *self.groups.lock());
        for (interface, group) in groups {
            multicast::leave(interface, group);
        }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Mreqn {
    group: [u8; 4],
    address: [u8; 4],
    index: i32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Mreq6 {
    group: [u8; 16],
    index: u32,
}

/// IPv4's options may come as one byte.
fn small(value: OptionIn) -> Result<i32, Errno> {
    match value.len {
        0 => Err(Errno::EINVAL),
        1..=3 => Ok(i32::from(value.get::<u8>()?)),
        _ => value.int(),
    }
}

/// `struct ip_mreqn`, `ip_mreq` or a bare address: the group and the interface it names.
fn read_mreq(value: OptionIn, bare: bool) -> Result<(Ipv4Addr, u32), Errno> {
    let mut request = Mreqn { group: [0; 4], address: [0; 4], index: 0 };
    if value.len >= size_of::<Mreqn>() {
        request = value.get()?;
    } else if value.len >= 8 {
        let half: [u8; 8] = value.get()?;
        request.group.copy_from_slice(&half[..4]);
        request.address.copy_from_slice(&half[4..]);
    } else if bare && value.len >= 4 {
        request.address = value.get()?;
    } else {
        return Err(Errno::EINVAL);
    }
    let address = Ipv4Addr::from(request.address);
    let index = if request.index != 0 {
        iface::by_index(request.index as u32).ok_or(Errno::ENODEV)?.index
    } else if address.is_unspecified() {
        0
    } else {
        let owner = iface::address::owner_of(IpAddr::V4(address));
        owner.ok_or(if bare { Errno::EADDRNOTAVAIL } else { Errno::ENODEV })?
    };
    Ok((Ipv4Addr::from(request.group), index))
}

fn membership(options: &IpOptions, interface: u32, group: IpAddr, join: bool) -> Result<(), Errno> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let interface = match interface {
        0 => iface::lookup(group).ok_or(Errno::ENODEV)?.interface,
        index => iface::by_index(index).ok_or(Errno::ENODEV)?.index,
    };
    let mut groups = options.groups.lock();
    let position = groups.iter().position(|own| *own == (interface, group));
    match (join, position) {
        (true, Some(_)) => return Err(Errno::EADDRINUSE),
        (true, None) if groups.len() >= MAX_GROUPS => return Err(Errno::ENOBUFS),
        (true, None) => groups.push((interface, group)),
        (false, Some(position)) => drop(groups.remove(position)),
        (false, None) => return Err(Errno::EADDRNOTAVAIL),
    }
    drop(groups);
    if join {
        multicast::join(interface, group);
    } else {
        multicast::leave(interface, group);
    }
    Ok(())
}

/// Sets an option of the IP levels or SO_BINDTODEVICE; `None`: not one of ours. `is_bound` forbids V6ONLY.
pub fn set(
    options: &IpOptions,
    device: &AtomicU32,
    domain: u16,
    is_bound: bool,
    level: i32,
    name: i32,
    value: OptionIn,
) -> Option<Result<(), Errno>> {
    match level {
        SOL_SOCKET if name == SO_BINDTODEVICE => Some(bind_to_device(device, value)),
        IPPROTO_IP => Some(set_v4(options, name, value)),
        IPPROTO_IPV6 if domain == AF_INET6 => Some(set_v6(options, is_bound, name, value)),
        IPPROTO_IPV6 => Some(Err(Errno::ENOPROTOOPT)),
        _ => None,
    }
}

fn bind_to_device(device: &AtomicU32, value: OptionIn) -> Result<(), Errno> {
    let bytes = value.bytes(15)?;
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let index = match core::str::from_utf8(name) {
        Ok("") => 0,
        Ok(name) => iface::by_name(name).ok_or(Errno::ENODEV)?.index,
        Err(_) => return Err(Errno::ENODEV),
    };
    if device.load(Ordering::Relaxed) != 0 && !current().creds().has_cap(cap::NET_RAW) {
        return Err(Errno::EPERM);
    }
    device.store(index, Ordering::Relaxed);
    Ok(())
}

fn set_v4(options: &IpOptions, name: i32, value: OptionIn) -> Result<(), Errno> {
    let switch = match name {
        IP_PKTINFO => Switch::PKTINFO,
        IP_RECVTTL => Switch::RECVTTL,
        IP_RECVTOS => Switch::RECVTOS,
        IP_RECVERR => Switch::RECVERR,
        IP_RECVOPTS => Switch::RECVOPTS,
        IP_FREEBIND => Switch::FREEBIND,
        IP_BIND_ADDRESS_NO_PORT => Switch::NO_PORT,
        IP_RECVORIGDSTADDR => Switch::ORIGDST,
        IP_MULTICAST_LOOP => Switch::MULTICAST_LOOP,
        IP_MULTICAST_ALL => Switch::MULTICAST_ALL,
        IP_HDRINCL => Switch::HDRINCL,
        IP_TRANSPARENT => {
            let on = small(value)? != 0;
            if on && !current().creds().has_cap(cap::NET_ADMIN) {
                return Err(Errno::EPERM);
            }
            options.switch(Switch::TRANSPARENT, on);
            return Ok(());
        }
        IP_TOS => {
            options.tos.store(small(value)? & 0xff, Ordering::Relaxed);
            return Ok(());
        }
        IP_TTL => {
            let ttl = small(value)?;
            if ttl != -1 && !(1..=255).contains(&ttl) {
                return Err(Errno::EINVAL);
            }
            options.ttl.store(ttl, Ordering::Relaxed);
            return Ok(());
        }
        IP_MULTICAST_TTL => {
            let ttl = small(value)?;
            if !(-1..=255).contains(&ttl) {
                return Err(Errno::EINVAL);
            }
            options.multicast_ttl.store(if ttl == -1 { 1 } else { ttl }, Ordering::Relaxed);
            return Ok(());
        }
        IP_MTU_DISCOVER => {
            let how = small(value)?;
            if !(0..=5).contains(&how) {
                return Err(Errno::EINVAL);
            }
            options.mtu_discover.store(how, Ordering::Relaxed);
            return Ok(());
        }
        IP_MULTICAST_IF => {
            let (_, index) = read_mreq(value, true)?;
            options.multicast_interface.store(index, Ordering::Relaxed);
            return Ok(());
        }
        IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP => {
            let (group, index) = read_mreq(value, false)?;
            return membership(options, index, IpAddr::V4(group), name == IP_ADD_MEMBERSHIP);
        }
        IP_OPTIONS if value.len == 0 => return Ok(()),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    options.switch(switch, small(value)? != 0);
    Ok(())
}

fn set_v6(options: &IpOptions, is_bound: bool, name: i32, value: OptionIn) -> Result<(), Errno> {
    let switch = match name {
        IPV6_RECVPKTINFO => Switch::PKTINFO6,
        IPV6_RECVHOPLIMIT => Switch::RECVHOPLIMIT6,
        IPV6_RECVTCLASS => Switch::RECVTCLASS6,
        IPV6_RECVORIGDSTADDR => Switch::ORIGDST6,
        IPV6_DONTFRAG => Switch::DONTFRAG6,
        IPV6_RECVERR => Switch::RECVERR6,
        IPV6_MULTICAST_LOOP => Switch::MULTICAST_LOOP,
        IPV6_FREEBIND => Switch::FREEBIND,
        IPV6_V6ONLY if is_bound => return Err(Errno::EINVAL),
        IPV6_V6ONLY => Switch::V6ONLY,
        IPV6_UNICAST_HOPS | IPV6_MULTICAST_HOPS => {
            let hops = value.int()?;
            if !(-1..=255).contains(&hops) {
                return Err(Errno::EINVAL);
            }
            if name == IPV6_UNICAST_HOPS {
                options.ttl.store(hops, Ordering::Relaxed);
            } else {
                options.multicast_ttl.store(if hops == -1 { 1 } else { hops }, Ordering::Relaxed);
            }
            return Ok(());
        }
        IPV6_TCLASS => {
            let class = value.int()?;
            if !(-1..=255).contains(&class) {
                return Err(Errno::EINVAL);
            }
            options.tos.store(class.max(0), Ordering::Relaxed);
            return Ok(());
        }
        IPV6_MTU_DISCOVER => {
            options.mtu_discover.store(value.int()?, Ordering::Relaxed);
            return Ok(());
        }
        IPV6_MULTICAST_IF => {
            let index = value.int()? as u32;
            if index != 0 && iface::by_index(index).is_none() {
                return Err(Errno::ENODEV);
            }
            options.multicast_interface.store(index, Ordering::Relaxed);
            return Ok(());
        }
        IPV6_JOIN_GROUP | IPV6_LEAVE_GROUP => {
            let request: Mreq6 = value.get()?;
            let group = IpAddr::V6(Ipv6Addr::from(request.group));
            return membership(options, request.index, group, name == IPV6_JOIN_GROUP);
        }
        IPV6_AUTOFLOWLABEL => return Ok(()),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    options.switch(switch, value.int()? != 0);
    Ok(())
}

/// An option of the IP levels; `None`: not one of ours.
pub fn get(
    options: &IpOptions,
    domain: u16,
    peer: Option<Endpoint>,
    level: i32,
    name: i32,
    room: usize,
) -> Option<Result<Vec<u8>, Errno>> {
    let number = match level {
        IPPROTO_IP => get_v4(options, peer, name),
        IPPROTO_IPV6 if domain == AF_INET6 => get_v6(options, peer, name),
        IPPROTO_IPV6 => Err(Errno::ENOPROTOOPT),
        _ => return None,
    };
    Some(number.map(|number| {
        // Small values fit one byte when there is no more room.
        if level == IPPROTO_IP && room < 4 && room > 0 && (0..=255).contains(&number) {
            alloc::vec![number as u8]
        } else {
            number.to_ne_bytes().to_vec()
        }
    }))
}

fn path_mtu(peer: Option<Endpoint>) -> Result<i32, Errno> {
    let peer = peer.ok_or(Errno::ENOTCONN)?;
    // No packet is longer, whatever the interface carries.
    Ok(iface::lookup(peer.ip).ok_or(Errno::ENOTCONN)?.mtu.min(65_535) as i32)
}

fn get_v4(options: &IpOptions, peer: Option<Endpoint>, name: i32) -> Result<i32, Errno> {
    let switch = match name {
        IP_PKTINFO => Switch::PKTINFO,
        IP_RECVTTL => Switch::RECVTTL,
        IP_RECVTOS => Switch::RECVTOS,
        IP_RECVERR => Switch::RECVERR,
        IP_RECVOPTS => Switch::RECVOPTS,
        IP_FREEBIND => Switch::FREEBIND,
        IP_TRANSPARENT => Switch::TRANSPARENT,
        IP_BIND_ADDRESS_NO_PORT => Switch::NO_PORT,
        IP_RECVORIGDSTADDR => Switch::ORIGDST,
        IP_MULTICAST_LOOP => Switch::MULTICAST_LOOP,
        IP_MULTICAST_ALL => Switch::MULTICAST_ALL,
        IP_HDRINCL => Switch::HDRINCL,
        IP_TOS => return Ok(options.tos.load(Ordering::Relaxed)),
        IP_TTL => {
            let ttl = options.ttl.load(Ordering::Relaxed);
            return Ok(if ttl == -1 { DEFAULT_TTL } else { ttl });
        }
        IP_MULTICAST_TTL => return Ok(options.multicast_ttl.load(Ordering::Relaxed)),
        IP_MTU_DISCOVER => return Ok(options.mtu_discover.load(Ordering::Relaxed)),
        IP_MTU => return path_mtu(peer),
        IP_MULTICAST_IF => {
            let index = options.multicast_interface();
            let own = iface::source_for(index, IpAddr::V4(Ipv4Addr::BROADCAST)).filter(|_| index != 0);
            return Ok(match own {
                Some(IpAddr::V4(v4)) => i32::from_ne_bytes(v4.octets()),
                _ => 0,
            });
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(i32::from(options.is_on(switch)))
}

fn get_v6(options: &IpOptions, peer: Option<Endpoint>, name: i32) -> Result<i32, Errno> {
    let switch = match name {
        IPV6_RECVPKTINFO => Switch::PKTINFO6,
        IPV6_RECVHOPLIMIT => Switch::RECVHOPLIMIT6,
        IPV6_RECVTCLASS => Switch::RECVTCLASS6,
        IPV6_RECVORIGDSTADDR => Switch::ORIGDST6,
        IPV6_DONTFRAG => Switch::DONTFRAG6,
        IPV6_RECVERR => Switch::RECVERR6,
        IPV6_MULTICAST_LOOP => Switch::MULTICAST_LOOP,
        IPV6_FREEBIND => Switch::FREEBIND,
        IPV6_V6ONLY => Switch::V6ONLY,
        IPV6_UNICAST_HOPS => {
            let ttl = options.ttl.load(Ordering::Relaxed);
            return Ok(if ttl == -1 { DEFAULT_TTL } else { ttl });
        }
        IPV6_MULTICAST_HOPS => return Ok(options.multicast_ttl.load(Ordering::Relaxed)),
        IPV6_TCLASS => return Ok(options.tos.load(Ordering::Relaxed)),
        IPV6_MTU_DISCOVER => return Ok(options.mtu_discover.load(Ordering::Relaxed)),
        IPV6_MTU => return path_mtu(peer),
        IPV6_MULTICAST_IF => return Ok(options.multicast_interface() as i32),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(i32::from(options.is_on(switch)))
}
