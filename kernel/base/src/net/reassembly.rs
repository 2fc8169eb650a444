//! Fragments become datagrams again: a bounded number of them, each for a bounded time, no overlaps (RFC 5722's rule for both
//! versions: an overlap is an attack or damage, and the datagram is given up).

use super::packet::{Header, PROTO_FRAGMENT};
use alloc::collections::VecDeque;
#[cfg(test)]
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Datagrams being put together.
const MAX_DATAGRAMS: usize = 16;
/// Bytes they may hold together.
const MAX_BYTES: usize = 1 << 20;
const MAX_PAYLOAD: usize = 65_535;
/// Pieces of one datagram.
const MAX_PIECES: usize = 256;
const LIFETIME_NS: u64 = 30_000_000_000;

type Key = (IpAddr, IpAddr, u32, u8);

struct Partial {
    key: Key,
    expires_ns: u64,
    /// (offset, bytes), in order of offset.
    pieces: Vec<(usize, Vec<u8>)>,
    bytes: usize,
    total: Option<usize>,
    /// The header of the first fragment, once it came.
    head: Option<Vec<u8>>,
}

/// All datagrams that are not whole yet.
#[derive(Default)]
pub struct Reassembly {
    partials: VecDeque<Partial>,
    bytes: usize,
    given_up: usize,
}

impl Reassembly {
    pub const fn new() -> Self {
        Self { partials: VecDeque::new(), bytes: 0, given_up: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.partials.is_empty()
    }

    fn forget(&mut self, index: usize) {
        if let Some(gone) = self.partials.remove(index) {
            self.bytes -= gone.bytes;
            self.given_up += 1;
        }
    }

    /// How many datagrams were given up since this was last asked.
    pub fn take_given_up(&mut self) -> usize {
        core::mem::take(&mut self.given_up)
    }

    /// Takes a fragment; answers the whole packet when it was the last missing one. Its IP header says it is no fragment.
    pub fn add(&mut self, header: &Header, packet: &[u8], now_ns: u64) -> Option<Vec<u8>> {
        while self.partials.front().is_some_and(|oldest| oldest.expires_ns <= now_ns) {
            self.forget(0);
        }
        let fragment = header.fragment?;
        let payload = packet.get(header.payload_at..header.end)?;
        let end = fragment.offset + payload.len();
        if payload.is_empty() || end > MAX_PAYLOAD || fragment.more && payload.len() % 8 != 0 {
            return None;
        }
        let protocol = if header.src.is_ipv4() { header.protocol } else { 0 };
        let key = (header.src, header.dst, fragment.id, protocol);
        let index = match self.partials.iter().position(|partial| partial.key == key) {
            Some(index) => index,
            None => {
                while self.partials.len() >= MAX_DATAGRAMS {
                    self.forget(0);
                }
                self.partials.push_back(Partial {
                    key,
                    expires_ns: now_ns + LIFETIME_NS,
                    pieces: Vec::new(),
                    bytes: 0,
                    total: None,
                    head: None,
                });
                self.partials.len() - 1
            }
        };
        let partial = self.partials.get_mut(index)?;
        let at = partial.pieces.partition_point(|(offset, _)| *offset < fragment.offset);
        if partial.pieces.get(at).is_some_and(|(offset, bytes)| *offset == fragment.offset && bytes == payload) {
            return None; // the same once more
        }
        let overlaps_before = at > 0 && {
            let (offset, bytes) = &partial.pieces[at - 1];
            offset + bytes.len() > fragment.offset
        };
        let overlaps_after = partial.pieces.get(at).is_some_and(|(offset, _)| *offset < end);
        let beyond = partial.total.is_some_and(|total| end > total || !fragment.more && end != total)
            || !fragment.more && partial.pieces.last().is_some_and(|(offset, bytes)| offset + bytes.len() > end);
        if overlaps_before || overlaps_after || beyond || partial.pieces.len() >= MAX_PIECES {
            self.forget(index);
            return None;
        }
        if !fragment.more {
            partial.total = Some(end);
        }
        if fragment.offset == 0 {
            partial.head = packet.get(..header.payload_at).map(<[u8]>::to_vec);
        }
        partial.pieces.insert(at, (fragment.offset, payload.to_vec()));
        partial.bytes += payload.len();
        self.bytes += payload.len();
        let whole = partial.total == Some(partial.bytes) && partial.head.is_some();
        if whole {
            let partial = self.partials.remove(index)?;
            self.bytes -= partial.bytes;
            return join(header, partial);
        }
        while self.bytes > MAX_BYTES {
            self.forget(0);
        }
        None
    }
}

/// The packet whose header is the first fragment's and whose payload is all pieces.
fn join(header: &Header, partial: Partial) -> Option<Vec<u8>> {
    let mut packet = partial.head?;
    if header.src.is_ipv6() {
        // The fragment header is the last one before the payload: it goes, and what pointed to it points behind it.
        let at = packet.len().checked_sub(8).filter(|at| *at >= 40)?;
        let next = packet[at];
        let pointer = last_pointer(&packet, at)?;
        packet[pointer] = next;
        packet.truncate(at);
    }
    for (_, piece) in &partial.pieces {
        packet.extend_from_slice(piece);
    }
    let len = packet.len();
    if header.src.is_ipv4() {
        packet[2..4].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
        packet[6..8].fill(0);
        packet[10..12].fill(0);
        let head_len = usize::from(packet[0] & 0xf) * 4;
        let total = !(super::packet::sum(packet.get(..head_len)?, 0) as u16);
        packet[10..12].copy_from_slice(&total.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&u16::try_from(len - 40).ok()?.to_be_bytes());
    }
    Some(packet)
}

/// Where the "next header" byte stands that names the header at `at`.
fn last_pointer(packet: &[u8], at: usize) -> Option<usize> {
    let (mut pointer, mut place) = (6, 40);
    while place < at {
        if *packet.get(pointer)? == PROTO_FRAGMENT {
            return None;
        }
        pointer = place;
        place += (usize::from(*packet.get(place + 1)?) + 1) * 8;
    }
    (place == at && packet.get(pointer) == Some(&PROTO_FRAGMENT)).then_some(pointer)
}

#[cfg(test)]
mod tests {
    use super::super::{build, packet};
    use super::*;

