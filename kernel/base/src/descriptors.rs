//! The numbers of a descriptor table: lowest free first, close-on-exec marks, room that grows.

use crate::heap::{NoMemory, TryGrow};
use alloc::vec::Vec;

/// What each number of a descriptor table names.
pub struct Slots<T> {
    files: Vec<Option<T>>,
    /// One bit a descriptor in use, in whole words.
    open: Vec<u64>,
    cloexec: Vec<u64>,
    /// No word before this one has a free bit.
    first_word: usize,
}

impl<T> Slots<T> {
    /// None, and no room.
    pub const fn new() -> Self {
        Self { files: Vec::new(), open: Vec::new(), cloexec: Vec::new(), first_word: 0 }
    }
    /// Room for `len` descriptors (a multiple of 64), all free.
    pub fn try_with_len(len: usize) -> Result<Self, NoMemory> {
        let mut new = Self::try_with_memory(len)?;
        new.files.resize_with(len, || None);
        new.open.resize(len / 64, 0);
        new.cloexec.resize(len / 64, 0);
        Ok(new)
    }
    /// The lowest free number at or above `from` (may be beyond the present length).
    pub fn lowest_free(&mut self, from: usize) -> usize {
        // Only then is every number before the one found known to be in use.
        let from_start = from <= self.first_word * 64;
        let mut word = (from / 64).max(self.first_word);
        while let Some(&bits) = self.open.get(word) {
            let below = if word == from / 64 { (1u64 << (from % 64)) - 1 } else { 0 };
            let free = !(bits | below);
            if free != 0 {
                if from_start {
                    self.first_word = word;
                }
                return word * 64 + free.trailing_zeros() as usize;
            }
            word += 1;
        }
        from.max(self.files.len())
    }
    /// Puts a file at a number there is room for; returns what was there.
    pub fn place(&mut self, fd: usize, file: T, cloexec: bool) -> Option<T> {
        self.open[fd / 64] |= 1 << (fd % 64);
        self.set_cloexec(fd, cloexec);
        self.files[fd].replace(file)
    }
    /// Takes a file out; its number is free then.
    pub fn take(&mut self, fd: usize) -> Option<T> {
        let file = self.files.get_mut(fd)?.take()?;
        self.open[fd / 64] &= !(1 << (fd % 64));
        self.cloexec[fd / 64] &= !(1 << (fd % 64));
        self.first_word = self.first_word.min(fd / 64);
        Some(file)
    }
    pub fn set_cloexec(&mut self, fd: usize, on: bool) {
        if on { self.cloexec[fd / 64] |= 1 << (fd % 64) } else { self.cloexec[fd / 64] &= !(1 << (fd % 64)) }
    }
    pub fn is_cloexec(&self, fd: usize) -> bool {
        self.cloexec.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 == 1)
    }
    /// The first descriptor in use at or above `from`.
    pub fn next_used(&self, from: usize) -> Option<usize> {
        next_set(&self.open, from)
    }
    /// The first descriptor marked close-on-exec at or above `from`.
    pub fn next_cloexec(&self, from: usize) -> Option<usize> {
        next_set(&self.cloexec, from)
    }
    /// How many numbers there is room for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.files.len()
    }
    /// How many are in use.
    pub fn count(&self) -> usize {
        self.open.iter().map(|word| word.count_ones() as usize).sum()
    }
    /// Room for all in use, in whole words (at least one).
    pub fn used_len(&self) -> usize {
        self.open.iter().rposition(|&word| word != 0).map_or(1, |word| word + 1) * 64
    }
    #[inline]
    pub fn get(&self, fd: usize) -> Option<&T> {
        self.files.get(fd)?.as_ref()
    }
    /// All numbers there is room for, in order.
    #[inline]
    pub fn as_slice(&self) -> &[Option<T>] {
        &self.files
    }
    /// An empty table with memory for `len` descriptors (a multiple of 64).
    pub fn try_with_memory(len: usize) -> Result<Self, NoMemory> {
        let mut new = Self::new();
        new.files.try_room(len)?;
        new.open.try_room(len / 64)?;
        new.cloexec.try_room(len / 64)?;
        Ok(new)
    }
    /// Moves everything into `larger`'s memory, made by [`Self::try_with_memory`] for `len`, which is left with the old memory. Does
    /// nothing when there is that much room already. Allocates nothing.
    pub fn grow_into(&mut self, larger: &mut Self, len: usize) {
        if self.files.len() >= len {
            return;
        }
        larger.files.append(&mut self.files);
        larger.files.resize_with(len, || None);
        larger.open.append(&mut self.open);
        larger.open.resize(len / 64, 0);
        larger.cloexec.append(&mut self.cloexec);
        larger.cloexec.resize(len / 64, 0);
        larger.first_word = self.first_word;
        core::mem::swap(self, larger);
    }
}

