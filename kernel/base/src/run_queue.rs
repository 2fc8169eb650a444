//! One CPU's run queue: real-time tasks by priority, fair tasks by virtual runtime, one hand-over slot.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::{Ordering as Order, Reverse};

/// A fair task runs at most this long while others wait, in ns.
pub const SLICE_NS: u64 = 3_000_000;
/// SCHED_RR's quantum.
pub const RR_SLICE_NS: u64 = 100_000_000;
/// A sleeper comes back at most this far before the queue's smallest virtual runtime, so that it cannot monopolise.
const SLEEPER_CREDIT_NS: u64 = 3_000_000;
/// How far the clock of the queue that a task comes from may be ahead.
const MAX_AHEAD_NS: u64 = 1_000_000_000;
/// Hand-overs in a row before the queue's order counts again.
const MAX_HAND_OVERS: u32 = 64;

/// What the queue asks of a task. Answers may change while it waits: the kernel takes it out and queues it anew then.
pub trait Runnable {
    /// Real-time priority in force, 1 to 99; 0 is fair.
    fn realtime_priority(&self) -> u8;
    /// SCHED_IDLE: behind all other fair tasks.
    fn is_idle_class(&self) -> bool;
    /// Weighted run time, in ns.
    fn vruntime(&self) -> u64;
    fn set_vruntime(&self, vruntime: u64);
    /// Whether `cpu` may take it from another CPU's queue now.
    fn is_movable_to(&self, cpu: usize) -> bool;
}

struct Fair<T> {
    vruntime: u64,
    /// Ties run first come, first served.
    sequence: u64,
    task: Arc<T>,
}

impl<T> PartialEq for Fair<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}
impl<T> Eq for Fair<T> {}
impl<T> PartialOrd for Fair<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Fair<T> {
    fn cmp(&self, other: &Self) -> Order {
        (self.vruntime, self.sequence).cmp(&(other.vruntime, other.sequence))
    }
}

pub struct RunQueue<T> {
    /// FIFO and RR by descending priority; each list first come, first served.
    realtime: Vec<(u8, VecDeque<Arc<T>>)>,
    fair: BinaryHeap<Reverse<Fair<T>>>,
    /// A task woken by the running one, to be switched to as soon as that one sleeps.
    next: Option<Arc<T>>,
    hand_overs: u32,
    sequence: u64,
    min_vruntime: u64,
    len: usize,
}

impl<T: Runnable> RunQueue<T> {
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

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Queues a task. `woken`: it slept, so its virtual runtime is brought near the queue's.
    pub fn push(&mut self, task: Arc<T>, woken: bool) {
        self.len += 1;
        let priority = task.realtime_priority();
        if priority > 0 {
            self.realtime_list(priority).push_back(task);
            return;
        }
        let mut vruntime = task.vruntime();
        let floor = if woken { self.min_vruntime.saturating_sub(SLEEPER_CREDIT_NS) } else { self.min_vruntime };
        if vruntime < floor || vruntime > self.min_vruntime.saturating_add(MAX_AHEAD_NS) {
            // Slept long, or came from a queue whose clock is far ahead.
            vruntime = floor;
            task.set_vruntime(vruntime);
        }
        if task.is_idle_class() {
            vruntime = vruntime.saturating_add(1 << 62);
        }
        self.sequence += 1;
        self.fair.push(Reverse(Fair { vruntime, sequence: self.sequence, task }));
    }

    /// Puts a preempted real-time task back at the head of its list.
    pub fn push_front(&mut self, task: Arc<T>) {
        let priority = task.realtime_priority();
        if priority == 0 {
            return self.push(task, false);
        }
        self.len += 1;
        self.realtime_list(priority).push_front(task);
    }

