//! The ioctls about interfaces, addresses and routes (netdevice(7)), the same on sockets of every family.

use super::iface::{self, Address, Flags, Interface, Kind, Route, route};
use super::socket::{AF_INET, AF_INET6, Socket};
use crate::prelude::*;
use crate::task::credentials::cap;
use base::abi::ioctl::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const NAME: usize = 16;
/// `struct ifreq`: a name and a value.
const IFREQ: usize = 40;
const RTF_GATEWAY: u16 = 2;
const RTF_HOST: u16 = 4;

/// Whether the command is one of these.
pub fn knows(command: u32) -> bool {
    (0x890b..=0x8970).contains(&command)
}

type Value = [u8; IFREQ - NAME];

struct Request {
    name: [u8; NAME],
    value: Value,
}

impl Request {
    fn read(argument: u64) -> Result<Self, Errno> {
        let bytes = UserPtr::<[u8; IFREQ]>::new(UserAddr(argument)).read()?;
        let mut request = Self { name: [0; NAME], value: [0; IFREQ - NAME] };
        request.name.copy_from_slice(&bytes[..NAME]);
        request.value.copy_from_slice(&bytes[NAME..]);
        Ok(request)
    }
    fn write(&self, argument: u64) -> SysResult {
        let mut bytes = [0; IFREQ];
        bytes[..NAME].copy_from_slice(&self.name);
        bytes[NAME..].copy_from_slice(&self.value);
        UserPtr::<[u8; IFREQ]>::new(UserAddr(argument)).write(&bytes)?;
        Ok(0)
    }
    /// The interface it names, with or without an alias's number behind a colon: ENODEV.
    fn interface(&self) -> Result<Interface, Errno> {
        let end = self.name.iter().position(|byte| *byte == 0 || *byte == b':').unwrap_or(NAME);
        let name = core::str::from_utf8(&self.name[..end]).map_err(|_| Errno::ENODEV)?;
        iface::by_name(name).ok_or(Errno::ENODEV)
    }
    fn number(&self) -> i32 {
        i32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }
    fn set(&mut self, bytes: &[u8]) {
        self.value = [0; IFREQ - NAME];
        self.value[..bytes.len()].copy_from_slice(bytes);
    }
    /// The IPv4 address in its value: EINVAL for another family.
    fn address(&self) -> Result<Ipv4Addr, Errno> {
        address_in(&self.value[..16])
    }
}

/// `struct sockaddr_in`.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

fn address_in(bytes: &[u8]) -> Result<Ipv4Addr, Errno> {
    if bytes[..2] != AF_INET.to_ne_bytes() {
        return Err(Errno::EINVAL);
    }
    Ok(Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]))
}

fn mask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32u32.saturating_sub(prefix_len.into())).unwrap_or(0))
}

/// EINVAL for masks with holes.
fn prefix_of(mask: Ipv4Addr) -> Result<u8, Errno> {
    let bits = u32::from(mask);
    if bits.leading_ones() + bits.trailing_zeros() < 32 {
        return Err(Errno::EINVAL);
    }
    Ok(bits.leading_ones() as u8)
}

/// The first IPv4 address of an interface: EADDRNOTAVAIL.
fn first_v4(interface: &Interface) -> Result<(Ipv4Addr, Address), Errno> {
    let own = interface.addresses.iter().find_map(|own| match own.address {
        IpAddr::V4(v4) => Some((v4, own.clone())),
        IpAddr::V6(_) => None,
    });
    own.ok_or(Errno::EADDRNOTAVAIL)
}

