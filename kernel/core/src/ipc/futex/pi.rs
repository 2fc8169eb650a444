//! Priority-inheritance futexes: FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI.
//!
//! The word holds the owner's thread number, FUTEX_WAITERS and FUTEX_OWNER_DIED. A thread comes here only when the lock is
//! contended. Waiters stand in order of priority; unlocking hands the lock to the first by writing its number into the word.
//! Whoever owns a lock runs with the highest priority among its waiters, along the whole chain of locks that wait for each
//! other; a chain that comes back to its beginning is EDEADLK.
//!
//! All of it is under one spin lock: contended locks of this kind are rare. Lock order: `LOCKS`, then the table of tasks, then
//! run queues.

use super::Word;
use crate::mm::FutexKey;
use crate::prelude::*;
use crate::process::{current_arc, find_task};
use crate::sched::change::requeue;
use crate::sync::{Deadline, Park, WaitError, WaitReason};
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU8, Ordering};
use hal::user;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
/// Longer chains are not followed: EDEADLK, as Linux has it.
const MAX_CHAIN: usize = 1024;

const WAITING: u8 = 0;
/// The lock is the waiter's, and the word says so.
const GRANTED: u8 = 1;
/// The owner ended with the lock in its hands: the waiter is to take it.
const OWNER_GONE: u8 = 2;

struct Waiter {
    task: Arc<Task>,
    state: AtomicU8,
}

struct Lock {
    owner: Arc<Task>,
    /// In the order of arrival; the first of the highest priority goes next.
    waiters: Vec<Arc<Waiter>>,
}

impl Lock {
    /// Where the waiter that goes next is.
    fn first(&self) -> Option<usize> {
        let priority = |at: usize| self.waiters[at].task.sched.effective_rt();
        (0..self.waiters.len()).reduce(|best, at| if priority(at) > priority(best) { at } else { best })
    }
}

struct Locks {
    /// Locks with waiters.
    contended: BTreeMap<FutexKey, Lock>,
    /// Which lock a thread waits for.
    waits_for: BTreeMap<u32, FutexKey>,
}

static LOCKS: SpinLock<Locks> = SpinLock::new(Locks { contended: BTreeMap::new(), waits_for: BTreeMap::new() });

impl Locks {
    /// Whether waiting for `owner` would wait for `tid`.
    fn closes_circle(&self, owner: u32, tid: u32) -> bool {
        let mut at = owner;
        for _ in 0..MAX_CHAIN {
            if at == tid {
                return true;
            }
            match self.waits_for.get(&at).and_then(|key| self.contended.get(key)) {
                Some(lock) => at = lock.owner.tid,
                None => return false,
            }
        }
        true
    }

    /// Gives `task` the priority its locks' waiters lend it, and so on along the chain it waits in.
    fn lend(&self, task: &Arc<Task>) {
        let mut task = task.clone();
        for _ in 0..MAX_CHAIN {
            let lent = self
                .contended
                .values()
                .filter(|lock| lock.owner.tid == task.tid)
                .flat_map(|lock| lock.waiters.iter())
                .map(|waiter| waiter.task.sched.effective_rt())
                .max()
                .unwrap_or(0);
            if task.sched.boost.swap(lent, Ordering::Relaxed) == lent {
                return;
            }
            requeue(&task);
            match self.waits_for.get(&task.tid).and_then(|key| self.contended.get(key)) {
                Some(lock) => task = lock.owner.clone(),
                None => return,
            }
        }
    }

    fn enqueue(&mut self, key: FutexKey, owner: &Arc<Task>, waiter: &Arc<Waiter>) {
        let lock = self.contended.entry(key).or_insert_with(|| Lock { owner: owner.clone(), waiters: Vec::new() });
        // The word is what counts: an owner that took the lock in user mode is not known here.
        lock.owner = owner.clone();
        lock.waiters.push(waiter.clone());
        self.waits_for.insert(waiter.task.tid, key);
        self.lend(owner);
    }

    /// Takes a waiter out of its queue.
    fn leave(&mut self, key: &FutexKey, waiter: &Arc<Waiter>) {
        self.waits_for.remove(&waiter.task.tid);
        let Some(lock) = self.contended.get_mut(key) else { return };
        lock.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
        let owner = lock.owner.clone();
        if lock.waiters.is_empty() {
            self.contended.remove(key);
        }
        self.lend(&owner);
    }

    fn has_waiters(&self, key: &FutexKey) -> bool {
        self.contended.contains_key(key)
    }

