//! The block device (virtio 1.2, 5.2): a disk with one or more request queues.
//!
//! A tag is a request of a queue: it owns a header, a status byte and a chain of descriptors, which is a table of its own where the
//! device takes indirect descriptors, else a fixed part of the queue's. What the device says is believed for its status byte
//! alone, which reads as failed until the device writes it. A device that breaks the rules of its rings, says that it needs a reset
//! or is given up by the caller is reset, so that it writes into no memory any more, and every request it had is `Gone`.
//!
//! virtio knows no FUA: a write that must survive is followed by a flush, by the caller.

use super::queue::{DESCRIPTOR_BYTES, Piece, Queue};
use super::{Bus, EVENT_IDX, Error, INDIRECT_DESC, config_u16, config_u32, config_u64, negotiate};
use crate::dma::{Dma, DmaSource};
use crate::lock::IrqLock;
use crate::traits::{BlockDevice, BlockError, BlockEvents, BlockInfo, BlockOp, SECTOR_BYTES, Segment};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const MQ: u64 = 1 << 12;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// Offsets in the configuration.
const CONFIG_CAPACITY: usize = 0;
const CONFIG_SIZE_MAX: usize = 8;
const CONFIG_SEG_MAX: usize = 12;
const CONFIG_BLK_SIZE: usize = 20;
const CONFIG_PHYSICAL_EXP: usize = 24;
const CONFIG_MIN_IO: usize = 26;
const CONFIG_OPT_IO: usize = 28;
const CONFIG_NR_QUEUES: usize = 34;
const CONFIG_MAX_DISCARD: usize = 36;
const CONFIG_DISCARD_ALIGN: usize = 44;
const CONFIG_MAX_ZEROES: usize = 48;

/// Request types.
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;

const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
/// What is there until the device writes it.
const STATUS_NONE: u8 = 0xff;

/// A tag's own memory: header, the range of a discard, status.
const TAG_BYTES: usize = 64;
const RANGE_AT: usize = 16;
const STATUS_AT: usize = 32;
const HEADER_BYTES: u32 = 16;
const RANGE_BYTES: u32 = 16;

/// Header and status come on top of the segments.
const EXTRA_PIECES: u16 = 2;
/// The most segments of a request, and of one in the queue's own descriptors.
const MAX_SEGMENTS: u16 = 126;
const MAX_SEGMENTS_DIRECT: u16 = 14;
const MAX_QUEUES: u16 = 8;
const DEPTH: u16 = 64;
/// When memory is short.
const DEPTH_LEAST: u16 = 8;

/// One queue with its tags.
struct Requests {
    queue: Queue,
    memory: Dma,
    /// Tables of indirect descriptors.
    tables: Option<Dma>,
    /// Descriptors of a tag's chain.
    chain: u16,
    /// Tags the device has.
    lent: u64,
}

impl Requests {
    fn new(
        bus: &dyn Bus,
        index: u16,
        max_segments: u16,
        depth: u16,
        features: u64,
        source: DmaSource,
    ) -> Result<Self, Error> {
        let chain = max_segments + EXTRA_PIECES;
        let indirect = features & INDIRECT_DESC != 0;
        let wanted = if indirect { depth } else { depth.saturating_mul(chain) };
        let queue = Queue::new(bus, index, wanted, features & EVENT_IDX != 0, source)?;
        let depth = if indirect { queue.size() } else { queue.size() / chain };
        if depth == 0 {
            return Err(Error::NoQueue);
        }
        let depth = usize::from(depth);
        let tables = match indirect {
            true => Some(source(depth * usize::from(chain) * DESCRIPTOR_BYTES).ok_or(Error::NoMemory)?),
            false => None,
        };
        let memory = source(depth * TAG_BYTES).ok_or(Error::NoMemory)?;
        Ok(Self { queue, memory, tables, chain, lent: 0 })
    }