    /// Makes `task`, woken by `waker`, the hand-over slot's; gives it back when it must be queued instead.
    pub fn push_next(&mut self, task: Arc<T>, waker: &T) -> Result<(), Arc<T>> {
        if self.next.is_some()
            || task.realtime_priority() > 0
            || waker.is_idle_class()
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

    fn realtime_list(&mut self, priority: u8) -> &mut VecDeque<Arc<T>> {
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
    pub fn pop(&mut self) -> Option<Arc<T>> {
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
        let vruntime = fair.task.vruntime();
        self.min_vruntime = self.min_vruntime.max(vruntime);
        Some(fair.task)
    }

    /// Takes a task that may run on `cpu`, for a CPU with nothing to do. The hand-over slot is left alone unless it is the
    /// only one waiting.
    pub fn steal(&mut self, cpu: usize) -> Option<Arc<T>> {
        for (_, list) in &mut self.realtime {
            if let Some(at) = list.iter().position(|task| task.is_movable_to(cpu)) {
                self.len -= 1;
                return list.remove(at);
            }
        }
        let mut kept = Vec::new();
        let mut found = None;
        while let Some(Reverse(fair)) = self.fair.pop() {
            if fair.task.is_movable_to(cpu) {
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
    pub fn remove(&mut self, task: &Arc<T>) -> bool {
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
    pub fn should_preempt(&self, running: &T) -> bool {
        let own = running.realtime_priority();
        let top = self.top_realtime();
        if top > own {
            return true;
        }
        if own > 0 {
            return false;
        }
        match self.fair.peek() {
            Some(Reverse(fair)) => {
                running.is_idle_class() && !fair.task.is_idle_class()
                    || fair.vruntime.saturating_add(SLICE_NS / 3) < running.vruntime()
            }
            None => false,
        }
    }
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

#[cfg(test)]
#[expect(clippy::arc_with_non_send_sync, reason = "one thread; the queue takes what a kernel shares")]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Task {
        name: &'static str,
        realtime: u8,
        idle: bool,
        vruntime: Cell<u64>,
        cpus: u64,
    }

    fn fair(name: &'static str, vruntime: u64) -> Arc<Task> {
        Arc::new(Task { name, realtime: 0, idle: false, vruntime: Cell::new(vruntime), cpus: u64::MAX })
    }
    fn realtime(name: &'static str, priority: u8) -> Arc<Task> {
        Arc::new(Task { name, realtime: priority, idle: false, vruntime: Cell::new(0), cpus: u64::MAX })
    }
    fn idle(name: &'static str) -> Arc<Task> {
        Arc::new(Task { name, realtime: 0, idle: true, vruntime: Cell::new(0), cpus: u64::MAX })
    }

    impl Runnable for Task {
        fn realtime_priority(&self) -> u8 {
            self.realtime
        }
        fn is_idle_class(&self) -> bool {
            self.idle
        }
        fn vruntime(&self) -> u64 {
            self.vruntime.get()
        }
        fn set_vruntime(&self, vruntime: u64) {
            self.vruntime.set(vruntime);
        }
        fn is_movable_to(&self, cpu: usize) -> bool {
            self.cpus >> cpu & 1 == 1
        }
    }

    fn order(queue: &mut RunQueue<Task>) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(task) = queue.pop() {
            names.push(task.name);
        }
        assert_eq!(queue.len(), 0);
        names
    }

    #[test]
    fn realtime_goes_by_priority_then_age_and_before_fair() {
        let mut queue = RunQueue::<Task>::new();
        queue.push(fair("fair", 0), false);
        queue.push(realtime("low", 1), false);
        queue.push(realtime("first", 50), false);
        queue.push(realtime("second", 50), false);
        queue.push_front(realtime("preempted", 50));
        assert_eq!(queue.top_realtime(), 50);
        assert_eq!(order(&mut queue), ["preempted", "first", "second", "low", "fair"]);
        assert_eq!(queue.top_realtime(), 0);
    }

    #[test]
    fn fair_goes_by_run_time_then_age_and_idle_last() {
        let mut queue = RunQueue::<Task>::new();
        queue.push(idle("idle"), false);
        queue.push(fair("much", 900), false);
        queue.push(fair("little", 100), false);
        queue.push(fair("little too", 100), false);
        assert_eq!(order(&mut queue), ["little", "little too", "much", "idle"]);
    }

    #[test]
    fn a_sleeper_comes_back_near_the_queues_clock() {
        let mut queue = RunQueue::<Task>::new();
        queue.push(fair("worker", 500_000_000), false);
        queue.pop();
        let sleeper = fair("sleeper", 0);
        queue.push(sleeper.clone(), true);
        assert_eq!(sleeper.vruntime(), 500_000_000 - SLEEPER_CREDIT_NS);
        // One that only gave way gets no credit, and one from a queue whose clock is far ahead does not starve here.
        let yielder = fair("yielder", 0);
        queue.push(yielder.clone(), false);
        assert_eq!(yielder.vruntime(), 500_000_000);
        let stranger = fair("stranger", 500_000_000 + 2 * MAX_AHEAD_NS);
        queue.push(stranger.clone(), false);
        assert_eq!(stranger.vruntime(), 500_000_000);
        assert_eq!(order(&mut queue), ["sleeper", "yielder", "stranger"]);
    }

    #[test]
    fn the_hand_over_goes_before_fair_but_not_before_realtime() {
        let mut queue = RunQueue::<Task>::new();
        let waker = fair("waker", 0);
        queue.push(fair("other", 0), false);
        assert!(queue.push_next(fair("woken", 1_000), &waker).is_ok());
        // There is one slot, and it is not for real-time tasks nor for those an idle task wakes.
        assert!(queue.push_next(fair("too", 0), &waker).is_err());
        assert_eq!(order(&mut queue), ["woken", "other"]);
        assert!(queue.push_next(realtime("urgent", 1), &waker).is_err());
        assert!(queue.push_next(fair("woken", 0), &idle("waker")).is_err());
        queue.push(realtime("urgent", 1), false);
        assert!(queue.push_next(fair("woken", 0), &waker).is_err());
    }

    #[test]
    fn two_that_wake_each_other_do_not_shut_out_a_third() {
        let mut queue = RunQueue::<Task>::new();
        let pair = [fair("ping", 0), fair("pong", 0)];
        queue.push(fair("third", 0), false);
        for turn in 0..1_000 {
            let (woken, waker) = (&pair[turn % 2], &pair[(turn + 1) % 2]);
            if let Err(task) = queue.push_next(woken.clone(), waker) {
                queue.push(task, true);
            }
            if queue.pop().is_some_and(|task| task.name == "third") {
                return;
            }
        }
        panic!("the third never ran");
    }

    #[test]
    fn stealing_respects_affinity_and_leaves_the_hand_over() {
        let mut queue = RunQueue::<Task>::new();
        let waker = fair("waker", 0);
        queue.push(Arc::new(Task { cpus: 1, ..task_of(&fair("here", 0)) }), false);
        queue.push(fair("anywhere", 10), false);
        assert!(queue.push_next(fair("woken", 0), &waker).is_ok());
        assert_eq!(queue.steal(1).map(|task| task.name), Some("anywhere"));
        assert!(queue.steal(1).is_none());
        assert_eq!(queue.len(), 2);
        assert_eq!(order(&mut queue), ["woken", "here"]);
    }

    fn task_of(task: &Task) -> Task {
        Task {
            name: task.name,
            realtime: task.realtime,
            idle: task.idle,
            vruntime: task.vruntime.clone(),
            cpus: task.cpus,
        }
    }

    #[test]
    fn removal_finds_a_task_wherever_it_waits() {
        let mut queue = RunQueue::<Task>::new();
        let (fast, slow, urgent) = (fair("fast", 0), fair("slow", 1), realtime("urgent", 3));
        assert!(queue.push_next(fast.clone(), &slow).is_ok());
        queue.push(slow.clone(), false);
        queue.push(urgent.clone(), false);
        for task in [&fast, &slow, &urgent] {
            assert!(queue.remove(task));
            assert!(!queue.remove(task));
        }
        assert_eq!(order(&mut queue), [""; 0]);
    }

    #[test]
    fn preemption() {
        let mut queue = RunQueue::<Task>::new();
        let running = fair("running", 10_000_000);
        assert!(!queue.should_preempt(&running));
        queue.push(fair("even", 10_000_000 - SLICE_NS / 3), false);
        assert!(!queue.should_preempt(&running));
        assert!(queue.should_preempt(&idle("idle")));
        queue.push(fair("behind", 0), false);
        assert!(queue.should_preempt(&running));
        assert!(!queue.should_preempt(&realtime("urgent", 1)));
        queue.push(realtime("more urgent", 2), false);
        assert!(queue.should_preempt(&realtime("urgent", 1)));
        assert!(!queue.should_preempt(&realtime("as urgent", 2)));
    }

    #[test]
    fn weights_fall_by_a_fifth_a_level() {
        assert_eq!(weight(0), 1024);
        for nice in -20..19 {
            let (this, next) = (weight(nice) as f64, weight(nice + 1) as f64);
            assert!((1.15..1.35).contains(&(this / next)), "{nice}: {this} {next}");
        }
        assert_eq!((weight(-100), weight(100)), (weight(-20), weight(19)));
    }
}
