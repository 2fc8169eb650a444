//! [`VmaMap`]: the ordered, non-overlapping areas of an address space, with splitting, merging and gap search.
//!
//! Pure bookkeeping over a caller's area data (a [`Region`]); page tables and faults are the caller's. The areas stand in one
//! sorted array: a fault finds its area by a remembered index or a binary search, a fork copies the array front to back.

use crate::heap::{NoMemory, TryGrow};
use alloc::vec::Vec;
use core::ops::Range;

/// What an area carries. Areas split at any page boundary and merge when they continue one another.
pub trait Region: Clone {
    /// The data of the upper part when the area is split `bytes` after its start.
    fn upper_part(&self, bytes: u64) -> Self;
    /// Whether `next`, directly above this area of `len` bytes, continues it.
    fn can_merge(&self, len: u64, next: &Self) -> bool;
    /// Takes in what a mergeable neighbour knew (sticky hints).
    fn absorb(&mut self, _other: &Self) {}
    /// Bytes below the area that must stay free (the guard gap of a stack).
    fn guard_below(&self) -> u64 {
        0
    }
}

/// One area: `start..end`, page aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vma<R> {
    pub start: u64,
    pub end: u64,
    pub data: R,
}

impl<R> Vma<R> {
    pub fn len(&self) -> u64 {
        self.end - self.start
    }
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// The areas of one address space, in order.
pub struct VmaMap<R> {
    areas: Vec<Vma<R>>,
    /// Index of the area found last.
    last: usize,
    /// No gap above `search_top` is larger than `largest_skipped` bytes.
    search_top: u64,
    largest_skipped: u64,
}

impl<R: Region> Default for VmaMap<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Region> VmaMap<R> {
    pub const fn new() -> Self {
        Self { areas: Vec::new(), last: 0, search_top: u64::MAX, largest_skipped: 0 }
    }

    /// Makes room for `more` areas, after which as many additions and splits cannot fail.
    pub fn try_room(&mut self, more: usize) -> Result<(), NoMemory> {
        self.areas.try_room(more)
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.areas.len()
    }

    pub fn areas(&self) -> &[Vma<R>] {
        &self.areas
    }

    /// The data of area `index`; boundaries stay.
    pub fn data_mut(&mut self, index: usize) -> &mut R {
        &mut self.areas[index].data
    }

    /// Index of the first area that ends above `addr` (it contains `addr` or lies above), or `count()`.
    pub fn index_from(&self, addr: u64) -> usize {
        self.areas.partition_point(|area| area.end <= addr)
    }

    /// Index of the area that contains `addr`; remembers it for the next call.
    #[inline]
    pub fn find(&mut self, addr: u64) -> Option<usize> {
        if let Some(area) = self.areas.get(self.last)
            && area.start <= addr
            && addr < area.end
        {
            return Some(self.last);
        }
        let index = self.index_from(addr);
        let area = self.areas.get(index)?;
        if area.start <= addr {
            self.last = index;
            Some(index)
        } else {
            None
        }
    }

    /// The area that contains `addr`.
    pub fn get(&self, addr: u64) -> Option<&Vma<R>> {
        self.areas.get(self.index_from(addr)).filter(|area| area.start <= addr)
    }

