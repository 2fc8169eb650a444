//! [`IndexList`]: a doubly linked list of small numbers (a [`crate::slab::Slab`]'s), for epoll's ready list and poll sets: every operation
//! is O(1) and only [`IndexList::cover`] allocates.

use crate::errno::Errno;
use crate::slab::{Chunks, NONE};

/// In `prev` of a number that is in no list.
const OUT: u32 = u32::MAX - 1;

/// A doubly linked list of slot numbers; a number is in it at most once.
pub struct IndexList {
    /// (previous, next) of each number.
    links: Chunks<(u32, u32)>,
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
        Self { links: Chunks::new(), head: NONE, tail: NONE, len: 0 }
    }
    /// Makes room for `index`, one that follows those covered before or is one of them: ENOMEM.
    pub fn cover(&mut self, index: u32) -> Result<(), Errno> {
        while self.links.len() <= index as usize {
            self.links.push((OUT, NONE))?;
        }
        Ok(())
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn contains(&self, index: u32) -> bool {
        self.links.get(index).is_some_and(|link| link.0 != OUT)
    }
    /// Appends `index`, which is covered; answers false when it is already in the list.
    #[inline]
    pub fn push_back(&mut self, index: u32) -> bool {
        match self.links.get_mut(index) {
            Some(link) if link.0 == OUT => *link = (self.tail, NONE),
            _ => return false,
        }
        match self.links.get_mut(self.tail) {
            None => self.head = index,
            Some(tail) => tail.1 = index,
        }
        self.tail = index;
        self.len += 1;
        true
    }
    /// Takes `index` out; answers whether it was in the list.
    #[inline]
    pub fn remove(&mut self, index: u32) -> bool {
        let Some(link) = self.links.get_mut(index).filter(|link| link.0 != OUT) else { return false };
        let (previous, next) = core::mem::replace(link, (OUT, NONE));
        match self.links.get_mut(previous) {
            None => self.head = next,
            Some(link) => link.1 = next,
        }
        match self.links.get_mut(next) {
            None => self.tail = previous,
            Some(link) => link.0 = previous,
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
        self.links.get(index).map(|link| link.1).filter(|&next| next != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

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
        assert!(!list.push_back(3));
        list.cover(7).unwrap();
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
}
