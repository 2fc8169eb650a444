//! Futexes: wait, wake, requeue ([`pi`]: priority inheritance, [`requeue_pi`]: both together, [`robust`]: robust lists).
//!
//! Waiters stand in hashed buckets, each under a spin lock. The futex word is read under the bucket's lock without resolving
//! faults; on a fault the lock is dropped, the page brought in, and all begins again. A waker takes a waiter out and marks its
//! [`Place`] woken under the bucket's lock, and unparks the thread after: a thread that leaves by signal or time-out looks at the
//! mark under that lock, so no wake is lost. Requeueing moves a waiter between buckets; its place says which. Waiters stand in
//! order of real-time priority, then of arrival.
//!
//! Lock order: buckets by index, then [`pi`]'s locks, then run queues.

pub mod pi;
pub mod requeue_pi;
pub mod robust;

pub(crate) use pi::{begin_anew, on_exit as pass_on_pi_locks};
pub use pi::{owner_for as pi_owner, priority_changed};
pub use robust::exit_robust_list;

use crate::mm::FutexKey;
use crate::prelude::*;
use crate::sync::{Deadline, Park, WaitError, WaitKind, WaitReason, WakeList};
use alloc::collections::VecDeque;
pub(crate) use base::futex::MATCH_ANY;
use base::futex::{self as rules, WakeOp, insert};
use core::sync::atomic::{AtomicBool, Ordering};
use hal::user;

const BUCKETS: usize = 256;

/// What a waiting thread and those who wake or move its waiter share.
pub struct Place {
    /// What it waits on: the waiter's, which may have been moved.
    key: SpinLock<FutexKey>,
    /// The waiter left its bucket: woken, or moved on to its target.
    woken: AtomicBool,
}

