//! [`RecordLocks`]: the byte ranges of one file that are locked, by owner: who is in the way, and what is left after a change.
//!
//! Ranges of one owner never overlap, and touch only when they are of different kinds. Each kind stands in a tree by start and end, so
//! that a look at a range costs the logarithm of how many others there are, and what it meets.

use crate::errno::Errno;
use crate::tree::{Key, Tree};
use core::ops::ControlFlow;

/// A locked range, both ends included; the end is below `u64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockedRange<O> {
    pub owner: O,
    pub start: u64,
    pub end: u64,
    pub exclusive: bool,
}

impl<O: PartialEq> LockedRange<O> {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

/// Who may own locks, as a number of its own.
pub trait LockOwner: Copy + PartialEq {
    fn number(&self) -> Key;
}

/// An owner with locks.
struct Holder {
    ranges: usize,
    /// Holders are told of in the order in which they came.
    since: u64,
}

struct Held<O> {
    range: LockedRange<O>,
    since: u64,
}

pub struct RecordLocks<O> {
    /// Shared and exclusive ones.
    kinds: [Tree<Held<O>>; 2],
    holders: Tree<Holder>,
    /// Of the last holder.
    last_since: u64,
    /// Of the last range: keys that begin with the same number differ.
    made: u64,
}

impl<O: LockOwner> Default for RecordLocks<O> {
    fn default() -> Self {
        Self { kinds: [Tree::new(), Tree::new()], holders: Tree::new(), last_since: 0, made: 0 }
    }
}

impl<O: LockOwner> RecordLocks<O> {
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Calls `f` with the ranges of one kind that overlap `start..=end`.
    fn overlapping(
        &self,
        exclusive: bool,
        (start, end): (u64, u64),
        f: &mut dyn FnMut(u32, &Held<O>) -> ControlFlow<()>,
    ) {
        self.kinds[usize::from(exclusive)].visit((0, 0)..(end + 1, 0), start, &mut *f);
    }

    /// Calls `f` with the locks in the way of `wanted`, those of one kind by their start.
    fn conflicts(&self, wanted: &LockedRange<O>, f: &mut dyn FnMut(&Held<O>) -> ControlFlow<()>) {
        let kinds = if wanted.exclusive { &[true, false][..] } else { &[true][..] };
        for &exclusive in kinds {
            self.overlapping(exclusive, (wanted.start, wanted.end), &mut |_, held| {
                if held.range.conflicts(wanted) { f(held) } else { ControlFlow::Continue(()) }
            });
        }
    }

    /// Whether a lock is in the way of `wanted`.
    pub fn is_blocked(&self, wanted: &LockedRange<O>) -> bool {
        let mut blocked = false;
        self.conflicts(wanted, &mut |_| {
            blocked = true;
            ControlFlow::Break(())
        });
        blocked
    }

    /// The first lock in the way of `wanted`: of the owner that came first, the lowest.
    pub fn blocker(&self, wanted: &LockedRange<O>) -> Option<LockedRange<O>> {
        let mut first: Option<((u64, u64), LockedRange<O>)> = None;
        self.conflicts(wanted, &mut |held| {
            let order = (held.since, held.range.start);
            if first.as_ref().is_none_or(|first| order < first.0) {
                first = Some((order, held.range));
            }
            ControlFlow::Continue(())
        });
        first.map(|(_, range)| range)
    }

    /// Calls `f` with every lock in the way of `wanted`.
    pub fn blockers(&self, wanted: &LockedRange<O>, f: &mut dyn FnMut(&LockedRange<O>)) {
        self.conflicts(wanted, &mut |held| {
            f(&held.range);
            ControlFlow::Continue(())
        });
    }

    /// Calls `f` with every lock and the place of its owner in the order of their coming.
    pub fn for_each(&self, f: &mut dyn FnMut(u64, &LockedRange<O>)) {
        for (_, held) in self.kinds.iter().flat_map(Tree::iter) {
            f(held.since, &held.range);
        }
    }

