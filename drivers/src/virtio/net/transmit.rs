//! The transmit ring: every request has a buffer of its own, into which header and frame are copied. A few are long enough
//! for TCP segments that the device cuts.

use super::{LONGEST_FRAME, header};
use crate::dma::{Dma, DmaSource};
use crate::virtio::queue::Queue;
use crate::virtio::{Bus, Error};
use alloc::vec::Vec;

/// Requests of the ring, at most.
const NR_REQUESTS: u16 = 256;
/// How many of them have a long buffer, when the device cuts.
const NR_LONG: u16 = 16;

/// Buffers of one length and those of them that are free.
struct Buffers {
    memory: Dma,
    bytes: usize,
    first: u16,
    free: Vec<u16>,
}

impl Buffers {
    fn new(first: u16, count: u16, bytes: usize, source: DmaSource) -> Result<Self, Error> {
        let memory = source(bytes * usize::from(count)).ok_or(Error::NoMemory)?;
        Ok(Self { memory, bytes, first, free: (first..first + count).rev().collect() })
    }
    fn offset(&self, number: u16) -> usize {
        usize::from(number - self.first) * self.bytes
    }
}

pub struct Transmitter {
    queue: Queue,
    short: Buffers,
    long: Option<Buffers>,
    /// Somebody was told `Full` and waits for an interrupt.
    wants_room: bool,
}

pub enum Outcome {
    Sent { notify: bool },
    Full,
    TooLong,
    Broken,
}

impl Transmitter {
    /// The ring of queue `index` for frames of `frame` bytes and, when the device `cuts`, of any length.
    pub fn new(
        bus: &dyn Bus,
        index: u16,
        frame: usize,
        cuts: bool,
        event_idx: bool,
        source: DmaSource,
    ) -> Result<Self, Error> {
        let mut queue = Queue::new(bus, index, NR_REQUESTS, event_idx, source)?;
        queue.disable_interrupt();
        let nr_long = if cuts { NR_LONG.min(queue.size() / 2) } else { 0 };
        let nr_short = queue.size() - nr_long;
        let bytes = |frame: usize| (header::BYTES + frame).next_multiple_of(64);
        let short = Buffers::new(0, nr_short, bytes(frame), source)?;
        // Without memory for them, long frames are refused as too long: the caller cuts itself.
        let long = if nr_long > 0 { Buffers::new(nr_short, nr_long, bytes(LONGEST_FRAME), source).ok() } else { None };
        Ok(Self { queue, short, long, wants_room: false })
    }

    /// Whether frames longer than the wire's have buffers.
    pub fn has_long(&self) -> bool {
        self.long.is_some()
    }

    /// Takes back what was sent.
    fn reclaim(&mut self) {
        while let Some((number, _)) = self.queue.take() {
            match &mut self.long {
                Some(long) if number >= long.first => long.free.push(number),
                _ => self.short.free.push(number),
            }
        }
    }

    pub fn send(&mut self, header: &[u8; header::BYTES], parts: &[&[u8]], len: usize) -> Outcome {
        let bytes = header::BYTES + len;
        let is_short = bytes <= self.short.bytes;
        if !is_short && self.long.as_ref().is_none_or(|long| bytes > long.bytes) {
            return Outcome::TooLong;
        }
        let number = match self.pick(is_short) {
            Some(number) => number,
            None if self.queue.is_broken() => return Outcome::Broken,
            None => {
                self.wants_room = true;
                // Asking for the interrupt and looking again: a frame sent in between would never be heard of.
                if self.queue.enable_interrupt() {
                    self.reclaim()
                }
                match self.pick(is_short) {
                    Some(number) => {
                        self.interrupted();
                        number
                    }
                    None => return Outcome::Full,
                }
            }
        };
        let buffers = match &self.long {
            Some(long) if !is_short => long,
            _ => &self.short,
        };
        let base = buffers.offset(number);
        buffers.memory.write(base, header);
        let mut at = base + header::BYTES;
        for part in parts {
            buffers.memory.write(at, part);
            at += part.len();
        }
        let phys = buffers.memory.phys(base);
        self.queue.post(number, phys, bytes as u32, false);
        Outcome::Sent { notify: self.queue.publish() }
    }

    fn pick(&mut self, is_short: bool) -> Option<u16> {
        self.reclaim();
        match &mut self.long {
            Some(long) if !is_short => long.free.pop(),
            _ => self.short.free.pop(),
        }
    }

    /// Frames were sent, as was asked for: no more interrupts until somebody waits again.
    pub fn interrupted(&mut self) {
        if self.wants_room {
            self.wants_room = false;
            self.queue.disable_interrupt();
        }
    }
}
