//! IP packets as they come: headers, the upper layer's place, checksums. Every length is checked; nothing here panics on bytes
//! from a wire.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const PROTO_ICMP: u8 = 1;
pub const PROTO_IGMP: u8 = 2;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_FRAGMENT: u8 = 44;
pub const PROTO_ICMPV6: u8 = 58;
pub const PROTO_NONE: u8 = 59;
pub const PROTO_UDPLITE: u8 = 136;

/// Headers between IPv6's own and the upper layer's that we are willing to skip.
const MAX_EXTENSIONS: usize = 8;

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    pub id: u32,
    /// Bytes from the start of the datagram's payload.
    pub offset: usize,
    pub more: bool,
}

/// What the IP header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The upper layer's protocol.
    pub protocol: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// Where the upper layer begins.
    pub payload_at: usize,
    /// Where the packet ends (link padding may follow).
    pub end: usize,
    pub fragment: Option<Fragment>,
    pub dont_fragment: bool,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The one's complement sum of `bytes` added to `sum`, folded to 16 bits.
pub fn sum(bytes: &[u8], sum: u32) -> u32 {
    let fold = |mut total: u64| {
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        total
    };
    // Eight bytes at a time in little-endian order: the bytes of the result come out the other way round (RFC 1071, 2.B).
    let halves = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        (word & 0xffff_ffff) + (word >> 32)
    };
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut total: u64 = blocks.iter().map(|block| block.as_chunks::<8>().0.iter().map(halves).sum::<u64>()).sum();
    let (words, rest) = rest.as_chunks::<8>();
    total += words.iter().map(halves).sum::<u64>();
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    total += halves(&last);
    fold(u64::from((fold(total) as u16).swap_bytes()) + u64::from(sum)) as u32
}

/// The sum of the pseudo header of TCP, UDP and ICMPv6.
pub fn pseudo_sum(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u32 {
    let mut total = u32::from(protocol);
    total = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&dst.octets(), sum(&src.octets(), total)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&dst.octets(), sum(&src.octets(), total)),
        _ => total,
    };
    sum(&(len as u32).to_be_bytes(), total)
}

/// Whether two IP packets carry segments of one TCP connection, one way, that bring nothing but data and acknowledgements.
pub fn is_same_stream(one: &[u8], other: &[u8]) -> bool {
    /// Where the addresses are, and TCP's header behind them.
    fn stream(packet: &[u8]) -> Option<(&[u8], &[u8])> {
        let (addresses, tcp) = match packet.first()? {
            0x45 if packet.get(6)? & 0x3f == 0 && *packet.get(7)? == 0 && *packet.get(9)? == PROTO_TCP => (12, 20),
            byte if byte >> 4 == 6 && *packet.get(6)? == PROTO_TCP => (8, 40),
            _ => return None,
        };
        let is_plain = packet.get(tcp + 13)? & !PSH == ACK;
        is_plain.then(|| (&packet[addresses..tcp], &packet[tcp..tcp + 4]))
    }
    stream(one).is_some_and(|one| stream(other) == Some(one))
}

/// Where the upper layer begins in a packet without IPv6 extensions.
pub fn header_len(packet: &[u8]) -> usize {
    match packet.first() {
        Some(byte) if byte >> 4 == 4 => usize::from(byte & 15) * 4,
        _ => 40,
    }
}

/// The header of an IP packet: `None` when it is malformed or its sum is wrong.
pub fn parse(packet: &[u8]) -> Option<Header> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        6 => parse_v6(packet),
        _ => None,
    }
}

fn parse_v4(packet: &[u8]) -> Option<Header> {
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let header = packet.get(..header_len).filter(|header| header.len() >= 20)?;
    let total = usize::from(be16(header, 2)?);
    if total < header_len || total > packet.len() || sum(header, 0) != 0xffff {
        return None;
    }
    let flags = be16(header, 6)?;
    let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
    let fragment = (offset != 0 || more).then_some(Fragment { id: u32::from(be16(header, 4)?), offset, more });
    Some(Header {
        src: IpAddr::V4(Ipv4Addr::from_bits(be32(header, 12)?)),
        dst: IpAddr::V4(Ipv4Addr::from_bits(be32(header, 16)?)),
        protocol: header[9],
        hop_limit: header[8],
        traffic_class: header[1],
        payload_at: header_len,
        end: total,
        fragment,
        dont_fragment: flags & 0x4000 != 0,
    })
}

