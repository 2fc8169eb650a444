//! The rules of futex(2) that need no thread: who is woken first and who is moved, and what FUTEX_WAKE_OP does to a word.

use crate::errno::Errno;
use alloc::collections::VecDeque;

/// FUTEX_BITSET_MATCH_ANY.
pub const MATCH_ANY: u32 = u32::MAX;

/// What the rules ask of a waiter.
pub trait Waiter {
    type Key: PartialEq + Copy;
    /// The word it waits on.
    fn key(&self) -> Self::Key;
    fn set_key(&mut self, key: Self::Key);
    fn bitset(&self) -> u32;
    /// Real-time priority of its thread when it came.
    fn priority(&self) -> u8;
    /// It waits to be moved to a priority-inheriting lock; plain wakes and moves may not touch it.
    fn has_target(&self) -> bool;
}

/// Puts a waiter where its priority belongs, behind those of the same.
#[inline]
pub fn insert<W: Waiter>(bucket: &mut VecDeque<W>, waiter: W) {
    if bucket.back().is_none_or(|last| last.priority() >= waiter.priority()) {
        bucket.push_back(waiter);
    } else {
        insert_before_lower(bucket, waiter);
    }
}

#[cold]
#[inline(never)]
fn insert_before_lower<W: Waiter>(bucket: &mut VecDeque<W>, waiter: W) {
    let at = bucket.partition_point(|other| other.priority() >= waiter.priority());
    bucket.insert(at, waiter);
}

/// Takes up to `count` waiters on `key` that share a bit with `bitset` and gives each to `woken`. Returns how many; EINVAL at the first
/// that waits for a priority-inheriting lock (those before it are gone).
#[inline]
pub fn take<W: Waiter>(
    bucket: &mut VecDeque<W>,
    key: W::Key,
    bitset: u32,
    count: usize,
    mut woken: impl FnMut(W),
) -> Result<usize, Errno> {
    let mut taken = 0;
    let mut at = 0;
    while taken < count
        && let Some(waiter) = bucket.get(at)
    {
        if waiter.key() != key {
            at += 1;
        } else if waiter.has_target() {
            return Err(Errno::EINVAL);
        } else if waiter.bitset() & bitset != 0 {
            // Nearly always the first; taking out of the middle may move the others.
            if let Some(waiter) = if at == 0 { bucket.pop_front() } else { bucket.remove(at) } {
                woken(waiter);
                taken += 1;
            }
        } else {
            at += 1;
        }
    }
    Ok(taken)
}

/// The position of the first waiter on `key` at or behind `from`.
#[inline]
pub fn position<W: Waiter>(bucket: &VecDeque<W>, key: W::Key, from: usize) -> Option<usize> {
    (from..bucket.len()).find(|at| bucket[*at].key() == key)
}

/// FUTEX_WAKE_OP's third argument: what is done to the second word, and which old values wake its waiters too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WakeOp {
    operation: u32,
    argument: u32,
    compare: u32,
    against: i32,
}