    fn depth(&self) -> u16 {
        match self.tables {
            Some(_) => self.queue.size(),
            None => self.queue.size() / self.chain,
        }
    }

    fn head(&self, tag: u16) -> u16 {
        if self.tables.is_some() { tag } else { tag * self.chain }
    }

    /// Posts a request: its header, range (for those that have one) and segments.
    fn post(&mut self, tag: u16, header: [u8; 16], range: Option<[u8; 16]>, segments: &[Segment], device_writes: bool) {
        let base = usize::from(tag) * TAG_BYTES;
        self.memory.write(base, &header);
        self.memory.write(base + STATUS_AT, &[STATUS_NONE]);
        let piece =
            |at: usize, len_bytes, device_writes| Piece { phys: self.memory.phys(base + at), len_bytes, device_writes };
        let first = piece(0, HEADER_BYTES, false);
        let last = piece(STATUS_AT, 1, true);
        let range = range.map(|range| {
            self.memory.write(base + RANGE_AT, &range);
            piece(RANGE_AT, RANGE_BYTES, false)
        });
        let nr_data = if range.is_some() { 1 } else { segments.len() };
        let mut pieces = (0..nr_data + 2).map(|index| match index {
            0 => first,
            index if index > nr_data => last,
            index => range.unwrap_or_else(|| {
                let Segment { phys, len_bytes } = segments[index - 1];
                Piece { phys, len_bytes, device_writes }
            }),
        });
        let head = self.head(tag);
        match &self.tables {
            Some(tables) => {
                let at = usize::from(tag) * usize::from(self.chain) * DESCRIPTOR_BYTES;
                self.queue.post_indirect(head, tables, at, &mut pieces);
            }
            None => self.queue.post_chain(head, &mut pieces),
        }
        self.lent |= 1 << tag;
    }

    /// A finished request.
    fn take(&mut self) -> Option<(u16, Result<(), BlockError>)> {
        let (head, _) = self.queue.take()?;
        let tag = if self.tables.is_some() { head } else { head / self.chain };
        self.lent &= !(1 << tag);
        let mut status = [STATUS_NONE];
        self.memory.read(usize::from(tag) * TAG_BYTES + STATUS_AT, &mut status);
        let result = match status[0] {
            STATUS_OK => Ok(()),
            STATUS_UNSUPPORTED => Err(BlockError::Unsupported),
            _ => Err(BlockError::Io),
        };
        Some((tag, result))
    }

    /// A request of a device that is gone.
    fn take_lost(&mut self) -> Option<u16> {
        let tag = self.lent.trailing_zeros();
        (tag < 64).then(|| {
            self.lent &= self.lent - 1;
            tag as u16
        })
    }
}

pub struct Blk {
    bus: Box<dyn Bus>,
    info: BlockInfo,
    nr_sectors: AtomicU64,
    /// At least one.
    queues: Box<[IrqLock<Requests>]>,
    gone: AtomicBool,
}

fn choose(_offered: u64) -> u64 {
    SIZE_MAX | SEG_MAX | RO | BLK_SIZE | FLUSH | TOPOLOGY | MQ | DISCARD | WRITE_ZEROES | INDIRECT_DESC | EVENT_IDX
}

/// The header of a request (5.2.6).
fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

impl Blk {
    /// Takes the device over, with up to `nr_queues` queues.
    ///
    /// # Errors
    /// `Malformed` for block sizes that no disk has, and what [`negotiate`] and the queues say.
    pub fn new(bus: Box<dyn Bus>, source: DmaSource, nr_queues: u16) -> Result<Self, Error> {
        let features = negotiate(&*bus, choose)?;
        match Self::set_up(&*bus, source, features, nr_queues) {
            Ok((info, queues)) => {
                bus.start();
                let device = Self {
                    nr_sectors: AtomicU64::new(info.nr_sectors),
                    info,
                    queues: queues.into_boxed_slice(),
                    gone: AtomicBool::new(false),
                    bus,
                };
                Ok(device)
            }
            Err(error) => {
                bus.fail();
                Err(error)
            }
        }
    }

