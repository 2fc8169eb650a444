//! Addresses of interfaces, and which one a packet leaves with.

use super::{Change, Kind, TABLES, announce, route};
use crate::prelude::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};

bitflags! {
    /// `ifa_flags` (IFA_F_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AddressFlags: u32 {
        const SECONDARY = 0x1;
        const DADFAILED = 0x8;
        const DEPRECATED = 0x20;
        const TENTATIVE = 0x40;
        const PERMANENT = 0x80;
        const NOPREFIXROUTE = 0x200;
    }
}

/// RT_SCOPE_*.
pub const SCOPE_UNIVERSE: u8 = 0;
pub const SCOPE_LINK: u8 = 253;
pub const SCOPE_HOST: u8 = 254;

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub address: IpAddr,
    pub prefix_len: u8,
    pub scope: u8,
    pub flags: AddressFlags,
    pub broadcast: Option<Ipv4Addr>,
    /// When it goes, and when it is no longer chosen for new connections (monotonic ns); `None`: never.
    pub valid_until_ns: Option<u64>,
    pub preferred_until_ns: Option<u64>,
}

impl Address {
    /// One that stays until it is removed.
    pub fn permanent(address: IpAddr, prefix_len: u8) -> Self {
        let scope = match address {
            IpAddr::V4(v4) if v4.is_loopback() => SCOPE_HOST,
            IpAddr::V4(v4) if v4.is_link_local() => SCOPE_LINK,
            IpAddr::V6(v6) if v6.is_loopback() => SCOPE_HOST,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => SCOPE_LINK,
            _ => SCOPE_UNIVERSE,
        };
        let broadcast = match address {
            IpAddr::V4(v4) if prefix_len < 31 && !v4.is_loopback() => {
                Some(Ipv4Addr::from_bits(v4.to_bits() | u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0)))
            }
            _ => None,
        };
        Self {
            address,
            prefix_len,
            scope,
            flags: AddressFlags::PERMANENT,
            broadcast,
            valid_until_ns: None,
            preferred_until_ns: None,
        }
    }
    /// The network of its prefix.
    pub fn network(&self) -> IpAddr {
        route::masked(self.address, self.prefix_len)
    }
    pub fn contains(&self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4() && route::masked(other, self.prefix_len) == self.network()
    }
    fn is_usable(&self, now: u64) -> bool {
        self.valid_until_ns.is_none_or(|until| now < until)
    }
}

/// The link-local address that a hardware address makes (modified EUI-64).
pub fn link_local(mac: &[u8; 6]) -> Ipv6Addr {
    eui64([0xfe, 0x80, 0, 0, 0, 0, 0, 0], mac)
}

/// An address of a 64-bit prefix and a hardware address.
pub fn eui64(prefix: [u8; 8], mac: &[u8; 6]) -> Ipv6Addr {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&prefix);
    bytes[8..].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    Ipv6Addr::from(bytes)
}

/// Adds an address and, when the interface is up, the route to its network. EEXIST: it is there (its lifetimes are taken over),
/// EINVAL, ENODEV.
pub fn add_address(index: u32, mut address: Address) -> Result<(), Errno> {
    let longest = if address.address.is_ipv4() { 32 } else { 128 };
    if address.prefix_len > longest || address.address.is_multicast() || address.address.is_unspecified() {
        return Err(Errno::EINVAL);
    }
    if let Some(broadcast) = address.broadcast {
        BROADCASTS.fetch_or(broadcast_bit(broadcast), Ordering::AcqRel);
    }
    let existed = {
        let mut tables = TABLES.lock();
        let interface = tables.interfaces.iter_mut().find(|interface| interface.index == index).ok_or(Errno::ENODEV)?;
        let same = |old: &&mut Address| old.address == address.address && old.prefix_len == address.prefix_len;
        if let Some(old) = interface.addresses.iter_mut().find(same) {
            old.valid_until_ns = address.valid_until_ns;
            old.preferred_until_ns = address.preferred_until_ns;
            true
        } else {
            let is_secondary = address.address.is_ipv4()
                && interface
                    .addresses
                    .iter()
                    .any(|old| old.prefix_len == address.prefix_len && old.contains(address.address));
            address.flags.set(AddressFlags::SECONDARY, is_secondary);
            interface.addresses.push(address.clone());
            false
        }
    };
    if existed {
        return Err(Errno::EEXIST);
    }
    route::address_added(index, &address);
    announce(Change::AddressAdded(index, address));
    Ok(())
}