impl<T: Clone> Slots<T> {
    /// Copies all of this one into `copy`, a new one with room for [`Self::used_len`].
    pub fn copy_into(&self, copy: &mut Self) {
        let words = self.open.len().min(copy.open.len());
        let mut at = 0;
        while let Some(fd) = self.next_used(at) {
            copy.files[fd] = self.files[fd].clone();
            at = fd + 1;
        }
        copy.open[..words].copy_from_slice(&self.open[..words]);
        copy.cloexec[..words].copy_from_slice(&self.cloexec[..words]);
    }
}

/// The first bit set at or above `from`.
fn next_set(bits: &[u64], from: usize) -> Option<usize> {
    let mut word = from / 64;
    let mut mask = !0u64 << (from % 64);
    while let Some(&value) = bits.get(word) {
        if value & mask != 0 {
            return Some(word * 64 + (value & mask).trailing_zeros() as usize);
        }
        mask = !0;
        word += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What open(2) does: the lowest free number not below `from`.
    fn open(slots: &mut Slots<u32>, from: usize, file: u32, cloexec: bool) -> usize {
        let fd = slots.lowest_free(from);
        if fd >= slots.capacity() {
            let len = (fd + 1).next_power_of_two().max(64);
            let mut larger = Slots::try_with_memory(len).unwrap();
            slots.grow_into(&mut larger, len);
        }
        assert_eq!(slots.place(fd, file, cloexec), None);
        fd
    }

    #[test]
    fn the_lowest_free_number_is_taken() {
        let mut slots = Slots::try_with_len(64).unwrap();
        for expected in 0..200 {
            assert_eq!(open(&mut slots, 0, 7, false), expected);
        }
        assert_eq!((slots.take(150), slots.take(3), slots.take(70)), (Some(7), Some(7), Some(7)));
        assert_eq!(slots.take(3), None);
        assert_eq!([0; 4].map(|from| open(&mut slots, from, 1, false)), [3, 70, 150, 200]);
    }

    #[test]
    fn from_a_number_on() {
        let mut slots = Slots::try_with_len(64).unwrap();
        assert_eq!(open(&mut slots, 10, 1, false), 10);
        assert_eq!(open(&mut slots, 10, 1, false), 11);
        assert_eq!(open(&mut slots, 1_000, 1, false), 1_000);
        assert_eq!(slots.capacity(), 1_024);
        // Looking further up does not hide what is free below, in the same word or before.
        assert_eq!([63, 63, 63].map(|from| open(&mut slots, from, 1, false)), [63, 64, 65]);
        assert_eq!(open(&mut slots, 0, 1, false), 0);
    }

    #[test]
    fn a_number_that_is_taken_is_replaced() {
        let mut slots = Slots::try_with_len(64).unwrap();
        slots.place(5, 1, true);
        assert_eq!(slots.place(5, 2, false), Some(1));
        assert!(!slots.is_cloexec(5));
        assert_eq!((slots.get(5), slots.get(6), slots.get(64)), (Some(&2), None, None));
    }

    #[test]
    fn room_of_none() {
        let mut slots = Slots::<u32>::new();
        assert_eq!((slots.take(0), slots.next_used(0), slots.is_cloexec(9), slots.used_len()), (None, None, false, 64));
        assert_eq!(slots.lowest_free(0), 0);
    }

    proptest! {
        #[test]
        fn as_a_map_does(steps in proptest::collection::vec((0u8..5, 0usize..300, any::<bool>()), 1..300)) {
            let mut slots = Slots::try_with_len(64).unwrap();
            let mut model = BTreeMap::<usize, (u32, bool)>::new();
            for (number, (step, at, cloexec)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        let from = if step == 0 { 0 } else { at };
                        let expected = (from..).find(|fd| !model.contains_key(fd)).unwrap();
                        prop_assert_eq!(open(&mut slots, from, number as u32, cloexec), expected);
                        model.insert(expected, (number as u32, cloexec));
                    }
                    2 | 3 => prop_assert_eq!(slots.take(at), model.remove(&at).map(|(file, _)| file)),
                    _ => {
                        if let Some((_, marked)) = model.get_mut(&at) {
                            *marked = cloexec;
                            slots.set_cloexec(at, cloexec);
                        }
                    }
                }
                prop_assert_eq!(slots.next_used(at), model.range(at..).next().map(|(fd, _)| *fd));
                let marked = model.range(at..).find(|(_, (_, marked))| *marked).map(|(fd, _)| *fd);
                prop_assert_eq!(slots.next_cloexec(at), marked);
                prop_assert_eq!(slots.count(), model.len());
            }
            let mut copy = Slots::try_with_len(slots.used_len()).unwrap();
            slots.copy_into(&mut copy);
            for fd in 0..400 {
                prop_assert_eq!(copy.get(fd), model.get(&fd).map(|(file, _)| file));
                prop_assert_eq!(copy.is_cloexec(fd), model.get(&fd).is_some_and(|(_, marked)| *marked));
            }
        }
    }
}
