//! How interfaces get their addresses: `ip=` on the command line, DHCP, router advertisements.

use crate::net::iface;
use crate::prelude::*;
use core::net::{IpAddr, Ipv6Addr};

/// An interface came up or went down, or its cable did.
pub fn link_changed(_index: u32) {}

/// Name servers that a lease, an advertisement or the command line named.
pub fn resolvers() -> Vec<IpAddr> {
    Vec::new()
}

pub fn wants(_index: u32, _frame: &[u8]) -> bool {
    false
}
pub fn dhcp_input(_index: u32, _frame: &[u8]) {}
pub fn router(_index: u32, _from: Ipv6Addr, _lifetime_s: u32) {}
pub fn prefix(_index: u32, _prefix: Ipv6Addr, _len: u8, _flags: u8, _valid_s: u32, _preferred_s: u32) {}
pub fn advertised_resolvers(_servers: Vec<Ipv6Addr>) {}
/// Works on what is due; answers when to look again.
pub fn tick() -> Option<u64> {
    let _ = iface::generation();
    None
}
