//! Socket addresses of both families: `struct sockaddr_in` and `sockaddr_in6` to and from [`Endpoint`].
//!
//! Inside, an IPv4-mapped IPv6 address is the IPv4 address; the socket's family decides how it is shown.

use crate::net::message::Address;
use crate::net::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use crate::prelude::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

const SOCKADDR_IN: usize = 16;
const SOCKADDR_IN6: usize = 28;
/// The shortest `struct sockaddr_in6` taken: without the scope (RFC 2133).
const SOCKADDR_IN6_SHORT: usize = 24;

/// An address and a port, with the interface that a link-local address belongs to (0: none).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub scope: u32,
}

impl Endpoint {
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, scope: 0 }
    }
    /// "Any address, no port" of a family.
    pub fn unspecified(domain: u16) -> Self {
        let ip = if domain == AF_INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        Self::new(ip, 0)
    }
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
    /// As a socket of `domain` shows it to its program.
    pub fn to_address(self, domain: u16) -> Address {
        let mut bytes = [0; SOCKADDR_IN6];
        bytes[..2].copy_from_slice(&domain.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.port.to_be_bytes());
        if domain == AF_INET {
            let v4 = match self.ip {
                IpAddr::V4(v4) => v4,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            bytes[4..8].copy_from_slice(&v4.octets());
            return Address::from_slice(&bytes[..SOCKADDR_IN]);
        }
        let v6 = self.ip_v6();
        bytes[8..24].copy_from_slice(&v6.octets());
        let scope = if v6.is_unicast_link_local() { self.scope } else { 0 };
        bytes[24..].copy_from_slice(&scope.to_ne_bytes());
        Address::from_slice(&bytes)
    }
    fn ip_v6(&self) -> Ipv6Addr {
        match self.ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        }
    }
    /// In the form of `domain`, for /proc/net.
    pub fn shown(&self, domain: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) if domain == AF_INET => self.socket_addr(),
            _ => SocketAddr::V6(SocketAddrV6::new(self.ip_v6(), self.port, 0, self.scope)),
        }
    }
}

/// The family an address says it is of; `None` when it is too short to say.
pub fn family(address: &[u8]) -> Option<u16> {
    address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn read_v4(address: &[u8]) -> Result<Endpoint, Errno> {
    let bytes = address.get(..SOCKADDR_IN).ok_or(Errno::EINVAL)?;
    let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
    Ok(Endpoint::new(IpAddr::V4(ip), u16::from_be_bytes([bytes[2], bytes[3]])))
}

fn read_v6(address: &[u8]) -> Result<Endpoint, Errno> {
    let bytes = address.get(..SOCKADDR_IN6_SHORT).ok_or(Errno::EINVAL)?;
    let mut octets = [0u8; 16];
    octets.copy_from_slice(&bytes[8..24]);
    let v6 = Ipv6Addr::from(octets);
    let scope = address.get(24..28).map_or(0, |scope| u32::from_ne_bytes([scope[0], scope[1], scope[2], scope[3]]));
    let ip = match v6.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None => IpAddr::V6(v6),
    };
    let scope = if v6.is_unicast_link_local() || v6.is_multicast() { scope } else { 0 };
    Ok(Endpoint { ip, port: u16::from_be_bytes([bytes[2], bytes[3]]), scope })
}

/// An address for bind(2): EINVAL when short, EAFNOSUPPORT.
pub fn parse_bind(domain: u16, address: &[u8]) -> Result<Endpoint, Errno> {
    let short = if domain == AF_INET { SOCKADDR_IN } else { SOCKADDR_IN6_SHORT };
    if address.len() < short {
        return Err(Errno::EINVAL);
    }
    match (domain, family(address)) {
        (AF_INET, Some(AF_INET)) => read_v4(address),
        // Old programs leave the family out when they mean any address.
        (AF_INET, Some(AF_UNSPEC)) => {
            let endpoint = read_v4(address)?;
            if endpoint.ip.is_unspecified() { Ok(endpoint) } else { Err(Errno::EAFNOSUPPORT) }
        }
        (AF_INET6, Some(AF_INET6)) => read_v6(address),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// An address to connect or send to: EINVAL when short, EAFNOSUPPORT. `v4_too`: an AF_INET6 socket takes AF_INET addresses.
pub fn parse_peer(domain: u16, address: &[u8], v4_too: bool) -> Result<Endpoint, Errno> {
    let endpoint = match (domain, family(address)) {
        (AF_INET, _) if address.len() < SOCKADDR_IN => return Err(Errno::EINVAL),
        (AF_INET, Some(AF_INET)) => read_v4(address)?,
        (AF_INET6, Some(AF_INET)) if v4_too => read_v4(address)?,
        (AF_INET6, _) if address.len() < SOCKADDR_IN6_SHORT => return Err(Errno::EINVAL),
        (AF_INET6, Some(AF_INET6)) => read_v6(address)?,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    Ok(endpoint)
}

/// "This host" for an unspecified destination, as Linux takes it.
pub fn or_loopback(endpoint: Endpoint) -> Endpoint {
    let ip = match endpoint.ip {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    Endpoint { ip, ..endpoint }
}
