//! Priority-inheritance futexes: FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI.
//!
//! The word holds the owner's thread number, FUTEX_WAITERS and FUTEX_OWNER_DIED. A thread comes here only when the lock is
//! contended. Waiters stand in order of priority; unlocking hands the lock to the first by writing its number into the word.
//! Whoever owns a lock runs with the highest priority among its waiters, along the whole chain of locks that wait for each
//! other (the rules are `base::priority`); a chain that comes back to its beginning is EDEADLK.
//!
//! All of it is under one spin lock: contended locks of this kind are rare. Lock order: futex buckets, then `LOCKS`, then the
//! table of tasks, then run queues.

use super::Word;
use crate::mm::FutexKey;
use crate::prelude::*;
use crate::sched::change::requeue;
use crate::sync::{Deadline, Park, WaitError, WaitKind, WaitReason};
use crate::task::{current_arc, find_task};
use alloc::collections::BTreeMap;
use base::priority::{Changes, PriorityGraph};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use hal::user;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

const WAITING: u8 = 0;
/// The lock is the waiter's, and the word says so.
const GRANTED: u8 = 1;
/// The owner ended with the lock in its hands: the waiter is to take it.
const OWNER_GONE: u8 = 2;

pub(super) struct Waiter {
    task: Arc<Task>,
    state: AtomicU8,
    /// Whose end made it OWNER_GONE.
    gone: core::sync::atomic::AtomicU32,
}

impl Waiter {
    pub(super) fn new(task: Arc<Task>) -> Arc<Self> {
        Arc::new(Self { task, state: AtomicU8::new(WAITING), gone: 0.into() })
    }
    /// Whether there is something for its thread to do.
    pub(super) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) != WAITING
    }
}

pub(super) struct Locks {
    graph: PriorityGraph<FutexKey>,
    waiters: BTreeMap<u32, Arc<Waiter>>,
}

static LOCKS: SpinLock<Locks> = SpinLock::new(Locks { graph: PriorityGraph::new(), waiters: BTreeMap::new() });
/// How many threads wait, so that others need not take `LOCKS` to see that nobody does. Written under `LOCKS`.
static NR_WAITING: AtomicUsize = AtomicUsize::new(0);

/// Gives tasks the priorities they are lent now.
fn apply(changes: Changes) {
    for (tid, lent) in changes {
        if let Some(task) = find_task(tid) {
            task.sched.boost.store(lent, Ordering::Relaxed);
            requeue(&task);
        }
    }
}

impl Locks {
    fn enqueue(&mut self, key: FutexKey, owner: u32, waiter: &Arc<Waiter>) {
        let mut changes = Changes::new();
        let own = waiter.task.sched.rt_priority();
        self.graph.wait(key, owner, waiter.task.tid(), own, &mut changes);
        self.waiters.insert(waiter.task.tid(), waiter.clone());
        NR_WAITING.store(self.waiters.len(), Ordering::Relaxed);
        apply(changes);
    }

    fn forget(&mut self, tid: u32) -> Option<Arc<Waiter>> {
        let waiter = self.waiters.remove(&tid);
        NR_WAITING.store(self.waiters.len(), Ordering::Relaxed);
        waiter
    }

    /// Takes a waiter out of its queue.
    fn leave(&mut self, tid: u32) {
        let mut changes = Changes::new();
        self.graph.leave(tid, &mut changes);
        self.forget(tid);
        apply(changes);
    }

    /// `task` owns the lock of `key` now (if it has waiters at all).
    fn set_owner(&mut self, key: &FutexKey, task: &Arc<Task>) {
        let mut changes = Changes::new();
        self.graph.set_owner(key, task.tid(), &mut changes);
        apply(changes);
    }

    /// Makes the first waiter the owner; its thread is to be woken after `LOCKS` is free.
    fn hand_over(&mut self, key: &FutexKey, state: u8) -> Option<Arc<Waiter>> {
        let mut changes = Changes::new();
        let next = self.graph.hand_over(key, &mut changes)?;
        apply(changes);
        let next = self.forget(next)?;
        next.state.store(state, Ordering::Release);
        Some(next)
    }
}

/// The thread that owns the lock `tid` waits for.
pub fn owner_for(tid: u32) -> Option<u32> {
    LOCKS.lock().graph.owner_for(tid)
}

/// One attempt to take a lock.
enum Attempt {
    Taken,
    /// The word is not in memory.
    Fault,
    Owned(u32),
}

