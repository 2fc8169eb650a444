//! The one blocking primitive.
//!
//! `queue.wait_until(mode, deadline, reason, || try_it())` loops {announce, enqueue, try, check signal, check deadline, park}.
//! The closure takes its own lock and computes the result, so a wake is only a hint to look again.
//!
//! Why no wake is lost. A waker changes the object, then (fence) looks at the queue's length, takes the longest waiter out of the
//! list and unparks it. A waiter announces that it will park, joins the list, then (fence) tries:
//!
//! 1. Length against object: both sides write, fence, read. Either the waker sees the waiter in the list, or the waiter's try
//!    sees the change.
//! 2. Being taken out against parking: the announcement comes before joining, and the list's lock stands between joining and
//!    being taken out. So whoever takes a waiter out finds it announced (its `unpark` makes the park return at once), parked, or
//!    running because it slept inside the closure (a mutex), which takes the announcement back, so that the park returns at once
//!    too. Were the announcement to come after joining, a waiter could be taken out before it, fail its try because a third
//!    thread was faster, and park in no list: nobody would ever wake it.
//! 3. After a park the waiter looks whether it was taken out. If so it leaves its node, tries, and joins anew by 1 and 2. If not
//!    (a signal, a time-out, a stale unpark) it announces again first and then looks at its node under the lock, by 2.
//! 4. A waiter that leaves with a result of its own while a waker had chosen it passes that wake on: it may have been for
//!    something else that is there now.
//!
//! Waiter nodes live in a slab inside the queue, so that leaving is O(1) and a queue that has seen its peak allocates no more.

use super::WaitKind;
use crate::prelude::*;
use crate::sched;
use crate::time::timer;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use smallvec::SmallVec;

/// Absolute CLOCK_MONOTONIC time in nanoseconds since boot; `None` waits for ever.
pub type Deadline = Option<u64>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    /// Any unblocked signal ends the wait.
    Interruptible,
    /// Only a fatal signal does.
    Killable,
    /// Nothing does; for bounded waits only.
    Uninterruptible,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitError {
    Interrupted,
    TimedOut,
}

/// Interrupted becomes ERESTARTSYS (restart unless the handler says otherwise); calls that never restart map it themselves.
impl From<WaitError> for Errno {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Interrupted => Errno::ERESTARTSYS,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        }
    }
}

/// What a thread waits for: /proc/PID/wait, `wchan`, the deadlock detector and panic reports read this record.
#[derive(Clone, Copy, Debug)]
pub struct WaitReason {
    /// What for (also /proc/PID/wchan).
    pub kind: WaitKind,
    /// Which object: an id, inode number or address, as the kind says; 0 when there is none.
    pub object: u64,
    /// Tid of the thread that holds what is waited for; 0 when unknown.
    pub owner: u32,
}

impl WaitReason {
    pub const fn new(kind: WaitKind) -> Self {
        Self { kind, object: 0, owner: 0 }
    }
    pub const fn on(kind: WaitKind, object: u64) -> Self {
        Self { kind, object, owner: 0 }
    }
    pub const fn held_by(kind: WaitKind, object: u64, owner: u32) -> Self {
        Self { kind, object, owner }
    }
}

/// A park in progress.
#[derive(Clone, Copy, Debug)]
pub struct WaitRecord {
    pub reason: WaitReason,
    /// When it began (monotonic ns).
    pub since_ns: u64,
    pub mode: WaitMode,
    /// When it ends by itself.
    pub deadline: Deadline,
}

const NIL: u32 = u32::MAX;

struct Node {
    task: Option<Arc<Task>>,
    prev: u32,
    next: u32,
    /// A waker took it out of the list; its owner frees it.
    woken: bool,
}

/// Waiters in arrival order: a doubly linked list in a slab.
struct List {
    nodes: Vec<Node>,
    head: u32,
    tail: u32,
    free: u32,
}