/// EPERM without CAP_NET_ADMIN.
fn check_admin() -> Result<(), Errno> {
    if current().creds().has_cap(cap::NET_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Carries out `command`: ENODEV, EADDRNOTAVAIL, EPERM, EINVAL, EFAULT; ENOTTY for one it does not know.
pub fn ioctl(socket: &dyn Socket, command: u32, argument: u64) -> SysResult {
    match command {
        SIOCGIFCONF => return list(argument),
        SIOCADDRT | SIOCDELRT => return change_route(command == SIOCADDRT, argument),
        SIOCSIFADDR | SIOCDIFADDR if socket.domain() == AF_INET6 => {
            return change_v6(command == SIOCSIFADDR, argument);
        }
        SIOCGIFNAME => return name_of(argument),
        SIOCETHTOOL => return Err(Errno::EOPNOTSUPP),
        SIOCGIFFLAGS | SIOCSIFFLAGS | SIOCGIFADDR | SIOCSIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCSIFBRDADDR
        | SIOCGIFNETMASK | SIOCSIFNETMASK | SIOCGIFMETRIC | SIOCGIFMTU | SIOCSIFMTU | SIOCGIFHWADDR | SIOCGIFINDEX
        | SIOCGIFTXQLEN | SIOCGIFMAP => {}
        _ => return Err(Errno::ENOTTY),
    }
    let mut request = Request::read(argument)?;
    let interface = request.interface()?;
    if [SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFBRDADDR, SIOCSIFNETMASK, SIOCSIFMTU].contains(&command) {
        check_admin()?;
        return set(command, &request, &interface);
    }
    match command {
        SIOCGIFFLAGS => request.set(&(interface.flags.bits() as u16).to_ne_bytes()),
        SIOCGIFADDR | SIOCGIFDSTADDR => {
            let (address, _) = first_v4(&interface)?;
            request.set(&socket_address(address));
        }
        SIOCGIFBRDADDR => {
            let (_, own) = first_v4(&interface)?;
            request.set(&socket_address(own.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED)));
        }
        SIOCGIFNETMASK => {
            let (_, own) = first_v4(&interface)?;
            request.set(&socket_address(mask(own.prefix_len)));
        }
        SIOCGIFMTU => request.set(&interface.mtu.to_ne_bytes()),
        SIOCGIFINDEX => request.set(&interface.index.to_ne_bytes()),
        SIOCGIFTXQLEN => request.set(&1000u32.to_ne_bytes()),
        SIOCGIFHWADDR => {
            let kind = if interface.kind == Kind::Loopback { ARPHRD_LOOPBACK } else { ARPHRD_ETHER };
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            bytes[2..8].copy_from_slice(&interface.mac);
            request.set(&bytes);
        }
        // No metric, and no place in memory.
        _ => request.set(&[]),
    }
    request.write(argument)
}

fn set(command: u32, request: &Request, interface: &Interface) -> SysResult {
    let index = interface.index;
    match command {
        SIOCSIFFLAGS => {
            let flags = u16::from_ne_bytes([request.value[0], request.value[1]]);
            iface::set_up(index, u32::from(flags) & Flags::UP.bits() != 0)?;
        }
        SIOCSIFMTU => iface::set_mtu(index, request.number() as u32)?,
        SIOCSIFADDR => {
            let address = request.address()?;
            if let Ok((old, own)) = first_v4(interface) {
                if old == address {
                    return Ok(0);
                }
                iface::remove_address(index, own.address, own.prefix_len)?;
            }
            if !address.is_unspecified() {
                // Without a mask yet: its class's.
                let prefix_len = match address.octets()[0] {
                    0..=127 => 8,
                    128..=191 => 16,
                    192..=223 => 24,
                    _ => 32,
                };
                iface::add_address(index, Address::permanent(IpAddr::V4(address), prefix_len))?;
            }
        }
        _ => {
            let (address, mut own) = first_v4(interface)?;
            let given = request.address()?;
            let old = own.clone();
            if command == SIOCSIFNETMASK {
                own = Address::permanent(IpAddr::V4(address), prefix_of(given)?);
            } else {
                own.broadcast = Some(given);
            }
            if own != old {
                iface::remove_address(index, old.address, old.prefix_len)?;
                iface::add_address(index, own)?;
            }
        }
    }
    Ok(0)
}

fn name_of(argument: u64) -> SysResult {
    let mut request = Request::read(argument)?;
    let interface = iface::by_index(request.number() as u32).ok_or(Errno::ENODEV)?;
    request.name = padded(&interface.name);
    request.write(argument)
}

fn padded(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    let len = name.len().min(NAME - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// SIOCGIFCONF: interfaces with their IPv4 addresses, as many as fit; without a buffer, the room they need.
fn list(argument: u64) -> SysResult {
    let [head, buffer] = UserPtr::<[u64; 2]>::new(UserAddr(argument)).read()?;
    let room = usize::try_from(head as u32 as i32).map_err(|_| Errno::EINVAL)?;
    let mut bytes = Vec::new();
    for interface in iface::interfaces() {
        for own in &interface.addresses {
            if let IpAddr::V4(v4) = own.address {
                let mut entry = [0; IFREQ];
                entry[..NAME].copy_from_slice(&padded(&interface.name));
                entry[NAME..NAME + 16].copy_from_slice(&socket_address(v4));
                bytes.extend_from_slice(&entry);
            }
        }
    }
    if buffer != 0 {
        bytes.truncate(room / IFREQ * IFREQ);
        UserPtr::<u8>::new(UserAddr(buffer)).write_slice(&bytes)?;
    }
    UserPtr::<u32>::new(UserAddr(argument)).write(&(bytes.len() as u32))?;
    Ok(0)
}

/// `struct in6_ifreq`.
fn change_v6(add: bool, argument: u64) -> SysResult {
    check_admin()?;
    let bytes = UserPtr::<[u8; 24]>::new(UserAddr(argument)).read()?;
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[..16]);
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let prefix_len = u8::try_from(word(16)).map_err(|_| Errno::EINVAL)?;
    let (address, index) = (IpAddr::V6(Ipv6Addr::from(address)), word(20));
    if add {
        iface::add_address(index, Address::permanent(address, prefix_len))?;
    } else {
        iface::remove_address(index, address, prefix_len)?;
    }
    Ok(0)
}

/// `struct rtentry`: EINVAL, ENODEV and what the table says.
fn change_route(add: bool, argument: u64) -> SysResult {
    check_admin()?;
    let bytes = UserPtr::<[u8; 120]>::new(UserAddr(argument)).read()?;
    let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let flags = half(56);
    let destination = address_in(&bytes[8..24])?;
    let prefix_len = if flags & RTF_HOST != 0 {
        32
    } else if half(40) == 0 {
        // No mask: all of nothing for the default route, else the whole address.
        if destination.is_unspecified() { 0 } else { 32 }
    } else {
        prefix_of(Ipv4Addr::new(bytes[44], bytes[45], bytes[46], bytes[47]))?
    };
    let gateway = if flags & RTF_GATEWAY != 0 { Some(IpAddr::V4(address_in(&bytes[24..40])?)) } else { None };
    let device = u64::from_ne_bytes(bytes[88..96].try_into().unwrap_or([0; 8]));
    let interface = if device == 0 {
        0
    } else {
        let name = crate::user::read_cstring(UserAddr(device), NAME, Errno::ENODEV)?;
        let name = core::str::from_utf8(&name).map_err(|_| Errno::ENODEV)?;
        iface::by_name(name).ok_or(Errno::ENODEV)?.index
    };
    let destination = IpAddr::V4(destination);
    if !add {
        iface::remove_route(destination, prefix_len, gateway, interface)?;
        return Ok(0);
    }
    // The metric is one more than it means.
    let metric = u32::from(half(80)).saturating_sub(1);
    let scope = if gateway.is_some() { 0 } else { iface::address::SCOPE_LINK };
    let protocol = route::PROTO_BOOT;
    iface::add_route(Route { destination, prefix_len, gateway, interface, metric, protocol, scope, source: None })?;
    Ok(0)
}