/// Takes the lock if its word names no owner (or the thread `gone`, which ended).
fn try_take(locks: &mut Locks, word: Word, key: &FutexKey, task: &Arc<Task>, gone: u32) -> Result<Attempt, Errno> {
    loop {
        let Ok(value) = user::load_u32_nofault(word.addr) else { return Ok(Attempt::Fault) };
        let owner = value & TID_MASK;
        if owner == task.tid() {
            return Err(Errno::EDEADLK);
        }
        let (new, taken) = if owner == 0 || owner == gone {
            let waiters = if locks.graph.is_contended(key) { WAITERS } else { 0 };
            (value & OWNER_DIED | waiters | task.tid(), true)
        } else {
            (value | WAITERS, false)
        };
        match user::compare_exchange_u32_nofault(word.addr, value, new) {
            Ok(Ok(_)) if taken => {
                locks.set_owner(key, task);
                return Ok(Attempt::Taken);
            }
            Ok(Ok(_)) => return Ok(Attempt::Owned(owner)),
            Ok(Err(_)) => {}
            Err(_) => return Ok(Attempt::Fault),
        }
    }
}

/// What came of asking for a lock on behalf of a waiter.
pub(super) enum Asked {
    /// It is the waiter's.
    Taken,
    /// The waiter stands in line behind this thread.
    Queued(u32),
    /// The word must be brought into memory first.
    Fault,
    /// The owner ended just now: look at the word again.
    OwnerEnds(u32),
}

/// Takes the lock for `waiter`, or queues it. EDEADLK; EINVAL for a word that plain waiters wait on.
fn ask(word: Word, key: &FutexKey, waiter: &Arc<Waiter>, gone: u32) -> Result<Asked, Errno> {
    let mut locks = LOCKS.lock();
    let owner = match try_take(&mut locks, word, key, &waiter.task, gone)? {
        Attempt::Taken => return Ok(Asked::Taken),
        Attempt::Fault => return Ok(Asked::Fault),
        Attempt::Owned(owner) => owner,
    };
    let living = find_task(owner).filter(|owner| owner.sched.pi_ended.load(Ordering::Relaxed) == 0);
    if living.is_none() {
        return Ok(Asked::OwnerEnds(owner));
    }
    if locks.graph.closes_circle(owner, waiter.task.tid()) {
        return Err(Errno::EDEADLK);
    }
    locks.enqueue(*key, owner, waiter);
    Ok(Asked::Queued(owner))
}

/// As [`ask`], for a waiter that FUTEX_CMP_REQUEUE_PI moves: a lock it gets at once is marked so, and its thread is woken.
/// ESRCH for a word that names no living thread.
pub(super) fn ask_for(word: Word, key: &FutexKey, waiter: &Arc<Waiter>) -> Result<Asked, Errno> {
    match ask(word, key, waiter, 0)? {
        Asked::Taken => {
            waiter.state.store(GRANTED, Ordering::Release);
            waiter.task.unpark();
            Ok(Asked::Taken)
        }
        // Unless its robust list has just cleared the word.
        Asked::OwnerEnds(owner) if user::load_u32_nofault(word.addr).is_ok_and(|value| value & TID_MASK == owner) => {
            Err(Errno::ESRCH)
        }
        asked => Ok(asked),
    }
}

/// How a waiter's sleep in line ended.
pub(super) enum Ended {
    Granted,
    /// The thread that owned the lock ended: take it from its number.
    OwnerGone(u32),
    Failed(WaitError),
}

/// The end of a queued waiter's sleep: it leaves the line if it stands there still.
pub(super) fn finish(waiter: &Arc<Waiter>, result: Result<(), WaitError>) -> Ended {
    let mut locks = LOCKS.lock();
    match (waiter.state.load(Ordering::Acquire), result) {
        (GRANTED, _) => Ended::Granted,
        (OWNER_GONE, _) => Ended::OwnerGone(waiter.gone.load(Ordering::Relaxed)),
        (_, Err(error)) => {
            locks.leave(waiter.task.tid());
            Ended::Failed(error)
        }
        (_, Ok(())) => unreachable!("parked until done"),
    }
}

/// FUTEX_LOCK_PI: EDEADLK, ESRCH for a word that names no living thread, ETIMEDOUT, EINVAL for a word with plain waiters.
pub(crate) fn lock(word: Word, deadline: Deadline) -> Result<(), Errno> {
    lock_from(word, deadline, 0)
}

