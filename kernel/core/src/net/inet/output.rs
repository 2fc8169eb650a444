//! Packets on their way out: the route, fragments, the neighbour, the device; or around, through `lo`.
//!
//! Nothing here recurses: packets for this machine go into a queue that the outermost [`send_all`] empties, so that a connection
//! talking to another one on `lo` uses one stack frame and holds one lock at a time. Called with no lock held.

use super::counters::{self, Of};
use super::packet::{LINK_ROOM, Packet};
use super::{arp, icmp, input, multicast, nd};
use crate::net::iface::{self, Kind, neighbour};
use crate::prelude::*;
use alloc::collections::VecDeque;
use base::net::{build, packet};
use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use drivers::traits::{PartialChecksum, Segmentation, TxMeta};

/// Packets that this machine sends to itself and that wait to be looked at.
pub type Queue = VecDeque<Packet>;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Frames that a full device left waiting, by interface.
static WAITING: SpinLock<VecDeque<(u32, Vec<u8>, TxMeta)>> = SpinLock::new(VecDeque::new());
const MAX_WAITING: usize = 1024;

/// Sends one packet and everything that comes of it.
pub fn send(packet: Packet) {
    send_all(&mut Queue::from([packet]));
}

/// Sends the packets of `queue` and everything that comes of them. Errors are those of a lost packet: none.
pub fn send_all(queue: &mut Queue) {
    while let Some(packet) = queue.pop_front() {
        let _ = transmit(packet, queue);
    }
}

/// Sends one packet, answering its own error, and everything that comes of it: ENETUNREACH, EMSGSIZE, ENETDOWN.
pub fn send_checked(packet: Packet) -> Result<(), Errno> {
    let mut queue = Queue::new();
    let result = transmit(packet, &mut queue);
    send_all(&mut queue);
    result
}

fn next_fragment_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if NEXT.load(Ordering::Relaxed) == 0 {
        NEXT.store(super::hash::random_u64() as u32, Ordering::Relaxed);
    }
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn destination(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.first()? >> 4 {
        4 => Some(IpAddr::from(*bytes.get(16..)?.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*bytes.get(24..)?.first_chunk::<16>()?)),
    }
}

fn transmit(mut packet: Packet, queue: &mut Queue) -> Result<(), Errno> {
    let to = destination(packet.bytes()).ok_or(Errno::EINVAL)?;
    let only = (packet.interface != 0).then_some(packet.interface);
    let Some(via) = iface::route::lookup_on(to, only) else {
        counters::one(to, Of::OutNoRoutes);
        return Err(Errno::ENETUNREACH);
    };
    count(to, packet.bytes());
    if via.kind == Kind::Loopback {
        iface::LOOPBACK_COUNTS.add(packet.len());
        if packet.interface == 0 || packet.interface == iface::LOOPBACK || !to.is_multicast() {
            let arrival = input::Arrival::local(packet.mark);
            input::ip(iface::LOOPBACK, packet.bytes_mut(), arrival, queue);
        }
        return Ok(());
    }
    let is_group = to.is_multicast() || iface::address::is_broadcast(to);
    if is_group && !packet.no_loop && (!to.is_multicast() || multicast::is_member(via.interface, to)) {
        let mut copy = packet.bytes().to_vec();
        input::ip(via.interface, &mut copy, input::Arrival::local(packet.mark), queue);
    }
    if packet.len() > via.mtu as usize && packet.segment_bytes.is_none() {
        return fragment(packet, &via);
    }
    link(via, packet)
}

fn count(to: IpAddr, bytes: &[u8]) {
    counters::one(to, Of::OutRequests);
    counters::add(to, Of::OutOctets, bytes.len());
    if to.is_multicast() {
        counters::one(to, Of::OutMulticasts);
    }
    match to {
        IpAddr::V4(_) if bytes[9] == packet::PROTO_ICMP => {
            if let Some(kind) = bytes.get(usize::from(bytes[0] & 15) * 4) {
                counters::icmp_out(to, *kind);
            }
        }
        IpAddr::V6(_) if bytes[6] == packet::PROTO_ICMPV6 => {
            if let Some(kind) = bytes.get(40) {
                counters::icmp_out(to, *kind);
            }
        }
        _ => {}
    }
}

fn fragment(mut packet: Packet, via: &iface::Via) -> Result<(), Errno> {
    let header = packet::parse(packet.bytes()).ok_or(Errno::EINVAL)?;
    if packet.dont_fragment || header.src.is_ipv4() && header.dont_fragment {
        counters::one(header.src, Of::FragFails);
        return Err(Errno::EMSGSIZE);
    }
    if packet.needs_checksum {
        build::full_sum(&header, &mut packet.bytes_mut()[header.payload_at..header.end]);
    }
    let pieces = build::fragments(packet.bytes(), &header, via.mtu as usize, next_fragment_id());
    for piece in pieces.ok_or(Errno::EMSGSIZE)? {
        let mut part = Packet::new(piece.len());
        part.bytes_mut().copy_from_slice(&piece);
        link(*via, part)?;
        counters::one(header.src, Of::FragCreates);
    }
    counters::one(header.src, Of::FragOks);
    Ok(())
}

