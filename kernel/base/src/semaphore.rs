//! A System V semaphore set as a pure state machine: operations on several semaphores at once, all or nothing.

use crate::errno::Errno;
use alloc::collections::VecDeque;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The largest value of a semaphore (SEMVMX).
pub const MAX_VALUE: i32 = 32_767;
/// The largest adjustment at exit (SEMAEM).
const MAX_ADJUST: i32 = 32_767;

/// One semaphore: its value and who changed it last.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Semaphore {
    pub value: u16,
    /// Process of the last operation (GETPID).
    pub pid: u32,
    /// Process that lowered it last and has not raised it since; 0 is none.
    taker: u32,
    /// Somebody else than who had lowered it raised it: it signals events, it is no lock.
    is_signal: bool,
}

impl Semaphore {
    /// As SETVAL by process `pid` leaves it.
    pub const fn new(value: u16, pid: u32) -> Self {
        Self { value, pid, taker: 0, is_signal: false }
    }

    /// The process that holds it, as far as it is used as a lock: lowered and raised by the same process each time.
    pub fn holder(&self) -> Option<u32> {
        (self.value == 0 && self.taker != 0 && !self.is_signal).then_some(self.taker)
    }

    fn note(&mut self, change: i16, pid: u32) {
        self.pid = pid;
        if change < 0 {
            self.taker = pid;
        } else if change > 0 {
            self.is_signal |= self.taker != pid;
            self.taker = 0;
        }
    }
}

/// Flags of an [`Op`].
pub const IPC_NOWAIT: u16 = 0o4000;
pub const SEM_UNDO: u16 = 0x1000;

/// One operation of semop(2): `struct sembuf`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Op {
    pub number: u16,
    pub change: i16,
    pub flags: u16,
}

impl Op {
    pub const fn is_no_wait(self) -> bool {
        self.flags & IPC_NOWAIT != 0
    }
    pub const fn has_undo(self) -> bool {
        self.flags & SEM_UNDO != 0
    }
}

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All done.
    Done,
    /// The operation at this index must wait; nothing was changed.
    Blocked(usize),
}

/// Performs `ops` for `pid`, all or none. `adjust[n]` is the caller's adjustment of semaphore `n` (used with SEM_UNDO; may be
/// empty when no operation has it). The numbers are within the set. ERANGE.
#[inline(always)]
pub fn attempt(set: &mut [Semaphore], ops: &[Op], pid: u32, adjust: &mut [i16]) -> Result<Outcome, Errno> {
    // Nearly always there is one, and nothing to take back.
    let [op] = ops else { return attempt_all(set, ops, pid, adjust) };
    if !perform(set, *op, adjust)? {
        return Ok(Outcome::Blocked(0));
    }
    set[op.number as usize].note(op.change, pid);
    Ok(Outcome::Done)
}

/// Performs one operation; false when it must wait. ERANGE.
#[inline(always)]
fn perform(set: &mut [Semaphore], op: Op, adjust: &mut [i16]) -> Result<bool, Errno> {
    let semaphore = &mut set[op.number as usize];
    let value = i32::from(semaphore.value);
    let new = value + i32::from(op.change);
    if op.change == 0 && value != 0 || new < 0 {
        return Ok(false);
    }
    if new > MAX_VALUE {
        return Err(Errno::ERANGE);
    }
    if op.has_undo() {
        let adjusted = i32::from(adjust[op.number as usize]) - i32::from(op.change);
        if !(-MAX_ADJUST - 1..=MAX_ADJUST).contains(&adjusted) {
            return Err(Errno::ERANGE);
        }
        adjust[op.number as usize] = adjusted as i16;
    }
    semaphore.value = new as u16;
    Ok(true)
}

#[inline(never)]
fn attempt_all(set: &mut [Semaphore], ops: &[Op], pid: u32, adjust: &mut [i16]) -> Result<Outcome, Errno> {
    let mut done = 0;
    let mut result = Ok(Outcome::Done);
    for (at, op) in ops.iter().enumerate() {
        match perform(set, *op, adjust) {
            Ok(true) => done = at + 1,
            Ok(false) => {
                result = Ok(Outcome::Blocked(at));
                break;
            }
            Err(errno) => {
                result = Err(errno);
                break;
            }
        }
    }
    if result == Ok(Outcome::Done) {
        for op in ops {
            set[op.number as usize].note(op.change, pid);
        }
        return result;
    }
    for op in ops[..done].iter().rev() {
        let semaphore = &mut set[op.number as usize];
        semaphore.value = (i32::from(semaphore.value) - i32::from(op.change)) as u16;
        if op.has_undo() {
            adjust[op.number as usize] += op.change;
        }
    }
    result
}

