//! A virtio device in test memory: what a host does with the rings, and what a hostile one does.

use super::{Bus, Events, Layout};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The device's view of one queue.
#[derive(Clone, Copy)]
pub struct Ring {
    pub layout: Layout,
    pub size: u16,
    /// Avail entries taken, used entries given.
    taken: u16,
    given: u16,
}

#[derive(Default)]
pub struct State {
    pub features: u64,
    pub accepted: u64,
    pub config: Vec<u8>,
    pub rings: HashMap<u16, Ring>,
    pub notified: HashMap<u16, u32>,
    pub started: bool,
    pub failed: bool,
    pub events: Events,
    /// Interrupts a queue would have raised.
    pub interrupts: HashMap<u16, u32>,
    /// The queue for questions, whether they are refused, and those that came.
    pub control: Option<u16>,
    pub refuses: bool,
    pub questions: Vec<Vec<u8>>,
    /// Entries of a queue (0: 8), and how many queues there are (0: two).
    pub queue_size: u16,
    pub nr_queues: u16,
    pub needs_reset: bool,
    /// How often the driver reset the device.
    pub resets: u32,
}

/// Shared by the driver (as its `Bus`) and the test (as the device's hands).
pub struct Model(pub Mutex<State>);

fn u16_at(address: u64) -> &'static AtomicU16 {
    // SAFETY: ring addresses come from leaked test memory (`dma::testing`).
    unsafe { &*(address as *const AtomicU16) }
}

fn u32_at(address: u64) -> &'static AtomicU32 {
    // SAFETY: as above.
    unsafe { &*(address as *const AtomicU32) }
}

impl Model {
    pub fn new(features: u64, config: &[u8]) -> std::sync::Arc<Self> {
        let state = State { features, config: config.to_vec(), ..State::default() };
        std::sync::Arc::new(Self(Mutex::new(state)))
    }

    fn ring(&self, queue: u16) -> Ring {
        self.0.lock().unwrap().rings[&queue]
    }

    fn keep(&self, queue: u16, ring: Ring) {
        self.0.lock().unwrap().rings.insert(queue, ring);
    }

    /// How many requests wait.
    pub fn waiting(&self, queue: u16) -> u16 {
        let ring = self.ring(queue);
        u16_at(ring.layout.avail + 2).load(Ordering::Acquire).wrapping_sub(ring.taken)
    }

    /// Takes a request: its number and buffer.
    pub fn take(&self, queue: u16) -> Option<(u32, u64, u32)> {
        if self.waiting(queue) == 0 {
            return None;
        }
        let mut ring = self.ring(queue);
        let slot = u64::from(ring.taken & (ring.size - 1));
        let number = u16_at(ring.layout.avail + 4 + 2 * slot).load(Ordering::Relaxed);
        ring.taken = ring.taken.wrapping_add(1);
        // The device asks to hear of the next one (event index).
        u16_at(ring.layout.used + 4 + 8 * u64::from(ring.size)).store(ring.taken, Ordering::Relaxed);
        self.keep(queue, ring);
        let descriptor = ring.layout.descriptors + 16 * u64::from(number);
        let low = u64::from(u32_at(descriptor).load(Ordering::Relaxed));
        let high = u64::from(u32_at(descriptor + 4).load(Ordering::Relaxed));
        Some((u32::from(number), high << 32 | low, u32_at(descriptor + 8).load(Ordering::Relaxed)))
    }

    /// Takes a chain, wherever its descriptors are: its number and its pieces (address, bytes, whether they are to be written).
    pub fn take_chain(&self, queue: u16) -> Option<(u32, Vec<(u64, u32, bool)>)> {
        let (number, address, len) = self.take(queue)?;
        let ring = self.ring(queue);
        let flags = |table: u64, index: u64| u32_at(table + 16 * index + 12).load(Ordering::Relaxed);
        let (table, mut index, end) = if flags(ring.layout.descriptors, number.into()) & 4 != 0 {
            assert!(self.0.lock().unwrap().accepted & super::INDIRECT_DESC != 0);
            (address, 0, u64::from(len / 16))
        } else {
            (ring.layout.descriptors, u64::from(number), u64::from(ring.size))
        };
        let mut pieces = Vec::new();
        loop {
            assert!(index < end, "a chain beyond its table");
            let at = table + 16 * index;
            let address =
                u64::from(u32_at(at).load(Ordering::Relaxed)) | u64::from(u32_at(at + 4).load(Ordering::Relaxed)) << 32;
            let flags = flags(table, index);
            pieces.push((address, u32_at(at + 8).load(Ordering::Relaxed), flags & 2 != 0));
            if flags & 1 == 0 {
                return Some((number, pieces));
            }
            index = u64::from(flags >> 16);
        }
    }

