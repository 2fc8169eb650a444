//! Packets that we make ourselves: IP headers, UDP datagrams, resets, ICMP messages.

use super::packet::{ACK, Header, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE, RST, SYN, Tcp, pseudo_sum, sum};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// What an IP header is made of.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// IPv4's identification, for fragments.
    pub id: u16,
    pub dont_fragment: bool,
}

pub fn ip_header_len(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The folded sum as the complement that goes into a header.
fn complement(total: u32) -> u16 {
    !(total as u16)
}

/// Writes the IP header in front of `packet`'s payload; the packet's length is that of the slice.
pub fn ip_header(packet: &mut [u8], ip: &Ip) {
    let len = packet.len();
    match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet[0] = 0x45;
            packet[1] = ip.traffic_class;
            put16(packet, 2, len as u16);
            put16(packet, 4, ip.id);
            put16(packet, 6, if ip.dont_fragment { 0x4000 } else { 0 });
            packet[8] = ip.hop_limit;
            packet[9] = ip.protocol;
            put16(packet, 10, 0);
            packet[12..16].copy_from_slice(&src.octets());
            packet[16..20].copy_from_slice(&dst.octets());
            let total = sum(&packet[..20], 0);
            put16(packet, 10, complement(total));
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet[0] = 0x60 | ip.traffic_class >> 4;
            packet[1] = ip.traffic_class << 4;
            put16(packet, 2, 0);
            put16(packet, 4, (len - 40) as u16);
            packet[6] = ip.protocol;
            packet[7] = ip.hop_limit;
            packet[8..24].copy_from_slice(&src.octets());
            packet[24..40].copy_from_slice(&dst.octets());
        }
        _ => {}
    }
}

/// A UDP datagram with its IP header; `packet` has just the room for both and `payload`. Without `with_sum` the field holds the
/// pseudo header's sum, as a device that completes it wants.
pub fn udp(packet: &mut [u8], ip: &Ip, src_port: u16, dst_port: u16, payload: &[u8], with_sum: bool) {
    ip_header(packet, ip);
    let datagram = &mut packet[ip_header_len(ip.src)..];
    datagram[8..].copy_from_slice(payload);
    udp_header(datagram, ip, src_port, dst_port, with_sum);
}

/// The UDP header in front of a payload that is in place already.
pub fn udp_header(datagram: &mut [u8], ip: &Ip, src_port: u16, dst_port: u16, with_sum: bool) {
    put16(datagram, 0, src_port);
    put16(datagram, 2, dst_port);
    put16(datagram, 4, datagram.len() as u16);
    put16(datagram, 6, 0);
    let pseudo = pseudo_sum(ip.src, ip.dst, PROTO_UDP, datagram.len());
    if with_sum {
        let made = complement(sum(datagram, pseudo));
        // Zero would say that there is none.
        put16(datagram, 6, if made == 0 { 0xffff } else { made });
    } else {
        put16(datagram, 6, pseudo as u16);
    }
}

/// The UDP-Lite header in front of a payload that is in place already; the checksum is of the first `covered` bytes. 0 says "all"
/// and goes into the header so; else all there are is what more than there are means.
pub fn udplite_header(datagram: &mut [u8], ip: &Ip, src_port: u16, dst_port: u16, covered: usize) {
    let len = datagram.len();
    let said = covered.min(len);
    let covered = if covered == 0 { len } else { said };
    put16(datagram, 0, src_port);
    put16(datagram, 2, dst_port);
    put16(datagram, 4, said as u16);
    put16(datagram, 6, 0);
    let made = complement(sum(&datagram[..covered], pseudo_sum(ip.src, ip.dst, PROTO_UDPLITE, len)));
    put16(datagram, 6, if made == 0 { 0xffff } else { made });
}

/// Puts the pseudo header's sum where TCP's or UDP's checksum goes, for the device to complete; answers the field's offset.
pub fn partial_sum(header: &Header, upper: &mut [u8]) -> Option<usize> {
    let at = if header.protocol == PROTO_TCP { 16 } else { 6 };
    if upper.len() < at + 2 {
        return None;
    }
    let pseudo = pseudo_sum(header.src, header.dst, header.protocol, upper.len());
    put16(upper, at, pseudo as u16);
    Some(at)
}

/// Makes TCP's or UDP's checksum in place.
pub fn full_sum(header: &Header, upper: &mut [u8]) {
    let at = if header.protocol == PROTO_TCP { 16 } else { 6 };
    if upper.len() < at + 2 {
        return;
    }
    put16(upper, at, 0);
    let made = complement(sum(upper, pseudo_sum(header.src, header.dst, header.protocol, upper.len())));
    put16(upper, at, if made == 0 && header.protocol == PROTO_UDP { 0xffff } else { made });
}

