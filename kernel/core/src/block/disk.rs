//! [`Disk`]: a driver, its queues of tags, counters.
//!
//! A tag is free (its bit is set in `free`), or belongs to one caller from taking to giving back. While the device has it, the
//! slot says `IN_FLIGHT`; the completion (interrupt, or a caller that looks for itself) stores the outcome and wakes the caller.

use super::registry;
use super::volume::Volume;
use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use drivers::traits::{BlockDevice, BlockError, BlockInfo, BlockOp};

use super::transfer::Piece;

/// A disk whose requests are done by the caller's own thread: a loop device.
pub trait Synchronous: Send + Sync {
    fn info(&self) -> BlockInfo;
    /// One request; `pieces` follow each other from `sector` on. May sleep. Discards and zeroes have `nr_sectors` and no pieces.
    fn transfer(&self, op: BlockOp, sector: u64, nr_sectors: u64, pieces: &[Piece<'_>]) -> Result<(), Errno>;
}

/// What does a disk's work.
pub enum Driver {
    Queued(Arc<dyn BlockDevice>),
    Synchronous(Arc<dyn Synchronous>),
}

/// States of a slot.
const IDLE: u8 = 0;
const IN_FLIGHT: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;
const UNSUPPORTED: u8 = 4;
const GONE: u8 = 5;

struct Slot {
    state: AtomicU8,
    waiter: WaitQueue,
}

/// The tags of one of the device's queues.
pub(super) struct Tags {
    free: AtomicU64,
    slots: Box<[Slot]>,
    /// Callers without a tag.
    room: WaitQueue,
}

impl Tags {
    fn new(depth: u16) -> Self {
        let depth = depth.clamp(1, 64);
        let slots = (0..depth).map(|_| Slot { state: AtomicU8::new(IDLE), waiter: WaitQueue::new() }).collect();
        Self { free: AtomicU64::new(u64::MAX >> (64 - depth)), slots, room: WaitQueue::new() }
    }

    /// A free tag.
    pub(super) fn try_take(&self) -> Option<u16> {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            if free == 0 {
                return None;
            }
            // Acquire: the slot is as its last owner left it.
            match self.free.compare_exchange_weak(free, free & (free - 1), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(free.trailing_zeros() as u16),
                Err(now) => free = now,
            }
        }
    }

    /// A free tag, when there is one; the caller holds none.
    pub(super) fn take(&self) -> u16 {
        self.room.wait_uninterruptible(WaitKind::DiskTag, || self.try_take())
    }

    pub(super) fn give_back(&self, tag: u16) {
        self.slots[usize::from(tag)].state.store(IDLE, Ordering::Relaxed);
        self.free.fetch_or(1 << tag, Ordering::Release);
        self.room.wake_one();
    }

    pub(super) fn set_in_flight(&self, tag: u16) {
        self.slots[usize::from(tag)].state.store(IN_FLIGHT, Ordering::Relaxed);
    }
}

/// What was done since boot, by kind: /proc/diskstats.
#[derive(Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub merges: AtomicU64,
    pub sectors: AtomicU64,
    pub time_ns: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Kind {
    Read = 0,
    Write = 1,
    Discard = 2,
    Flush = 3,
}

impl Kind {
    pub fn of(op: BlockOp) -> Self {
        match op {
            BlockOp::Read | BlockOp::Identify => Kind::Read,
            BlockOp::Write { .. } => Kind::Write,
            BlockOp::Discard | BlockOp::WriteZeroes { .. } => Kind::Discard,
            BlockOp::Flush => Kind::Flush,
        }
    }
}

#[derive(Default)]
pub struct Stats {
    pub kinds: [Counters; 4],
    pub in_flight: AtomicU32,
    /// Time with a request under way, and when that was last added to.
    pub busy_ns: AtomicU64,
    stamp_ns: AtomicU64,
    /// Time of all requests together.
    pub weighted_ns: AtomicU64,
}

impl Stats {
    pub(super) fn begin(&self, now: u64) {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.stamp_ns.store(now, Ordering::Relaxed);
        }
    }
    pub(super) fn end(&self, kind: Kind, began: u64, nr_sectors: u64, now: u64) {
        let took = now.saturating_sub(began);
        let counters = &self.kinds[kind as usize];
        counters.requests.fetch_add(1, Ordering::Relaxed);
        counters.sectors.fetch_add(nr_sectors, Ordering::Relaxed);
        counters.time_ns.fetch_add(took, Ordering::Relaxed);
        self.weighted_ns.fetch_add(took, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Each moment counts once, whichever request ends.
        let before = self.stamp_ns.swap(now, Ordering::Relaxed);
        self.busy_ns.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }
}

pub struct Disk {
    /// "vda", "loop0".
    pub name: Box<str>,
    pub(super) driver: Driver,
    tags: Box<[Tags]>,
    /// BLKROSET's word; the device's own comes on top.
    pub is_set_read_only: AtomicBool,
    pub timeout_ms: AtomicU32,
    /// Rises with each disk that is made (BLKGETDISKSEQ).
    pub sequence: u64,
    /// The device's serial number, once it was asked.
    pub(super) serial: spin::Once<Box<str>>,
    pub stats: Stats,
    pub(super) volumes: SpinLock<Vec<Arc<Volume>>>,
    /// Held around changes of the list of partitions.
    pub(super) table: Mutex<()>,
}

/// How long a request may take: long enough for a host that is busy with others.
const DEFAULT_TIMEOUT_MS: u32 = 60_000;

impl Disk {
    pub(super) fn new(name: &str, driver: Driver) -> Arc<Self> {
        static SEQUENCE: AtomicU64 = AtomicU64::new(1);
        let tags = match &driver {
            Driver::Queued(device) => {
                let info = device.info();
                (0..info.nr_queues.max(1)).map(|_| Tags::new(info.depth)).collect()
            }
            Driver::Synchronous(_) => Box::from([]),
        };
        Arc::new(Self {
            name: name.into(),
            driver,
            tags,
            is_set_read_only: AtomicBool::new(false),
            timeout_ms: AtomicU32::new(DEFAULT_TIMEOUT_MS),
            sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
            serial: spin::Once::new(),
            stats: Stats::default(),
            volumes: SpinLock::new(Vec::new()),
            table: Mutex::new(()),
        })
    }