    fn set_up(
        bus: &dyn Bus,
        source: DmaSource,
        features: u64,
        nr_queues: u16,
    ) -> Result<(BlockInfo, Vec<IrqLock<Requests>>), Error> {
        let has = |feature: u64| features & feature != 0;
        let config = |feature: u64, offset: usize, otherwise: u32| match has(feature) {
            true => config_u32(bus, offset),
            false => otherwise,
        };
        let logical_bytes = config(BLK_SIZE, CONFIG_BLK_SIZE, SECTOR_BYTES);
        if !logical_bytes.is_power_of_two() || !(SECTOR_BYTES..=1 << 16).contains(&logical_bytes) {
            return Err(Error::Malformed);
        }
        let exponent = if has(TOPOLOGY) { u32::from(bus.config(CONFIG_PHYSICAL_EXP)) } else { 0 };
        let in_blocks = |blocks: u32| if has(TOPOLOGY) { blocks.saturating_mul(logical_bytes) } else { 0 };
        let limit = if has(INDIRECT_DESC) { MAX_SEGMENTS } else { MAX_SEGMENTS_DIRECT };
        let max_segments = config(SEG_MAX, CONFIG_SEG_MAX, 1).clamp(1, u32::from(limit)) as u16;
        let max_segment_bytes = config(SIZE_MAX, CONFIG_SIZE_MAX, u32::MAX);
        if max_segment_bytes < logical_bytes {
            return Err(Error::Malformed);
        }
        let there = if has(MQ) { config_u16(bus, CONFIG_NR_QUEUES) } else { 1 };
        let wanted = there.min(nr_queues).clamp(1, MAX_QUEUES);
        let make = |index: u16| {
            let queue = |depth| Requests::new(bus, index, max_segments, depth, features, source);
            queue(DEPTH).or_else(|error| if error == Error::NoMemory { queue(DEPTH_LEAST) } else { Err(error) })
        };
        let mut queues = alloc::vec![make(0)?];
        // Without memory for them, fewer queues will do.
        queues.extend((1..wanted).map_while(|index| make(index).ok()));
        let depth = queues.iter().map(Requests::depth).min().unwrap_or(1).min(DEPTH);
        let info = BlockInfo {
            nr_sectors: config_u64(bus, CONFIG_CAPACITY).min(i64::MAX as u64 / u64::from(SECTOR_BYTES)),
            logical_bytes,
            physical_bytes: logical_bytes << exponent.min(8),
            io_min_bytes: in_blocks(if has(TOPOLOGY) { u32::from(config_u16(bus, CONFIG_MIN_IO)) } else { 0 }),
            io_opt_bytes: in_blocks(config(TOPOLOGY, CONFIG_OPT_IO, 0)),
            is_read_only: has(RO),
            // Without a word on it (CONFIG_WCE is not taken), a device that can flush must be flushed.
            has_write_cache: has(FLUSH),
            has_fua: false,
            max_discard_sectors: config(DISCARD, CONFIG_MAX_DISCARD, 0),
            max_zeroes_sectors: config(WRITE_ZEROES, CONFIG_MAX_ZEROES, 0),
            discard_align_sectors: config(DISCARD, CONFIG_DISCARD_ALIGN, 1).max(1),
            max_segments,
            max_segment_bytes,
            nr_queues: queues.len() as u16,
            depth,
        };
        Ok((info, queues.into_iter().map(IrqLock::new).collect()))
    }

    fn read_config(&self) {
        let nr_sectors = config_u64(&*self.bus, CONFIG_CAPACITY).min(i64::MAX as u64 / u64::from(SECTOR_BYTES));
        self.nr_sectors.store(nr_sectors, Ordering::Relaxed);
    }
}

impl BlockDevice for Blk {
    fn info(&self) -> BlockInfo {
        BlockInfo { nr_sectors: self.nr_sectors.load(Ordering::Relaxed), ..self.info }
    }