/// Removes an address and the routes that hung on it: EADDRNOTAVAIL, ENODEV.
pub fn remove_address(index: u32, address: IpAddr, prefix_len: u8) -> Result<(), Errno> {
    let gone = {
        let mut tables = TABLES.lock();
        let interface = tables.interfaces.iter_mut().find(|interface| interface.index == index).ok_or(Errno::ENODEV)?;
        let position =
            interface.addresses.iter().position(|old| old.address == address && old.prefix_len == prefix_len);
        interface.addresses.remove(position.ok_or(Errno::EADDRNOTAVAIL)?)
    };
    route::address_removed(index, &gone);
    announce(Change::AddressRemoved(index, gone));
    Ok(())
}

/// Whose address it is: the interface that holds it (for 127.0.0.0/8, `lo`).
pub fn owner_of(address: IpAddr) -> Option<u32> {
    let tables = TABLES.lock();
    let up = tables.interfaces.iter().filter(|interface| interface.is_up());
    for interface in up {
        let is_own = interface.addresses.iter().any(|own| {
            own.address == address || interface.kind == Kind::Loopback && address.is_ipv4() && own.contains(address)
        });
        if is_own {
            return Some(interface.index);
        }
    }
    None
}

/// Whether packets to it are for everyone on a link (IPv4): limited or an interface's own broadcast address.
pub fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(v4) = address else { return false };
    if v4.is_broadcast() {
        return true;
    }
    if BROADCASTS.load(Ordering::Acquire) & broadcast_bit(v4) == 0 {
        return false;
    }
    let tables = TABLES.lock();
    tables.interfaces.iter().flat_map(|interface| &interface.addresses).any(|own| own.broadcast == Some(v4))
}

/// A bit for every broadcast address that an interface ever had, so that most addresses need no search.
static BROADCASTS: AtomicU64 = AtomicU64::new(0);

fn broadcast_bit(v4: Ipv4Addr) -> u64 {
    1 << (v4.octets()[3] % 64)
}

/// The address with which a packet to `to` leaves interface `index`.
pub fn source_for(index: u32, to: IpAddr) -> Option<IpAddr> {
    let now = crate::time::now_ns();
    let tables = TABLES.lock();
    let pick = |only: Option<u32>| {
        let interfaces = tables.interfaces.iter().filter(|interface| only.is_none_or(|only| interface.index == only));
        let mut candidates: Vec<&Address> = interfaces
            .flat_map(|interface| &interface.addresses)
            .filter(|own| own.address.is_ipv4() == to.is_ipv4() && own.is_usable(now))
            .filter(|own| !own.flags.contains(AddressFlags::TENTATIVE))
            .collect();
        // The same scope first, then the same network, then preferred ones, then the first.
        let wants_link = matches!(to, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast());
        candidates.sort_by_key(|own| {
            let is_link = own.scope == SCOPE_LINK;
            let expired = own.preferred_until_ns.is_some_and(|until| now >= until);
            (is_link != wants_link && to.is_ipv6(), !own.contains(to), expired, own.scope == SCOPE_HOST)
        });
        candidates.first().map(|own| own.address)
    };
    pick(Some(index)).or_else(|| pick(None))
}

/// Removes addresses whose time is over.
pub fn expire() -> Option<u64> {
    let now = crate::time::now_ns();
    let mut next = None;
    let mut gone = Vec::new();
    for interface in super::interfaces() {
        for address in &interface.addresses {
            match address.valid_until_ns {
                Some(until) if until <= now => gone.push((interface.index, address.address, address.prefix_len)),
                Some(until) => next = Some(next.map_or(until, |next: u64| next.min(until))),
                None => {}
            }
        }
    }
    for (index, address, prefix_len) in gone {
        let _ = remove_address(index, address, prefix_len);
    }
    next
}
