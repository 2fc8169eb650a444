//! `ip=` of the command line, in Linux's forms (Documentation/admin-guide/nfs/nfsroot.rst) and one of our own.
//!
//! - `off`, `none`; `on`, `any`, `dhcp`, `both`, `bootp`, `rarp` (all but the first two ask by DHCP)
//! - `CLIENT:SERVER:GATEWAY:NETMASK:HOST:DEVICE:AUTOCONF:DNS0:DNS1:NTP0`, each field possibly empty, and the last ones left out. A client
//!   address alone gets the netmask of its class; without one, `AUTOCONF` says how to get it, by default in any way. SERVER and NTP0
//!   are of no use here.
//! - `ADDRESS/LENGTH,GATEWAY,DNS...`, for IPv4 and IPv6

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// How interfaces get their addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    Dhcp,
    Off,
    Static { address: IpAddr, prefix_len: u8, gateway: Option<IpAddr>, servers: Vec<IpAddr> },
}

/// What `ip=` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpOption<'a> {
    pub method: Method,
    /// The one interface it is for; else all of them, or the first for an address.
    pub device: Option<&'a str>,
    pub host_name: Option<&'a str>,
}

/// The prefix length of a netmask without holes.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() == 32 || bits == u32::MAX).then_some(bits.leading_ones() as u8)
}

/// The prefix length that an address of class A, B or C had.
fn prefix_of_class(address: Ipv4Addr) -> Option<u8> {
    match address.octets()[0] {
        0..=127 => Some(8),
        128..=191 => Some(16),
        192..=223 => Some(24),
        224.. => None,
    }
}

fn method_named(name: &str) -> Option<Method> {
    match name {
        "" | "on" | "any" | "dhcp" | "both" | "bootp" | "rarp" => Some(Method::Dhcp),
        "off" | "none" => Some(Method::Off),
        _ => None,
    }
}

impl<'a> IpOption<'a> {
    /// `None`: it makes no sense.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(method) = method_named(text) {
            return Some(Self { method, device: None, host_name: None });
        }
        if text.contains('/') {
            return Some(Self { method: with_length(text)?, device: None, host_name: None });
        }
        let mut fields = text.split(':');
        let mut next = || fields.next().unwrap_or("");
        let (client, _server, gateway, netmask) = (next(), next(), next(), next());
        let (host_name, device, autoconf) = (next(), next(), next());
        let servers = [next(), next()];
        let _ntp = next();
        if fields.next().is_some() {
            return None;
        }
        let v4 = |field: &str| match field {
            "" | "0.0.0.0" => Some(None),
            _ => field.parse::<Ipv4Addr>().ok().map(Some),
        };
        let method = match v4(client)? {
            None => method_named(autoconf)?,
            Some(address) => {
                // As on Linux: with an address nobody is asked for one.
                method_named(autoconf)?;
                let prefix_len = match v4(netmask)? {
                    None => prefix_of_class(address)?,
                    Some(mask) => prefix_of(mask)?,
                };
                let gateway = v4(gateway)?.map(IpAddr::V4);
                let servers = servers.into_iter().filter_map(|server| v4(server).flatten()).map(IpAddr::V4).collect();
                Method::Static { address: IpAddr::V4(address), prefix_len, gateway, servers }
            }
        };
        let given = |field: &'a str| Some(field).filter(|field| !field.is_empty());
        Some(Self { method, device: given(device), host_name: given(host_name) })
    }
}

