//! A split virtqueue (virtio 1.2, 2.7) of single-buffer requests, of chains, or of one question and its answer at a time.
//!
//! Our own, and not virtio-drivers' `VirtQueue`: that one (0.13) neither moves `used_event` when interrupts are not wanted nor
//! compares `avail_event` across the wrap of the 16-bit index, which stalls a queue after 65,536 frames.
//!
//! A request's first descriptor names it. Of a single-buffer request the buffer belongs to it for ever; a chain has the
//! descriptors after the first, or a table of its own (indirect descriptors). The device may write anything anywhere in this
//! memory: what comes back is checked against our own record, and a queue whose device breaks the rules is shut for good.

use super::{Bus, Error};
use crate::dma::{Dma, DmaSource};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

pub const DESCRIPTOR_BYTES: usize = 16;
const FLAG_NEXT: u32 = 1;
const FLAG_DEVICE_WRITES: u32 = 2;
const FLAG_INDIRECT: u32 = 4;
const AVAIL_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

/// Where a queue's three parts are, as the device addresses them. Only [`Queue`] makes it, of memory that is the queue's: the device
/// writes there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub(super) descriptors: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
}

/// A piece of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    pub phys: u64,
    pub len_bytes: u32,
    pub device_writes: bool,
}

/// Writes a chain of descriptors at `at` in `memory`; `first` is the number of the first of them among those of its table.
fn write_chain(memory: &Dma, at: usize, first: usize, pieces: &mut dyn ExactSizeIterator<Item = Piece>) {
    let mut left = pieces.len();
    for (index, piece) in pieces.enumerate() {
        left -= 1;
        let at = at + DESCRIPTOR_BYTES * index;
        let next = if left > 0 { FLAG_NEXT | ((first + index + 1) as u32) << 16 } else { 0 };
        let flags = if piece.device_writes { FLAG_DEVICE_WRITES } else { 0 };
        memory.set_u64(at, piece.phys);
        memory.u32(at + 8).store(piece.len_bytes, Ordering::Relaxed);
        memory.u32(at + 12).store(flags | next, Ordering::Relaxed);
    }
}

/// Offsets of the parts for a queue of `size`: avail, used, total bytes.
fn offsets(size: usize) -> (usize, usize, usize) {
    let avail = DESCRIPTOR_BYTES * size;
    let used = (avail + 6 + 2 * size).next_multiple_of(4);
    (avail, used, used + 6 + 8 * size)
}

/// Whether going from `old` to `new` passes `event` (2.7.7.2).
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

pub struct Queue {
    memory: Dma,
    avail: usize,
    used: usize,
    size: u16,
    event_idx: bool,
    /// Next free place in the avail ring; what the device was last told.
    posted: u16,
    announced: u16,
    /// Used entries taken.
    taken: u16,
    /// Which descriptors the device has, and how long their buffers are.
    lent: Vec<Option<u32>>,
    nr_lent: u16,
    broken: bool,
}