fn parse_v6(packet: &[u8]) -> Option<Header> {
    let end = 40 + usize::from(be16(packet, 4)?);
    let packet = packet.get(..end)?;
    let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
    let mut header = Header {
        src: address(8)?,
        dst: address(24)?,
        protocol: packet[6],
        hop_limit: packet[7],
        traffic_class: packet[0] << 4 | packet[1] >> 4,
        payload_at: 40,
        end,
        fragment: None,
        dont_fragment: true,
    };
    for _ in 0..MAX_EXTENSIONS {
        let at = header.payload_at;
        let len = match header.protocol {
            // Hop-by-hop, destination options; a routing header that is done with.
            0 | 60 => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            43 if *packet.get(at + 3)? == 0 => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            43 => return None,
            PROTO_FRAGMENT if header.fragment.is_none() => {
                let place = be16(packet, at + 2)?;
                let (offset, more) = (usize::from(place & !7), place & 1 != 0);
                header.fragment = Some(Fragment { id: be32(packet, at + 4)?, offset, more });
                8
            }
            _ => return Some(header),
        };
        header.protocol = *packet.get(at)?;
        header.payload_at = at + len;
        if header.payload_at > end {
            return None;
        }
        if header.fragment.is_some_and(|fragment| fragment.offset != 0) {
            // What follows is the middle of something.
            return Some(header);
        }
    }
    None
}

/// A TCP segment's fixed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload_len: usize,
    pub header_len: usize,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

impl Tcp {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    /// How far it moves the sequence number.
    pub fn sequence_len(&self) -> u32 {
        self.payload_len as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}

/// The segment size that the options of a SYN ask for (RFC 9293, 3.7.1).
pub fn segment_size(packet: &[u8], segment: &Tcp) -> Option<u16> {
    let header = parse(packet)?;
    let mut options = packet.get(header.payload_at + 20..header.payload_at + segment.header_len)?;
    loop {
        match *options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            [] | [0, ..] => return None,
            [1, ..] => options = &options[1..],
            [_, len, ..] => options = options.get(usize::from(len).max(2)..)?,
            [_] => return None,
        }
    }
}

/// `None` when malformed, or with its sum wrong when that is to be looked at.
pub fn parse_tcp(header: &Header, segment: &[u8], verify: bool) -> Option<Tcp> {
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    if header_len < 20 || segment.len() < header_len {
        return None;
    }
    if verify && !sum_is_good(header, segment) {
        return None;
    }
    Some(Tcp {
        src_port: be16(segment, 0)?,
        dst_port: be16(segment, 2)?,
        seq: be32(segment, 4)?,
        ack: be32(segment, 8)?,
        flags: segment[13],
        payload_len: segment.len() - header_len,
        header_len,
    })
}

fn sum_is_good(header: &Header, bytes: &[u8]) -> bool {
    sum(bytes, pseudo_sum(header.src, header.dst, header.protocol, bytes.len())) == 0xffff
}

/// A UDP or UDP-Lite datagram's ports and its length with the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Udp {
    pub src_port: u16,
    pub dst_port: u16,
    pub len: usize,
    /// How many bytes, the header's with them, the checksum is of: all, but for UDP-Lite.
    pub covered: usize,
}

/// `None` when malformed, or with its sum wrong when that is to be looked at.
pub fn parse_udp(header: &Header, datagram: &[u8], verify: bool) -> Option<Udp> {
    let len = usize::from(be16(datagram, 4)?);
    let bytes = datagram.get(..len).filter(|bytes| bytes.len() >= 8)?;
    let sent = be16(bytes, 6)?;
    // A zero sum is one that was not made; IPv6 forbids it.
    if verify && (sent != 0 || header.src.is_ipv6()) && !sum_is_good(header, bytes) {
        return None;
    }
    Some(Udp { src_port: be16(bytes, 0)?, dst_port: be16(bytes, 2)?, len, covered: len })
}

/// A UDP-Lite datagram (RFC 3828): where UDP says its length, this says how much the checksum, which must be there, covers.
pub fn parse_udplite(header: &Header, datagram: &[u8], verify: bool) -> Option<Udp> {
    let len = datagram.len();
    let covered = match usize::from(be16(datagram, 4)?) {
        0 => len,
        covered => covered,
    };
    let bytes = datagram.get(..covered).filter(|bytes| bytes.len() >= 8)?;
    let is_good = || sum(bytes, pseudo_sum(header.src, header.dst, PROTO_UDPLITE, len)) == 0xffff;
    (be16(bytes, 6)? != 0 && (!verify || is_good())).then_some(Udp {
        src_port: be16(bytes, 0)?,
        dst_port: be16(bytes, 2)?,
        len,
        covered,
    })
}

/// Whether an ICMP or ICMPv6 message is long enough and its sum is right.
pub fn icmp_is_good(header: &Header, message: &[u8]) -> bool {
    let seed = match header.protocol {
        PROTO_ICMPV6 => pseudo_sum(header.src, header.dst, PROTO_ICMPV6, message.len()),
        _ => 0,
    };
    message.len() >= 8 && sum(message, seed) == 0xffff
}

