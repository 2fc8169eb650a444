//! From pieces of memory to requests.
//!
//! Pieces that follow each other on the disk become one request, up to the device's limits; those that follow each other in memory
//! too become one segment. A call keeps as many requests under way as there are tags and hears of the first error; it returns
//! when the device has none of its memory any more.

use super::disk::{Disk, Driver, Kind};
use super::{SECTOR_SHIFT, errno};
use crate::prelude::*;
use arrayvec::ArrayVec;
use drivers::traits::{BlockError, BlockOp, Segment};
use hal::frame::Frame;

/// A part of a page that goes to or comes from the disk. Lengths are multiples of the disk's logical block.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub sector: u64,
    pub frame: &'a Frame,
    pub offset: usize,
    pub len_bytes: usize,
}

/// Segments of one request: 256 KiB when no two pages follow each other in memory.
const MAX_SEGMENTS: usize = 64;

/// Requests that one call has under way.
struct Flight<'a> {
    disk: &'a Disk,
    op: BlockOp,
    queue: usize,
    /// Tags the device has, and those that were not told to it yet.
    flying: u64,
    is_announced: bool,
    /// When each was submitted, and its sectors.
    began: [u64; 64],
    nr_sectors: [u32; 64],
    result: Result<(), BlockError>,
}

impl Flight<'_> {
    fn submit(
        &mut self,
        device: &dyn drivers::traits::BlockDevice,
        sector: u64,
        nr_sectors: u32,
        segments: &[Segment],
    ) {
        let tags = self.disk.tags(self.queue);
        let tag = loop {
            if let Some(tag) = tags.try_take() {
                break tag;
            }
            if self.flying == 0 {
                break tags.take();
            }
            // Who waits for another's tag with one of its own in hand could wait for ever.
            self.announce(device);
            self.land_one();
        };
        let now = crate::time::now_ns();
        self.disk.stats.begin(now);
        tags.set_in_flight(tag);
        match device.submit(self.queue, tag, self.op, sector, nr_sectors, segments) {
            Ok(()) => {
                self.flying |= 1 << tag;
                self.began[usize::from(tag)] = now;
                self.nr_sectors[usize::from(tag)] = nr_sectors;
                self.is_announced = false;
            }
            Err(error) => {
                self.disk.stats.end(Kind::of(self.op), now, 0, now);
                tags.give_back(tag);
                self.result = self.result.and(Err(error));
            }
        }
    }

    fn announce(&mut self, device: &dyn drivers::traits::BlockDevice) {
        if !core::mem::replace(&mut self.is_announced, true) {
            device.commit(self.queue);
        }
    }

    /// Waits for one of the requests.
    fn land_one(&mut self) {
        let tag = self.flying.trailing_zeros() as u16;
        let result = self.disk.wait(self.queue, tag);
        self.flying &= self.flying - 1;
        self.disk.tags(self.queue).give_back(tag);
        let (began, nr_sectors) = (self.began[usize::from(tag)], self.nr_sectors[usize::from(tag)]);
        self.disk.stats.end(Kind::of(self.op), began, nr_sectors.into(), crate::time::now_ns());
        self.result = self.result.and(result);
    }
}

