//! The engine's segments on their way out: made packets of, counted, noted for TIME-WAIT.

use super::super::counters::{self, Tcp as Count};
use super::super::output::Queue;
use super::super::packet::Packet;
use super::connection::EGRESS_BUDGET;
use super::{State, Tcp};
use crate::prelude::*;
use base::net::engine::Emitted;
use base::net::packet::{self, RST};
use core::sync::atomic::Ordering;

impl Tcp {
    /// Packets as the engine made them.
    pub(super) fn enqueue(&self, state: &mut State, emitted: Vec<Emitted>, queue: &mut Queue) {
        for Emitted { buffer, segment_bytes } in emitted {
            let mut packet = Packet::from_buffer(buffer);
            packet.needs_checksum = !state.is_local;
            packet.segment_bytes = segment_bytes;
            packet.interface = self.common.device.load(Ordering::Relaxed);
            if packet.interface == 0
                && let Some(remote) = state.remote
            {
                packet.interface = remote.scope;
            }
            state.segments_out = state.segments_out.wrapping_add(1);
            state.count_out(packet.bytes());
            if state.shut_write {
                state.note(packet.bytes());
            }
            let class = self.ip.traffic_class();
            if class != 0 {
                set_class(packet.bytes_mut(), class);
            }
            queue.push_back(packet);
        }
    }

    /// Lets the engine send what it may.
    pub(super) fn flush(&self, state: &mut State, queue: &mut Queue) {
        let mut out = Vec::new();
        if let Some(engine) = &mut state.engine {
            engine.egress(crate::time::now_ns(), EGRESS_BUDGET, &mut out);
        }
        if !out.is_empty() {
            self.enqueue(state, out, queue);
        }
    }
}

impl State {
    /// Counts a segment that goes: the first time, or again.
    fn count_out(&mut self, bytes: &[u8]) {
        let head = packet::header_len(bytes);
        let Some(tcp) = bytes.get(head..).filter(|tcp| tcp.len() >= 20) else { return };
        if tcp[13] & RST != 0 {
            counters::tcp(Count::OutRsts);
        }
        let first = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let payload = tcp.len().saturating_sub(usize::from(tcp[12] >> 4) * 4);
        let len = payload as u32 + u32::from(tcp[13] & packet::SYN != 0) + u32::from(tcp[13] & packet::FIN != 0);
        let end = first.wrapping_add(len);
        match self.highest_sent {
            // A keep-alive asks with a number that was said before, and so do probes of a window.
            Some(highest) if len > 1 && (first.wrapping_sub(highest) as i32) < 0 => {
                self.segments_again = self.segments_again.wrapping_add(1);
                counters::tcp(Count::RetransSegs);
            }
            _ => counters::tcp(Count::OutSegs),
        }
        if self.highest_sent.is_none_or(|highest| (end.wrapping_sub(highest) as i32) > 0) {
            self.highest_sent = Some(end);
        }
    }

    /// Notes where both sides are, from a packet that leaves.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        if let Some(header) = packet::parse(bytes)
            && let Some(segment) = packet::parse_tcp(&header, &bytes[header.payload_at..header.end], false)
        {
            self.sequence = (segment.seq.wrapping_add(segment.sequence_len()), segment.ack);
        }
    }
}

/// Sets the traffic class of a finished packet.
fn set_class(bytes: &mut [u8], class: u8) {
    match bytes.first().map(|byte| byte >> 4) {
        Some(4) => {
            bytes[1] = class;
            bytes[10..12].fill(0);
            let total = !(packet::sum(&bytes[..20], 0) as u16);
            bytes[10..12].copy_from_slice(&total.to_be_bytes());
        }
        Some(6) => {
            bytes[0] = 0x60 | class >> 4;
            bytes[1] = class << 4 | bytes[1] & 0xf;
        }
        _ => {}
    }
}