    fn holder(&self, owner: O) -> Option<u32> {
        let (kind, number) = owner.number();
        self.holders.first((kind, number)..(kind, number + 1), 0)
    }

    fn add(&mut self, range: LockedRange<O>) -> Result<u32, Errno> {
        let tree = &mut self.kinds[usize::from(range.exclusive)];
        tree.reserve()?;
        let holder = match self.holder(range.owner) {
            Some(holder) => holder,
            None => {
                self.last_since += 1;
                self.holders.insert(range.owner.number(), 0, Holder { ranges: 0, since: self.last_since })?
            }
        };
        let since = match self.holders.get_mut(holder) {
            Some(holder) => {
                holder.ranges += 1;
                holder.since
            }
            None => 0,
        };
        self.made += 1;
        self.kinds[usize::from(range.exclusive)].insert((range.start, self.made), range.end, Held { range, since })
    }

    fn take(&mut self, exclusive: bool, index: u32) {
        let Some(held) = self.kinds[usize::from(exclusive)].remove(index) else { return };
        let Some(holder) = self.holder(held.range.owner) else { return };
        if let Some(one) = self.holders.get_mut(holder) {
            one.ranges -= 1;
            if one.ranges == 0 {
                self.holders.remove(holder);
            }
        }
    }

    fn set_end(&mut self, exclusive: bool, index: u32, end: u64) {
        let tree = &mut self.kinds[usize::from(exclusive)];
        if let Some(held) = tree.get_mut(index) {
            held.range.end = end;
        }
        tree.set_weight(index, end);
    }

    /// A range of `owner`'s of one kind that overlaps `start..=end`, but for number `but`.
    fn own(&self, owner: O, exclusive: bool, span: (u64, u64), but: Option<u32>) -> Option<(u32, LockedRange<O>)> {
        let mut found = None;
        self.overlapping(exclusive, span, &mut |index, held| {
            if held.range.owner != owner || Some(index) == but {
                return ControlFlow::Continue(());
            }
            found = Some((index, held.range));
            ControlFlow::Break(())
        });
        found
    }

    /// Cuts `cut` out of what its owner holds, but for range `but`: ENOMEM, with nothing changed.
    fn cut(&mut self, cut: &LockedRange<O>, but: Option<u32>) -> Result<(), Errno> {
        let but = |exclusive: bool| but.filter(|_| exclusive == cut.exclusive);
        // One at most reaches beyond the end: what is left of it there is a range more.
        for exclusive in [false, true] {
            let last = self.own(cut.owner, exclusive, (cut.end, cut.end), but(exclusive));
            if let Some((_, range)) = last.filter(|(_, range)| range.end > cut.end) {
                self.add(LockedRange { start: cut.end + 1, ..range })?;
            }
        }
        for exclusive in [false, true] {
            while let Some((index, range)) = self.own(cut.owner, exclusive, (cut.start, cut.end), but(exclusive)) {
                match range.start < cut.start {
                    true => self.set_end(exclusive, index, cut.start - 1),
                    false => self.take(exclusive, index),
                }
            }
        }
        Ok(())
    }

    /// Cuts `cut`, whose kind does not matter, out of what its owner holds: ENOMEM, with nothing changed.
    pub fn remove(&mut self, cut: &LockedRange<O>) -> Result<(), Errno> {
        if self.holder(cut.owner).is_none() { Ok(()) } else { self.cut(cut, None) }
    }

    /// Gives `new` to its owner, joined with what it holds next to it: ENOMEM, with nothing changed. Nothing may be in its way.
    pub fn insert(&mut self, mut new: LockedRange<O>) -> Result<(), Errno> {
        let mut index = self.add(new)?;
        let around = (new.start.saturating_sub(1), new.end + 1);
        if [false, true].into_iter().all(|kind| {
            let but = Some(index).filter(|_| kind == new.exclusive);
            self.own(new.owner, kind, around, but).is_none()
        }) {
            return Ok(());
        }
        if let Err(error) = self.cut(&new, Some(index)) {
            self.take(new.exclusive, index);
            return Err(error);
        }
        let below = new.start.checked_sub(1);
        if let Some((lower, range)) = below.and_then(|at| self.own(new.owner, new.exclusive, (at, at), Some(index))) {
            self.set_end(new.exclusive, lower, new.end);
            self.take(new.exclusive, index);
            (index, new.start) = (lower, range.start);
        }
        let above = (new.end + 1, new.end + 1);
        if let Some((upper, range)) = self.own(new.owner, new.exclusive, above, Some(index)) {
            self.take(new.exclusive, upper);
            self.set_end(new.exclusive, index, range.end);
        }
        Ok(())
    }

