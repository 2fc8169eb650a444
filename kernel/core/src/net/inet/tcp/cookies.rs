//! Handshakes without memory (SYN cookies): what a listener does with SYNs when too many handshakes are under way.
//!
//! The answer to such a SYN is made by an engine that is thrown away. Its seed, and with that its initial sequence number, is a
//! keyed hash of the connection's name, the peer's sequence number, the time and the segment size: when the peer's ACK comes, an
//! engine with the same seed gets the same SYN again and is where the first one was. Only the segment size is remembered of the
//! SYN's options, one of a few.

use super::super::counters;
use super::super::hash::Keyed;
use super::super::output::Queue;
use super::super::packet::{LINK_ROOM, Packet};
use super::Tcp;
use super::connection::Effects;
use super::table::{self, Name};
use crate::prelude::*;
use alloc::vec;
use base::net::build::{self, Ip};
use base::net::engine::{Emitted, Engine, Link};
use base::net::packet::{self, PROTO_TCP, Tcp as Segment};
use core::hash::BuildHasher;
use core::net::SocketAddr;
use spin::Once;

/// The segment sizes that are told apart.
const SIZES: [u16; 4] = [536, 1220, 1440, 1460];
/// An MTU that every link has.
const LEAST_MTU: usize = 576;
/// What a cookie is good for, at least and at most twice.
const SLOT_NS: u64 = 64_000_000_000;
/// How long a listener that gave out cookies takes them.
pub(super) const LASTS_NS: u64 = 2 * SLOT_NS;
/// The first window, and room for nothing: for the engine that only answers.
const PASSING_BUFFERS: (usize, usize) = (8192, 64);

fn seed(name: &Name, sequence: u32, slot: u64, size: usize) -> u64 {
    static KEY: Once<Keyed> = Once::new();
    KEY.call_once(Keyed::new).hash_one((name, sequence, slot, size))
}

/// The SYN as far as it is remembered.
fn remembered(name: &Name, sequence: u32, size: usize) -> Vec<u8> {
    let head = build::ip_header_len(name.local.0);
    // Infallible: a header.
    let mut bytes = vec![0; head + 24];
    let ip = Ip {
        src: name.remote.0,
        dst: name.local.0,
        protocol: PROTO_TCP,
        hop_limit: 64,
        traffic_class: 0,
        id: 0,
        dont_fragment: true,
    };
    build::ip_header(&mut bytes, &ip);
    build::syn(&mut bytes[head..], name.remote.1, name.local.1, sequence, SIZES[size]);
    bytes
}

/// Sends the SYN through a passing engine whose packets are at most `mtu` bytes long; answers what that says.
fn answer(name: &Name, mtu: usize, sequence: u32, slot: u64, size: usize) -> Vec<Emitted> {
    let mut out = Vec::new();
    let link = Link { mtu, without_sum: true, large_segments: false };
    let now = crate::time::now_ns();
    let seed = seed(name, sequence, slot, size);
    if let Some(mut engine) = Engine::new(name.local.0, link, seed, PASSING_BUFFERS, LINK_ROOM, now) {
        engine.listen(SocketAddr::from(name.local));
        engine.ingress(&remembered(name, sequence, size), now, &mut out);
        engine.egress(now, 1, &mut out);
    }
    out
}

fn slot() -> u64 {
    crate::time::now_ns() / SLOT_NS
}

/// Answers a SYN and forgets it. The listener takes packets of at most `mtu` bytes from there.
pub(super) fn give(name: &Name, mtu: usize, (packet, segment): (&[u8], &Segment), queue: &mut Queue) {
    let asked = packet::segment_size(packet, segment).unwrap_or(SIZES[0]);
    let size = SIZES.iter().rposition(|size| *size <= asked).unwrap_or(0);
    counters::tcp(counters::Tcp::CookiesSent);
    for Emitted { buffer, .. } in answer(name, mtu, segment.seq, slot(), size) {
        let mut packet = Packet::from_buffer(buffer);
        packet.needs_checksum = true;
        queue.push_back(packet);
    }
}

/// The seed and the segment size of the cookie that this segment brings back, if it does.
fn taken_back(name: &Name, segment: &Segment) -> Option<(u64, usize)> {
    let (now, sequence) = (slot(), segment.seq.wrapping_sub(1));
    for slot in [Some(now), now.checked_sub(1)].into_iter().flatten() {
        for size in 0..SIZES.len() {
            // The sequence number does not depend on the sizes of packets.
            let out = answer(name, LEAST_MTU, sequence, slot, size);
            let bytes = out.first()?.buffer.get(LINK_ROOM..)?;
            let header = packet::parse(bytes)?;
            let first = packet::parse_tcp(&header, bytes.get(header.payload_at..header.end)?, false)?;
            if first.seq.wrapping_add(1) == segment.ack {
                return Some((seed(name, sequence, slot, size), size));
            }
        }
    }
    None
}

impl Tcp {
    /// A segment of no connection that may bring a cookie back; `true`: it did, and there is a connection now (or the queue is
    /// full and the peer will say it again).
    pub(super) fn cookie(
        self: &Arc<Self>,
        name: Name,
        scope: u32,
        (bytes, segment): (&[u8], &Segment),
        queue: &mut Queue,
    ) -> bool {
        let takes = |listener: &super::Listener| crate::time::now_ns() < listener.cookies_until_ns;
        if !self.state.lock().listener.as_ref().is_some_and(|listener| takes(listener)) {
            return false;
        }
        let Some((seed, size)) = taken_back(&name, segment) else {
            counters::tcp(counters::Tcp::CookiesFailed);
            return false;
        };
        counters::tcp(counters::Tcp::CookiesTaken);
        if !self.has_place() {
            return true;
        }
        let Some(child) = self.child(name, scope, Some(seed)) else { return true };
        {
            let mut state = child.state.lock();
            let now = crate::time::now_ns();
            let mut said = Vec::new();
            if let Some(engine) = &mut state.engine {
                engine.ingress(&remembered(&name, segment.seq.wrapping_sub(1), size), now, &mut said);
                // It was said before.
                engine.egress(now, 1, &mut said);
            }
        }
        if !table::insert(name, child.clone()) {
            child.vanish();
            return true;
        }
        counters::tcp(counters::Tcp::PassiveOpens);
        child.conclude(Effects::default(), queue);
        child.segment((bytes, segment), None, queue);
        true
    }
}