    fn submit(
        &self,
        queue: usize,
        tag: u16,
        op: BlockOp,
        sector: u64,
        nr_sectors: u32,
        segments: &[Segment],
    ) -> Result<(), BlockError> {
        let info = &self.info;
        let range = |flags: u32, limit: u32| {
            let mut range = [0; 16];
            range[..8].copy_from_slice(&sector.to_le_bytes());
            range[8..12].copy_from_slice(&nr_sectors.to_le_bytes());
            range[12..].copy_from_slice(&flags.to_le_bytes());
            (nr_sectors <= limit && segments.is_empty()).then_some(range).ok_or(BlockError::Unsupported)
        };
        let fits = segments.len() <= usize::from(info.max_segments)
            && segments.iter().all(|segment| segment.len_bytes <= info.max_segment_bytes);
        let (kind, sector, range) = match op {
            BlockOp::Write { .. } | BlockOp::Discard | BlockOp::WriteZeroes { .. } if info.is_read_only => {
                return Err(BlockError::Unsupported);
            }
            _ if !fits => return Err(BlockError::Unsupported),
            BlockOp::Read => (TYPE_IN, sector, None),
            BlockOp::Write { .. } => (TYPE_OUT, sector, None),
            BlockOp::Flush => (TYPE_FLUSH, 0, None),
            BlockOp::Identify => (TYPE_GET_ID, 0, None),
            BlockOp::Discard => (TYPE_DISCARD, 0, Some(range(0, info.max_discard_sectors)?)),
            BlockOp::WriteZeroes { may_unmap } => {
                (TYPE_WRITE_ZEROES, 0, Some(range(u32::from(may_unmap), info.max_zeroes_sectors)?))
            }
        };
        let device_writes = matches!(op, BlockOp::Read | BlockOp::Identify);
        let Some(requests) = self.queues.get(queue) else { return Err(BlockError::Unsupported) };
        let mut requests = requests.lock();
        // Under the lock: what is posted before the device is given up is found lost, what comes after is not taken.
        if self.gone.load(Ordering::Acquire) || requests.queue.is_broken() {
            return Err(BlockError::Gone);
        }
        requests.post(tag, header(kind, sector), range, segments, device_writes);
        Ok(())
    }

    fn commit(&self, queue: usize) {
        let Some(requests) = self.queues.get(queue) else { return };
        let notify = requests.lock().queue.publish();
        if notify {
            self.bus.notify(queue as u16);
        }
    }

    fn complete(&self, queue: usize, done: &mut dyn FnMut(u16, Result<(), BlockError>)) {
        let Some(requests) = self.queues.get(queue) else { return };
        loop {
            let mut guard = requests.lock();
            if !self.gone.load(Ordering::Acquire) {
                if let Some((tag, result)) = guard.take() {
                    drop(guard);
                    done(tag, result);
                    continue;
                }
                if !guard.queue.is_broken() {
                    return;
                }
                drop(guard);
                self.shut();
                continue;
            }
            let Some(tag) = guard.take_lost() else { return };
            drop(guard);
            done(tag, Err(BlockError::Gone));
        }
    }

    fn acknowledge(&self) -> BlockEvents {
        let events = self.bus.acknowledge();
        if events.config {
            if self.bus.needs_reset() {
                self.shut();
                return BlockEvents { queue: true, config: true };
            }
            self.read_config();
        }
        BlockEvents { queue: events.queue, config: events.config }
    }

    fn enable_interrupt(&self, queue: usize) -> bool {
        self.queues.get(queue).is_some_and(|requests| requests.lock().queue.enable_interrupt())
    }

    fn shut(&self) {
        // The reset comes before anybody is told that a request is lost, so that its memory can be used again.
        if !self.gone.load(Ordering::Acquire) {
            self.bus.begin();
            self.bus.fail();
            self.gone.store(true, Ordering::Release);
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