    /// Takes away all that `owner` holds.
    pub fn release(&mut self, owner: O) {
        for exclusive in [false, true] {
            let mut from = 0;
            while self.holder(owner).is_some()
                && let Some((index, range)) = self.own(owner, exclusive, (from, u64::MAX - 1), None)
            {
                self.take(exclusive, index);
                from = range.end + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    impl LockOwner for u8 {
        fn number(&self) -> Key {
            (0, u64::from(*self))
        }
    }

    const BYTES: usize = 48;

    proptest! {
        #[test]
        fn agrees_with_an_array_of_bytes(
            ops in proptest::collection::vec((0..5u8, 0..4u8, 0..BYTES, 1..12usize, any::<bool>()), 1..120),
        ) {
            let mut locks: RecordLocks<u8> = RecordLocks::default();
            // Per owner and byte: how it is locked.
            let mut model = [[None::<bool>; BYTES]; 4];
            let mut came: Vec<u8> = Vec::new();
            for (op, owner, start, len, exclusive) in ops {
                let last = (start + len - 1).min(BYTES - 1);
                let wanted = LockedRange { owner, start: start as u64, end: last as u64, exclusive };
                let blocking = |byte: &Option<bool>| byte.is_some_and(|held| held || exclusive);
                let in_the_way: Vec<u8> =
                    (0..4).filter(|other| *other != owner && model[*other as usize][start..=last].iter().any(blocking)).collect();
                prop_assert_eq!(locks.is_blocked(&wanted), !in_the_way.is_empty());
                let first = came.iter().find(|owner| in_the_way.contains(owner)).copied();
                let blocker = locks.blocker(&wanted);
                prop_assert_eq!(blocker.map(|range| range.owner), first);
                if let Some(range) = blocker {
                    let lowest = model[range.owner as usize][start..=last].iter().position(blocking).map(|at| at + start);
                    prop_assert!(lowest.is_some_and(|at| range.start <= at as u64 && at as u64 <= range.end));
                }
                match op {
                    0..=2 if in_the_way.is_empty() => {
                        locks.insert(wanted).unwrap();
                        model[owner as usize][start..=last].fill(Some(exclusive));
                        if !came.contains(&owner) {
                            came.push(owner);
                        }
                    }
                    3 => {
                        locks.remove(&wanted).unwrap();
                        model[owner as usize][start..=last].fill(None);
                    }
                    4 if len == 1 => {
                        locks.release(owner);
                        model[owner as usize].fill(None);
                    }
                    _ => {}
                }
                came.retain(|owner| model[*owner as usize].iter().any(Option::is_some));
                let mut got: Vec<LockedRange<u8>> = Vec::new();
                locks.for_each(&mut |_, range| got.push(*range));
                got.sort_unstable_by_key(|range| (range.owner, range.start));
                let mut expected: Vec<LockedRange<u8>> = Vec::new();
                for (owner, bytes) in model.iter().enumerate() {
                    for (at, held) in bytes.iter().enumerate() {
                        let (owner, at) = (owner as u8, at as u64);
                        let Some(exclusive) = *held else { continue };
                        match expected.last_mut() {
                            Some(last) if last.owner == owner && last.end + 1 == at && last.exclusive == exclusive => last.end = at,
                            _ => expected.push(LockedRange { owner, start: at, end: at, exclusive }),
                        }
                    }
                }
                prop_assert_eq!(got, expected);
                prop_assert_eq!(locks.is_empty(), came.is_empty());
            }
        }
    }
}