/// Finds the neighbour's hardware address and sends, or keeps the packet until it is known.
fn link(via: iface::Via, packet: Packet) -> Result<(), Errno> {
    if let Some(mac) = group_mac(via.interface, via.next_hop) {
        return frame(via.interface, mac, packet);
    }
    match neighbour::resolve(via.interface, via.next_hop, packet) {
        neighbour::Outcome::Send(mac, packet) => frame(via.interface, mac, packet),
        neighbour::Outcome::SendAndAsk(mac, packet) => {
            ask(via.interface, via.next_hop);
            frame(via.interface, mac, packet)
        }
        neighbour::Outcome::Waits { ask: is_due } => {
            if is_due {
                ask(via.interface, via.next_hop);
                super::bottom_half::watch_neighbours();
            }
            Ok(())
        }
        neighbour::Outcome::Unreachable(packet) => {
            icmp::host_unreachable(&packet);
            Err(Errno::EHOSTUNREACH)
        }
    }
}

/// Asks the link who has `address`.
pub fn ask(interface: u32, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => arp::ask(interface, v4),
        IpAddr::V6(v6) => nd::ask(interface, v6),
    }
}

/// The hardware address of a group or of everyone; `None` for a single host.
fn group_mac(interface: u32, to: IpAddr) -> Option<[u8; 6]> {
    match to {
        IpAddr::V4(v4) if v4.is_multicast() => {
            let bytes = v4.octets();
            Some([0x01, 0x00, 0x5e, bytes[1] & 0x7f, bytes[2], bytes[3]])
        }
        IpAddr::V4(v4) => {
            let is_broadcast = v4.is_broadcast()
                || iface::with(interface, |own| own.addresses.iter().any(|own| own.broadcast == Some(v4)))?;
            is_broadcast.then_some([0xff; 6])
        }
        IpAddr::V6(v6) if v6.is_multicast() => {
            let bytes = v6.octets();
            Some([0x33, 0x33, bytes[12], bytes[13], bytes[14], bytes[15]])
        }
        IpAddr::V6(_) => None,
    }
}

/// Puts the Ethernet header in front, sees to the checksum, and gives the frame to the device.
pub fn frame(interface: u32, mac: [u8; 6], mut packet: Packet) -> Result<(), Errno> {
    let device = iface::device(interface).ok_or(Errno::ENETDOWN)?;
    let mut meta = TxMeta::default();
    if packet.needs_checksum
        && let Some(header) = packet::parse(packet.bytes())
    {
        let segment_bytes = packet.segment_bytes;
        let upper = &mut packet.bytes_mut()[header.payload_at..header.end];
        if device.offloads().tx_checksum {
            let tcp_header = upper.get(12).map_or(20, |byte| u16::from(byte >> 4) * 4);
            if let Some(offset) = build::partial_sum(&header, upper) {
                let start = (LINK_ROOM + header.payload_at) as u16;
                meta.checksum = Some(PartialChecksum { start, offset: offset as u16 });
                meta.segmentation = segment_bytes.map(|mss_bytes| Segmentation {
                    is_ipv6: header.src.is_ipv6(),
                    mss_bytes,
                    header_bytes: start + tcp_header,
                });
            }
        } else {
            build::full_sum(&header, upper);
        }
    }
    let is_v6 = packet.bytes().first().is_some_and(|byte| byte >> 4 == 6);
    let bytes = packet.frame_mut();
    bytes[..6].copy_from_slice(&mac);
    bytes[6..12].copy_from_slice(&device.mac());
    bytes[12..14].copy_from_slice(if is_v6 { &ETHERTYPE_IPV6 } else { &ETHERTYPE_IPV4 });
    send_frame(interface, bytes, meta);
    Ok(())
}

/// Sends a whole frame; a full device gets it later.
pub fn send_frame(interface: u32, bytes: &[u8], meta: TxMeta) {
    let Some(device) = iface::device(interface) else { return };
    let mut waiting = WAITING.lock();
    let is_behind = waiting.iter().any(|(at, _, _)| *at == interface);
    if !is_behind {
        drop(waiting);
        if device.transmit(&[bytes], meta).is_ok() {
            return;
        }
        waiting = WAITING.lock();
    }
    if waiting.len() < MAX_WAITING {
        waiting.push_back((interface, bytes.to_vec(), meta));
    }
}

/// The device has room again: sends what waits for it.
pub fn flush(interface: u32) {
    let Some(device) = iface::device(interface) else { return };
    loop {
        let next = {
            let mut waiting = WAITING.lock();
            let Some(at) = waiting.iter().position(|(of, _, _)| *of == interface) else { return };
            waiting.remove(at)
        };
        let Some((_, bytes, meta)) = next else { return };
        if device.transmit(&[&bytes], meta).is_err() {
            WAITING.lock().push_front((interface, bytes, meta));
            return;
        }
    }
}
