//! The receive ring: buffers of one size, each the device's until a frame (or, merging, a piece of one) is in it.

use super::{LONGEST_FRAME, VLAN_TAG, header};
use crate::dma::{Dma, DmaSource};
use crate::traits::RxMeta;
use crate::virtio::queue::Queue;
use crate::virtio::{Bus, Error};
use alloc::vec::Vec;

/// Buffers of the ring, at most.
const NR_BUFFERS: u16 = 256;
/// Bytes of a buffer when frames may fill several.
const MERGE_BYTES: usize = 2048;

pub struct Receiver {
    pub queue: Queue,
    buffers: Dma,
    buffer_bytes: usize,
    merges: bool,
}

pub enum Taken {
    Nothing,
    Damaged,
    Frame { bytes: Vec<u8>, meta: RxMeta },
}

impl Receiver {
    /// The ring of queue `index` for frames of `frame` bytes, all buffers lent.
    pub fn new(
        bus: &dyn Bus,
        index: u16,
        frame: usize,
        merges: bool,
        event_idx: bool,
        source: DmaSource,
    ) -> Result<Self, Error> {
        let queue = Queue::new(bus, index, NR_BUFFERS, event_idx, source)?;
        let buffer_bytes = if merges { MERGE_BYTES } else { (header::BYTES + frame).next_multiple_of(64) };
        let buffers = source(buffer_bytes * usize::from(queue.size())).ok_or(Error::NoMemory)?;
        let mut receiver = Self { queue, buffers, buffer_bytes, merges };
        receiver.queue.disable_interrupt();
        for number in 0..receiver.queue.size() {
            receiver.lend(number);
        }
        // The device is told when it has started.
        let _ = receiver.queue.publish();
        Ok(receiver)
    }

    fn lend(&mut self, number: u16) {
        let phys = self.buffers.phys(usize::from(number) * self.buffer_bytes);
        self.queue.post(number, phys, self.buffer_bytes as u32, true);
    }

    /// Shows the device the buffers that came back; true: it wants to be notified.
    pub fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// Copies the next frame out; its buffers are lent again at once.
    pub fn take_frame(&mut self) -> Taken {
        let Some((first, written)) = self.queue.take() else { return Taken::Nothing };
        let written = written as usize;
        let base = usize::from(first) * self.buffer_bytes;
        let mut bytes = [0; header::BYTES];
        self.buffers.read(base, &mut bytes);
        let (meta, mut nr_buffers) = header::of_received(&bytes);
        if !self.merges {
            nr_buffers = 1;
        }
        let mut frame = Vec::new();
        let mut damaged = written <= header::BYTES || written > self.buffer_bytes || nr_buffers == 0;
        if !damaged {
            let longest = match nr_buffers {
                1 => written - header::BYTES,
                more => (usize::from(more) * self.buffer_bytes).min(LONGEST_FRAME + VLAN_TAG),
            };
            damaged = frame.try_reserve_exact(longest).is_err()
                || !self.append(base + header::BYTES, written - header::BYTES, &mut frame);
        }
        self.lend(first);
        // The pieces are all there at once (5.1.6.4); a device that says otherwise loses the frame.
        for _ in 1..nr_buffers {
            let Some((number, written)) = self.queue.take() else {
                damaged = true;
                break;
            };
            let base = usize::from(number) * self.buffer_bytes;
            damaged = damaged || !self.append(base, (written as usize).min(self.buffer_bytes), &mut frame);
            self.lend(number);
        }
        if damaged { Taken::Damaged } else { Taken::Frame { bytes: frame, meta } }
    }

    /// Appends a piece to `frame`; false when there is no room for it.
    fn append(&self, from: usize, count: usize, frame: &mut Vec<u8>) -> bool {
        let fits = count <= frame.capacity() - frame.len();
        if fits {
            self.buffers.append(from, count, frame);
        }
        fits
    }
}
