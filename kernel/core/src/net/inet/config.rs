//! How interfaces get their addresses: `ip=` on the command line, DHCP, router advertisements.

use crate::prelude::*;
use core::net::IpAddr;

/// An interface came up or went down, or its cable did.
pub fn link_changed(_index: u32) {}

/// Name servers that a lease, an advertisement or the command line named.
pub fn resolvers() -> Vec<IpAddr> {
    Vec::new()
}
