//! The network device (virtio 1.2, 5.1): pairs of a receive and a transmit queue, one for each CPU if the device has as many.
//!
//! A frame's stream decides which transmit queue it takes, so that no stream overtakes itself; the device gives what comes of a
//! stream to the pair that it went out by. All pairs share the one interrupt line of the transports.
//!
//! Frames are copied between the caller and buffers that belong to the rings for ever ([`receive`], [`transmit`]): a device
//! that changes a buffer later changes nothing that anybody looks at, and buffers go back to the ring at once.
//!
//! Interrupts: received frames by `enable_interrupt`'s wish; sent ones only while somebody waits for room.

mod control;
mod header;
mod receive;
mod transmit;

#[cfg(test)]
mod tests;

use super::{Bus, EVENT_IDX, Error, config_u16, negotiate};
use crate::dma::DmaSource;
use crate::lock::IrqLock;
use crate::traits::{Full, NetDevice, NetEvents, NetStats, Offloads, RxMeta, TxMeta};
use alloc::boxed::Box;
use alloc::vec::Vec;
use control::Control;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use receive::Receiver;
use transmit::Transmitter;

const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CTRL_VQ: u64 = 1 << 17;
const MQ: u64 = 1 << 22;

/// Offsets in the configuration.
const CONFIG_STATUS: usize = 6;
const CONFIG_MAX_PAIRS: usize = 8;
const CONFIG_MTU: usize = 10;
const LINK_UP: u16 = 1;

/// The most pairs that are used: each has its buffers.
const MAX_PAIRS: u16 = 8;

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
/// The longest frame of a TCP segment that the device joined or is to cut.
const LONGEST_FRAME: usize = ETHERNET_HEADER + 65535;
const DEFAULT_MTU: u16 = 1500;
/// What Linux takes as an MTU: IPv4's least, and what an IP packet can be.
const LEAST_MTU: u16 = 68;

/// Counters, each its own.
#[derive(Default)]
struct Counters {
    rx_frames: AtomicU64,
    rx_bytes: AtomicU64,
    rx_errors: AtomicU64,
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    tx_dropped: AtomicU64,
    tx_errors: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// A receive and a transmit queue.
struct Pair {
    rx: IrqLock<Receiver>,
    tx: IrqLock<Transmitter>,
}

/// The numbers of the queues of a pair.
fn receive_queue(pair: usize) -> u16 {
    2 * pair as u16
}
fn transmit_queue(pair: usize) -> u16 {
    2 * pair as u16 + 1
}

pub struct Net {
    bus: Box<dyn Bus>,
    mac: [u8; 6],
    mtu: u16,
    offloads: Offloads,
    has_status: bool,
    link_is_up: AtomicBool,
    /// At least one.
    pairs: Box<[Pair]>,
    /// Which receive queue is looked at first next time.
    turn: AtomicUsize,
    counters: Counters,
}

/// What a device was set up with.
struct Parts {
    pairs: Vec<Pair>,
    control: Option<Control>,
    mtu: u16,
}

/// The stream of a frame as a number: the same for all of its frames. Fragments and what is not IPv4 or IPv6 is one stream.
fn stream(head: &[u8]) -> usize {
    let names = match head.get(12..15) {
        // Addresses and ports.
        Some([0x08, 0x00, 0x45]) if head.get(20..22).is_some_and(|flags| flags[0] & 0x3f == 0 && flags[1] == 0) => {
            head.get(26..38)
        }
        Some([0x86, 0xdd, _]) => head.get(22..58),
        _ => None,
    };
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    (names.unwrap_or_default().iter().fold(0x811c_9dc5, mix) >> 8) as usize
}

/// Features to accept: those whose own needs are met (5.1.3.1).
fn choose(offered: u64) -> u64 {
    let mut features = MTU | MAC | STATUS | MRG_RXBUF | EVENT_IDX | CSUM | GUEST_CSUM;
    if offered & CSUM != 0 {
        features |= HOST_TSO4 | HOST_TSO6;
    }
    if offered & CTRL_VQ != 0 {
        features |= CTRL_VQ | MQ;
    }
    // Joined frames are 64 KiB long: only with buffers that merge.
    if offered & GUEST_CSUM != 0 && offered & MRG_RXBUF != 0 {
        features |= GUEST_TSO4 | GUEST_TSO6;
    }
    features
}

impl Net {
    /// Takes the device over, with up to `nr_pairs` pairs of queues. `fallback_mac` is for a device that has no address of its
    /// own.
    pub fn new(bus: Box<dyn Bus>, source: DmaSource, fallback_mac: [u8; 6], nr_pairs: u16) -> Result<Self, Error> {
        let features = negotiate(&*bus, choose)?;
        let has = |feature: u64| features & feature != 0;
        match Self::set_up(&*bus, source, features, nr_pairs) {
            Ok(Parts { mut pairs, control, mtu }) => {
                let mut mac = fallback_mac;
                if has(MAC) {
                    mac = core::array::from_fn(|index| bus.config(index));
                }
                bus.start();
                if !control.is_some_and(|mut control| control.set_pairs(&*bus, pairs.len() as u16)) {
                    pairs.truncate(1);
                }
                let cuts = pairs.iter().all(|pair| pair.tx.lock().has_long());
                let device = Self {
                    mac,
                    mtu,
                    offloads: Offloads {
                        tx_checksum: has(CSUM),
                        rx_checksum: has(GUEST_CSUM),
                        tso_v4: has(HOST_TSO4) && cuts,
                        tso_v6: has(HOST_TSO6) && cuts,
                    },
                    has_status: has(STATUS),
                    link_is_up: AtomicBool::new(true),
                    pairs: pairs.into_boxed_slice(),
                    turn: AtomicUsize::new(0),
                    counters: Counters::default(),
                    bus,
                };
                device.read_link();
                // The buffers are there; the device may be waiting to hear of them.
                for pair in 0..device.pairs.len() {
                    device.bus.notify(receive_queue(pair));
                }
                Ok(device)
            }
            Err(error) => {
                bus.fail();
                Err(error)
            }
        }
    }