    fn datagram(v6: bool, len: usize) -> Vec<u8> {
        let (src, dst): (IpAddr, IpAddr) = if v6 {
            ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap())
        } else {
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        };
        let ip = build::Ip { src, dst, protocol: 17, hop_limit: 9, traffic_class: 0, id: 1, dont_fragment: false };
        let payload: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        let mut bytes = vec![0; build::ip_header_len(src) + 8 + len];
        build::udp(&mut bytes, &ip, 1, 2, &payload, true);
        bytes
    }

    fn cut(bytes: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
        build::fragments(bytes, &packet::parse(bytes).unwrap(), mtu, id).unwrap()
    }

    fn udp_of(bytes: &[u8]) -> Option<packet::Udp> {
        let header = packet::parse(bytes)?;
        packet::parse_udp(&header, &bytes[header.payload_at..header.end], true)
    }

    #[test]
    fn pieces_in_any_order_make_the_whole() {
        for v6 in [false, true] {
            let whole = datagram(v6, 20_000);
            let mut pieces = cut(&whole, 1500, 77);
            assert!(pieces.iter().all(|piece| piece.len() <= 1500));
            pieces.reverse();
            let middle = pieces.len() / 2;
            pieces.swap(0, middle);
            let mut reassembly = Reassembly::new();
            let mut done = None;
            for piece in &pieces {
                assert!(done.is_none());
                done = reassembly.add(&packet::parse(piece).unwrap(), piece, 0);
                // Twice the same changes nothing.
                if done.is_none() {
                    assert!(reassembly.add(&packet::parse(piece).unwrap(), piece, 0).is_none());
                }
            }
            let done = done.unwrap();
            assert_eq!(udp_of(&done), udp_of(&whole));
            assert!(reassembly.is_empty() && reassembly.bytes == 0);
        }
    }

    #[test]
    fn what_never_completes_stays_bounded() {
        let mut reassembly = Reassembly::new();
        for id in 0..10_000 {
            let pieces = cut(&datagram(false, 60_000), 1500, id);
            for piece in &pieces[1..] {
                reassembly.add(&packet::parse(piece).unwrap(), piece, u64::from(id));
            }
            assert!(reassembly.partials.len() <= MAX_DATAGRAMS && reassembly.bytes <= MAX_BYTES);
            if id > 40 {
                break;
            }
        }
        let piece = &cut(&datagram(false, 4000), 1500, 1)[0];
        reassembly.add(&packet::parse(piece).unwrap(), piece, LIFETIME_NS * 2);
        assert_eq!(reassembly.partials.len(), 1);
    }

    #[test]
    fn an_overlap_gives_the_datagram_up() {
        let pieces = cut(&datagram(false, 4000), 1500, 5);
        let mut reassembly = Reassembly::new();
        reassembly.add(&packet::parse(&pieces[0]).unwrap(), &pieces[0], 0);
        let mut evil = cut(&datagram(false, 4000), 1000, 5)[1].clone();
        evil[100] ^= 1;
        assert!(reassembly.add(&packet::parse(&evil).unwrap(), &evil, 0).is_none());
        assert!(reassembly.is_empty());
    }
}