    /// The areas that overlap `range`, in order.
    pub fn overlapping(&self, range: Range<u64>) -> &[Vma<R>] {
        let from = self.index_from(range.start);
        let to = from + self.areas[from..].partition_point(|area| area.start < range.end);
        &self.areas[from..to]
    }

    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).is_empty()
    }

    /// Bytes of `range` that areas cover.
    pub fn covered(&self, range: Range<u64>) -> u64 {
        self.overlapping(range.clone()).iter().map(|area| area.end.min(range.end) - area.start.max(range.start)).sum()
    }

    /// Whether areas cover all of `range`.
    pub fn covers(&self, range: Range<u64>) -> bool {
        self.covered(range.clone()) == range.end - range.start
    }

    /// Adds an area where nothing is, merging it with its neighbours when they continue each other; answers its index.
    pub fn insert(&mut self, range: Range<u64>, data: R) -> usize {
        debug_assert!(self.is_free(range.clone()) && !range.is_empty());
        let index = self.index_from(range.start);
        self.areas.insert(index, Vma { start: range.start, end: range.end, data });
        self.merge_around(index, index)
    }

    /// Adds an area above all others without looking for merges (fork).
    pub fn push(&mut self, area: Vma<R>) {
        debug_assert!(self.areas.last().is_none_or(|last| last.end <= area.start));
        self.areas.push(area);
    }

    /// Makes `addr` a boundary.
    fn split_at(&mut self, addr: u64) {
        let index = self.index_from(addr);
        if let Some(area) = self.areas.get_mut(index)
            && area.start < addr
        {
            let upper = Vma { start: addr, end: area.end, data: area.data.upper_part(addr - area.start) };
            area.end = addr;
            self.areas.insert(index + 1, upper);
        }
    }

    /// How many areas more there would be after cutting `range` out of them.
    pub fn extra_after_cut(&self, range: Range<u64>) -> usize {
        match self.overlapping(range.clone()) {
            [one] if one.start < range.start && one.end > range.end => 1,
            _ => 0,
        }
    }

    /// Takes everything in `range` out, splitting areas at its ends; each piece goes to `f`.
    pub fn remove(&mut self, range: Range<u64>, mut f: impl FnMut(Vma<R>)) {
        self.split_at(range.start);
        self.split_at(range.end);
        let from = self.index_from(range.start);
        let to = from + self.areas[from..].partition_point(|area| area.start < range.end);
        if from == to {
            return;
        }
        for area in self.areas.drain(from..to) {
            f(area);
        }
        let above = self.areas.get(from).map_or(u64::MAX, |area| area.start);
        self.search_top = self.search_top.max(above);
        self.last = 0;
    }

    /// Applies `f` to every area (or part) in `range`, splitting at its ends and merging afterwards.
    pub fn update(&mut self, range: Range<u64>, mut f: impl FnMut(&Range<u64>, &mut R)) {
        self.split_at(range.start);
        self.split_at(range.end);
        let from = self.index_from(range.start);
        let mut to = from;
        while let Some(area) = self.areas.get_mut(to)
            && area.start < range.end
        {
            let span = area.start..area.end;
            f(&span, &mut area.data);
            to += 1;
        }
        if to > from {
            self.merge_around(from, to - 1);
        }
    }

    /// Moves the start of area `index` down to `start` (stack growth); the room must be free.
    pub fn grow_down(&mut self, index: usize, start: u64) {
        debug_assert!(index == 0 || self.areas[index - 1].end <= start);
        self.areas[index].start = start;
    }

    /// Moves the end of area `index` up to `end`, and merges; the room must be free.
    pub fn grow_up(&mut self, index: usize, end: u64) {
        debug_assert!(self.areas.get(index + 1).is_none_or(|next| next.start >= end));
        self.areas[index].end = end;
        self.merge_around(index, index);
    }

    /// Merges areas `from - 1 ..= to + 1` pairwise where they continue each other; answers where `from` went.
    fn merge_around(&mut self, from: usize, to: usize) -> usize {
        self.last = 0;
        let mut at = from.saturating_sub(1);
        let mut right = to + 1;
        let mut home = from;
        while at < right && at + 1 < self.areas.len() {
            let (left, next) = (&self.areas[at], &self.areas[at + 1]);
            if left.end == next.start && left.data.can_merge(left.len(), &next.data) {
                let next = self.areas.remove(at + 1);
                let left = &mut self.areas[at];
                left.end = next.end;
                left.data.absorb(&next.data);
                right -= 1;
                if home > at {
                    home -= 1;
                }
            } else {
                at += 1;
            }
        }
        home
    }

    /// The highest free place for `len` bytes in `low..high`, with the guard gaps of areas above respected. Successive
    /// calls do not walk again over the gaps that were too small.
    pub fn find_gap_down(&mut self, len: u64, low: u64, high: u64) -> Option<u64> {
        if len > self.largest_skipped {
            let top = self.search_top.min(high);
            if let Some(at) = self.search_down(len, low, top) {
                return Some(at);
            }
        }
        self.search_top = high;
        self.largest_skipped = 0;
        self.search_down(len, low, high)
    }

    fn search_down(&mut self, len: u64, low: u64, high: u64) -> Option<u64> {
        // `ceiling` is the end of the gap under consideration, `index` the first area above it.
        let mut index = self.areas.partition_point(|area| area.start < high);
        let mut ceiling = high;
        if let Some(above) = self.areas.get(index) {
            ceiling = ceiling.min(above.start.saturating_sub(above.data.guard_below()));
        }
        loop {
            let floor = if index == 0 { low } else { self.areas[index - 1].end.max(low) };
            if ceiling >= floor && ceiling - floor >= len {
                self.search_top = ceiling;
                return Some(ceiling - len);
            }
            self.largest_skipped = self.largest_skipped.max(ceiling.saturating_sub(floor));
            if index == 0 || self.areas[index - 1].start <= low {
                return None;
            }
            index -= 1;
            let area = &self.areas[index];
            ceiling = area.start.saturating_sub(area.data.guard_below());
        }
    }

    /// The lowest free place for `len` bytes in `low..high` (the fall-back when the top-down window is full).
    pub fn find_gap_up(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut floor = low;
        for area in &self.areas[self.index_from(low)..] {
            if area.start.saturating_sub(area.data.guard_below()).min(high).saturating_sub(floor) >= len {
                return Some(floor);
            }
            floor = floor.max(area.end);
        }
        (high.saturating_sub(floor) >= len).then_some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;
    const PAGES: usize = 256;

    /// `kind` must agree and `offset` continue for two areas to merge.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Data {
        kind: u8,
        offset: u64,
    }

    impl Region for Data {
        fn upper_part(&self, bytes: u64) -> Self {
            Self { offset: self.offset + bytes, ..*self }
        }
        fn can_merge(&self, len: u64, next: &Self) -> bool {
            self.kind == next.kind && self.offset + len == next.offset
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Map(usize, usize, u8),
        Unmap(usize, usize),
        Protect(usize, usize, u8),
        Gap(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let span = (0..PAGES - 1, 1..24usize);
        prop_oneof![
            3 => (span.clone(), 0..3u8).prop_map(|((s, l), k)| Op::Map(s, l, k)),
            2 => span.clone().prop_map(|(s, l)| Op::Unmap(s, l)),
            2 => (span, 0..3u8).prop_map(|((s, l), k)| Op::Protect(s, l, k)),
            2 => (1..40usize).prop_map(Op::Gap),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_an_array_of_pages(ops in proptest::collection::vec(op(), 1..120)) {
            let mut map: VmaMap<Data> = VmaMap::new();
            // Per page: kind; the offset is always the address, so that equal neighbours must merge.
            let mut model = [None::<u8>; PAGES];
            for op in ops {
                match op {
                    Op::Map(start, len, kind) => {
                        let end = (start + len).min(PAGES);
                        let range = start as u64 * PAGE..end as u64 * PAGE;
                        map.remove(range.clone(), |_| {});
                        let index = map.insert(range.clone(), Data { kind, offset: range.start });
                        let area = &map.areas()[index];
                        prop_assert!(area.start <= range.start && area.end >= range.end);
                        model[start..end].fill(Some(kind));
                    }
                    Op::Unmap(start, len) => {
                        let end = (start + len).min(PAGES);
                        let mut taken = 0;
                        map.remove(start as u64 * PAGE..end as u64 * PAGE, |area| taken += area.len() / PAGE);
                        prop_assert_eq!(taken as usize, model[start..end].iter().flatten().count());
                        model[start..end].fill(None);
                    }
                    Op::Protect(start, len, kind) => {
                        let end = (start + len).min(PAGES);
                        map.update(start as u64 * PAGE..end as u64 * PAGE, |_, data| data.kind = kind);
                        model[start..end].iter_mut().flatten().for_each(|k| *k = kind);
                    }
                    Op::Gap(len) => {
                        let (low, high) = (3, PAGES - 5);
                        let want = (low..=high - len).rev().find(|&s| model[s..s + len].iter().all(Option::is_none));
                        let got = map.find_gap_down(len as u64 * PAGE, low as u64 * PAGE, high as u64 * PAGE);
                        prop_assert_eq!(got, want.map(|s| s as u64 * PAGE));
                        let want = (low..=high - len).find(|&s| model[s..s + len].iter().all(Option::is_none));
                        let got = map.find_gap_up(len as u64 * PAGE, low as u64 * PAGE, high as u64 * PAGE);
                        prop_assert_eq!(got, want.map(|s| s as u64 * PAGE));
                    }
                }
                let mut expected: Vec<(u64, u64, u8)> = Vec::new();
                for (page, kind) in model.iter().enumerate() {
                    let (start, end) = (page as u64 * PAGE, (page as u64 + 1) * PAGE);
                    match (expected.last_mut(), kind) {
                        (Some(last), Some(kind)) if last.1 == start && last.2 == *kind => last.1 = end,
                        (_, Some(kind)) => expected.push((start, end, *kind)),
                        _ => {}
                    }
                }
                let got: Vec<_> = map.areas().iter().map(|a| (a.start, a.end, a.data.kind)).collect();
                prop_assert_eq!(got, expected);
                for (page, kind) in model.iter().enumerate() {
                    let addr = page as u64 * PAGE + 7;
                    prop_assert_eq!(map.find(addr).map(|i| map.areas()[i].data.kind), *kind);
                    prop_assert_eq!(map.get(addr).is_some(), kind.is_some());
                }
            }
        }
    }
}
