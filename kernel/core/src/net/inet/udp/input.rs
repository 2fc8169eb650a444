//! Who gets a datagram that came, and an ICMP error.

use super::{UdpSocket, table};
use crate::net::iface;
use crate::net::inet::address::Endpoint;
use crate::net::inet::control::Arrival;
use crate::net::inet::counters::{self, Udp as Count};
use crate::net::inet::icmp::{self, Trouble};
use crate::net::inet::options::Switch;
use crate::net::inet::output::Queue;
use crate::net::options::Switches;
use crate::net::socket::{AF_INET, AF_INET6};
use crate::prelude::*;
use base::net::packet::{Header, Udp};
use core::net::IpAddr;
use core::sync::atomic::Ordering;
use smallvec::SmallVec;

impl UdpSocket {
    /// How well this socket fits a datagram; `None`: not at all. Higher is better.
    fn score(&self, interface: u32, from: Endpoint, to: Endpoint) -> Option<u32> {
        let state = self.state.lock();
        let mut score = u32::from(self.domain == AF_INET);
        let device = self.common.device.load(Ordering::Relaxed);
        if device != 0 {
            if device != interface {
                return None;
            }
            score += 4;
        }
        if state.local.ip.is_unspecified() {
            if to.ip.is_ipv4() && self.domain == AF_INET6 && (self.ip.is_on(Switch::V6ONLY)) {
                return None;
            }
            if to.ip.is_ipv6() && self.domain == AF_INET {
                return None;
            }
        } else if state.local.ip == to.ip {
            score += 4;
        } else {
            return None;
        }
        if let Some(remote) = state.remote {
            if remote.ip != from.ip || remote.port != from.port {
                return None;
            }
            score += 4;
        }
        Some(score)
    }

    /// Puts a datagram into the queue, or counts it as lost.
    fn deliver(&self, bytes: &[u8], from: Endpoint, arrival: Arrival) {
        if !self.mailbox.deliver(&self.common, bytes, from, arrival) {
            self.count(from.ip, Count::BufferErrors);
            self.count(from.ip, Count::InErrors);
        }
    }

    /// Whether a group's packets are for this socket: it joined, or takes all that the machine hears.
    fn hears_group(&self, interface: u32, group: IpAddr) -> bool {
        if !group.is_multicast() || group.is_ipv4() && self.ip.is_on(Switch::MULTICAST_ALL) {
            return true;
        }
        self.ip.groups.lock().contains(&(interface, group))
    }
}

/// A number from an address, to spread senders.
fn spread(ip: IpAddr) -> usize {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits() as usize,
        IpAddr::V6(v6) => (v6.to_bits() ^ v6.to_bits() >> 64) as usize,
    }
}

/// Which of the sockets of a port gets a datagram.
fn choose(sockets: &[Arc<UdpSocket>], interface: u32, from: Endpoint, to: Endpoint) -> Option<&Arc<UdpSocket>> {
    if let [only] = sockets {
        return only.score(interface, from, to).map(|_| only);
    }
    let mut best: SmallVec<[&Arc<UdpSocket>; 4]> = SmallVec::new();
    let mut best_score = 0;
    for socket in sockets {
        match socket.score(interface, from, to) {
            Some(score) if best.is_empty() || score > best_score => {
                best.clear();
                best.push(socket);
                best_score = score;
            }
            Some(score) if score == best_score => best.push(socket),
            _ => {}
        }
    }
    match best.first()?.common.is_on(Switches::REUSE_PORT) {
        // Of several that fit equally well, the sender chooses, so that one sender has one receiver.
        true => best.get((usize::from(from.port) ^ spread(from.ip)) % best.len()).copied(),
        // The latest bound one, as on Linux.
        false => best.last().copied(),
    }
}

/// Takes a datagram of either protocol whose sum is right.
pub fn input(interface: u32, header: &Header, packet: &[u8], udp: &Udp, mark: u32, queue: &mut Queue) {
    let scope = if interface == iface::LOOPBACK { 0 } else { interface };
    let from = Endpoint { ip: header.src, port: udp.src_port, scope };
    let to = Endpoint { ip: header.dst, port: udp.dst_port, scope };
    let payload = &packet[header.payload_at + 8..header.payload_at + udp.len];
    let arrival = Arrival {
        interface,
        to,
        hop_limit: header.hop_limit,
        traffic_class: header.traffic_class,
        realtime_ns: crate::time::realtime_ns(),
        mark,
        lost: 0,
    };
    let sockets = table(header.protocol).lock().get(&udp.dst_port).cloned().unwrap_or_default();
    let for_all = header.dst.is_multicast() || iface::address::is_broadcast(header.dst);
    if for_all {
        for socket in &sockets {
            let hears = socket.hears_group(interface, header.dst) && socket.coverage.accepts(udp);
            if hears && socket.score(interface, from, to).is_some() {
                socket.deliver(payload, from, arrival);
            }
        }
        return;
    }
    let chosen = choose(&sockets, interface, from, to);
    match chosen {
        Some(socket) if socket.coverage.accepts(udp) => socket.deliver(payload, from, arrival),
        Some(_) => {}
        None => {
            counters::udp(header.protocol, header.src, Count::NoPorts);
            icmp::unreachable(header, packet, icmp::Reason::Port, queue);
        }
    }
}

/// An ICMP error about a datagram of ours, of which `quoted` is what came back: connected sockets hear of it, others when they asked
/// to (IP_RECVERR).
pub fn icmp_error(header: &Header, src_port: u16, dst_port: u16, quoted: &[u8], trouble: Trouble) {
    let sockets = table(header.protocol).lock().get(&src_port).cloned().unwrap_or_default();
    for socket in &sockets {
        let wants_all = socket.ip.wants_errors(header.dst);
        let concerned = {
            let state = socket.state.lock();
            (state.local.ip.is_unspecified() || state.local.ip == header.src)
                && match state.remote {
                    Some(remote) => remote.ip == header.dst && remote.port == dst_port,
                    None => wants_all,
                }
        };
        if concerned {
            let to = Endpoint::new(header.dst, dst_port);
            socket.mailbox.icmp(&socket.owner(), to, quoted.get(8..).unwrap_or(&[]), &trouble, true);
        }
    }
}
