//! Passive handshakes without buffers: an [`Engine`] that waits for the ACK of its SYN-ACK holds next to nothing.
//!
//! Until then a passing engine with buffers of a few bytes speaks, its SYN-ACKs corrected to the window and the window scale of the
//! buffers to come. When the ACK is there, an engine with the real buffers and the same seed, and so the same initial sequence
//! number, gets the same SYN again and goes on from where the first one was.

use super::engine::{Emitted, Engine, Link, State};
use super::packet::{self, ACK, RST, SYN};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Buffers of the engine that only answers.
const PASSING: (usize, usize) = (64, 64);
/// A SYN longer than this (with data) is not worth remembering.
const LONGEST_SYN: usize = 1500;

/// What is needed to begin once more.
pub(super) struct Handshake {
    local: SocketAddr,
    link: Link,
    seed: u64,
    /// The receive and the send buffer to come, in bytes.
    sizes: (usize, usize),
    /// The peer's SYN, once it came.
    syn: Vec<u8>,
    /// Our first sequence number and when it was said last (ns).
    said: Option<(u32, u64)>,
}

/// Where TCP begins in a packet that the engine takes or makes.
fn tcp_at(bytes: &[u8]) -> Option<usize> {
    let at = packet::header_len(bytes);
    (bytes.len() >= at + 20).then_some(at)
}

/// The shift that smoltcp derives from the size of a receive buffer.
fn window_shift(receive_bytes: usize) -> u8 {
    (usize::BITS - receive_bytes.leading_zeros()).saturating_sub(16) as u8
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Handshake {
    /// Sees a packet that comes; `false`: it is not to be looked at.
    pub(super) fn sees(&mut self, bytes: &[u8]) -> bool {
        if !self.syn.is_empty() {
            return true;
        }
        if bytes.len() > LONGEST_SYN || self.syn.try_reserve_exact(bytes.len()).is_err() {
            return false;
        }
        self.syn.extend_from_slice(bytes);
        true
    }

    /// Corrects a SYN-ACK on its way out to what the buffers to come allow. Its checksum is made later ([`Link::without_sum`]).
    pub(super) fn correct(&mut self, bytes: &mut [u8], now_ns: u64) {
        let Some(at) = tcp_at(bytes) else { return };
        let tcp = &mut bytes[at..];
        if tcp[13] & (SYN | ACK) != SYN | ACK {
            return;
        }
        self.said = Some((number(tcp, 4), now_ns));
        let window = u16::try_from(self.sizes.0).unwrap_or(u16::MAX);
        tcp[14..16].copy_from_slice(&window.to_be_bytes());
        let end = (usize::from(tcp[12] >> 4) * 4).min(tcp.len());
        let mut option = 20;
        while option < end {
            match tcp[option] {
                0 => return,
                1 => option += 1,
                kind => {
                    let Some(len @ 2..) = tcp.get(option + 1).map(|len| usize::from(*len)) else { return };
                    if kind == 3 && len == 3 && option + 3 <= end {
                        tcp[option + 2] = window_shift(self.sizes.0);
                    }
                    option += len;
                }
            }
        }
    }

    /// Whether `bytes` acknowledges the SYN-ACK.
    fn ends_by(&self, bytes: &[u8]) -> bool {
        let (Some((first, _)), Some(at)) = (self.said, tcp_at(bytes)) else { return false };
        bytes[at + 13] & (SYN | ACK | RST) == ACK && number(bytes, at + 8) == first.wrapping_add(1)
    }
}

impl Engine {
    /// A connection that waits at `local` for one SYN, which the next [`Engine::ingress`] brings, and gets its buffers from
    /// [`Engine::establish`]. `link` leaves TCP's checksum to somebody else. `None` when there is no memory.
    pub fn half_open(
        local: SocketAddr,
        link: Link,
        seed: u64,
        sizes: (usize, usize),
        room: usize,
        now_ns: u64,
    ) -> Option<Box<Self>> {
        let mut engine = Self::new(local.ip(), link, seed, PASSING, room, now_ns)?;
        engine.listen(local);
        engine.handshake = Some(Box::new(Handshake { local, link, seed, sizes, syn: Vec::new(), said: None }));
        Some(engine)
    }

    /// Whether the connection must get its buffers before it takes this packet, which ends its handshake.
    pub fn is_established_by(&mut self, bytes: &[u8]) -> bool {
        let is_open = self.tcp().state() == State::SynReceived;
        self.handshake.as_ref().is_some_and(|handshake| is_open && handshake.ends_by(bytes))
    }

    /// Bytes of the buffers that the connection has or, while it is half open, will get.
    pub fn buffer_bytes(&mut self) -> usize {
        if let Some(handshake) = &self.handshake {
            return handshake.sizes.0 + handshake.sizes.1;
        }
        let tcp = self.tcp();
        tcp.recv_capacity() + tcp.send_capacity()
    }

    /// Gives the connection its buffers: `false` when there is no memory for them.
    pub fn establish(&mut self) -> bool {
        let Some(mut handshake) = self.handshake.take() else { return true };
        let Handshake { local, link, seed, sizes, .. } = *handshake;
        let at = handshake.said.map_or(0, |(_, at)| at);
        let Some(mut whole) = Self::new(local.ip(), link, seed, sizes, self.room(), at) else {
            self.handshake = Some(handshake);
            return false;
        };
        {
            let (old, new) = (self.tcp(), whole.tcp());
            new.set_nagle_enabled(old.nagle_enabled());
            new.set_ack_delay(old.ack_delay());
            new.set_hop_limit(old.hop_limit());
            new.set_keep_alive(old.keep_alive());
            new.set_timeout(old.timeout());
        }
        whole.listen(local);
        // It was said before.
        let mut said: Vec<Emitted> = Vec::new();
        whole.ingress(&core::mem::take(&mut handshake.syn), at, &mut said);
        whole.egress(at, 1, &mut said);
        *self = *whole;
        true
    }
}