/// As [`lock`]; the thread `gone`, which ended, may still be named as the owner.
pub(super) fn lock_from(word: Word, deadline: Deadline, gone: u32) -> Result<(), Errno> {
    let task = current_arc();
    let mut gone = gone;
    loop {
        let key = word.key()?;
        if super::has_plain_waiters(&key) {
            return Err(Errno::EINVAL);
        }
        let waiter = Waiter::new(task.clone());
        let owner = match ask(word, &key, &waiter, gone)? {
            Asked::Taken => return Ok(()),
            Asked::Fault => {
                user::fault_in(word.addr, 4, true)?;
                continue;
            }
            Asked::OwnerEnds(owner) => {
                // Its robust list may have cleared the word.
                if user::load_u32(word.addr)? & TID_MASK == owner {
                    return Err(Errno::ESRCH);
                }
                continue;
            }
            Asked::Queued(owner) => owner,
        };
        let reason = WaitReason::held_by(WaitKind::FutexPi, word.addr.0, owner);
        let done = || waiter.is_done().then_some(());
        let result = Park::park_until(WaitMode::Interruptible, deadline, reason, done);
        match finish(&waiter, result) {
            Ended::Granted => return Ok(()),
            Ended::OwnerGone(owner) => gone = owner,
            Ended::Failed(WaitError::TimedOut) => return Err(Errno::ETIMEDOUT),
            Ended::Failed(WaitError::Interrupted) => return Err(Errno::ERESTARTNOINTR),
        }
    }
}

/// FUTEX_TRYLOCK_PI: EAGAIN when another thread owns it, EDEADLK when the caller does.
pub(crate) fn try_lock(word: Word) -> Result<(), Errno> {
    let task = current_arc();
    loop {
        let key = word.key()?;
        let mut locks = LOCKS.lock();
        match try_take(&mut locks, word, &key, &task, 0)? {
            Attempt::Taken => return Ok(()),
            Attempt::Owned(owner) if find_task(owner).is_none() => return Err(Errno::ESRCH),
            Attempt::Owned(_) => return Err(Errno::EAGAIN),
            Attempt::Fault => {
                drop(locks);
                user::fault_in(word.addr, 4, true)?;
            }
        }
    }
}

/// FUTEX_UNLOCK_PI: EPERM when the caller is not the owner.
pub(crate) fn unlock(word: Word) -> Result<(), Errno> {
    let task = current();
    loop {
        let key = word.key()?;
        let mut locks = LOCKS.lock();
        let new = match locks.graph.first(&key) {
            Some(next) if locks.graph.nr_waiters(&key) > 1 => next | WAITERS,
            Some(next) => next,
            None => 0,
        };
        let faulted = loop {
            let Ok(value) = user::load_u32_nofault(word.addr) else { break true };
            if value & TID_MASK != task.tid() {
                return Err(Errno::EPERM);
            }
            match user::compare_exchange_u32_nofault(word.addr, value, new) {
                Ok(Ok(_)) => break false,
                Ok(Err(_)) => {}
                Err(_) => break true,
            }
        };
        if faulted {
            drop(locks);
            user::fault_in(word.addr, 4, true)?;
            continue;
        }
        let next = locks.hand_over(&key, GRANTED);
        drop(locks);
        if let Some(next) = next {
            next.task.unpark();
        }
        return Ok(());
    }
}

/// Whether threads wait in line for the lock of `key`: plain wakes of it are EINVAL.
pub(super) fn is_contended(key: &FutexKey) -> bool {
    NR_WAITING.load(Ordering::Relaxed) != 0 && LOCKS.lock().graph.is_contended(key)
}

/// The real-time priority of `task` has changed: what it lends goes with it.
pub fn priority_changed(task: &Task) {
    if NR_WAITING.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut changes = Changes::new();
    let mut locks = LOCKS.lock();
    locks.graph.set_priority(task.tid(), task.sched.rt_priority(), &mut changes);
    apply(changes);
}

/// The calling thread is ending: the first waiter of each lock it holds is to take it.
pub(crate) fn on_exit() {
    let task = current();
    let mut woken: Vec<Arc<Waiter>> = Vec::new();
    let mut locks = LOCKS.lock();
    task.sched.pi_ended.store(1, Ordering::Relaxed);
    for key in locks.graph.held_by(task.tid()) {
        // It becomes the owner here at once, so that others lend it their priority until it has written the word.
        if let Some(next) = locks.hand_over(&key, OWNER_GONE) {
            next.gone.store(task.tid(), Ordering::Relaxed);
            woken.push(next);
        }
    }
    drop(locks);
    for waiter in woken {
        waiter.task.unpark();
    }
}

/// The thread goes on as a new program (execve): it may own locks again.
pub(crate) fn begin_anew(task: &Task) {
    task.sched.pi_ended.store(0, Ordering::Relaxed);
}
