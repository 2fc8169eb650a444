//! The internet families: IPv4 and IPv6, TCP, UDP, ICMP, raw and ping sockets.
//!
//! A packet's way in: [`bottom_half`] (a kernel thread) → [`input`] → [`tcp`], [`udp`], [`icmp`], [`raw`]. Its way out: those →
//! [`output`] → `iface` for the route → [`arp`] or [`nd`] for the neighbour → the device, or around through `lo` back into `input`.
//! [`config`] gives interfaces their addresses. [`ports`], [`options`], [`control`], [`mailbox`], [`errors`], [`address`] and [`multicast`] are what sockets share; [`counters`] count.

pub mod address;
pub mod arp;
pub mod bottom_half;
pub mod config;
mod control;
pub mod counters;
pub mod errors;
pub mod hash;
pub mod icmp;
pub mod input;
mod mailbox;
pub mod multicast;
pub mod nd;
pub mod options;
pub mod output;
pub mod packet;
pub mod ports;
pub mod raw;
pub mod tcp;
pub mod udp;

use super::iface::{self, SocketInfo};
use super::options::Common;
use super::socket::{AF_INET, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::vfs::FileOps;
use base::net::packet::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE};
use core::sync::atomic::Ordering;

/// Boot: before the first device is attached.
pub fn init() {
    bottom_half::init();
}

/// socket(2) of AF_INET and AF_INET6: ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
pub fn create(domain: u16, kind: i32, protocol: i32) -> Result<Arc<dyn FileOps>, Errno> {
    if !(0..=262).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    let icmp = i32::from(if domain == AF_INET { PROTO_ICMP } else { PROTO_ICMPV6 });
    match (kind, protocol) {
        (SOCK_STREAM, 0) => Ok(tcp::create(domain)),
        (SOCK_STREAM, proto) if proto == i32::from(PROTO_TCP) => Ok(tcp::create(domain)),
        (SOCK_DGRAM, 0) => Ok(udp::create(domain, PROTO_UDP)),
        (SOCK_DGRAM, proto) if proto == i32::from(PROTO_UDP) => Ok(udp::create(domain, PROTO_UDP)),
        (SOCK_DGRAM, proto) if proto == i32::from(PROTO_UDPLITE) => Ok(udp::create(domain, PROTO_UDPLITE)),
        (SOCK_DGRAM, proto) if proto == icmp => Ok(raw::create(domain, proto as u8, true)),
        (SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        (SOCK_RAW, proto) => {
            if !current().creds().has_cap(cap::NET_RAW) {
                return Err(Errno::EPERM);
            }
            let protocol = u8::try_from(proto).map_err(|_| Errno::EPROTONOSUPPORT)?;
            Ok(raw::create(domain, protocol, false))
        }
        (SOCK_STREAM | SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Every socket, for /proc/net and sock_diag.
pub fn sockets() -> Vec<SocketInfo> {
    let mut all = tcp::sockets();
    all.extend(udp::sockets());
    all.extend(raw::sockets());
    all
}

/// What SO_BINDTODEVICE reads back.
fn device_name(common: &Common) -> Vec<u8> {
    let index = common.device.load(Ordering::Relaxed);
    iface::with(index, |interface| {
        let mut name = interface.name.clone().into_bytes();
        name.push(0);
        name
    })
    .unwrap_or_default()
}