/// Applies a thread's adjustments at its exit; values stay within their bounds.
pub fn undo(set: &mut [Semaphore], adjust: &[i16], pid: u32) -> bool {
    let mut changed = false;
    for (semaphore, adjust) in set.iter_mut().zip(adjust) {
        if *adjust != 0 {
            semaphore.value = (i32::from(semaphore.value) + i32::from(*adjust)).clamp(0, MAX_VALUE) as u16;
            semaphore.pid = pid;
            semaphore.taker = 0;
            changed = true;
        }
    }
    changed
}

/// A thread that waits in a [`Line`].
pub trait Waiter {
    fn ops(&self) -> &[Op];
    fn pid(&self) -> u32;
    /// Lends its adjustments of the set; an empty slice when no operation has SEM_UNDO.
    fn with_adjustments<R>(&self, f: impl FnOnce(&mut [i16]) -> R) -> R;
}

struct Place<W> {
    waiter: W,
    /// The operation that holds it up.
    blocked: usize,
}

/// The threads whose operations on a set could not be done, in the order of arrival.
pub struct Line<W> {
    places: VecDeque<Place<W>>,
}

impl<W: Waiter> Default for Line<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Waiter> Line<W> {
    pub const fn new() -> Self {
        Self { places: VecDeque::new() }
    }
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// `waiter` stands in line because of its operation `blocked`.
    pub fn push(&mut self, waiter: W, blocked: usize) {
        self.places.push_back(Place { waiter, blocked });
    }

    /// The set was changed: performs the operations of those who can go on now, until nobody more can, and says what came of them:
    /// done, EAGAIN (what holds it up now is IPC_NOWAIT) or ERANGE. Answers whether any was done.
    pub fn after_change(&mut self, set: &mut [Semaphore], mut ended: impl FnMut(W, Result<(), Errno>)) -> bool {
        let (mut at, mut any) = (0, false);
        while let Some(place) = self.places.get_mut(at) {
            let waiter = &place.waiter;
            let outcome = waiter.with_adjustments(|adjust| attempt(set, waiter.ops(), waiter.pid(), adjust));
            let result = match outcome {
                Ok(Outcome::Blocked(blocked)) => {
                    place.blocked = blocked;
                    if !place.waiter.ops()[blocked].is_no_wait() {
                        at += 1;
                        continue;
                    }
                    Err(Errno::EAGAIN)
                }
                Ok(Outcome::Done) => Ok(()),
                Err(errno) => Err(errno),
            };
            // Taking out of the middle may move the others.
            let place = if at == 0 { self.places.pop_front() } else { self.places.remove(at) };
            let Some(place) = place else { break };
            if result.is_ok() && place.waiter.ops().iter().any(|op| op.change != 0) {
                // Its changes may let those before it go on.
                at = 0;
            }
            any |= result.is_ok();
            ended(place.waiter, result);
        }
        any
    }

    /// Takes the waiter out that `is_it` knows: false when it is not in line any more.
    pub fn cancel(&mut self, is_it: impl Fn(&W) -> bool) -> bool {
        let at = self.places.iter().position(|place| is_it(&place.waiter));
        at.and_then(|at| self.places.remove(at)).is_some()
    }

    /// The operation that holds a waiter up.
    pub fn blocked_at(&self, is_it: impl Fn(&W) -> bool) -> Option<Op> {
        let place = self.places.iter().find(|place| is_it(&place.waiter))?;
        place.waiter.ops().get(place.blocked).copied()
    }

    /// How many wait for semaphore `number` to grow (GETNCNT), and how many for it to become zero (GETZCNT).
    pub fn count_waiting(&self, number: u16) -> (usize, usize) {
        let blocked = self.places.iter().filter_map(|place| place.waiter.ops().get(place.blocked));
        let (mut grow, mut zero) = (0, 0);
        for op in blocked.filter(|op| op.number == number) {
            if op.change == 0 { zero += 1 } else { grow += 1 }
        }
        (grow, zero)
    }

    /// Everybody leaves (the set is removed).
    pub fn drain(&mut self) -> impl Iterator<Item = W> {
        self.places.drain(..).map(|place| place.waiter)
    }
}

#[cfg(test)]
#[path = "semaphore_tests.rs"]
mod tests;