/// The RST that answers a segment nobody wants (RFC 9293, 3.10.7.1), as a whole packet.
pub fn reset_for(header: &Header, tcp: &Tcp) -> Vec<u8> {
    let ip_len = ip_header_len(header.dst);
    let mut packet = vec![0; ip_len + 20];
    let ip = Ip {
        src: header.dst,
        dst: header.src,
        protocol: PROTO_TCP,
        hop_limit: 64,
        traffic_class: 0,
        id: 0,
        dont_fragment: true,
    };
    ip_header(&mut packet, &ip);
    let segment = &mut packet[ip_len..];
    put16(segment, 0, tcp.dst_port);
    put16(segment, 2, tcp.src_port);
    let (seq, ack, flags) =
        if tcp.has(ACK) { (tcp.ack, 0, RST) } else { (0, tcp.seq.wrapping_add(tcp.sequence_len()), RST | ACK) };
    segment_fields(segment, seq, ack, flags, 0);
    finish_tcp(segment, ip.src, ip.dst);
    packet
}

/// A bare ACK, as a whole packet: what a connection in TIME-WAIT says.
pub fn bare_ack(header: &Header, tcp: &Tcp, seq: u32, ack: u32, window: u16) -> Vec<u8> {
    let mut packet = reset_for(header, tcp);
    let ip_len = ip_header_len(header.dst);
    let segment = &mut packet[ip_len..];
    segment_fields(segment, seq, ack, ACK, window);
    finish_tcp(segment, header.dst, header.src);
    packet
}

/// A SYN with a segment size, into 24 bytes behind an IP header; its checksum is left out.
pub fn syn(segment: &mut [u8], src_port: u16, dst_port: u16, seq: u32, segment_size: u16) {
    put16(segment, 0, src_port);
    put16(segment, 2, dst_port);
    segment_fields(segment, seq, 0, SYN, 0xffff);
    segment[12] = 6 << 4;
    segment[20..22].copy_from_slice(&[2, 4]);
    put16(segment, 22, segment_size);
}

fn segment_fields(segment: &mut [u8], seq: u32, ack: u32, flags: u8, window: u16) {
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[8..12].copy_from_slice(&ack.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    put16(segment, 14, window);
}

fn finish_tcp(segment: &mut [u8], src: IpAddr, dst: IpAddr) {
    put16(segment, 16, 0);
    let total = sum(segment, pseudo_sum(src, dst, PROTO_TCP, segment.len()));
    put16(segment, 16, complement(total));
}

/// Fills in the checksum (bytes 2 and 3) of an ICMP message; ICMPv6 covers the addresses too.
pub fn icmp_sum(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    put16(message, 2, 0);
    let seed = match src {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => pseudo_sum(src, dst, super::packet::PROTO_ICMPV6, message.len()),
    };
    let made = complement(sum(message, seed));
    put16(message, 2, made);
}

/// Cuts a packet that is longer than `mtu` into fragments. `None` when it cannot be: `mtu` too small, or an IPv6 packet with a
/// fragment header in it already.
pub fn fragments(packet: &[u8], header: &Header, mtu: usize, id: u32) -> Option<Vec<Vec<u8>>> {
    let fixed = ip_header_len(header.src);
    let extra = if header.src.is_ipv6() { 8 } else { 0 };
    if header.fragment.is_some() || mtu < fixed + extra + 8 || header.src.is_ipv4() && header.payload_at < fixed {
        return None;
    }
    let head_len = if header.src.is_ipv4() { header.payload_at } else { fixed };
    let (head, payload) = packet.get(..header.end)?.split_at(head_len);
    let piece = (mtu.checked_sub(head_len + extra)?) & !7;
    if piece == 0 {
        return None;
    }
    let mut out = Vec::new();
    for (index, part) in payload.chunks(piece).enumerate() {
        let offset = index * piece;
        let more = offset + part.len() < payload.len();
        let mut fragment = head.to_vec();
        if header.src.is_ipv4() {
            put16(&mut fragment, 2, (head_len + part.len()) as u16);
            put16(&mut fragment, 4, id as u16);
            put16(&mut fragment, 6, (offset / 8) as u16 | if more { 0x2000 } else { 0 });
            put16(&mut fragment, 10, 0);
            let total = sum(&fragment, 0);
            put16(&mut fragment, 10, complement(total));
        } else {
            put16(&mut fragment, 4, (8 + part.len()) as u16);
            let next = core::mem::replace(&mut fragment[6], super::packet::PROTO_FRAGMENT);
            let place = offset as u16 | u16::from(more);
            fragment.extend_from_slice(&[next, 0, (place >> 8) as u8, place as u8]);
            fragment.extend_from_slice(&id.to_be_bytes());
        }
        fragment.extend_from_slice(part);
        out.push(fragment);
    }
    Some(out)
}
