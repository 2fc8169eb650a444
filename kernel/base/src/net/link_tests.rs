//! Two connections over a link that loses, repeats, reorders and damages packets; mutated frames that must not panic.

use super::engine::{Emitted, Engine, Link, State};
use super::{build, packet, reassembly::Reassembly};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// What the link does to packets: one in how many suffers it.
struct Faults {
    lose: u64,
    repeat: u64,
    swap: u64,
    damage: u64,
}

fn link() -> Link {
    Link { mtu: 1500, without_sum: false, large_segments: false }
}

/// Gives `packet` to `engine` as the demultiplexer would: only when all sums are right.
fn deliver(engine: &mut Engine, bytes: &[u8], now: u64, out: &mut Vec<Emitted>) {
    if let Some(header) = packet::parse(bytes)
        && packet::parse_tcp(&header, &bytes[header.payload_at..header.end], true).is_some()
    {
        if engine.is_established_by(bytes) {
            assert!(engine.tcp().recv_capacity() < 1000);
            let bytes = engine.buffer_bytes();
            assert!(engine.establish() && engine.buffer_bytes() == bytes);
        }
        engine.ingress(&bytes[..header.end], now, out);
    }
}

fn transfer(v6: bool, faults: Faults, seed: u64, total: usize) {
    let (client, server): (SocketAddr, SocketAddr) = if v6 {
        ("[fe80::1]:5000".parse().unwrap(), "[fe80::2]:80".parse().unwrap())
    } else {
        ("10.0.0.1:5000".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
    };
    let mut now = 1_000_000_000;
    let sizes = (200_000, 65_536);
    // The listening end has no buffers before the handshake is done, and leaves the sums to its device.
    let without_sum = Link { without_sum: true, ..link() };
    let mut ends = [
        Engine::new(client.ip(), link(), seed, sizes, 0, now).unwrap(),
        Engine::half_open(server, without_sum, seed, sizes, 0, now).unwrap(),
    ];
    ends[0].connect(client, server).unwrap();
    let mut dice = Dice(seed | 1);
    let mut wires: [VecDeque<Vec<u8>>; 2] = Default::default();
    let (mut sent, mut received) = (0, 0);
    let byte = |n: usize| (n * 31 + n / 251) as u8;
    let mut closed = false;
    for _ in 0..2_000_000 {
        if sent < total && ends[0].tcp().can_send() {
            let piece: Vec<u8> = (sent..total.min(sent + 4000)).map(byte).collect();
            sent += ends[0].tcp().send_slice(&piece).unwrap();
        } else if sent == total && !closed {
            ends[0].tcp().close();
            closed = true;
        }
        let mut buffer = [0u8; 5000];
        if ends[1].tcp().can_recv() {
            let n = ends[1].tcp().recv_slice(&mut buffer).unwrap();
            assert!(buffer[..n].iter().enumerate().all(|(at, value)| *value == byte(received + at)));
            received += n;
        }
        let mut progress = false;
        for side in 0..2 {
            let mut out = Vec::new();
            if let Some(packet) = wires[1 - side].pop_front() {
                progress = true;
                deliver(&mut ends[side], &packet, now, &mut out);
            }
            ends[side].egress(now, 8, &mut out);
            for emitted in out {
                progress = true;
                let mut bytes = emitted.buffer;
                if side == 1 {
                    let header = packet::parse(&bytes).unwrap();
                    build::full_sum(&header, &mut bytes[header.payload_at..header.end]);
                }
                if dice.one_in(faults.lose) {
                    continue;
                }
                if dice.one_in(faults.repeat) {
                    wires[side].push_back(bytes.clone());
                }
                if dice.one_in(faults.damage) {
                    let bit = dice.next() as usize % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                wires[side].push_back(bytes);
                let len = wires[side].len();
                if len > 1 && dice.one_in(faults.swap) {
                    wires[side].swap(len - 1, len - 2);
                }
            }
        }
        if received == total && ends[1].tcp().state() == State::CloseWait {
            assert_eq!(ends[1].tcp().recv_capacity(), sizes.0);
            return;
        }
        // Time passes as far as the next timer when nothing moves.
        if progress {
            now += 20_000;
        } else {
            let next = ends.iter_mut().filter_map(|end| end.poll_at(now)).min();
            now = next.unwrap_or(now).max(now + 20_000);
        }
    }
    panic!("{received} of {total} bytes came, states {} and {}", ends[0].tcp().state(), ends[1].tcp().state());
}

#[test]
fn a_clean_link() {
    let never = u64::MAX;
    for v6 in [false, true] {
        transfer(v6, Faults { lose: never, repeat: never, swap: never, damage: never }, 7, 1 << 20);
    }
}

#[test]
fn a_bad_link() {
    for seed in 1..=6 {
        transfer(seed % 2 == 0, Faults { lose: 20, repeat: 25, swap: 15, damage: 30 }, seed * 0x9e37, 200_000);
    }
}

/// How many mutated frames are tried: the full million takes some seconds in a release build.
fn rounds() -> usize {
    std::env::var("CRANNOG_FRAMES").ok().and_then(|count| count.parse().ok()).unwrap_or(200_000)
}

#[test]
fn mutated_frames_never_panic() {
    let (src, dst): (SocketAddr, SocketAddr) = ("10.0.0.1:5000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
    let mut client = Engine::new(src.ip(), link(), 1, (4096, 4096), 0, 0).unwrap();
    client.connect(src, dst).unwrap();
    let mut samples = Vec::new();
    client.egress(0, 1, &mut samples);
    let mut seeds: Vec<Vec<u8>> = samples.into_iter().map(|emitted| emitted.buffer).collect();
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fe80::1", "fe80::2")] {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let ip = build::Ip { src, dst, protocol: 17, hop_limit: 64, traffic_class: 0, id: 3, dont_fragment: false };
        let mut bytes = vec![0; build::ip_header_len(src) + 8 + 3000];
        build::udp(&mut bytes, &ip, 9, 10, &[7; 3000], true);
        let header = packet::parse(&bytes).unwrap();
        seeds.extend(build::fragments(&bytes, &header, 1280, 9).unwrap());
        seeds.push(bytes);
        // UDP-Lite's, of which half is covered.
        let ip = build::Ip { protocol: packet::PROTO_UDPLITE, ..ip };
        let head = build::ip_header_len(src);
        let mut bytes = vec![7; head + 8 + 100];
        build::ip_header(&mut bytes, &ip);
        build::udplite_header(&mut bytes[head..], &ip, 9, 10, 54);
        let header = packet::parse(&bytes).unwrap();
        assert_eq!(packet::parse_udplite(&header, &bytes[head..], true).unwrap().covered, 54);
        seeds.push(bytes);
    }
    let mut dice = Dice(0x1234_5678_9abc);
    let mut reassembly = Reassembly::new();
    let mut server = Engine::new(dst.ip(), link(), 1, (4096, 4096), 0, 0).unwrap();
    server.listen(dst);
    let (mut parsed, mut lite) = (0, 0);
    for round in 0..rounds() {
        let mut bytes = seeds[dice.next() as usize % seeds.len()].clone();
        for _ in 0..dice.next() % 6 {
            let at = dice.next() as usize % bytes.len();
            bytes[at] = dice.next() as u8;
        }
        if dice.one_in(4) {
            bytes.truncate(dice.next() as usize % (bytes.len() + 1));
        }
        // With the sum made right again, so that what lies behind it is reached too.
        if dice.one_in(2) && bytes.len() >= 20 && bytes[0] >> 4 == 4 {
            let head = (usize::from(bytes[0] & 0xf) * 4).clamp(20, bytes.len());
            bytes[10..12].fill(0);
            let total = !(packet::sum(&bytes[..head], 0) as u16);
            bytes[10..12].copy_from_slice(&total.to_be_bytes());
        }
        let _ = packet::parse_quoted(&bytes);
        let Some(header) = packet::parse(&bytes) else { continue };
        parsed += 1;
        if header.fragment.is_some() {
            let _ = reassembly.add(&header, &bytes, round as u64);
        }
        let upper = &bytes[header.payload_at..header.end];
        let _ = packet::parse_udp(&header, upper, true);
        if let Some(datagram) = packet::parse_udplite(&header, upper, dice.one_in(2)) {
            assert!((8..=upper.len()).contains(&datagram.covered) && datagram.len == upper.len());
            lite += 1;
        }
        let _ = packet::icmp_is_good(&header, upper);
        if let Some(tcp) = packet::parse_tcp(&header, upper, false) {
            let _ = build::reset_for(&header, &tcp);
            let mut out = Vec::new();
            server.ingress(&bytes[..header.end], round as u64 * 1000, &mut out);
            server.egress(round as u64 * 1000, 4, &mut out);
            if !server.tcp().is_open() {
                server.listen(dst);
            }
        }
        let _ = build::fragments(&bytes, &header, 576, 1);
    }
    assert!(parsed > rounds() / 10 && lite > rounds() / 100, "{parsed} {lite}");
}