impl Disk {
    /// Reads or writes `pieces`, in their order. EIO, and EOPNOTSUPP from a device that cannot.
    pub(super) fn transfer(&self, op: BlockOp, pieces: &mut dyn Iterator<Item = Piece<'_>>) -> Result<(), Errno> {
        let info = self.info();
        let mut op = op;
        let mut flush = false;
        if let BlockOp::Write { fua: true } = op
            && !info.has_fua
        {
            op = BlockOp::Write { fua: false };
            flush = info.has_write_cache;
        }
        match &self.driver {
            Driver::Synchronous(device) => {
                let mut run: ArrayVec<Piece<'_>, MAX_SEGMENTS> = ArrayVec::new();
                let mut next = 0;
                let send = |run: &mut ArrayVec<Piece<'_>, MAX_SEGMENTS>| {
                    let Some(first) = run.first() else { return Ok(()) };
                    let bytes: usize = run.iter().map(|piece| piece.len_bytes).sum();
                    let result =
                        self.counted(op, bytes as u64 >> SECTOR_SHIFT, || device.transfer(op, first.sector, 0, run));
                    run.clear();
                    result
                };
                for piece in pieces {
                    if run.is_full() || piece.sector != next {
                        send(&mut run)?;
                    }
                    next = piece.sector + (piece.len_bytes as u64 >> SECTOR_SHIFT);
                    run.push(piece);
                }
                send(&mut run)?;
            }
            Driver::Queued(device) => self.fly(&**device, op, pieces).map_err(errno)?,
        }
        if flush { self.plain(BlockOp::Flush, 0, 0) } else { Ok(()) }
    }

    fn flight(&self, op: BlockOp) -> Flight<'_> {
        Flight {
            disk: self,
            op,
            queue: self.queue(),
            flying: 0,
            is_announced: true,
            began: [0; 64],
            nr_sectors: [0; 64],
            result: Ok(()),
        }
    }

    fn fly(
        &self,
        device: &dyn drivers::traits::BlockDevice,
        op: BlockOp,
        pieces: &mut dyn Iterator<Item = Piece<'_>>,
    ) -> Result<(), BlockError> {
        let info = device.info();
        let most = usize::from(info.max_segments).min(MAX_SEGMENTS);
        let longest = info.max_segment_bytes - info.max_segment_bytes % info.logical_bytes;
        let mut flight = self.flight(op);
        let mut segments: ArrayVec<Segment, MAX_SEGMENTS> = ArrayVec::new();
        // Where the request being put together starts, and what it has.
        let (mut start, mut nr_sectors) = (0, 0u32);
        let mut merges = 0;
        for piece in pieces {
            let (mut sector, mut offset, mut left) = (piece.sector, piece.offset as u64, piece.len_bytes as u32);
            while left > 0 {
                let follows = nr_sectors > 0 && start + u64::from(nr_sectors) == sector;
                let phys = piece.frame.phys().0 + offset;
                let is_next =
                    |last: &Segment| last.phys + u64::from(last.len_bytes) == phys && last.len_bytes < longest;
                let joins = follows && segments.last().is_some_and(is_next);
                if nr_sectors > 0 && (!follows || !joins && segments.len() == most) {
                    flight.submit(device, start, nr_sectors, &segments);
                    segments.clear();
                    nr_sectors = 0;
                }
                if nr_sectors == 0 {
                    start = sector;
                } else {
                    merges += 1;
                }
                let part = match segments.last_mut() {
                    Some(last) if joins => {
                        let part = left.min(longest - last.len_bytes);
                        last.len_bytes += part;
                        part
                    }
                    _ => {
                        let part = left.min(longest);
                        segments.push(Segment { phys, len_bytes: part });
                        part
                    }
                };
                nr_sectors += part >> SECTOR_SHIFT;
                sector += u64::from(part >> SECTOR_SHIFT);
                offset += u64::from(part);
                left -= part;
            }
            if flight.result.is_err() {
                break;
            }
        }
        if nr_sectors > 0 && flight.result.is_ok() {
            flight.submit(device, start, nr_sectors, &segments);
        }
        flight.announce(device);
        while flight.flying != 0 {
            flight.land_one();
        }
        self.stats.kinds[Kind::of(op) as usize].merges.fetch_add(merges, core::sync::atomic::Ordering::Relaxed);
        flight.result
    }

    fn counted(&self, op: BlockOp, nr_sectors: u64, work: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let began = crate::time::now_ns();
        self.stats.begin(began);
        let result = work();
        self.stats.end(Kind::of(op), began, nr_sectors, crate::time::now_ns());
        result
    }

    /// A request without memory: flush, discard, write-zeroes.
    pub(super) fn plain(&self, op: BlockOp, sector: u64, nr_sectors: u64) -> Result<(), Errno> {
        let info = self.info();
        if op == BlockOp::Flush && !info.has_write_cache {
            return Ok(());
        }
        let device = match &self.driver {
            Driver::Synchronous(device) => {
                return self.counted(op, nr_sectors, || device.transfer(op, sector, nr_sectors, &[]));
            }
            Driver::Queued(device) => device,
        };
        let limit = match op {
            BlockOp::Discard => info.max_discard_sectors,
            BlockOp::WriteZeroes { .. } => info.max_zeroes_sectors,
            _ => u32::MAX,
        };
        if limit == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut flight = self.flight(op);
        let mut at = sector;
        let mut left = nr_sectors;
        loop {
            // Whole blocks, wherever the limit is.
            let align = info.logical_bytes >> SECTOR_SHIFT;
            let part = left.min(u64::from((limit - limit % align).max(align))) as u32;
            flight.submit(&**device, at, part, &[]);
            at += u64::from(part);
            left -= u64::from(part);
            if left == 0 || flight.result.is_err() {
                break;
            }
        }
        flight.announce(&**device);
        while flight.flying != 0 {
            flight.land_one();
        }
        flight.result.map_err(errno)
    }

    /// The serial number, into a page.
    pub(super) fn identify(&self) -> Option<Box<str>> {
        let Driver::Queued(device) = &self.driver else { return None };
        let frame = Frame::alloc_zeroed().ok()?;
        let mut flight = self.flight(BlockOp::Identify);
        flight.submit(&**device, 0, 0, &[Segment { phys: frame.phys().0, len_bytes: 20 }]);
        flight.announce(&**device);
        while flight.flying != 0 {
            flight.land_one();
        }
        flight.result.ok()?;
        let mut bytes = [0; 20];
        frame.read(0, &mut bytes);
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = core::str::from_utf8(&bytes[..len]).ok()?;
        text.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ').then(|| text.into())
    }
}