impl List {
    const fn new() -> Self {
        Self { nodes: Vec::new(), head: NIL, tail: NIL, free: NIL }
    }

    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    fn push(&mut self, task: Arc<Task>) -> u32 {
        let index = if self.free == NIL {
            self.nodes.push(Node { task: None, prev: NIL, next: NIL, woken: false });
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.node(index).next;
            index
        };
        let tail = self.tail;
        *self.node(index) = Node { task: Some(task), prev: tail, next: NIL, woken: false };
        if tail == NIL {
            self.head = index;
        } else {
            self.node(tail).next = index;
        }
        self.tail = index;
        index
    }

    fn unlink(&mut self, index: u32) {
        let (prev, next) = (self.node(index).prev, self.node(index).next);
        if prev == NIL {
            self.head = next;
        } else {
            self.node(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            self.node(next).prev = prev;
        }
    }

    /// Takes the longest waiter out of the list; its node stays its own until it leaves.
    fn pop(&mut self) -> Option<Arc<Task>> {
        let index = self.head;
        if index == NIL {
            return None;
        }
        self.unlink(index);
        let node = self.node(index);
        node.woken = true;
        node.task.take()
    }

    /// Frees a node; answers whether it had been woken.
    fn release(&mut self, index: u32) -> bool {
        let woken = self.node(index).woken;
        if !woken {
            self.unlink(index);
        }
        let free = self.free;
        let node = self.node(index);
        node.task = None;
        node.next = free;
        self.free = index;
        woken
    }
}

/// Threads that wait for one condition.
pub struct WaitQueue {
    /// Waiters in the list (not counting woken ones).
    len: AtomicUsize,
    list: IrqSpinLock<List>,
}

impl WaitQueue {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self { len: AtomicUsize::new(0), list: IrqSpinLock::new(List::new()) }
    }

    /// Changes the length; the caller holds the lock, by which changes follow each other. What `len` tells others is ordered
    /// by the fences of waiters and wakers, not here.
    #[inline]
    fn add_len(&self, change: isize) {
        self.len.store(self.len.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
    }

    /// Puts the calling thread at the end of the list unless its node `queued` is in it; then a fence. Answers its node. The
    /// announcement of the park came before.
    fn join(&self, queued: Option<u32>) -> u32 {
        let mut list = self.list.lock();
        let index = match queued {
            Some(index) if !list.node(index).woken => index,
            old => {
                if let Some(index) = old {
                    list.release(index);
                }
                self.add_len(1);
                list.push(crate::task::current_arc())
            }
        };
        drop(list);
        fence(Ordering::SeqCst);
        index
    }

    /// Leaves the queue; answers whether a waker had chosen this waiter.
    fn leave(&self, index: u32) -> bool {
        let mut list = self.list.lock();
        let woken = list.release(index);
        if !woken {
            self.add_len(-1);
        }
        woken
    }

    /// Leaves the queue if a waker has chosen this waiter, and says so.
    fn leave_if_woken(&self, index: u32) -> bool {
        let mut list = self.list.lock();
        let woken = list.node(index).woken;
        if woken {
            list.release(index);
        }
        woken
    }

    /// Sleeps until `attempt` answers `Some`. See the module page.
    #[track_caller]
    pub fn wait_until<R>(
        &self,
        mode: WaitMode,
        deadline: Deadline,
        reason: WaitReason,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        super::might_sleep();
        // Usually there is no need to wait at all.
        if let Some(result) = attempt() {
            return Ok(result);
        }
        let task = current();
        let mut timeout = None;
        let mut queued = None;
        let result = loop {
            sched::announce_park(task);
            let index = self.join(queued);
            queued = Some(index);
            if let Some(result) = attempt() {
                break Ok(result);
            }
            if must_end(task, mode) {
                break Err(WaitError::Interrupted);
            }
            if let Some(deadline) = deadline
                && !set_timeout(deadline, &mut timeout)
            {
                break Err(WaitError::TimedOut);
            }
            sched::park(task, &reason, mode, deadline);
            if self.leave_if_woken(index) {
                queued = None;
                // Chosen: there is no need to join again before looking.
                if let Some(result) = attempt() {
                    break Ok(result);
                }
            }
        };
        sched::cancel_park(task);
        if let Some(index) = queued
            && self.leave(index)
        {
            self.wake_one();
        }
        if let Some(key) = timeout {
            timer::cancel(key);
        }
        result
    }

    /// For bounded waits (locks) that nothing may interrupt.
    #[track_caller]
    pub fn wait_uninterruptible<R>(&self, kind: WaitKind, attempt: impl FnMut() -> Option<R>) -> R {
        match self.wait_until(WaitMode::Uninterruptible, None, WaitReason::new(kind), attempt) {
            Ok(result) => result,
            Err(_) => unreachable!("no signal and no deadline"),
        }
    }

    /// Wakes the longest waiter; answers whether there was one. Callable in IRQ context.
    #[inline]
    pub fn wake_one(&self) -> bool {
        !self.is_empty() && self.wake_first()
    }

    fn wake_first(&self) -> bool {
        let mut list = self.list.lock();
        let Some(task) = list.pop() else { return false };
        self.add_len(-1);
        drop(list);
        sched::unpark_owned(task);
        true
    }

    /// Wakes up to `count` waiters; answers how many.
    pub fn wake_many(&self, count: usize) -> usize {
        fence(Ordering::SeqCst);
        let mut woken = 0;
        while woken < count && self.len.load(Ordering::Relaxed) != 0 {
            let mut batch: SmallVec<[Arc<Task>; 8]> = SmallVec::new();
            let mut list = self.list.lock();
            while woken < count && batch.len() < 8 {
                let Some(task) = list.pop() else { break };
                self.add_len(-1);
                batch.push(task);
                woken += 1;
            }
            drop(list);
            if batch.is_empty() {
                break;
            }
            for task in batch {
                sched::unpark_owned(task);
            }
        }
        woken
    }

    #[inline]
    pub fn wake_all(&self) -> usize {
        fence(Ordering::SeqCst);
        // Those who come back while others are being woken are not woken twice.
        match self.len.load(Ordering::Relaxed) {
            0 => 0,
            1 => usize::from(self.wake_first()),
            waiting => self.wake_many(waiting),
        }
    }

    /// No waiter at this instant (a hint; see the module page for when it may be relied on).
    #[inline]
    pub fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.len.load(Ordering::Relaxed) == 0
    }
}

