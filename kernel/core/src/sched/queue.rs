//! One CPU's run queue: real-time tasks by priority, fair tasks by virtual runtime, one hand-over slot.

use super::{TaskSched, policy};
use crate::prelude::*;
use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::{Ordering as Order, Reverse};
use core::sync::atomic::Ordering;

/// A fair task runs at most this long while others wait, in ns.
pub const SLICE_NS: u64 = 3_000_000;
/// SCHED_RR's quantum.
pub const RR_SLICE_NS: u64 = 100_000_000;
/// A sleeper comes back at most this far before the queue's smallest virtual runtime, so that it cannot monopolise.
const SLEEPER_CREDIT_NS: u64 = 3_000_000;
/// Hand-overs in a row before the queue's order counts again.
const MAX_HAND_OVERS: u32 = 64;

struct Fair {
    vruntime: u64,
    /// Ties run first come, first served.
    sequence: u64,
    task: Arc<Task>,
}

impl PartialEq for Fair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}
impl Eq for Fair {}
impl PartialOrd for Fair {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}
impl Ord for Fair {
    fn cmp(&self, other: &Self) -> Order {
        (self.vruntime, self.sequence).cmp(&(other.vruntime, other.sequence))
    }
}

pub struct RunQueue {
    /// FIFO and RR by descending priority; each list first come, first served.
    realtime: Vec<(u8, VecDeque<Arc<Task>>)>,
    fair: BinaryHeap<Reverse<Fair>>,
    /// A task woken by the running one, to be switched to as soon as that one sleeps.
    next: Option<Arc<Task>>,
    hand_overs: u32,
    sequence: u64,
    min_vruntime: u64,
    len: usize,
}

