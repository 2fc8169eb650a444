//! One-shot timers: a queue per CPU, driven by that CPU's generic timer, which also carries the scheduler's slice.

use crate::prelude::*;
use base::timer_queue::{self, TimerQueue};
use core::sync::atomic::{AtomicU64, Ordering};
use hal::cpu::{IrqGuard, MAX_CPUS, PerCpu};
use smallvec::SmallVec;

enum Action {
    Wake(Arc<Task>),
    Fire(Arc<KernelTimer>),
}

type Queue = TimerQueue<Action>;

static QUEUES: PerCpu<IrqSpinLock<Queue>> = PerCpu::new([const { IrqSpinLock::new(Queue::new()) }; MAX_CPUS]);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Names an armed timer.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    cpu: usize,
    timer: timer_queue::Key,
}

/// Sets the calling CPU's hardware to the earliest of all.
#[inline]
fn program(queue: &mut Queue) {
    if let Some(wanted) = queue.reprogram() {
        hal::time::set_deadline(wanted);
    }
}

fn arm(deadline: u64, action: Action) -> Key {
    let timer = timer_queue::Key { deadline, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) };
    let _irq = IrqGuard::new();
    let cpu = hal::cpu::id();
    let mut queue = QUEUES.get().lock();
    queue.insert(timer, action);
    program(&mut queue);
    Key { cpu, timer }
}

/// Unparks `task` at `deadline` (monotonic ns).
pub fn wake_at(deadline: u64, task: Arc<Task>) -> Key {
    arm(deadline, Action::Wake(task))
}

/// Disarms; answers whether it had not fired yet.
pub fn cancel(key: Key) -> bool {
    let _irq = IrqGuard::new();
    let mut queue = QUEUES.on(key.cpu).lock();
    let action = queue.remove(key.timer);
    if key.cpu == hal::cpu::id() {
        program(&mut queue);
    }
    drop(queue);
    action.is_some()
}

/// Sets or clears the calling CPU's slice deadline.
pub fn set_slice(deadline: Option<u64>) {
    let _irq = IrqGuard::new();
    let mut queue = QUEUES.get().lock();
    if queue.set_slice(deadline) {
        program(&mut queue);
    }
}

/// The timer interrupt: runs what is due.
pub fn handle_irq() {
    let now = crate::time::now_ns();
    let mut due: SmallVec<[(u64, Action); 8]> = SmallVec::new();
    let mut queue = QUEUES.get().lock();
    while let Some(timer) = queue.take_due(now) {
        due.push(timer);
    }
    let slice_over = queue.take_slice(now);
    // The interrupt stays asserted until the deadline moves.
    queue.fired();
    hal::time::set_deadline(None);
    program(&mut queue);
    drop(queue);
    for (id, action) in due {
        match action {
            Action::Wake(task) => {
                task.unpark();
            }
            Action::Fire(timer) => timer.fire(id),
        }
    }
    if slice_over {
        crate::sched::slice_expired(now);
    }
}

/// A one-shot kernel timer: `callback` runs in IRQ context on some CPU at the deadline.
pub struct KernelTimer {
    callback: Box<dyn Fn() + Send + Sync>,
    key: IrqSpinLock<Option<Key>>,
}

impl KernelTimer {
    pub fn new(callback: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { callback, key: IrqSpinLock::new(None) })
    }

    /// Arms (or re-arms) for an absolute monotonic deadline in ns.
    pub fn arm(self: &Arc<Self>, deadline_ns: u64) {
        let mut key = self.key.lock();
        if let Some(old) = key.take() {
            cancel(old);
        }
        *key = Some(arm(deadline_ns, Action::Fire(self.clone())));
    }

    /// Disarms; the callback may still be running on another CPU.
    pub fn cancel(&self) {
        let old = self.key.lock().take();
        if let Some(old) = old {
            cancel(old);
        }
    }

    fn fire(&self, id: u64) {
        let mut key = self.key.lock();
        if key.is_none_or(|armed| armed.timer.id != id) {
            // Cancelled or armed anew while the interrupt was on its way.
            return;
        }
        *key = None;
        drop(key);
        (self.callback)();
    }
}