impl Place {
    pub(super) const fn new() -> Self {
        Self { key: SpinLock::new(FutexKey::NONE), woken: AtomicBool::new(false) }
    }
    fn begin(&self, key: FutexKey) {
        *self.key.leaf() = key;
        self.woken.store(false, Ordering::Relaxed);
    }
    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

/// A thread in a bucket.
struct Waiter {
    task: Arc<Task>,
    key: FutexKey,
    bitset: u32,
    /// Its thread's real-time priority when it came.
    priority: u8,
    /// Set for FUTEX_WAIT_REQUEUE_PI, whose waiters only FUTEX_CMP_REQUEUE_PI takes.
    target: Option<requeue_pi::Target>,
    /// For futex_waitv(2), whose threads have many; else it is the thread's own.
    place: Option<Arc<Place>>,
}

impl Waiter {
    #[inline]
    fn place(&self) -> &Place {
        match &self.place {
            Some(place) => place,
            None => &self.task.ipc.futex,
        }
    }
}

impl rules::Waiter for Waiter {
    type Key = FutexKey;
    #[inline]
    fn key(&self) -> FutexKey {
        self.key
    }
    fn set_key(&mut self, key: FutexKey) {
        self.key = key;
        *self.place().key.leaf() = key;
    }
    #[inline]
    fn bitset(&self) -> u32 {
        self.bitset
    }
    #[inline]
    fn priority(&self) -> u8 {
        self.priority
    }
    #[inline]
    fn has_target(&self) -> bool {
        self.target.is_some()
    }
}

type Bucket = SpinLock<VecDeque<Waiter>>;

static TABLE: [Bucket; BUCKETS] = [const { SpinLock::new(VecDeque::new()) }; BUCKETS];

/// Programs choose their own addresses: a bad spread hurts only the program that makes it.
fn index(key: &FutexKey) -> usize {
    let mixed = (key.owner ^ (key.at >> 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % BUCKETS
}

/// One word to wait on.
#[derive(Clone, Copy)]
pub struct Word {
    pub addr: UserAddr,
    pub shared: bool,
}

impl Word {
    /// EINVAL for a misaligned word, EFAULT for one that is not there.
    #[inline]
    fn key(self) -> Result<FutexKey, Errno> {
        if self.addr.0 & 3 != 0 {
            return Err(Errno::EINVAL);
        }
        let task = current();
        if self.shared {
            return task.address_space().futex_key(self.addr, true);
        }
        match task.mm.with(|mm| mm.map(|space| space.private_futex_key(self.addr))) {
            Some(key) => key,
            None => Err(Errno::EFAULT),
        }
    }
}

/// How a thread waits: see [`Waiter`].
struct Manner {
    bitset: u32,
    target: Option<requeue_pi::Target>,
    place: Option<Arc<Place>>,
}

/// Queues the caller on `word` if it still holds `expected`: EAGAIN when not.
#[inline]
fn enqueue(word: Word, expected: u32, manner: Manner) -> Result<(), Errno> {
    loop {
        let key = word.key()?;
        let bucket = &TABLE[index(&key)];
        let mut queue = bucket.leaf();
        match user::load_u32_nofault(word.addr) {
            Ok(value) if value != expected => return Err(Errno::EAGAIN),
            Ok(_) => {
                let Manner { bitset, target, place } = manner;
                let task = crate::task::current_arc();
                let priority = task.sched.rt_priority();
                let waiter = Waiter { task, key, bitset, priority, target, place };
                waiter.place().begin(key);
                insert(&mut queue, waiter);
                return Ok(());
            }
            Err(_) => {
                drop(queue);
                user::load_u32(word.addr)?;
            }
        }
    }
}

/// Takes the waiter of a place out of its bucket; answers whether it had been woken.
fn dequeue(place: &Place) -> bool {
    loop {
        let key = *place.key.leaf();
        let mut queue = TABLE[index(&key)].lock();
        if place.is_woken() {
            return true;
        }
        if *place.key.leaf() != key {
            continue;
        }
        queue.retain(|other| !core::ptr::eq(other.place(), place));
        return false;
    }
}

/// FUTEX_WAIT: 0, EAGAIN, EINTR-like restarts, ETIMEDOUT.
pub(crate) fn wait(word: Word, expected: u32, bitset: u32, deadline: Deadline) -> Result<(), Errno> {
    enqueue(word, expected, Manner { bitset, target: None, place: None })?;
    let place = &current().ipc.futex;
    let reason = WaitReason::on(WaitKind::Futex, word.addr.0);
    let woken = || place.is_woken().then_some(());
    match Park::park_until(WaitMode::Interruptible, deadline, reason, woken) {
        Ok(()) => Ok(()),
        Err(error) => {
            if dequeue(place) {
                return Ok(());
            }
            Err(match error {
                WaitError::TimedOut => Errno::ETIMEDOUT,
                WaitError::Interrupted => Errno::ERESTARTSYS,
            })
        }
    }
}

/// Takes up to `count` waiters of `key` out of a locked bucket. EINVAL at one that waits to be moved to a lock.
fn take(
    queue: &mut VecDeque<Waiter>,
    key: &FutexKey,
    bitset: u32,
    count: usize,
    woken: &mut WakeList,
) -> Result<usize, Errno> {
    rules::take(queue, *key, bitset, count, |waiter| {
        waiter.place().woken.store(true, Ordering::Release);
        woken.push(waiter.task);
    })
}

/// Whether anybody waits on `key` without asking for a priority-inheriting lock.
fn has_plain_waiters(key: &FutexKey) -> bool {
    rules::position(&TABLE[index(key)].lock(), *key, 0).is_some()
}

/// FUTEX_WAKE: answers how many were woken. EINVAL for a word that is a priority-inheriting lock with waiters.
pub(crate) fn wake_word(word: Word, count: usize, bitset: u32) -> Result<usize, Errno> {
    let key = word.key()?;
    let mut woken = WakeList::new();
    let bucket = &TABLE[index(&key)];
    let taken = take(&mut bucket.leaf(), &key, bitset, count, &mut woken);
    woken.wake();
    match taken {
        Ok(0) if pi::is_contended(&key) => Err(Errno::EINVAL),
        taken => taken,
    }
}

/// Locks the buckets of two keys in order and runs `f` on them (the second is `None` when it is the same).
fn with_two<R>(
    first: &FutexKey,
    second: &FutexKey,
    f: impl FnOnce(&mut VecDeque<Waiter>, Option<&mut VecDeque<Waiter>>) -> R,
) -> R {
    let (a, b) = (index(first), index(second));
    if a == b {
        return f(&mut TABLE[a].lock(), None);
    }
    if a < b {
        let mut low = TABLE[a].lock();
        let mut high = TABLE[b].lock();
        f(&mut low, Some(&mut high))
    } else {
        let mut low = TABLE[b].lock();
        let mut high = TABLE[a].lock();
        f(&mut high, Some(&mut low))
    }
}

/// FUTEX_REQUEUE and FUTEX_CMP_REQUEUE: wakes `nr_wake` waiters of `from`, moves up to `nr_requeue` more to `to`; answers
/// how many were woken and moved.
pub(crate) fn requeue(
    from: Word,
    to: Word,
    nr_wake: usize,
    nr_requeue: usize,
    expected: Option<u32>,
) -> Result<(usize, usize), Errno> {
    loop {
        let (source, target) = (from.key()?, to.key()?);
        let mut woken = WakeList::new();
        let result = with_two(&source, &target, |queue, other| {
            if let Some(expected) = expected {
                match user::load_u32_nofault(from.addr) {
                    Ok(value) if value != expected => return Some(Err(Errno::EAGAIN)),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            let taken = match take(queue, &source, MATCH_ANY, nr_wake, &mut woken) {
                Ok(taken) => taken,
                Err(errno) => return Some(Err(errno)),
            };
            if source == target {
                let rest = queue.iter().filter(|waiter| waiter.key == source).count().min(nr_requeue);
                return Some(Ok((taken, rest)));
            }
            let mut moved = Vec::new();
            let mut at = 0;
            while moved.len() < nr_requeue
                && let Some(next) = rules::position(queue, source, at)
            {
                at = next;
                if queue[at].target.is_some() {
                    break;
                }
                if let Some(mut waiter) = queue.remove(at) {
                    rules::Waiter::set_key(&mut waiter, target);
                    moved.push(waiter);
                }
            }
            let is_refused = moved.len() < nr_requeue && rules::position(queue, source, at).is_some();
            let count = moved.len();
            let to = other.unwrap_or(queue);
            for waiter in moved {
                insert(to, waiter);
            }
            Some(if is_refused { Err(Errno::EINVAL) } else { Ok((taken, count)) })
        });
        woken.wake();
        match result {
            Some(result) => return result,
            None => {
                user::load_u32(from.addr)?;
            }
        }
    }
}

/// FUTEX_WAKE_OP: changes the word at `second` by `operation` atomically, wakes `nr_wake` of `first`, and, if the old value
/// compares true, `nr_wake2` of `second`.
pub(crate) fn wake_op(
    first: Word,
    second: Word,
    nr_wake: usize,
    nr_wake2: usize,
    operation: u32,
) -> Result<usize, Errno> {
    let operation = WakeOp::decode(operation)?;
    loop {
        let (key1, key2) = (first.key()?, second.key()?);
        let mut woken = WakeList::new();
        let result = with_two(&key1, &key2, |queue, other| {
            let old = loop {
                let Ok(old) = user::load_u32_nofault(second.addr) else { return None };
                let new = operation.apply(old);
                match user::compare_exchange_u32_nofault(second.addr, old, new) {
                    Ok(Ok(_)) => break old,
                    Ok(Err(_)) => {}
                    Err(_) => return None,
                }
            };
            let holds = match operation.holds(old) {
                Ok(holds) => holds,
                Err(errno) => return Some(Err(errno)),
            };
            let mut taken = match take(queue, &key1, MATCH_ANY, nr_wake, &mut woken) {
                Ok(taken) => taken,
                Err(errno) => return Some(Err(errno)),
            };
            if holds {
                match take(other.unwrap_or(queue), &key2, MATCH_ANY, nr_wake2, &mut woken) {
                    Ok(more) => taken += more,
                    Err(errno) => return Some(Err(errno)),
                }
            }
            Some(Ok(taken))
        });
        woken.wake();
        match result {
            Some(result) => return result,
            None => user::fault_in(second.addr, 4, true)?,
        }
    }
}

/// One entry of futex_waitv(2).
pub(crate) struct WaitEntry {
    pub word: Word,
    pub expected: u32,
}

/// FUTEX_WAITV: waits on all; answers the index of one that was woken.
pub(crate) fn wait_many(entries: &[WaitEntry], deadline: Deadline) -> Result<usize, Errno> {
    let mut places: Vec<Arc<Place>> = Vec::with_room(entries.len())?;
    let release = |places: &[Arc<Place>]| -> Option<usize> {
        // Every waiter must leave; a wake of any of them counts.
        let mut woken = None;
        for (at, place) in places.iter().enumerate() {
            if dequeue(place) {
                woken = Some(at);
            }
        }
        woken
    };
    for entry in entries {
        let place = Arc::new(Place::new());
        let manner = Manner { bitset: MATCH_ANY, target: None, place: Some(place.clone()) };
        match enqueue(entry.word, entry.expected, manner) {
            Ok(()) => places.push(place),
            Err(errno) => {
                return match release(&places) {
                    Some(at) => Ok(at),
                    None => Err(errno),
                };
            }
        }
    }
    let reason = WaitReason::on(WaitKind::FutexWaitv, entries.first().map_or(0, |entry| entry.word.addr.0));
    let any = || places.iter().any(|place| place.is_woken()).then_some(());
    let result = Park::park_until(WaitMode::Interruptible, deadline, reason, any);
    match (release(&places), result) {
        (Some(at), _) => Ok(at),
        (None, Err(WaitError::TimedOut)) => Err(Errno::ETIMEDOUT),
        (None, _) => Err(Errno::ERESTARTSYS),
    }
}

/// Wakes up to `count` waiters of the word at `addr` in the calling thread's address space (clear_child_tid at exit).
pub fn wake(addr: UserAddr, count: usize) {
    // The word may be in shared memory: as on Linux, those hear of it who wait without FUTEX_PRIVATE_FLAG.
    let _ = wake_word(Word { addr, shared: true }, count, MATCH_ANY);
}