impl Queue {
    /// Makes the queue `index` of the device, of at most `max_size` entries, and tells the device of it.
    pub fn new(bus: &dyn Bus, index: u16, max_size: u16, event_idx: bool, source: DmaSource) -> Result<Self, Error> {
        let offered = bus.max_queue_size(index).min(max_size);
        if offered == 0 {
            return Err(Error::NoQueue);
        }
        // The largest power of two.
        let size = 1u16 << (15 - offered.leading_zeros());
        let (avail, used, bytes) = offsets(usize::from(size));
        let memory = source(bytes).ok_or(Error::NoMemory)?;
        let layout = Layout { descriptors: memory.phys(0), avail: memory.phys(avail), used: memory.phys(used) };
        bus.set_queue(index, size, layout);
        let lent = vec![None; usize::from(size)];
        Ok(Self {
            memory,
            avail,
            used,
            size,
            event_idx,
            posted: 0,
            announced: 0,
            taken: 0,
            lent,
            nr_lent: 0,
            broken: false,
        })
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    /// The device broke the rules: nothing is posted or taken any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Lends the device `len` bytes at `phys` as request `number`, which must not be lent already.
    pub fn post(&mut self, number: u16, phys: u64, len: u32, device_writes: bool) {
        let at = DESCRIPTOR_BYTES * usize::from(number);
        self.memory.set_u64(at, phys);
        self.memory.u32(at + 8).store(len, Ordering::Relaxed);
        self.memory.u32(at + 12).store(if device_writes { FLAG_DEVICE_WRITES } else { 0 }, Ordering::Relaxed);
        self.offer(number, len);
    }

    /// Notes request `number` as lent, with room for `len` bytes that the device writes, and puts it into the avail ring.
    fn offer(&mut self, number: u16, len: u32) {
        let lent = &mut self.lent[usize::from(number)];
        assert!(lent.is_none(), "a buffer lent twice");
        *lent = Some(len);
        self.nr_lent += 1;
        let slot = usize::from(self.posted & (self.size - 1));
        self.memory.u16(self.avail + 4 + 2 * slot).store(number, Ordering::Relaxed);
        self.posted = self.posted.wrapping_add(1);
    }

    /// Lends the device a chain as request `number`, in the descriptors from `number` on: the caller keeps them free for it.
    /// Panics when they are not in the queue.
    pub fn post_chain(&mut self, number: u16, pieces: &mut dyn ExactSizeIterator<Item = Piece>) {
        let first = usize::from(number);
        assert!(pieces.len() > 0 && first + pieces.len() <= usize::from(self.size), "a chain beyond the queue");
        write_chain(&self.memory, DESCRIPTOR_BYTES * first, first, pieces);
        self.offer(number, u32::MAX);
    }

    /// Lends the device a chain as request `number`, in a table of its own at `at` in `table` (indirect descriptors).
    pub fn post_indirect(
        &mut self,
        number: u16,
        table: &Dma,
        at: usize,
        pieces: &mut dyn ExactSizeIterator<Item = Piece>,
    ) {
        let bytes = DESCRIPTOR_BYTES * pieces.len();
        write_chain(table, at, 0, pieces);
        let descriptor = DESCRIPTOR_BYTES * usize::from(number);
        self.memory.set_u64(descriptor, table.phys(at));
        self.memory.u32(descriptor + 8).store(bytes as u32, Ordering::Relaxed);
        self.memory.u32(descriptor + 12).store(FLAG_INDIRECT, Ordering::Relaxed);
        self.offer(number, u32::MAX);
    }

    /// Lends the device a question and room for its answer (address and bytes of each) as request 0 of a queue on which nothing
    /// else is lent.
    pub fn post_question(&mut self, question: (u64, u32), answer: (u64, u32)) {
        assert!(self.nr_lent == 0 && self.size >= 2, "a question at a time");
        self.post(1, answer.0, answer.1, true);
        // The second descriptor is reached through the first alone.
        self.lent[1] = None;
        self.nr_lent -= 1;
        self.posted = self.posted.wrapping_sub(1);
        self.post(0, question.0, question.1, false);
        self.memory.u32(12).store(FLAG_NEXT | 1 << 16, Ordering::Relaxed);
    }

    /// Shows the device what was posted; true: it wants to be notified.
    #[must_use]
    pub fn publish(&mut self) -> bool {
        if self.announced == self.posted || self.broken {
            return false;
        }
        let old = self.announced;
        self.announced = self.posted;
        // Release: descriptors and ring entries are there before the index.
        self.memory.u16(self.avail + 2).store(self.posted, Ordering::Release);
        // The index is out before the device's wish is read; it does the same the other way round.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.memory.u16(self.used + 4 + 8 * usize::from(self.size)).load(Ordering::Relaxed);
            passes(event, self.posted, old)
        } else {
            self.memory.u16(self.used).load(Ordering::Relaxed) & USED_NO_NOTIFY == 0
        }
    }

    fn used_index(&self) -> u16 {
        // Acquire: the entries and the buffers' bytes before this index are there.
        self.memory.u16(self.used + 2).load(Ordering::Acquire)
    }

    /// How many requests the device has finished that were not taken yet.
    pub fn nr_finished(&mut self) -> u16 {
        let count = self.used_index().wrapping_sub(self.taken);
        if count > self.nr_lent {
            self.broken = true;
        }
        if self.broken { 0 } else { count }
    }

    /// Takes a finished request: its number and how many bytes the device says it wrote, never more than were lent.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        if self.nr_finished() == 0 {
            return None;
        }
        let at = self.used + 4 + 8 * usize::from(self.taken & (self.size - 1));
        let number = self.memory.u32(at).load(Ordering::Relaxed);
        let written = self.memory.u32(at + 4).load(Ordering::Relaxed);
        let Some(len) = self.lent.get_mut(number as usize).and_then(Option::take) else {
            self.broken = true;
            return None;
        };
        self.nr_lent -= 1;
        self.taken = self.taken.wrapping_add(1);
        Some((number as u16, written.min(len)))
    }

    /// Asks for an interrupt when the next request is finished; true: one is already, look again.
    #[must_use]
    pub fn enable_interrupt(&mut self) -> bool {
        if self.event_idx {
            self.used_event().store(self.taken, Ordering::Relaxed);
        } else {
            self.memory.u16(self.avail).store(0, Ordering::Relaxed);
        }
        // The wish is out before the index is read; the device does the same the other way round.
        fence(Ordering::SeqCst);
        self.nr_finished() > 0
    }

    /// Asks for no interrupts: a hint, the device may send one all the same.
    pub fn disable_interrupt(&mut self) {
        if self.event_idx {
            // Behind the index: it is passed only after 65,535 more requests.
            self.used_event().store(self.taken.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.memory.u16(self.avail).store(AVAIL_NO_INTERRUPT, Ordering::Relaxed);
        }
    }

    fn used_event(&self) -> &core::sync::atomic::AtomicU16 {
        self.memory.u16(self.avail + 4 + 2 * usize::from(self.size))
    }
}