    /// Puts used entries into the ring and shows them at once; raises an interrupt when the driver wants one.
    pub fn give(&self, queue: u16, entries: &[(u32, u32)]) {
        let mut ring = self.ring(queue);
        let old = ring.given;
        for &(number, len) in entries {
            let at = ring.layout.used + 4 + 8 * u64::from(ring.given & (ring.size - 1));
            u32_at(at).store(number, Ordering::Relaxed);
            u32_at(at + 4).store(len, Ordering::Relaxed);
            ring.given = ring.given.wrapping_add(1);
        }
        u16_at(ring.layout.used + 2).store(ring.given, Ordering::Release);
        self.keep(queue, ring);
        let mut state = self.0.lock().unwrap();
        let wanted = if state.accepted & super::EVENT_IDX != 0 {
            let event = u16_at(ring.layout.avail + 4 + 2 * u64::from(ring.size)).load(Ordering::Relaxed);
            ring.given.wrapping_sub(event).wrapping_sub(1) < ring.given.wrapping_sub(old)
        } else {
            u16_at(ring.layout.avail).load(Ordering::Relaxed) & 1 == 0
        };
        if wanted {
            state.events.queue = true;
            *state.interrupts.entry(queue).or_default() += 1;
        }
    }

    /// Answers a question: two descriptors, of which the second is for the answer.
    fn answer(&self, queue: u16) {
        let (number, address, len) = self.take(queue).unwrap();
        let question = self.read(address, len);
        let descriptors = self.ring(queue).layout.descriptors;
        let chain = u32_at(descriptors + 16 * u64::from(number) + 12).load(Ordering::Relaxed);
        assert_eq!(chain & 0xffff, 1, "there is a next one, and this one is read only");
        let next = descriptors + 16 * u64::from(chain >> 16);
        assert_eq!(u32_at(next + 12).load(Ordering::Relaxed), 2, "the last one, to be written");
        let place =
            u64::from(u32_at(next).load(Ordering::Relaxed)) | u64::from(u32_at(next + 4).load(Ordering::Relaxed)) << 32;
        let refuses = {
            let mut state = self.0.lock().unwrap();
            state.questions.push(question);
            state.refuses
        };
        self.write(place, &[u8::from(refuses)]);
        self.give(queue, &[(number, 1)]);
    }

    /// Sets the used index to anything at all.
    pub fn lie_about_used(&self, queue: u16, index: u16) {
        u16_at(self.ring(queue).layout.used + 2).store(index, Ordering::Release);
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        // SAFETY: buffers of the driver under test, leaked test memory of at least the length it posted.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
    }

    pub fn read(&self, address: u64, len: u32) -> Vec<u8> {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(address as *const u8, len as usize) }.to_vec()
    }

    pub fn interrupts(&self, queue: u16) -> u32 {
        self.0.lock().unwrap().interrupts.get(&queue).copied().unwrap_or(0)
    }

    pub fn notified(&self, queue: u16) -> u32 {
        self.0.lock().unwrap().notified.get(&queue).copied().unwrap_or(0)
    }
}

/// The driver's end.
pub struct ModelBus(pub std::sync::Arc<Model>);

impl Bus for ModelBus {
    fn device_type(&self) -> u32 {
        super::NETWORK
    }
    fn begin(&self) -> u64 {
        let mut state = self.0.0.lock().unwrap();
        state.resets += 1;
        state.features
    }
    fn accept(&self, features: u64) -> bool {
        let mut state = self.0.0.lock().unwrap();
        state.accepted = features;
        features & !state.features == 0
    }
    fn max_queue_size(&self, queue: u16) -> u16 {
        let state = self.0.0.lock().unwrap();
        let there = queue < state.nr_queues.max(2) || state.control.is_some_and(|control| queue <= control);
        match there {
            true if state.queue_size == 0 => 8,
            true => state.queue_size,
            false => 0,
        }
    }
    fn set_queue(&self, queue: u16, size: u16, layout: Layout) {
        self.0.keep(queue, Ring { layout, size, taken: 0, given: 0 });
    }
    fn start(&self) {
        self.0.0.lock().unwrap().started = true;
    }
    fn fail(&self) {
        self.0.0.lock().unwrap().failed = true;
    }
    fn needs_reset(&self) -> bool {
        self.0.0.lock().unwrap().needs_reset
    }
    fn notify(&self, queue: u16) {
        let is_question = {
            let mut state = self.0.0.lock().unwrap();
            *state.notified.entry(queue).or_default() += 1;
            state.control == Some(queue)
        };
        if is_question {
            self.0.answer(queue);
        }
    }
    fn acknowledge(&self) -> Events {
        std::mem::take(&mut self.0.0.lock().unwrap().events)
    }
    fn config(&self, offset: usize) -> u8 {
        self.0.0.lock().unwrap().config.get(offset).copied().unwrap_or(0)
    }
    fn config_generation(&self) -> u32 {
        0
    }
}