/// The ports of the packet that an ICMP error quotes: IP header, then at least 8 bytes. Lengths and sums need not fit.
pub fn parse_quoted(packet: &[u8]) -> Option<(Header, u16, u16)> {
    let header = match packet.first()? >> 4 {
        4 => {
            let header_len = usize::from(packet[0] & 0xf) * 4;
            packet.get(..header_len.max(20))?;
            Header {
                src: IpAddr::V4(Ipv4Addr::from_bits(be32(packet, 12)?)),
                dst: IpAddr::V4(Ipv4Addr::from_bits(be32(packet, 16)?)),
                protocol: packet[9],
                hop_limit: packet[8],
                traffic_class: packet[1],
                payload_at: header_len,
                end: packet.len(),
                fragment: None,
                dont_fragment: false,
            }
        }
        6 => {
            let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
            Header {
                src: address(8)?,
                dst: address(24)?,
                protocol: packet[6],
                hop_limit: packet[7],
                traffic_class: 0,
                payload_at: 40,
                end: packet.len(),
                fragment: None,
                dont_fragment: true,
            }
        }
        _ => return None,
    };
    let ports = (be16(packet, header.payload_at)?, be16(packet, header.payload_at + 2)?);
    Some((header, ports.0, ports.1))
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    fn udp(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut packet = vec![0; build::ip_header_len(src) + 8 + payload.len()];
        let header =
            build::Ip { src, dst, protocol: PROTO_UDP, hop_limit: 64, traffic_class: 0, id: 7, dont_fragment: true };
        build::udp(&mut packet, &header, 53, 1024, payload, true);
        packet
    }

    /// Word by word, as RFC 1071 defines it.
    #[test]
    fn sums_of_every_length() {
        let bytes: Vec<u8> = (0..300u32).map(|at| (at * 151 + 77) as u8 | if at % 5 == 0 { 0xf0 } else { 0 }).collect();
        for len in 0..bytes.len() {
            let words = bytes[..len].chunks(2);
            let mut total: u32 = 0x1_2345;
            total += words.map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |low| u32::from(*low))).sum::<u32>();
            while total >> 16 != 0 {
                total = (total & 0xffff) + (total >> 16);
            }
            assert_eq!(sum(&bytes[..len], 0x1_2345), total, "{len} bytes");
        }
    }

    #[test]
    fn streams_are_told_apart() {
        let v4 = |port: u8, flags: u8| {
            let mut packet = [0; 60];
            (packet[0], packet[9], packet[19], packet[23], packet[33]) = (0x45, PROTO_TCP, 1, port, flags);
            packet
        };
        let v6 = |to: u8, flags: u8| {
            let mut packet = [0; 60];
            (packet[0], packet[6], packet[39], packet[53]) = (0x60, PROTO_TCP, to, flags);
            packet
        };
        assert!(is_same_stream(&v4(1, ACK), &v4(1, ACK | PSH)));
        assert!(is_same_stream(&v6(1, ACK), &v6(1, ACK)));
        for other in [v4(2, ACK), v4(1, ACK | FIN), v4(1, SYN), v6(1, ACK), [0; 60]] {
            assert!(!is_same_stream(&v4(1, ACK), &other));
        }
        assert!(!is_same_stream(&v6(1, ACK), &v6(2, ACK)) && !is_same_stream(&v6(1, ACK)[..50], &v6(1, ACK)));
        let mut fragment = v4(1, ACK);
        fragment[6] = 0x20;
        assert!(!is_same_stream(&fragment, &fragment) && !is_same_stream(&[], &[]));
    }

    #[test]
    fn what_is_built_is_parsed() {
        for (src, dst) in [("10.0.2.15", "10.0.2.2"), ("fe80::1", "ff02::1")] {
            for len in [0, 1, 2, 3, 1400] {
                let packet = udp(src, dst, &vec![0x5a; len]);
                let header = parse(&packet).unwrap();
                assert_eq!((header.src, header.dst), (src.parse().unwrap(), dst.parse().unwrap()));
                let datagram = &packet[header.payload_at..header.end];
                let udp = parse_udp(&header, datagram, true).unwrap();
                assert_eq!((udp.src_port, udp.dst_port, udp.len), (53, 1024, len + 8));
            }
        }
    }

    #[test]
    fn one_wrong_bit_is_noticed() {
        let packet = udp("10.0.2.15", "10.0.2.2", b"payload");
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let seen = parse(&damaged).and_then(|header| {
                let datagram = &damaged[header.payload_at..header.end];
                parse_udp(&header, datagram, true)
            });
            assert_eq!(seen, None, "bit {bit}");
        }
    }

    #[test]
    fn sums_fold() {
        assert_eq!(sum(&[0xff; 65536], 0), 0xffff);
        assert_eq!(sum(&[1], 0), 0x100);
        assert_eq!(sum(&[1, 2, 3], 0x10), 0x102 + 0x300 + 0x10);
    }
}
