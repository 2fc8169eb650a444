//! Lists over slot numbers, for epoll's ready list and poll sets: every operation is O(1) and only growing allocates.
//!
//! [`Slab`] hands out small numbers for values; [`IndexList`] is a doubly linked list of such numbers.

use alloc::vec::Vec;

const NONE: u32 = u32::MAX;
/// In `prev` of a number that is in no list.
const OUT: u32 = u32::MAX - 1;

/// A doubly linked list of slot numbers; a number is in it at most once.
pub struct IndexList {
    /// (previous, next) of each number.
    links: Vec<(u32, u32)>,
    head: u32,
    tail: u32,
    len: usize,
}

impl Default for IndexList {
    fn default() -> Self {
        Self::new()
    }
}

impl IndexList {
    pub const fn new() -> Self {
        Self { links: Vec::new(), head: NONE, tail: NONE, len: 0 }
    }
    /// How many numbers it can hold without allocating.
    pub fn capacity(&self) -> usize {
        self.links.capacity()
    }
    /// Takes over a larger backing vector (made without a lock held) and gives back the old one to drop.
    pub fn grow(&mut self, mut larger: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
        if larger.capacity() <= self.links.capacity() {
            return larger;
        }
        larger.clear();
        larger.extend_from_slice(&self.links);
        core::mem::replace(&mut self.links, larger)
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn contains(&self, index: u32) -> bool {
        self.links.get(index as usize).is_some_and(|link| link.0 != OUT)
    }
    /// Appends `index`; answers false when it is already in the list.
    #[inline]
    pub fn push_back(&mut self, index: u32) -> bool {
        let at = index as usize;
        while self.links.len() <= at {
            self.links.push((OUT, NONE));
        }
        if self.links[at].0 != OUT {
            return false;
        }
        self.links[at] = (self.tail, NONE);
        match self.tail {
            NONE => self.head = index,
            tail => self.links[tail as usize].1 = index,
        }
        self.tail = index;
        self.len += 1;
        true
    }
    /// Takes `index` out; answers whether it was in the list.
    #[inline]
    pub fn remove(&mut self, index: u32) -> bool {
        if !self.contains(index) {
            return false;
        }
        let (prev, next) = core::mem::replace(&mut self.links[index as usize], (OUT, NONE));
        match prev {
            NONE => self.head = next,
            prev => self.links[prev as usize].1 = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.links[next as usize].0 = prev,
        }
        self.len -= 1;
        true
    }
    #[inline]
    pub fn pop_front(&mut self) -> Option<u32> {
        let index = self.front()?;
        self.remove(index);
        Some(index)
    }
    /// The only number there is.
    #[inline]
    pub fn sole(&self) -> Option<u32> {
        (self.len == 1).then_some(self.head)
    }
    #[inline]
    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
    /// The number behind `index`.
    pub fn next(&self, index: u32) -> Option<u32> {
        self.links.get(index as usize).map(|link| link.1).filter(|&next| next != NONE)
    }
}

/// Values under small numbers that are used again.
pub struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
    /// Whether `insert` would have to allocate.
    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() == self.slots.capacity()
    }
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Takes over larger vectors (made without a lock held); gives the old ones back to drop.
    pub fn grow(&mut self, mut slots: Vec<Option<T>>, mut free: Vec<u32>) -> (Vec<Option<T>>, Vec<u32>) {
        if slots.capacity() <= self.slots.capacity() || free.capacity() < slots.capacity() {
            return (slots, free);
        }
        slots.clear();
        free.clear();
        slots.append(&mut self.slots);
        free.append(&mut self.free);
        (core::mem::replace(&mut self.slots, slots), core::mem::replace(&mut self.free, free))
    }
    pub fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(value);
                index
            }
            None => {
                self.slots.push(Some(value));
                (self.slots.len() - 1) as u32
            }
        }
    }
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slots.get_mut(index as usize)?.take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }
    pub fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.as_ref()
    }
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.as_mut()
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(list: &IndexList) -> Vec<u32> {
        let mut out = Vec::new();
        let mut at = list.front();
        while let Some(index) = at {
            out.push(index);
            at = list.next(index);
        }
        out
    }

    #[test]
    fn order_is_kept_and_nothing_is_twice_in_the_list() {
        let mut list = IndexList::new();
        for index in [3, 0, 7] {
            assert!(list.push_back(index));
        }
        assert!(!list.push_back(0));
        assert_eq!(all(&list), [3, 0, 7]);
        assert!(list.remove(0));
        assert!(!list.remove(0));
        assert!(!list.remove(99));
        assert_eq!(all(&list), [3, 7]);
        assert!(list.remove(7));
        assert!(list.push_back(1));
        assert_eq!(list.sole(), None);
        assert_eq!(list.pop_front(), Some(3));
        assert_eq!(list.sole(), Some(1));
        assert_eq!(list.pop_front(), Some(1));
        assert_eq!(list.pop_front(), None);
        assert_eq!(list.sole(), None);
        assert!(list.is_empty());
    }

    #[test]
    fn growing_keeps_the_content() {
        let mut list = IndexList::new();
        list.push_back(2);
        list.push_back(1);
        drop(list.grow(Vec::with_capacity(64)));
        assert!(list.capacity() >= 64);
        assert_eq!(all(&list), [2, 1]);
    }

    #[test]
    fn slab_numbers_are_used_again() {
        let mut slab = Slab::new();
        let a = slab.insert("a");
        let b = slab.insert("b");
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.insert("c"), a);
        assert_eq!(slab.get(b), Some(&"b"));
        assert_eq!(slab.len(), 2);
    }
}
