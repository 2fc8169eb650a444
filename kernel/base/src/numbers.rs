//! [`NumberMap`]: what stands under small numbers that are handed out in rising order, as those of processes are.
//!
//! Blocks of 64 numbers come and go as numbers in them are used. A free number is found by whole blocks, a used one by two steps,
//! and no table is ever built anew.

use crate::errno::Errno;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

const BLOCK: usize = 64;

struct Block<T> {
    /// A bit for each number that is taken.
    taken: u64,
    slots: Option<Box<[T; BLOCK]>>,
}

pub struct NumberMap<T> {
    blocks: Vec<Block<T>>,
    /// In the blocks below this one every number is taken.
    first_free: usize,
    len: usize,
}

impl<T: Default> Default for NumberMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Default> NumberMap<T> {
    pub const fn new() -> Self {
        Self { blocks: Vec::new(), first_free: 0, len: 0 }
    }

    /// How many numbers are taken.
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest free number in `range`.
    fn free_in(&self, range: Range<u32>) -> Option<u32> {
        let mut at = range.start.max((self.first_free * BLOCK) as u32);
        while at < range.end {
            let taken = self.blocks.get(at as usize / BLOCK).map_or(0, |block| block.taken);
            let below = at % BLOCK as u32;
            let run = (taken >> below).trailing_ones();
            if run + below < BLOCK as u32 {
                let free = at + run;
                return (free < range.end).then_some(free);
            }
            at += BLOCK as u32 - below;
        }
        None
    }

    /// Takes the lowest free number in the first of `ranges` that has one: EAGAIN when none has, ENOMEM.
    pub fn take(&mut self, ranges: &[Range<u32>]) -> Result<u32, Errno> {
        let number = ranges.iter().find_map(|range| self.free_in(range.clone())).ok_or(Errno::EAGAIN)?;
        let at = number as usize / BLOCK;
        if at >= self.blocks.len() {
            let missing = at + 1 - self.blocks.len();
            self.blocks.try_reserve(missing).map_err(|_| Errno::ENOMEM)?;
            self.blocks.resize_with(at + 1, || Block { taken: 0, slots: None });
        }
        let block = &mut self.blocks[at];
        if block.slots.is_none() {
            let mut slots = Vec::new();
            slots.try_reserve_exact(BLOCK).map_err(|_| Errno::ENOMEM)?;
            slots.resize_with(BLOCK, T::default);
            block.slots = slots.into_boxed_slice().try_into().ok();
        }
        block.taken |= 1 << (number as usize % BLOCK);
        self.len += 1;
        while self.blocks.get(self.first_free).is_some_and(|block| block.taken == u64::MAX) {
            self.first_free += 1;
        }
        Ok(number)
    }

    /// Gives a number back; answers what stood there.
    pub fn release(&mut self, number: u32) -> Option<T> {
        let block = self.blocks.get_mut(number as usize / BLOCK)?;
        let bit = 1 << (number as usize % BLOCK);
        if block.taken & bit == 0 {
            return None;
        }
        block.taken &= !bit;
        self.first_free = self.first_free.min(number as usize / BLOCK);
        self.len -= 1;
        let old = block.slots.as_mut().map(|slots| core::mem::take(&mut slots[number as usize % BLOCK]));
        if block.taken == 0 {
            block.slots = None;
        }
        old
    }

    /// What stands under a number that is taken.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let block = self.blocks.get(number as usize / BLOCK)?;
        let at = number as usize % BLOCK;
        if block.taken >> at & 1 == 0 { None } else { block.slots.as_ref().map(|slots| &slots[at]) }
    }

    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let block = self.blocks.get_mut(number as usize / BLOCK)?;
        let at = number as usize % BLOCK;
        if block.taken >> at & 1 == 0 { None } else { block.slots.as_mut().map(|slots| &mut slots[at]) }
    }

    /// The highest number that is taken.
    pub fn highest(&self) -> Option<u32> {
        let at = self.blocks.iter().rposition(|block| block.taken != 0)?;
        Some((at * BLOCK) as u32 + 63 - self.blocks[at].taken.leading_zeros())
    }

    /// The numbers from `from` on that are taken, and what stands under them.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &T)> {
        let blocks = self.blocks.iter().enumerate().skip(from as usize / BLOCK);
        let all = blocks.flat_map(|(index, block)| {
            let slots = block.slots.iter().flat_map(|slots| slots.iter()).enumerate();
            let taken = slots.filter(move |(at, _)| block.taken >> at & 1 == 1);
            taken.map(move |(at, value)| ((index * BLOCK + at) as u32, value))
        });
        all.skip_while(move |(number, _)| *number < from)
    }

    /// What stands under the numbers that are taken, by number.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    const MAX: u32 = 300;

    proptest! {
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((0..3u8, 0..MAX), 1..900)) {
            let mut map: NumberMap<u32> = NumberMap::new();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for (step, (op, at)) in ops.into_iter().enumerate() {
                if op < 2 {
                    let wanted = (at..MAX).chain(5..at).find(|number| !model.contains_key(number)).ok_or(Errno::EAGAIN);
                    let got = map.take(&[at..MAX, 5..at]);
                    prop_assert_eq!(got, wanted);
                    if let Ok(number) = got {
                        *map.get_mut(number).unwrap() = step as u32;
                        model.insert(number, step as u32);
                    }
                } else {
                    prop_assert_eq!(map.release(at), model.remove(&at));
                }
                prop_assert_eq!(map.get(at), model.get(&at));
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert_eq!(map.highest(), model.last_key_value().map(|(number, _)| *number));
            prop_assert!(map.values().eq(model.values()));
        }
    }
}
