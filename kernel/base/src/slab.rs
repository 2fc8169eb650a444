//! [`Slab`]: values under small numbers that are used again; [`List`]: the same in a list; [`Chunks`]: what they stand in.
//!
//! Chunks are of 32 values, so that growing moves no value but those of a first, smaller chunk, and never asks for a large block of
//! memory.

use crate::errno::Errno;
use alloc::vec::Vec;

/// No number.
pub const NONE: u32 = u32::MAX;
/// Values in one chunk.
const CHUNK: usize = 32;

/// An array that grows at its end.
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunks<T> {
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)
    }
    #[inline(always)]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    /// Makes room for one more value: ENOMEM. The next [`Chunks::push`] succeeds then.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            let made =
                if self.chunks.is_empty() { self.chunks.try_reserve_exact(1) } else { self.chunks.try_reserve(1) };
            made.map_err(|_| Errno::ENOMEM)?;
            self.chunks.push(Vec::new());
        }
        let others = self.chunks.len() - 1;
        let Some(last) = self.chunks.last_mut() else { return Err(Errno::ENOMEM) };
        if last.len() == last.capacity() {
            // The first one grows, as many arrays are small.
            let more = if others == 0 { last.len().max(4).min(CHUNK - last.len()) } else { CHUNK };
            last.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// Adds a value at the end: its number, or ENOMEM.
    pub fn push(&mut self, value: T) -> Result<u32, Errno> {
        self.reserve()?;
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        last.push(value);
        Ok((chunk * CHUNK + last.len() - 1) as u32)
    }

    /// Drops all values. One chunk's memory stays, for who adds and removes one value over and over.
    pub fn clear(&mut self) {
        self.chunks.truncate(1);
        if let Some(first) = self.chunks.first_mut() {
            first.clear();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

enum Slot<T> {
    Used(T),
    /// The next free one.
    Free(u32),
}

pub struct Slab<T> {
    slots: Chunks<Slot<T>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub const fn new() -> Self {
        Self { slots: Chunks::new(), free: NONE, len: 0 }
    }
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for one more value: ENOMEM. The next [`Slab::insert`] succeeds then.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        if self.free == NONE { self.slots.reserve() } else { Ok(()) }
    }

    /// Adds a value: its number, or ENOMEM.
    pub fn insert(&mut self, value: T) -> Result<u32, Errno> {
        let index = match self.slots.get_mut(self.free) {
            None => self.slots.push(Slot::Used(value))?,
            Some(slot) => {
                let index = self.free;
                if let Slot::Free(next) = core::mem::replace(slot, Slot::Used(value)) {
                    self.free = next;
                }
                index
            }
        };
        self.len += 1;
        Ok(index)
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slots.get_mut(index).filter(|slot| matches!(slot, Slot::Used(_)))?;
        let Slot::Used(value) = core::mem::replace(slot, Slot::Free(free)) else { return None };
        self.free = index;
        self.len -= 1;
        if self.len == 0 {
            self.slots.clear();
            self.free = NONE;
        }
        Some(value)
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// All values with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Used(value) => Some((index as u32, value)),
            Slot::Free(_) => None,
        })
    }
}

struct Linked<T> {
    value: T,
    previous: u32,
    next: u32,
}

/// A list in the order in which values were added, each under a number: adding one, taking any one out and the first one take the same
/// time however many there are.
pub struct List<T> {
    slab: Slab<Linked<T>>,
    head: u32,
    tail: u32,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> List<T> {
    pub const fn new() -> Self {
        Self { slab: Slab::new(), head: NONE, tail: NONE }
    }
    pub fn len(&self) -> usize {
        self.slab.len()
    }
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Adds a value behind the others: its number, or ENOMEM.
    pub fn push(&mut self, value: T) -> Result<u32, Errno> {
        let index = self.slab.insert(Linked { value, previous: self.tail, next: NONE })?;
        match self.slab.get_mut(self.tail) {
            Some(last) => last.next = index,
            None => self.head = index,
        }
        self.tail = index;
        Ok(index)
    }

    /// Takes out the value under `index`.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let Linked { value, previous, next } = self.slab.remove(index)?;
        match self.slab.get_mut(previous) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match self.slab.get_mut(next) {
            Some(behind) => behind.previous = previous,
            None => self.tail = previous,
        }
        Some(value)
    }

    pub fn first(&self) -> Option<&T> {
        self.slab.get(self.head).map(|one| &one.value)
    }

    /// All values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let mut at = self.head;
        core::iter::from_fn(move || {
            let one = self.slab.get(at)?;
            at = one.next;
            Some(&one.value)
        })
    }
}

impl<T: Clone> List<T> {
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_values_stay() {
        let mut slab = Slab::new();
        let numbers: Vec<u32> = (0..100).map(|value| slab.insert(value).unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<u32>>());
        assert_eq!((slab.remove(7), slab.remove(70), slab.remove(7)), (Some(7), Some(70), None));
        assert_eq!(slab.insert(1000), Ok(70));
        assert_eq!((slab.insert(1001), slab.insert(1002)), (Ok(7), Ok(100)));
        assert_eq!((slab.get(70), slab.get(71), slab.get(101)), (Some(&1000), Some(&71), None));
        *slab.get_mut(71).unwrap() = 5;
        assert_eq!(slab.iter().map(|(_, value)| *value).sum::<u32>(), (0..100).sum::<u32>() - 77 - 71 + 5 + 3003);
        let all: Vec<u32> = slab.iter().map(|(index, _)| index).collect();
        for index in all {
            slab.remove(index);
        }
        assert!(slab.is_empty());
        assert_eq!(slab.insert(1), Ok(0));
    }

    #[test]
    fn a_list_keeps_the_order_of_adding() {
        let mut list = List::new();
        let numbers: Vec<u32> = (0..50).map(|value| list.push(value).unwrap()).collect();
        for at in [0, 49, 20, 21] {
            assert_eq!(list.remove(numbers[at]), Some(at as u32));
            assert_eq!(list.remove(numbers[at]), None);
        }
        assert_eq!((list.first(), list.len()), (Some(&1), 46));
        list.push(7).unwrap();
        let mut wanted: Vec<u32> = (1..49).filter(|value| ![20, 21].contains(value)).collect();
        wanted.push(7);
        assert_eq!(list.to_vec(), wanted);
        assert!(List::<u8>::new().first().is_none());
    }
}