impl WakeOp {
    /// ENOSYS for an operation there is not.
    pub fn decode(word: u32) -> Result<Self, Errno> {
        let operation = word >> 28 & 0xf;
        let mut argument = ((word << 8) as i32 >> 20) as u32;
        if operation & 8 != 0 {
            argument = 1u32.wrapping_shl(argument & 31);
        }
        if operation & 7 > 4 {
            return Err(Errno::ENOSYS);
        }
        Ok(Self { operation: operation & 7, argument, compare: word >> 24 & 0xf, against: (word << 20) as i32 >> 20 })
    }
    /// The word's new value.
    pub fn apply(&self, old: u32) -> u32 {
        match self.operation {
            0 => self.argument,
            1 => old.wrapping_add(self.argument),
            2 => old | self.argument,
            3 => old & !self.argument,
            _ => old ^ self.argument,
        }
    }
    /// Whether the old value wakes the second word's waiters: ENOSYS for a comparison there is not.
    pub fn holds(&self, old: u32) -> Result<bool, Errno> {
        let old = old as i32;
        Ok(match self.compare {
            0 => old == self.against,
            1 => old != self.against,
            2 => old < self.against,
            3 => old <= self.against,
            4 => old > self.against,
            5 => old >= self.against,
            _ => return Err(Errno::ENOSYS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[derive(Clone, Debug)]
    struct One {
        name: u32,
        key: u64,
        bitset: u32,
        priority: u8,
        target: bool,
    }

    fn one(name: u32, key: u64) -> One {
        One { name, key, bitset: MATCH_ANY, priority: 0, target: false }
    }

    impl Waiter for One {
        type Key = u64;
        fn key(&self) -> u64 {
            self.key
        }
        fn set_key(&mut self, key: u64) {
            self.key = key;
        }
        fn bitset(&self) -> u32 {
            self.bitset
        }
        fn priority(&self) -> u8 {
            self.priority
        }
        fn has_target(&self) -> bool {
            self.target
        }
    }

    fn bucket(waiters: &[One]) -> VecDeque<One> {
        let mut bucket = VecDeque::new();
        waiters.iter().for_each(|waiter| insert(&mut bucket, waiter.clone()));
        bucket
    }

    fn woken(bucket: &mut VecDeque<One>, key: u64, bitset: u32, count: usize) -> (Result<usize, Errno>, Vec<u32>) {
        let mut names = Vec::new();
        let taken = take(bucket, key, bitset, count, |waiter| names.push(waiter.name));
        (taken, names)
    }

    #[test]
    fn by_priority_then_by_age() {
        let mut bucket = bucket(&[
            one(1, 7),
            One { priority: 3, ..one(2, 7) },
            one(3, 7),
            One { priority: 9, ..one(4, 7) },
            One { priority: 3, ..one(5, 7) },
        ]);
        assert_eq!(woken(&mut bucket, 7, MATCH_ANY, 9), (Ok(5), alloc::vec![4, 2, 5, 1, 3]));
    }

    #[test]
    fn no_more_than_asked_for_and_only_of_that_word() {
        let mut bucket = bucket(&[one(1, 7), one(2, 8), one(3, 7), one(4, 7)]);
        assert_eq!(woken(&mut bucket, 7, MATCH_ANY, 2), (Ok(2), alloc::vec![1, 3]));
        assert_eq!(woken(&mut bucket, 9, MATCH_ANY, 2), (Ok(0), alloc::vec![]));
        assert_eq!(woken(&mut bucket, 8, MATCH_ANY, 0), (Ok(0), alloc::vec![]));
        assert_eq!(bucket.iter().map(|waiter| waiter.name).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn bits_choose() {
        let mut bucket =
            bucket(&[One { bitset: 1, ..one(1, 7) }, One { bitset: 6, ..one(2, 7) }, One { bitset: 4, ..one(3, 7) }]);
        assert_eq!(woken(&mut bucket, 7, 4, 9), (Ok(2), alloc::vec![2, 3]));
        assert_eq!(woken(&mut bucket, 7, 2, 9), (Ok(0), alloc::vec![]));
    }

    #[test]
    fn one_with_a_target_is_not_woken() {
        let mut bucket = bucket(&[one(1, 7), One { target: true, ..one(2, 7) }, one(3, 7)]);
        assert_eq!(woken(&mut bucket, 7, MATCH_ANY, 9), (Err(Errno::EINVAL), alloc::vec![1]));
        assert_eq!(bucket.len(), 2);
    }

    #[test]
    fn positions() {
        let bucket = bucket(&[one(1, 7), one(2, 8), one(3, 7)]);
        assert_eq!(
            (position(&bucket, 7, 0), position(&bucket, 7, 1), position(&bucket, 7, 3)),
            (Some(0), Some(2), None)
        );
    }

    /// FUTEX_OP(op, oparg, cmp, cmparg) of the manual page.
    fn encode(operation: u32, argument: u32, compare: u32, against: u32) -> u32 {
        operation << 28 | compare << 24 | (argument & 0xfff) << 12 | against & 0xfff
    }

    #[test]
    fn operations() {
        let new = |operation, argument, old| WakeOp::decode(encode(operation, argument, 0, 0)).map(|op| op.apply(old));
        assert_eq!(new(0, 5, 9), Ok(5));
        assert_eq!(new(1, 5, u32::MAX), Ok(4));
        assert_eq!(new(1, 0xfff, 9), Ok(8)); // arguments have a sign
        assert_eq!(new(2, 0b0110, 0b0011), Ok(0b0111));
        assert_eq!(new(3, 0b0110, 0b0011), Ok(0b0001));
        assert_eq!(new(4, 0b0110, 0b0011), Ok(0b0101));
        assert_eq!(new(8, 31, 0), Ok(1 << 31)); // FUTEX_OP_ARG_SHIFT
        assert_eq!(new(8, 32, 0), Ok(1));
        assert_eq!(new(5, 0, 0), Err(Errno::ENOSYS));
    }

    #[test]
    fn comparisons() {
        let holds = |compare, against, old| WakeOp::decode(encode(0, 0, compare, against)).and_then(|op| op.holds(old));
        let minus_one = u32::MAX;
        for (compare, results) in [
            (0, [false, true, false]),
            (1, [true, false, true]),
            (2, [true, false, false]),
            (3, [true, true, false]),
            (4, [false, false, true]),
            (5, [false, true, true]),
        ] {
            assert_eq!([minus_one - 1, minus_one, 0].map(|old| holds(compare, 0xfff, old)), results.map(Ok));
        }
        assert_eq!(holds(6, 0, 0), Err(Errno::ENOSYS));
    }
}