/// Sees to it that the calling thread is woken at `deadline`, by the timer in `timeout`; false when that time has come.
#[inline(never)]
fn set_timeout(deadline: u64, timeout: &mut Option<timer::Key>) -> bool {
    if crate::time::now_ns() >= deadline {
        return false;
    }
    timeout.get_or_insert_with(|| timer::wake_at(deadline, crate::task::current_arc()));
    true
}

/// Whether a sleep of this mode must end because of a signal.
#[inline]
fn must_end(task: &Task, mode: WaitMode) -> bool {
    match mode {
        WaitMode::Interruptible => task.has_signal(),
        WaitMode::Killable => task.is_dying(),
        WaitMode::Uninterruptible => false,
    }
}

/// Parking without a queue, for hand-over designs (futex, semaphores): the waker completes the operation, stores the result
/// where the sleeper looks, and calls `task.unpark()`.
pub struct Park;

impl Park {
    /// Parks the calling thread until `done` answers `Some`, a signal (by mode) or the deadline. Every `unpark` makes it
    /// look again. The caller undoes its registration on `Err` and must then look once more whether it was completed.
    /// `done` must not sleep.
    #[track_caller]
    #[inline(always)]
    pub fn park_until<R>(
        mode: WaitMode,
        deadline: Deadline,
        reason: WaitReason,
        mut done: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        super::might_sleep();
        let task = current();
        let mut timeout = None;
        let result = loop {
            sched::prepare_park(task);
            if let Some(result) = done() {
                break Ok(result);
            }
            if must_end(task, mode) {
                break Err(WaitError::Interrupted);
            }
            if let Some(deadline) = deadline
                && !set_timeout(deadline, &mut timeout)
            {
                break Err(WaitError::TimedOut);
            }
            sched::park(task, &reason, mode, deadline);
        };
        sched::cancel_park(task);
        if let Some(key) = timeout {
            timer::cancel(key);
        }
        result
    }
}