    pub fn info(&self) -> BlockInfo {
        match &self.driver {
            Driver::Queued(device) => device.info(),
            Driver::Synchronous(device) => device.info(),
        }
    }

    pub fn is_read_only(&self) -> bool {
        self.is_set_read_only.load(Ordering::Relaxed) || self.info().is_read_only
    }

    /// The disk as a whole, then its partitions.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.volumes.lock().clone()
    }

    /// The device's serial number; empty when it has none.
    pub fn serial(&self) -> &str {
        self.serial.get().map_or("", |serial| serial)
    }

    /// The queue of the calling CPU.
    pub(super) fn queue(&self) -> usize {
        hal::cpu::id() % self.tags.len().max(1)
    }

    pub(super) fn tags(&self, queue: usize) -> &Tags {
        &self.tags[queue]
    }

    /// Takes finished requests of `queue` from the device and wakes their callers. Any context.
    pub fn complete(&self, queue: usize) {
        let Driver::Queued(device) = &self.driver else { return };
        device.complete(queue, &mut |tag, result| {
            let slot = &self.tags[queue].slots[usize::from(tag)];
            let state = match result {
                Ok(()) => DONE,
                Err(BlockError::Io) => FAILED,
                Err(BlockError::Unsupported) => UNSUPPORTED,
                Err(BlockError::Gone) => GONE,
            };
            // Release: what the device wrote is there for who sees the state.
            slot.state.store(state, Ordering::Release);
            slot.waiter.wake_all();
        });
    }

    /// Asks for interrupts, which come to [`Disk::handle_irq`].
    pub fn enable_interrupts(&self) {
        let Driver::Queued(device) = &self.driver else { return };
        for queue in 0..self.tags.len() {
            while device.enable_interrupt(queue) {
                self.complete(queue);
            }
        }
    }

    /// The interrupt handler.
    pub fn handle_irq(&self) {
        let Driver::Queued(device) = &self.driver else { return };
        let events = device.acknowledge();
        if events.queue {
            for queue in 0..self.tags.len() {
                self.complete(queue);
            }
            self.enable_interrupts();
        }
        if events.config {
            registry::changed();
        }
    }

    /// Waits for request `tag` that the calling thread has submitted, and says how it went.
    pub(super) fn wait(&self, queue: usize, tag: u16) -> Result<(), BlockError> {
        let slot = &self.tags[queue].slots[usize::from(tag)];
        let look = || match slot.state.load(Ordering::Acquire) {
            IN_FLIGHT => None,
            DONE => Some(Ok(())),
            FAILED => Some(Err(BlockError::Io)),
            UNSUPPORTED => Some(Err(BlockError::Unsupported)),
            _ => Some(Err(BlockError::Gone)),
        };
        if let Some(result) = look() {
            return result;
        }
        let timeout = u64::from(self.timeout_ms.load(Ordering::Relaxed)) * 1_000_000;
        let deadline = crate::time::now_ns().saturating_add(timeout);
        let reason = WaitReason::new(WaitKind::DiskIo);
        match slot.waiter.wait_until(WaitMode::Uninterruptible, Some(deadline), reason, look) {
            Ok(result) => result,
            Err(_) => {
                // An interrupt may have been lost.
                self.complete(queue);
                look().unwrap_or_else(|| {
                    self.give_up();
                    look().unwrap_or(Err(BlockError::Gone))
                })
            }
        }
    }

    /// Ends a device that does not do what it was asked: everybody's requests fail.
    fn give_up(&self) {
        let Driver::Queued(device) = &self.driver else { return };
        crate::error!(
            "{}: a request was not done in {} ms: the disk is given up",
            self.name,
            self.timeout_ms.load(Ordering::Relaxed)
        );
        device.shut();
        for queue in 0..self.tags.len() {
            self.complete(queue);
        }
    }
}
