//! A System V semaphore set as a pure state machine: operations on several semaphores at once, all or nothing.

use crate::errno::Errno;
use alloc::vec::Vec;

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

/// One operation of semop(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    pub number: u16,
    pub change: i16,
    /// IPC_NOWAIT.
    pub no_wait: bool,
    /// SEM_UNDO.
    pub undo: bool,
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
pub fn attempt(set: &mut [Semaphore], ops: &[Op], pid: u32, adjust: &mut [i16]) -> Result<Outcome, Errno> {
    let mut done = 0;
    let mut result = Ok(Outcome::Done);
    for (at, op) in ops.iter().enumerate() {
        let value = i32::from(set[op.number as usize].value);
        let new = value + i32::from(op.change);
        if op.change == 0 && value != 0 || new < 0 {
            result = Ok(Outcome::Blocked(at));
            break;
        }
        if new > MAX_VALUE {
            result = Err(Errno::ERANGE);
            break;
        }
        if op.undo {
            let adjusted = i32::from(adjust[op.number as usize]) - i32::from(op.change);
            if !(-MAX_ADJUST - 1..=MAX_ADJUST).contains(&adjusted) {
                result = Err(Errno::ERANGE);
                break;
            }
            adjust[op.number as usize] = adjusted as i16;
        }
        set[op.number as usize].value = new as u16;
        done = at + 1;
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
        if op.undo {
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

/// How many of the blocked operations wait for semaphore `number` to grow, and how many for it to become zero.
pub fn count_waiting(blocked: impl Iterator<Item = Op>, number: u16) -> (usize, usize) {
    let ops: Vec<Op> = blocked.filter(|op| op.number == number).collect();
    let zero = ops.iter().filter(|op| op.change == 0).count();
    (ops.len() - zero, zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u16, change: i16) -> Op {
        Op { number, change, no_wait: false, undo: false }
    }

    #[test]
    fn all_or_nothing() {
        let mut set = [Semaphore::new(1, 0), Semaphore::new(0, 0)];
        assert_eq!(attempt(&mut set, &[op(0, -1), op(1, -1)], 7, &mut []), Ok(Outcome::Blocked(1)));
        assert_eq!(set[0], Semaphore::new(1, 0));
        assert_eq!(attempt(&mut set, &[op(1, 1), op(0, -1), op(1, -1)], 7, &mut []), Ok(Outcome::Done));
        assert_eq!((set[0].value, set[1].value, set[0].pid), (0, 0, 7));
        assert_eq!(attempt(&mut set, &[op(0, 0)], 8, &mut []), Ok(Outcome::Done));
        assert_eq!(attempt(&mut set, &[op(0, 32_767), op(0, 1)], 8, &mut []), Err(Errno::ERANGE));
        assert_eq!(set[0].value, 0);
    }

    #[test]
    fn adjustments_mirror_changes() {
        let mut set = [Semaphore::new(3, 0)];
        let mut adjust = [0i16];
        let take = Op { undo: true, ..op(0, -2) };
        assert_eq!(attempt(&mut set, &[take], 1, &mut adjust), Ok(Outcome::Done));
        assert_eq!((set[0].value, adjust[0]), (1, 2));
        assert_eq!(attempt(&mut set, &[take], 1, &mut adjust), Ok(Outcome::Blocked(0)));
        assert_eq!(attempt(&mut set, &[take, take], 1, &mut adjust), Ok(Outcome::Blocked(0)));
        assert_eq!(adjust[0], 2);
        assert!(undo(&mut set, &adjust, 9));
        assert_eq!((set[0].value, set[0].pid, set[0].holder()), (3, 9, None));
    }

    #[test]
    fn a_lock_has_a_holder_and_a_signal_has_none() {
        let mut set = [Semaphore::new(1, 1)];
        let mut step = |change, pid| {
            assert_eq!(attempt(&mut set, &[op(0, change)], pid, &mut []), Ok(Outcome::Done));
            set[0].holder()
        };
        assert_eq!(step(-1, 2), Some(2));
        assert_eq!(step(1, 2), None);
        assert_eq!(step(-1, 3), Some(3));
        // Raised by another: from now on nobody is said to hold it.
        assert_eq!(step(1, 2), None);
        assert_eq!(step(-1, 3), None);
        // Raised before anyone had taken it: a count of events.
        let mut set = [Semaphore::new(0, 0)];
        assert_eq!(attempt(&mut set, &[op(0, 1)], 1, &mut []), Ok(Outcome::Done));
        assert_eq!(attempt(&mut set, &[op(0, -1)], 2, &mut []), Ok(Outcome::Done));
        assert_eq!(set[0].holder(), None);
    }
}