/// `ADDRESS/LENGTH,GATEWAY,DNS...`
fn with_length(text: &str) -> Option<Method> {
    let mut parts = text.split(',');
    let (address, len) = parts.next()?.split_once('/')?;
    let (address, prefix_len) = (address.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?);
    if prefix_len > if address.is_ipv4() { 32 } else { 128 } {
        return None;
    }
    let gateway = parts.next().and_then(|gateway| gateway.parse().ok());
    let servers = parts.filter_map(|server| server.parse().ok()).collect();
    Some(Method::Static { address, prefix_len, gateway, servers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
    fn fixed(address: &str, prefix_len: u8, gateway: Option<&str>, servers: &[&str]) -> Method {
        let servers = servers.iter().map(|server| ip(server)).collect();
        Method::Static { address: ip(address), prefix_len, gateway: gateway.map(ip), servers }
    }
    fn parse(text: &str) -> Option<(Method, Option<&str>, Option<&str>)> {
        IpOption::parse(text).map(|option| (option.method, option.device, option.host_name))
    }

    #[test]
    fn single_words() {
        for word in ["", "on", "any", "dhcp", "both", "bootp", "rarp"] {
            assert_eq!(parse(word), Some((Method::Dhcp, None, None)), "{word}");
        }
        for word in ["off", "none"] {
            assert_eq!(parse(word), Some((Method::Off, None, None)));
        }
    }

    #[test]
    fn the_forms_that_are_written() {
        // urunc, Firecracker's documents, NFS roots, dracut.
        let urunc = fixed("10.9.0.2", 24, Some("10.9.0.1"), &[]);
        assert_eq!(
            parse("10.9.0.2::10.9.0.1:255.255.255.0:urunc:eth0:off"),
            Some((urunc.clone(), Some("eth0"), Some("urunc")))
        );
        assert_eq!(parse("10.9.0.2::10.9.0.1:255.255.255.0"), Some((urunc.clone(), None, None)));
        assert_eq!(parse("10.9.0.2::10.9.0.1:255.255.255.0::eth0:off"), Some((urunc, Some("eth0"), None)));
        assert_eq!(parse(":::::eth1:dhcp"), Some((Method::Dhcp, Some("eth1"), None)));
        assert_eq!(parse("::::web::dhcp"), Some((Method::Dhcp, None, Some("web"))));
        assert_eq!(parse(":::::eth0"), Some((Method::Dhcp, Some("eth0"), None)));
        assert_eq!(parse(":::::eth0:off"), Some((Method::Off, Some("eth0"), None)));
        let full = fixed("192.0.2.7", 26, Some("192.0.2.1"), &["192.0.2.53", "192.0.2.54"]);
        let text = "192.0.2.7:192.0.2.9:192.0.2.1:255.255.255.192:box:eth0:none:192.0.2.53:192.0.2.54:192.0.2.123";
        assert_eq!(parse(text), Some((full, Some("eth0"), Some("box"))));
    }

    #[test]
    fn a_netmask_that_is_not_given_is_the_classs() {
        assert_eq!(parse("10.0.0.2"), Some((fixed("10.0.0.2", 8, None, &[]), None, None)));
        assert_eq!(parse("172.16.0.2"), Some((fixed("172.16.0.2", 16, None, &[]), None, None)));
        assert_eq!(
            parse("192.168.1.2::192.168.1.1"),
            Some((fixed("192.168.1.2", 24, Some("192.168.1.1"), &[]), None, None))
        );
        assert_eq!(parse("239.1.1.1"), None);
        assert_eq!(parse("10.0.0.2:::255.255.255.255"), Some((fixed("10.0.0.2", 32, None, &[]), None, None)));
        assert_eq!(parse("10.0.0.2:::0.0.0.0"), Some((fixed("10.0.0.2", 8, None, &[]), None, None)));
    }

    #[test]
    fn our_own_form() {
        assert_eq!(
            parse("10.77.1.2/24,10.77.1.1,1.1.1.1,9.9.9.9"),
            Some((fixed("10.77.1.2", 24, Some("10.77.1.1"), &["1.1.1.1", "9.9.9.9"]), None, None))
        );
        assert_eq!(parse("fd00::2/64,fd00::1"), Some((fixed("fd00::2", 64, Some("fd00::1"), &[]), None, None)));
        assert_eq!(parse("10.0.0.1/33"), None);
        assert_eq!(parse("10.0.0.1/x"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["maybe", "10.0.0.300", "10.0.0.2:::255.0.255.0", "10.0.0.2::x", "10.0.0.2::::::perhaps", ":::::::::::::"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