    /// `task` owns the lock of `key` now (if it has waiters at all).
    fn set_owner(&mut self, key: &FutexKey, task: &Arc<Task>) {
        let Some(lock) = self.contended.get_mut(key) else { return };
        let old = core::mem::replace(&mut lock.owner, task.clone());
        self.lend(&old);
        self.lend(task);
    }
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
        if owner == task.tid {
            return Err(Errno::EDEADLK);
        }
        let (new, taken) = if owner == 0 || owner == gone {
            let waiters = if locks.has_waiters(key) { WAITERS } else { 0 };
            (value & OWNER_DIED | waiters | task.tid, true)
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

/// FUTEX_LOCK_PI: EDEADLK, ESRCH for a word that names no living thread, ETIMEDOUT.
pub(crate) fn lock(word: Word, deadline: Deadline) -> Result<(), Errno> {
    let task = current_arc();
    let mut gone = 0;
    loop {
        let key = word.key()?;
        let mut locks = LOCKS.lock();
        let owner = match try_take(&mut locks, word, &key, &task, gone)? {
            Attempt::Taken => return Ok(()),
            Attempt::Fault => {
                drop(locks);
                user::fault_in(word.addr, 4, true)?;
                continue;
            }
            Attempt::Owned(owner) => owner,
        };
        let living = find_task(owner).filter(|owner| owner.sched.pi_ended.load(Ordering::Relaxed) == 0);
        let Some(owner) = living else {
            drop(locks);
            // It may have ended just now, and its robust list have cleared the word.
            if user::load_u32(word.addr)? & TID_MASK == owner {
                return Err(Errno::ESRCH);
            }
            continue;
        };
        if locks.closes_circle(owner.tid, task.tid) {
            return Err(Errno::EDEADLK);
        }
        let waiter = Arc::new(Waiter { task: task.clone(), state: AtomicU8::new(WAITING) });
        locks.enqueue(key, &owner, &waiter);
        drop(locks);
        let reason = WaitReason::held_by("futex_pi", word.addr.0, owner.tid);
        let changed = || (waiter.state.load(Ordering::Acquire) != WAITING).then_some(());
        let result = Park::park_until(WaitMode::Interruptible, deadline, reason, changed);
        let mut locks = LOCKS.lock();
        match waiter.state.load(Ordering::Acquire) {
            GRANTED => return Ok(()),
            OWNER_GONE => {
                gone = owner.tid;
                continue;
            }
            _ => {}
        }
        locks.leave(&key, &waiter);
        match result {
            Err(WaitError::TimedOut) => return Err(Errno::ETIMEDOUT),
            Err(WaitError::Interrupted) => return Err(Errno::ERESTARTNOINTR),
            Ok(()) => {}
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
    let task = current_arc();
    loop {
        let key = word.key()?;
        let mut locks = LOCKS.lock();
        let next = locks.contended.get(&key).and_then(|lock| Some(lock.waiters[lock.first()?].clone()));
        let others = locks.contended.get(&key).is_some_and(|lock| lock.waiters.len() > 1);
        let new = match &next {
            Some(waiter) => waiter.task.tid | if others { WAITERS } else { 0 },
            None => 0,
        };
        let faulted = loop {
            let Ok(value) = user::load_u32_nofault(word.addr) else { break true };
            if value & TID_MASK != task.tid {
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
        if let Some(next) = &next {
            if let Some(lock) = locks.contended.get_mut(&key) {
                lock.owner = next.task.clone();
            }
            locks.leave(&key, next);
            next.state.store(GRANTED, Ordering::Release);
        }
        locks.lend(&task);
        drop(locks);
        if let Some(next) = next {
            next.task.unpark();
        }
        return Ok(());
    }
}

/// The calling thread is ending: the first waiter of each lock it holds is to take it.
pub(super) fn on_exit() {
    let task = current();
    let mut woken: Vec<Arc<Waiter>> = Vec::new();
    let mut locks = LOCKS.lock();
    task.sched.pi_ended.store(1, Ordering::Relaxed);
    let held: Vec<FutexKey> =
        locks.contended.iter().filter(|(_, lock)| lock.owner.tid == task.tid).map(|(key, _)| *key).collect();
    for key in held {
        let next = locks.contended.get(&key).and_then(|lock| Some(lock.waiters[lock.first()?].clone()));
        if let Some(next) = next {
            // It becomes the owner here at once, so that others lend it their priority until it has written the word.
            if let Some(lock) = locks.contended.get_mut(&key) {
                lock.owner = next.task.clone();
            }
            locks.leave(&key, &next);
            next.state.store(OWNER_GONE, Ordering::Release);
            woken.push(next);
        }
    }
    drop(locks);
    for waiter in woken {
        waiter.task.unpark();
    }
}
