//! A queue of bytes that grows as it fills: what two ends of a local connection share.

use alloc::vec::Vec;

const FIRST: usize = 4096;

/// Bytes in arrival order, in one ring whose size is a power of two.
#[derive(Default)]
pub struct ByteRing {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
}

impl ByteRing {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), head: 0, len: 0 }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Bytes of memory it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `more` bytes, as far as `limit` bytes in all and memory allow.
    fn grow(&mut self, more: usize, limit: usize) {
        let wanted = (self.len + more).min(limit).next_power_of_two().max(FIRST);
        if wanted <= self.bytes.len() {
            return;
        }
        let mut new: Vec<u8> = Vec::new();
        if new.try_reserve_exact(wanted).is_err() {
            return;
        }
        let (first, second) = self.parts(0);
        new.extend_from_slice(first);
        new.extend_from_slice(second);
        new.resize(wanted, 0);
        self.bytes = new;
        self.head = 0;
    }

    /// What is there from `at` on, in two pieces.
    fn parts(&self, at: usize) -> (&[u8], &[u8]) {
        if at >= self.len {
            return (&[], &[]);
        }
        let start = (self.head + at) & (self.bytes.len() - 1);
        let count = self.len - at;
        let first = count.min(self.bytes.len() - start);
        (&self.bytes[start..start + first], &self.bytes[..count - first])
    }

    /// Appends at most `len` bytes while there are no more than `limit`: `fill` writes a prefix of each free piece it is shown and
    /// answers how much, or an error that ends it. Answers the bytes added and the error.
    pub fn append<E>(
        &mut self,
        len: usize,
        limit: usize,
        mut fill: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> (usize, Option<E>) {
        let len = len.min(limit.saturating_sub(self.len));
        self.grow(len, limit);
        let len = len.min(self.bytes.len() - self.len);
        let mut added = 0;
        while added < len {
            let start = (self.head + self.len) & (self.bytes.len() - 1);
            let piece = (len - added).min(self.bytes.len() - start);
            match fill(&mut self.bytes[start..start + piece]) {
                Ok(n) => {
                    let n = n.min(piece);
                    self.len += n;
                    added += n;
                    if n < piece {
                        break;
                    }
                }
                Err(error) => return (added, Some(error)),
            }
        }
        (added, None)
    }

    /// The first piece of what is there from `at` on; empty when there is nothing.
    pub fn peek(&self, at: usize) -> &[u8] {
        let (first, second) = self.parts(at);
        if first.is_empty() { second } else { first }
    }

    /// Takes the first `len` bytes away.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.len);
        self.len -= len;
        self.head = if self.len == 0 { 0 } else { (self.head + len) & (self.bytes.len() - 1) };
    }

    /// Gives its memory back when it is empty; answers how much.
    pub fn shrink(&mut self) -> usize {
        if self.len != 0 {
            return 0;
        }
        let freed = self.bytes.len();
        *self = Self::new();
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn put(ring: &mut ByteRing, bytes: &[u8], limit: usize) -> usize {
        let mut at = 0;
        let (added, error) = ring.append(bytes.len(), limit, |room| -> Result<usize, ()> {
            let n = room.len();
            room.copy_from_slice(&bytes[at..at + n]);
            at += n;
            Ok(n)
        });
        assert_eq!(error, None);
        added
    }

    #[test]
    fn behaves_as_a_queue() {
        let mut ring = ByteRing::new();
        let mut model: VecDeque<u8> = VecDeque::new();
        let mut state = 12345u32;
        let mut dice = |n: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % n
        };
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..dice(9000)).map(|n| (n * 3) as u8).collect();
            let added = put(&mut ring, &bytes, 40_000);
            assert_eq!(added, bytes.len().min(40_000 - model.len()));
            model.extend(&bytes[..added]);
            let mut seen = Vec::new();
            while seen.len() < model.len().min(5000) {
                seen.extend_from_slice(ring.peek(seen.len()));
            }
            assert!(seen.iter().zip(&model).all(|(a, b)| a == b));
            let taken = (dice(9000) as usize).min(model.len());
            ring.consume(taken);
            model.drain(..taken);
            assert_eq!(ring.len(), model.len());
        }
        assert!(ring.capacity() <= 65_536);
    }

    #[test]
    fn an_error_keeps_what_came_before() {
        let mut ring = ByteRing::new();
        let (added, error) = ring.append(100, 1000, |room| if room.len() > 50 { Err("fault") } else { Ok(room.len()) });
        assert_eq!((added, error, ring.len()), (0, Some("fault"), 0));
        assert_eq!(ring.shrink(), 4096);
    }
}
