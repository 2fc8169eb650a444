//! The pipe's ring of page slots.
//!
//! A pipe holds at most `capacity` slots, each a run of bytes inside one page. Small writes are merged into the last slot
//! when they fit, as on Linux, so a pipe of 16 slots takes 65536 single bytes but only 16 writes of 3000. What a page is
//! (`P`: a frame, a vector in tests) is the caller's business; the ring keeps the rules and the byte count.

use crate::addr::PAGE_SIZE;
use alloc::collections::VecDeque;

/// A run of bytes in a page.
pub struct Slot<P> {
    pub page: P,
    /// First byte not yet read.
    pub offset: usize,
    /// Bytes not yet read.
    pub len: usize,
    /// The page is the pipe's own, so later writes may be added behind `offset + len`.
    pub can_merge: bool,
    /// One packet (O_DIRECT): a read takes it whole and drops what does not fit.
    pub packet: bool,
}

pub struct SlotRing<P> {
    slots: VecDeque<Slot<P>>,
    capacity: usize,
    bytes: usize,
}

/// The ring holds more than the capacity asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl<P> SlotRing<P> {
    /// An empty ring of `capacity` slots.
    pub fn new(capacity: usize) -> Self {
        Self { slots: VecDeque::new(), capacity, bytes: 0 }
    }
    pub fn capacity(&self) -> usize {
        self.capacity
    }
    pub fn len(&self) -> usize {
        self.slots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }
    /// Bytes waiting to be read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Changes the capacity: [`Busy`] when more slots are in use.
    pub fn resize(&mut self, capacity: usize) -> Result<(), Busy> {
        if self.slots.len() > capacity {
            return Err(Busy);
        }
        self.capacity = capacity;
        Ok(())
    }
    pub fn front(&self) -> Option<&Slot<P>> {
        self.slots.front()
    }
    pub fn get(&self, index: usize) -> Option<&Slot<P>> {
        self.slots.get(index)
    }
    /// Takes `len` bytes off the front slot; answers its page when that empties it.
    pub fn consume(&mut self, len: usize) -> Option<P> {
        let slot = self.slots.front_mut()?;
        let len = len.min(slot.len);
        slot.offset += len;
        slot.len -= len;
        self.bytes -= len;
        if slot.len == 0 { self.slots.pop_front().map(|slot| slot.page) } else { None }
    }
    /// Takes the whole front slot.
    pub fn pop(&mut self) -> Option<Slot<P>> {
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.len;
        Some(slot)
    }
    /// Puts a slot that `pop` gave back at the front.
    pub fn unpop(&mut self, slot: Slot<P>) {
        self.bytes += slot.len;
        self.slots.push_front(slot);
    }
    /// Where `len` more bytes may be merged into the last slot: its page and the offset of the first new byte.
    pub fn merge_at(&self, len: usize) -> Option<(&P, usize)> {
        let slot = self.slots.back()?;
        let at = slot.offset + slot.len;
        (slot.can_merge && !slot.packet && at + len <= PAGE_SIZE).then_some((&slot.page, at))
    }
    /// Counts `len` bytes that were written where `merge_at` said.
    pub fn merged(&mut self, len: usize) {
        if let Some(slot) = self.slots.back_mut() {
            slot.len += len;
            self.bytes += len;
        }
    }
    /// Appends a slot: gives it back when the ring is full.
    pub fn push(&mut self, slot: Slot<P>) -> Result<(), Slot<P>> {
        if self.is_full() {
            return Err(slot);
        }
        self.bytes += slot.len;
        self.slots.push_back(slot);
        Ok(())
    }
    /// Appends a slot even to a full ring, for bytes that cannot be put back where they came from.
    pub fn push_over(&mut self, slot: Slot<P>) {
        self.bytes += slot.len;
        self.slots.push_back(slot);
    }
    /// Drops everything.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(len: usize) -> Slot<u32> {
        Slot { page: 0, offset: 0, len, can_merge: true, packet: false }
    }

    #[test]
    fn small_writes_share_a_page_until_it_is_full() {
        let mut ring = SlotRing::new(2);
        assert!(ring.push(slot(3000)).is_ok());
        assert!(ring.merge_at(3000).is_none());
        assert_eq!(ring.merge_at(1096).map(|(_, at)| at), Some(3000));
        ring.merged(1096);
        assert_eq!(ring.bytes(), 4096);
        assert!(ring.merge_at(1).is_none());
    }

    #[test]
    fn a_full_ring_refuses_and_shrinking_below_use_is_busy() {
        let mut ring = SlotRing::new(2);
        assert!(ring.push(slot(1)).is_ok());
        assert!(ring.push(slot(1)).is_ok());
        assert!(ring.push(slot(1)).is_err());
        assert_eq!(ring.resize(1), Err(Busy));
        assert_eq!(ring.consume(1), Some(0));
        assert_eq!(ring.resize(1), Ok(()));
        assert!(ring.is_full());
    }

    #[test]
    fn consuming_part_keeps_the_page() {
        let mut ring = SlotRing::new(1);
        assert!(ring.push(slot(10)).is_ok());
        assert_eq!(ring.consume(4), None);
        assert_eq!(ring.front().map(|s| (s.offset, s.len)), Some((4, 6)));
        assert_eq!(ring.bytes(), 6);
        assert_eq!(ring.consume(100), Some(0));
        assert!(ring.is_empty());
    }

    #[test]
    fn packets_never_merge() {
        let mut ring = SlotRing::new(4);
        assert!(ring.push(Slot { page: 1, offset: 0, len: 5, can_merge: true, packet: true }).is_ok());
        assert!(ring.merge_at(1).is_none());
    }
}
