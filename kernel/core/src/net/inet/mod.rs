//! The internet families: IPv4 and IPv6, TCP, UDP, ICMP and raw sockets.

pub mod bottom_half;
pub mod config;
pub mod packet;

use super::iface::SocketInfo;
use crate::prelude::*;

/// Boot: before the first device is attached.
pub fn init() {}

/// Every socket, for /proc/net and sock_diag.
pub fn sockets() -> Vec<SocketInfo> {
    Vec::new()
}
