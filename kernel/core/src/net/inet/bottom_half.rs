//! Where received frames and timers are worked on: a kernel thread, woken by interrupts.
//!
//! Interrupt handlers only note what is due and wake the thread; it holds no lock while it works on a packet. A device gives a
//! bounded number of frames per round, so that timers and other devices get their turn; after the last one its interrupt is
//! enabled and its ring looked at once more.

use super::input::Held;
use super::output::{self, Queue};
use super::packet::Frame;
use super::tcp::{self, Tcp};
use super::{config, icmp};
use crate::net::iface::{self, neighbour};
use crate::prelude::*;
use crate::process::kernel::spawn_kernel_thread;
use crate::sync::{WaitKind, WaitReason};
use crate::time::KernelTimer;
use alloc::collections::VecDeque;
use base::net::packet::is_same_stream;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;

/// Frames of one round.
const BUDGET: usize = 64;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
const MAX_INTERFACES: u32 = 64;

/// A bit for each interface that may have something.
static PENDING: AtomicU64 = AtomicU64::new(0);
static DUE: IrqSpinLock<VecDeque<Arc<Tcp>>> = IrqSpinLock::new(VecDeque::new());
static HOUSEKEEPING: AtomicBool = AtomicBool::new(false);
static WAKE: WaitQueue = WaitQueue::new();
static TIMER: Once<Arc<KernelTimer>> = Once::new();
/// What the timer is set to.
static ARMED: AtomicU64 = AtomicU64::new(u64::MAX);

pub fn init() {
    spawn_kernel_thread("net", run);
}

/// Work has come for interface `index`; callable in IRQ context.
pub fn schedule(index: u32) {
    PENDING.fetch_or(1 << (index % MAX_INTERFACES), Ordering::Release);
    WAKE.wake_one();
}

/// A connection's timer fired; callable in IRQ context.
pub fn due(socket: Arc<Tcp>) {
    DUE.lock().push_back(socket);
    WAKE.wake_one();
}

/// Sees to it that the tables are looked after by `at` (monotonic ns).
pub fn look_again(at: u64) {
    if ARMED.fetch_min(at, Ordering::AcqRel) <= at {
        return;
    }
    let timer = TIMER.call_once(|| {
        KernelTimer::new(Box::new(|| {
            ARMED.store(u64::MAX, Ordering::Release);
            HOUSEKEEPING.store(true, Ordering::Release);
            WAKE.wake_one();
        }))
    });
    timer.arm(at);
}

/// A neighbour is being asked for.
pub fn watch_neighbours() {
    look_again(crate::time::now_ns() + 1_000_000_000);
}

/// A TIME-WAIT began.
pub fn watch_time_waits() {
    look_again(crate::time::now_ns() + 1_000_000_000);
}

/// The configuration clients have something to do now.
pub fn kick() {
    HOUSEKEEPING.store(true, Ordering::Release);
    WAKE.wake_one();
}

fn has_work() -> bool {
    PENDING.load(Ordering::Acquire) != 0 || HOUSEKEEPING.load(Ordering::Acquire) || !DUE.lock().is_empty()
}

fn run() {
    loop {
        let reason = WaitReason::new(WaitKind::Net);
        let _ = WAKE.wait_until(WaitMode::Uninterruptible, None, reason, || has_work().then_some(()));
        let pending = PENDING.swap(0, Ordering::AcqRel);
        for index in (0..MAX_INTERFACES).filter(|index| pending & 1 << index != 0) {
            receive(index);
        }
        timers();
        if HOUSEKEEPING.swap(false, Ordering::AcqRel) {
            housekeeping();
        }
        crate::sched::cond_resched();
    }
}

fn receive(index: u32) {
    let Some(device) = iface::device(index) else { return };
    output::flush(index);
    iface::refresh_link(index);
    let mut frames: Vec<Frame> = Vec::new();
    let taken = device.receive(BUDGET, &mut |bytes, meta| frames.push(Frame { interface: index, bytes, meta }));
    let (mut queue, mut held) = (Queue::new(), Held::default());
    let mut frames = frames.into_iter().peekable();
    while let Some(frame) = frames.next() {
        let next = frames.peek().and_then(|next| next.bytes.get(ETHERNET..));
        let own = frame.bytes.get(ETHERNET..);
        held.more = own.zip(next).is_some_and(|(own, next)| is_same_stream(own, next));
        let is_last = !held.more;
        super::input::frame(frame, &mut held, &mut queue);
        if is_last && let Some(socket) = held.socket.take() {
            tcp::let_go(&socket, &mut queue);
        }
        output::send_all(&mut queue);
    }
    // More may be there, or may have come while the interrupt was off.
    if taken >= BUDGET || device.enable_interrupt() {
        PENDING.fetch_or(1 << index, Ordering::Release);
    }
}

fn timers() {
    for _ in 0..BUDGET {
        let Some(socket) = DUE.lock().pop_front() else { return };
        tcp::timer_is_due(&socket);
    }
}

fn housekeeping() {
    let due = neighbour::tick();
    for (interface, address) in due.ask {
        output::ask(interface, address);
    }
    for packet in &due.undeliverable {
        icmp::host_unreachable(packet);
    }
    let next = [due.next_ns, tcp::expire_time_waits(), iface::address::expire(), config::tick()];
    if let Some(at) = next.into_iter().flatten().min() {
        look_again(at.max(crate::time::now_ns() + 10_000_000));
    }
}