impl RunQueue {
    pub const fn new() -> Self {
        Self {
            realtime: Vec::new(),
            fair: BinaryHeap::new(),
            next: None,
            hand_overs: 0,
            sequence: 0,
            min_vruntime: 0,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Queues a task. `woken`: it slept, so its virtual runtime is brought near the queue's.
    pub fn push(&mut self, task: Arc<Task>, woken: bool) {
        self.len += 1;
        let priority = task.sched.effective_rt();
        if priority > 0 {
            self.realtime_list(priority).push_back(task);
            return;
        }
        let mut vruntime = task.sched.vruntime.load(Ordering::Relaxed);
        let floor = if woken { self.min_vruntime.saturating_sub(SLEEPER_CREDIT_NS) } else { self.min_vruntime };
        if vruntime < floor || vruntime > self.min_vruntime.saturating_add(1_000_000_000) {
            // Slept long, or came from a queue whose clock is far ahead.
            vruntime = floor;
            task.sched.vruntime.store(vruntime, Ordering::Relaxed);
        }
        if task.sched.policy() == policy::IDLE {
            vruntime = vruntime.saturating_add(1 << 62);
        }
        self.sequence += 1;
        self.fair.push(Reverse(Fair { vruntime, sequence: self.sequence, task }));
    }

    /// Puts a preempted real-time task back at the head of its list.
    pub fn push_front(&mut self, task: Arc<Task>) {
        let priority = task.sched.effective_rt();
        if priority == 0 {
            return self.push(task, false);
        }
        self.len += 1;
        self.realtime_list(priority).push_front(task);
    }

    /// Makes `task`, woken by `waker`, the hand-over slot's; gives it back when it must be queued instead.
    pub fn push_next(&mut self, task: Arc<Task>, waker: &TaskSched) -> Result<(), Arc<Task>> {
        if self.next.is_some()
            || task.sched.effective_rt() > 0
            || waker.policy() == policy::IDLE
            || self.hand_overs >= MAX_HAND_OVERS
            || self.top_realtime() > 0
        {
            return Err(task);
        }
        self.hand_overs += 1;
        self.len += 1;
        self.next = Some(task);
        Ok(())
    }

    fn realtime_list(&mut self, priority: u8) -> &mut VecDeque<Arc<Task>> {
        let at = match self.realtime.binary_search_by(|(known, _)| priority.cmp(known)) {
            Ok(at) => at,
            Err(at) => {
                self.realtime.insert(at, (priority, VecDeque::new()));
                at
            }
        };
        &mut self.realtime[at].1
    }

    /// The highest waiting real-time priority.
    #[inline]
    pub fn top_realtime(&self) -> u8 {
        // As long as there never was one.
        if self.realtime.is_empty() {
            return 0;
        }
        self.realtime.iter().find(|(_, list)| !list.is_empty()).map_or(0, |(priority, _)| *priority)
    }

    /// Takes the task that should run next.
    pub fn pop(&mut self) -> Option<Arc<Task>> {
        if self.len == 0 {
            self.hand_overs = 0;
            return None;
        }
        for (_, list) in &mut self.realtime {
            if let Some(task) = list.pop_front() {
                self.len -= 1;
                return Some(task);
            }
        }
        if let Some(task) = self.next.take() {
            self.len -= 1;
            return Some(task);
        }
        self.hand_overs = 0;
        let Reverse(fair) = self.fair.pop()?;
        self.len -= 1;
        let vruntime = fair.task.sched.vruntime.load(Ordering::Relaxed);
        self.min_vruntime = self.min_vruntime.max(vruntime);
        Some(fair.task)
    }

    /// Takes a task that may run on `cpu`, for a CPU with nothing to do. The hand-over slot is left alone unless it is the
    /// only one waiting.
    pub fn steal(&mut self, cpu: usize) -> Option<Arc<Task>> {
        for (_, list) in &mut self.realtime {
            if let Some(at) = list.iter().position(|task| movable(task, cpu)) {
                self.len -= 1;
                return list.remove(at);
            }
        }
        let mut kept = Vec::new();
        let mut found = None;
        while let Some(Reverse(fair)) = self.fair.pop() {
            if movable(&fair.task, cpu) {
                found = Some(fair.task);
                break;
            }
            kept.push(Reverse(fair));
        }
        self.fair.extend(kept);
        if found.is_some() {
            self.len -= 1;
        }
        found
    }

    /// Takes `task` out if it waits here (its class, priority or affinity changed).
    pub fn remove(&mut self, task: &Arc<Task>) -> bool {
        let before = self.len;
        if self.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, task)) {
            self.next = None;
            self.len -= 1;
        }
        for (_, list) in &mut self.realtime {
            let old = list.len();
            list.retain(|other| !Arc::ptr_eq(other, task));
            self.len -= old - list.len();
        }
        let old = self.fair.len();
        self.fair.retain(|Reverse(fair)| !Arc::ptr_eq(&fair.task, task));
        self.len -= old - self.fair.len();
        self.len != before
    }

    /// Whether the running task should make room for one that waits.
    pub fn should_preempt(&self, running: &TaskSched) -> bool {
        let own = running.effective_rt();
        let top = self.top_realtime();
        if top > own {
            return true;
        }
        if own > 0 {
            return false;
        }
        match self.fair.peek() {
            Some(Reverse(fair)) => {
                running.policy() == policy::IDLE && fair.task.sched.policy() != policy::IDLE
                    || fair.vruntime.saturating_add(SLICE_NS / 3) < running.vruntime.load(Ordering::Relaxed)
            }
            None => false,
        }
    }
}

/// Whether `cpu` may take a task from another queue: not while that CPU is still on the task's stack.
fn movable(task: &Task, cpu: usize) -> bool {
    task.sched.may_run_on(cpu) && !task.thread.is_on_cpu()
}

/// Weight of nice levels -20..=19 relative to nice 0 = 1024 (each level is about 25%): the published CFS scale's shape.
pub fn weight(nice: i32) -> u64 {
    let steps = nice.clamp(-20, 19);
    let mut weight = 1024u64 << 10;
    for _ in 0..steps.unsigned_abs() {
        weight = if steps > 0 { weight * 4 / 5 } else { weight * 5 / 4 };
    }
    (weight >> 10).max(1)
}