    fn set_up(bus: &dyn Bus, source: DmaSource, features: u64, nr_pairs: u16) -> Result<Parts, Error> {
        let has = |feature: u64| features & feature != 0;
        let mtu = if has(MTU) { config_u16(bus, CONFIG_MTU) } else { DEFAULT_MTU };
        if mtu < LEAST_MTU {
            return Err(Error::Malformed);
        }
        let frame = ETHERNET_HEADER + VLAN_TAG + usize::from(mtu);
        let cuts = has(HOST_TSO4) || has(HOST_TSO6);
        let pair = |pair: usize| -> Result<Pair, Error> {
            let rx = Receiver::new(bus, receive_queue(pair), frame, has(MRG_RXBUF), has(EVENT_IDX), source)?;
            let tx = Transmitter::new(bus, transmit_queue(pair), frame, cuts, has(EVENT_IDX), source)?;
            Ok(Pair { rx: IrqLock::new(rx), tx: IrqLock::new(tx) })
        };
        let mut pairs = alloc::vec![pair(0)?];
        let there = if has(MQ) { config_u16(bus, CONFIG_MAX_PAIRS).min(0x8000) } else { 1 };
        let wanted = there.min(nr_pairs).clamp(1, MAX_PAIRS);
        let mut control = None;
        if wanted > 1 {
            // The control queue is behind the last pair that the device has. Without it, or without memory, fewer will do.
            control = Control::new(bus, 2 * there, has(EVENT_IDX), source).ok();
            pairs.extend((1..usize::from(wanted)).map_while(|number| pair(number).ok()));
        }
        Ok(Parts { pairs, control, mtu })
    }

    fn read_link(&self) {
        let up = !self.has_status || config_u16(&*self.bus, CONFIG_STATUS) & LINK_UP != 0;
        self.link_is_up.store(up, Ordering::Relaxed);
    }
}

impl NetDevice for Net {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn link_is_up(&self) -> bool {
        self.link_is_up.load(Ordering::Relaxed)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn transmit(&self, parts: &[&[u8]], meta: TxMeta) -> Result<(), Full> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let Some(header) = header::for_transmit(len, meta, self.offloads) else {
            Counters::add(&self.counters.tx_errors, 1);
            return Ok(());
        };
        let number = match self.pairs.len() {
            1 => 0,
            count => stream(parts.first().copied().unwrap_or_default()) % count,
        };
        let mut tx = self.pairs[number].tx.lock();
        match tx.send(&header, parts, len) {
            transmit::Outcome::Sent { notify } => {
                drop(tx);
                if notify {
                    self.bus.notify(transmit_queue(number));
                }
                Counters::add(&self.counters.tx_frames, 1);
                Counters::add(&self.counters.tx_bytes, len as u64);
                Ok(())
            }
            transmit::Outcome::TooLong => {
                Counters::add(&self.counters.tx_errors, 1);
                Ok(())
            }
            transmit::Outcome::Broken => {
                Counters::add(&self.counters.tx_dropped, 1);
                Ok(())
            }
            transmit::Outcome::Full => Err(Full),
        }
    }

    fn receive(&self, budget: usize, frame: &mut dyn FnMut(Vec<u8>, RxMeta)) -> usize {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut count = 0;
        for number in (0..self.pairs.len()).map(|step| first.wrapping_add(step) % self.pairs.len()) {
            let rx = &self.pairs[number].rx;
            while count < budget {
                let taken = rx.lock().take_frame();
                match taken {
                    receive::Taken::Nothing => break,
                    // Damaged ones count against the budget: the device must not keep us here.
                    receive::Taken::Damaged => Counters::add(&self.counters.rx_errors, 1),
                    receive::Taken::Frame { bytes, meta } => {
                        Counters::add(&self.counters.rx_frames, 1);
                        Counters::add(&self.counters.rx_bytes, bytes.len() as u64);
                        frame(bytes, meta);
                    }
                }
                count += 1;
            }
            // The buffers went back one by one; the device hears of them once.
            let notify = rx.lock().publish();
            if notify {
                self.bus.notify(receive_queue(number));
            }
        }
        count
    }

    fn enable_interrupt(&self) -> bool {
        let mut more = false;
        for pair in &self.pairs {
            more |= pair.rx.lock().queue.enable_interrupt();
        }
        more
    }

    fn disable_interrupt(&self) {
        for pair in &self.pairs {
            pair.rx.lock().queue.disable_interrupt();
        }
    }

    fn acknowledge(&self) -> NetEvents {
        let events = self.bus.acknowledge();
        if events.config {
            self.read_link();
        }
        if events.queue {
            for pair in &self.pairs {
                pair.tx.lock().interrupted();
            }
        }
        NetEvents { queue: events.queue, config: events.config }
    }

    fn stats(&self) -> NetStats {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            rx_frames: get(&counters.rx_frames),
            rx_bytes: get(&counters.rx_bytes),
            rx_dropped: 0,
            rx_errors: get(&counters.rx_errors),
            tx_frames: get(&counters.tx_frames),
            tx_bytes: get(&counters.tx_bytes),
            tx_dropped: get(&counters.tx_dropped),
            tx_errors: get(&counters.tx_errors),
        }
    }
}
