//! FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI: waiters on a plain word (a condition variable's) that are moved to a
//! priority-inheriting lock, which they own when they return.
//!
//! A waiter names its lock when it comes. Moving it either takes the lock for it, or puts it in line there; it sleeps through
//! all of this once. Lock order: a bucket, then `pi`'s locks.

use super::pi::{self, Asked, Ended};
use super::{MATCH_ANY, Manner, TABLE, Word, dequeue, enqueue, index};
use crate::mm::FutexKey;
use crate::prelude::*;
use crate::sync::{Deadline, Park, WaitError, WaitKind, WaitReason};
use crate::task::current_arc;
use core::sync::atomic::Ordering;
use hal::user;

/// The lock that a waiter is to be moved to, and its place in line there.
pub(super) struct Target {
    key: FutexKey,
    waiter: Arc<pi::Waiter>,
}

/// FUTEX_WAIT_REQUEUE_PI: waits on `word` while it holds `expected`, to be moved to the lock `target`. EINVAL when both are
/// one, EAGAIN, ETIMEDOUT. A signal restarts it before the move; after it, EAGAIN.
pub fn wait(word: Word, expected: u32, target: Word, deadline: Deadline) -> Result<(), Errno> {
    if word.addr == target.addr {
        return Err(Errno::EINVAL);
    }
    let key = target.key()?;
    if word.key()? == key {
        return Err(Errno::EINVAL);
    }
    let in_line = pi::Waiter::new(current_arc());
    let moves_to = Some(Target { key, waiter: in_line.clone() });
    enqueue(word, expected, Manner { bitset: MATCH_ANY, target: moves_to, place: None })?;
    let reason = WaitReason::on(WaitKind::FutexRequeuePi, word.addr.0);
    let done = || in_line.is_done().then_some(());
    let result = Park::park_until(WaitMode::Interruptible, deadline, reason, done);
    if let Err(error) = result
        && !dequeue(&current().ipc.futex)
    {
        return Err(match error {
            WaitError::TimedOut => Errno::ETIMEDOUT,
            WaitError::Interrupted => Errno::ERESTARTNOINTR,
        });
    }
    match pi::finish(&in_line, result) {
        Ended::Granted => Ok(()),
        Ended::OwnerGone(owner) => match pi::lock_from(target, deadline, owner) {
            Err(Errno::ERESTARTNOINTR) => Err(Errno::EAGAIN),
            result => result,
        },
        Ended::Failed(WaitError::TimedOut) => Err(Errno::ETIMEDOUT),
        // Waiting anew would find that the word has changed.
        Ended::Failed(WaitError::Interrupted) => Err(Errno::EAGAIN),
    }
}

/// One step of moving waiters.
enum Step {
    /// A waiter was moved, or got the lock.
    Moved,
    /// No waiter is left.
    Nobody,
    /// This word must be brought into memory first; for writing or not.
    Fault(UserAddr, bool),
}

/// Moves the first waiter of `from` to the lock `to`.
fn move_one(from: Word, to: Word, expected: Option<u32>) -> Result<Step, Errno> {
    let (source, target) = (from.key()?, to.key()?);
    if source == target {
        return Err(Errno::EINVAL);
    }
    let mut queue = TABLE[index(&source)].lock();
    if let Some(expected) = expected {
        match user::load_u32_nofault(from.addr) {
            Ok(value) if value != expected => return Err(Errno::EAGAIN),
            Ok(_) => {}
            Err(_) => return Ok(Step::Fault(from.addr, false)),
        }
    }
    let Some(at) = queue.iter().position(|waiter| waiter.key == source) else { return Ok(Step::Nobody) };
    let waiter = &queue[at];
    // Both calls name the same lock, or the program is wrong.
    let Some(wanted) = waiter.target.as_ref().filter(|wanted| wanted.key == target) else { return Err(Errno::EINVAL) };
    // It has left the bucket before its thread can see that it is in line.
    waiter.place().woken.store(true, Ordering::Release);
    match pi::ask_for(to, &target, &wanted.waiter) {
        Ok(Asked::Taken | Asked::Queued(_)) => {
            let moved = queue.remove(at);
            // Its thread may be gone already: the last reference goes with no lock held.
            drop(queue);
            drop(moved);
            Ok(Step::Moved)
        }
        Ok(Asked::Fault | Asked::OwnerEnds(_)) => {
            waiter.place().woken.store(false, Ordering::Release);
            Ok(Step::Fault(to.addr, true))
        }
        Err(errno) => {
            waiter.place().woken.store(false, Ordering::Release);
            Err(errno)
        }
    }
}

/// FUTEX_CMP_REQUEUE_PI: if `from` holds `expected`, moves up to `1 + nr_requeue` of its waiters to the lock `to`; the first gets
/// it if it is free. EINVAL, EAGAIN, ESRCH, EDEADLK.
pub fn requeue(from: Word, to: Word, nr_wake: usize, nr_requeue: usize, expected: u32) -> SysResult {
    if from.addr == to.addr || nr_wake != 1 {
        return Err(Errno::EINVAL);
    }
    let mut moved = 0;
    while moved <= nr_requeue {
        match move_one(from, to, (moved == 0).then_some(expected)) {
            Ok(Step::Moved) => moved += 1,
            Ok(Step::Nobody) => break,
            Ok(Step::Fault(addr, true)) => user::fault_in(addr, 4, true)?,
            Ok(Step::Fault(addr, false)) => drop(user::load_u32(addr)?),
            Err(errno) => return Err(errno),
        }
    }
    Ok(moved)
}
