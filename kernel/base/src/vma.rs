//! [`VmaMap`]: the ordered, non-overlapping areas of an address space, with splitting, merging and gap search.
//!
//! Pure bookkeeping over a caller's area data (a [`Region`]); page tables and faults are the caller's. The areas stand in order in
//! leaves of at most 32, the leaves in one array: a fault finds its area by a remembered place or two binary searches, a fork
//! copies the leaves front to back, adding or taking out one area moves no more than a leaf. Each leaf knows a bound of the gaps in
//! it, so that the search for a free place passes over full leaves.

use crate::errno::Errno;
use alloc::vec::Vec;
use core::ops::Range;

/// What an area carries. Areas split at any page boundary and merge when they continue one another.
pub trait Region: Clone {
    /// The data of the upper part when the area is split `bytes` after its start: ENOMEM.
    fn upper_part(&self, bytes: u64) -> Result<Self, Errno>;
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

/// Most areas in one leaf.
const LEAF: usize = 32;
/// Fewer areas in a leaf are joined to a neighbour's.
const SPARSE: usize = LEAF / 4;

/// Neighbouring areas, at least one.
struct Leaf<R> {
    areas: Vec<Vma<R>>,
    /// No gap directly below an area of the leaf is larger: bytes, guard gaps taken off.
    largest_gap: u64,
}

/// Where an area stands; true until areas are added, taken out, split or merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Position {
    leaf: usize,
    slot: usize,
}

/// The areas of one address space, in order.
pub struct VmaMap<R> {
    leaves: Vec<Leaf<R>>,
    count: usize,
    /// Of the area found last.
    last: Position,
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
        Self {
            leaves: Vec::new(),
            count: 0,
            last: Position { leaf: 0, slot: 0 },
            search_top: u64::MAX,
            largest_skipped: 0,
        }
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma<R>> {
        self.leaves.iter().flat_map(|leaf| leaf.areas.iter())
    }

    /// The areas that end above `addr`, in order.
    pub fn iter_from(&self, addr: u64) -> impl Iterator<Item = &Vma<R>> {
        let at = self.position_from(addr);
        let slot = at.slot;
        let (first, rest) = match self.leaves.get(at.leaf..) {
            Some([first, rest @ ..]) => (first.areas.get(slot..).unwrap_or_default(), rest),
            _ => (&[][..], &[][..]),
        };
        first.iter().chain(rest.iter().flat_map(|leaf| leaf.areas.iter()))
    }

    /// The areas that overlap `range`, in order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Vma<R>> {
        self.iter_from(range.start).take_while(move |area| area.start < range.end)
    }

    /// The first area that ends above `addr`: it contains `addr` or lies above.
    pub fn first_from(&self, addr: u64) -> Option<&Vma<R>> {
        self.at(self.position_from(addr))
    }

    /// The last area that ends at or below `addr`, and the next one.
    pub fn around(&self, addr: u64) -> (Option<&Vma<R>>, Option<&Vma<R>>) {
        let at = self.position_from(addr);
        (self.before(at).and_then(|below| self.at(below)), self.at(at))
    }

    /// The area that contains `addr`.
    pub fn get(&self, addr: u64) -> Option<&Vma<R>> {
        self.first_from(addr).filter(|area| area.start <= addr)
    }

    /// The area that contains `addr`, boundaries to be left alone; it is remembered for the next call.
    #[inline]
    pub fn find_mut(&mut self, addr: u64) -> Option<&mut Vma<R>> {
        let Position { leaf, slot } = self.last;
        let is_last = self
            .leaves
            .get(leaf)
            .and_then(|leaf| leaf.areas.get(slot))
            .is_some_and(|area| area.start <= addr && addr < area.end);
        if !is_last {
            let at = self.position_from(addr);
            self.at(at).filter(|area| area.start <= addr)?;
            self.last = at;
        }
        let Position { leaf, slot } = self.last;
        self.leaves.get_mut(leaf)?.areas.get_mut(slot)
    }

    fn at(&self, at: Position) -> Option<&Vma<R>> {
        self.leaves.get(at.leaf)?.areas.get(at.slot)
    }

    fn at_mut(&mut self, at: Position) -> Option<&mut Vma<R>> {
        self.leaves.get_mut(at.leaf)?.areas.get_mut(at.slot)
    }

    /// Where the first area stands that ends above `addr`; past the last area when there is none.
    fn position_from(&self, addr: u64) -> Position {
        let leaf = self.leaves.partition_point(|leaf| leaf.areas.last().is_some_and(|last| last.end <= addr));
        let slot = self.leaves.get(leaf).map_or(0, |leaf| leaf.areas.partition_point(|area| area.end <= addr));
        Position { leaf, slot }
    }

    fn before(&self, at: Position) -> Option<Position> {
        match at.slot {
            0 => {
                let leaf = at.leaf.checked_sub(1)?;
                Some(Position { leaf, slot: self.leaves.get(leaf)?.areas.len() - 1 })
            }
            slot => Some(Position { slot: slot - 1, ..at }),
        }
    }

    fn after(&self, at: Position) -> Position {
        match self.leaves.get(at.leaf) {
            Some(leaf) if at.slot + 1 < leaf.areas.len() => Position { slot: at.slot + 1, ..at },
            _ => Position { leaf: at.leaf + 1, slot: 0 },
        }
    }

    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.first_from(range.start).is_none_or(|area| area.start >= range.end)
    }

    /// Bytes of `range` that areas cover.
    pub fn covered(&self, range: Range<u64>) -> u64 {
        self.overlapping(range.clone()).map(|area| area.end.min(range.end) - area.start.max(range.start)).sum()
    }

    /// Whether areas cover all of `range`.
    pub fn covers(&self, range: Range<u64>) -> bool {
        self.covered(range.clone()) == range.end - range.start
    }

    /// Puts an area at `at`, before the one that stands there: ENOMEM.
    fn put(&mut self, mut at: Position, area: Vma<R>) -> Result<Position, Errno> {
        // Behind the last area of a leaf is as good as before the first of the next one.
        if at.slot == 0 && at.leaf > 0 {
            let below = at.leaf - 1;
            let len = self.leaves[below].areas.len();
            if len < LEAF || at.leaf == self.leaves.len() {
                at = Position { leaf: below, slot: len };
            }
        }
        if self.leaves.get(at.leaf).is_none_or(|leaf| leaf.areas.len() == LEAF) {
            self.leaves.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            // Areas are mostly added at one end: what stays behind stays full.
            match at.slot {
                0 => self.leaves.insert(at.leaf, Leaf { areas: Vec::new(), largest_gap: 0 }),
                LEAF => {
                    at = Position { leaf: at.leaf + 1, slot: 0 };
                    self.leaves.insert(at.leaf, Leaf { areas: Vec::new(), largest_gap: 0 });
                }
                slot => {
                    let mut areas = Vec::new();
                    areas.try_reserve_exact(LEAF).map_err(|_| Errno::ENOMEM)?;
                    let full = &mut self.leaves[at.leaf];
                    areas.extend(full.areas.drain(LEAF / 2..));
                    let largest_gap = full.largest_gap;
                    self.leaves.insert(at.leaf + 1, Leaf { areas, largest_gap });
                    if slot > LEAF / 2 {
                        at = Position { leaf: at.leaf + 1, slot: slot - LEAF / 2 };
                    }
                }
            }
        }
        let leaf = &mut self.leaves[at.leaf];
        if leaf.areas.try_reserve(1).is_err() {
            if leaf.areas.is_empty() {
                self.leaves.remove(at.leaf);
            }
            return Err(Errno::ENOMEM);
        }
        leaf.areas.insert(at.slot, area);
        self.count += 1;
        Ok(at)
    }

    /// Takes out the area at `at`.
    fn take(&mut self, at: Position) -> Vma<R> {
        let leaf = &mut self.leaves[at.leaf];
        let area = leaf.areas.remove(at.slot);
        self.count -= 1;
        if leaf.areas.is_empty() {
            self.leaves.remove(at.leaf);
        } else if leaf.areas.len() < SPARSE {
            self.join(at.leaf);
        }
        area
    }

    /// Puts what little is in a leaf to its neighbour above or below, where there is room for more still.
    fn join(&mut self, at: usize) {
        const ROOM: usize = LEAF * 3 / 4;
        let len = self.leaves[at].areas.len();
        let fits = |leaf: Option<&Leaf<R>>| leaf.is_some_and(|leaf| leaf.areas.len() + len <= ROOM);
        let low = match at {
            _ if fits(self.leaves.get(at + 1)) => at,
            1.. if fits(self.leaves.get(at - 1)) => at - 1,
            _ => return,
        };
        let missing = self.leaves[low + 1].areas.len();
        if self.leaves[low].areas.try_reserve(missing).is_ok() {
            let mut high = self.leaves.remove(low + 1);
            let low = &mut self.leaves[low];
            low.areas.append(&mut high.areas);
            low.largest_gap = low.largest_gap.max(high.largest_gap);
        }
    }

    /// Adds an area where nothing is, merging it with its neighbours when they continue each other: ENOMEM.
    pub fn insert(&mut self, range: Range<u64>, data: R) -> Result<(), Errno> {
        debug_assert!(self.is_free(range.clone()) && !range.is_empty());
        let at = self.position_from(range.start);
        let area = Vma { start: range.start, end: range.end, data };
        // It may do without a place of its own.
        match self.before(at).filter(|below| self.continues(*below, &area)) {
            Some(below) => self.extend_over(below, area),
            None => {
                self.put(at, area)?;
                self.gap_grew_above(range.start);
            }
        }
        self.merge(range);
        Ok(())
    }

    /// Adds an area above all others without looking for merges (fork): ENOMEM.
    pub fn push(&mut self, area: Vma<R>) -> Result<(), Errno> {
        debug_assert!(self.leaves.last().and_then(|leaf| leaf.areas.last()).is_none_or(|last| last.end <= area.start));
        let at = self.put(Position { leaf: self.leaves.len(), slot: 0 }, area)?;
        self.leaves[at.leaf].largest_gap = u64::MAX;
        Ok(())
    }

    /// Makes room for `count` areas in one leaf at once, as far as one leaf goes (fork): ENOMEM.
    pub fn reserve(&mut self, count: usize) -> Result<(), Errno> {
        if self.leaves.is_empty() {
            let mut areas = Vec::new();
            areas.try_reserve_exact(count.min(LEAF)).map_err(|_| Errno::ENOMEM)?;
            self.leaves.try_reserve_exact(count.div_ceil(LEAF).max(1)).map_err(|_| Errno::ENOMEM)?;
            self.leaves.push(Leaf { areas, largest_gap: u64::MAX });
        }
        Ok(())
    }

    /// Makes `addr` a boundary: ENOMEM.
    fn split_at(&mut self, addr: u64) -> Result<(), Errno> {
        let at = self.position_from(addr);
        let Some(area) = self.at(at).filter(|area| area.start < addr) else { return Ok(()) };
        let upper = Vma { start: addr, end: area.end, data: area.data.upper_part(addr - area.start)? };
        // The lower part is found by its start: the upper one may take its place to another leaf.
        let start = area.start;
        self.put(Position { slot: at.slot + 1, ..at }, upper)?;
        let lower = self.position_from(start);
        if let Some(area) = self.at_mut(lower) {
            area.end = addr;
        }
        Ok(())
    }

    /// How many areas more there would be after cutting `range` out of them.
    pub fn extra_after_cut(&self, range: Range<u64>) -> usize {
        usize::from(self.get(range.start).is_some_and(|one| one.start < range.start && one.end > range.end))
    }

    /// Takes everything in `range` out, splitting areas at its ends; each piece goes to `f`: ENOMEM, with nothing taken out.
    pub fn remove(&mut self, range: Range<u64>, mut f: impl FnMut(Vma<R>)) -> Result<(), Errno> {
        self.last = Position { leaf: 0, slot: 0 };
        self.split_at(range.start)?;
        self.split_at(range.end)?;
        let before = self.count;
        let Position { leaf: mut at, slot } = self.position_from(range.start);
        let mut from = slot;
        while let Some(leaf) = self.leaves.get_mut(at) {
            let to = from + leaf.areas[from..].partition_point(|area| area.start < range.end);
            if to == from {
                break;
            }
            self.count -= to - from;
            leaf.areas.drain(from..to).for_each(&mut f);
            match leaf.areas.len() {
                0 => drop(self.leaves.remove(at)),
                1..SPARSE => {
                    self.join(at);
                    Position { leaf: at, slot: from } = self.position_from(range.start);
                    continue;
                }
                _ => at += 1,
            }
            from = 0;
        }
        if self.count < before {
            let above = self.first_from(range.start).map_or(u64::MAX, |area| area.start);
            self.search_top = self.search_top.max(above);
            self.gap_grew_above(range.start);
        }
        Ok(())
    }

    /// The gap below the first area that ends above `addr` is new.
    fn gap_grew_above(&mut self, addr: u64) {
        let at = self.position_from(addr);
        let Some(area) = self.at(at) else { return };
        let floor = self.before(at).and_then(|below| self.at(below)).map_or(0, |below| below.end);
        let gap = area.start.saturating_sub(area.data.guard_below()).saturating_sub(floor);
        let leaf = &mut self.leaves[at.leaf];
        leaf.largest_gap = leaf.largest_gap.max(gap);
    }

    /// Applies `f` to every area (or part) in `range`, splitting at its ends and merging afterwards: ENOMEM, with nothing changed.
    pub fn update(&mut self, range: Range<u64>, mut f: impl FnMut(&Range<u64>, &mut R)) -> Result<(), Errno> {
        self.last = Position { leaf: 0, slot: 0 };
        self.split_at(range.start)?;
        self.split_at(range.end)?;
        let mut at = self.position_from(range.start);
        while let Some(area) = self.at_mut(at)
            && area.start < range.end
        {
            let span = area.start..area.end;
            f(&span, &mut area.data);
            at = self.after(at);
        }
        self.merge(range);
        Ok(())
    }

    /// Moves the start of the area that starts at `from` down to `start` (stack growth), and lets `f` change its data; the room
    /// must be free.
    pub fn grow_down(&mut self, from: u64, start: u64, f: impl FnOnce(&mut R)) {
        let at = self.position_from(from);
        debug_assert!(self.before(at).and_then(|below| self.at(below)).is_none_or(|below| below.end <= start));
        if let Some(area) = self.at_mut(at) {
            area.start = start;
            f(&mut area.data);
        }
    }

    /// Moves the end of the area that contains `addr` up to `end`, and merges; the room must be free.
    pub fn grow_up(&mut self, addr: u64, end: u64) {
        let at = self.position_from(addr);
        debug_assert!(self.at(self.after(at)).is_none_or(|next| next.start >= end));
        if let Some(area) = self.at_mut(at) {
            area.end = end;
        }
        self.merge(addr..end);
    }

    /// Whether `next` continues the area at `at`.
    fn continues(&self, at: Position, next: &Vma<R>) -> bool {
        self.at(at).is_some_and(|area| area.end == next.start && area.data.can_merge(area.len(), &next.data))
    }

    /// Lets the area at `at` take in `next`, which continues it.
    fn extend_over(&mut self, at: Position, next: Vma<R>) {
        if let Some(area) = self.at_mut(at) {
            area.end = next.end;
            area.data.absorb(&next.data);
        }
    }

    /// Merges the areas in `range`, the one that ends where it starts and the one that starts where it ends, pairwise where they
    /// continue each other.
    fn merge(&mut self, range: Range<u64>) {
        self.last = Position { leaf: 0, slot: 0 };
        let mut at = self.position_from(range.start.saturating_sub(1));
        loop {
            let next = self.after(at);
            let Some(above) = self.at(next).filter(|above| above.start <= range.end) else { return };
            if self.continues(at, above) {
                let above = self.take(next);
                let start = above.start;
                // Taking it out may have moved the other.
                at = self.position_from(start - 1);
                self.extend_over(at, above);
            } else {
                at = next;
            }
        }
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
        // The gap that `high` cuts; `at` is the area above it.
        let mut at = {
            let leaf = self.leaves.partition_point(|leaf| leaf.areas.last().is_some_and(|last| last.start < high));
            let slot = self.leaves.get(leaf).map_or(0, |leaf| leaf.areas.partition_point(|area| area.start < high));
            Position { leaf, slot }
        };
        let mut ceiling = high;
        if let Some(above) = self.at(at) {
            ceiling = ceiling.min(above.start.saturating_sub(above.data.guard_below()));
        }
        loop {
            let below = self.before(at);
            let floor = below.and_then(|below| self.at(below)).map_or(low, |below| below.end.max(low));
            if ceiling >= floor && ceiling - floor >= len {
                self.search_top = ceiling;
                return Some(ceiling - len);
            }
            self.largest_skipped = self.largest_skipped.max(ceiling.saturating_sub(floor));
            let mut next = below?;
            // A whole leaf without such a gap is passed over.
            while next.slot + 1 == self.leaves[next.leaf].areas.len()
                && next.leaf > 0
                && self.leaves[next.leaf].largest_gap < len
            {
                self.largest_skipped = self.largest_skipped.max(self.leaves[next.leaf].largest_gap);
                let leaf = next.leaf - 1;
                next = Position { leaf, slot: self.leaves[leaf].areas.len() - 1 };
            }
            if next.slot + 1 == self.leaves[next.leaf].areas.len() {
                self.measure(next.leaf);
            }
            let area = self.at(next)?;
            if area.start <= low {
                return None;
            }
            ceiling = area.start.saturating_sub(area.data.guard_below());
            at = next;
        }
    }

    /// Finds out how large the largest gap of a leaf is, which may be less than it was.
    fn measure(&mut self, index: usize) {
        let mut floor =
            index.checked_sub(1).and_then(|below| self.leaves[below].areas.last()).map_or(0, |below| below.end);
        let leaf = &mut self.leaves[index];
        leaf.largest_gap = 0;
        for area in &leaf.areas {
            let gap = area.start.saturating_sub(area.data.guard_below()).saturating_sub(floor);
            leaf.largest_gap = leaf.largest_gap.max(gap);
            floor = area.end;
        }
    }

    /// The lowest free place for `len` bytes in `low..high` (the fall-back when the top-down window is full).
    pub fn find_gap_up(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut floor = low;
        for area in self.iter_from(low) {
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
    const PAGES: usize = 400;

    /// `kind` must agree and `offset` continue for two areas to merge.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Data {
        kind: u8,
        offset: u64,
    }

    impl Region for Data {
        fn upper_part(&self, bytes: u64) -> Result<Self, Errno> {
            Ok(Self { offset: self.offset + bytes, ..*self })
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
        // Mostly small spans: the areas shall fill several leaves.
        let span = (0..PAGES - 1, prop_oneof![9 => 1..4usize, 1 => 1..80usize]);
        prop_oneof![
            8 => (span.clone(), 0..3u8).prop_map(|((s, l), k)| Op::Map(s, l, k)),
            2 => span.clone().prop_map(|(s, l)| Op::Unmap(s, l)),
            2 => (span, 0..3u8).prop_map(|((s, l), k)| Op::Protect(s, l, k)),
            2 => (1..40usize).prop_map(Op::Gap),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn agrees_with_an_array_of_pages(ops in proptest::collection::vec(op(), 1..250)) {
            let mut map: VmaMap<Data> = VmaMap::new();
            // Per page: kind; the offset is always the address, so that equal neighbours must merge.
            let mut model = [None::<u8>; PAGES];
            for op in ops {
                match op {
                    Op::Map(start, len, kind) => {
                        let end = (start + len).min(PAGES);
                        let range = start as u64 * PAGE..end as u64 * PAGE;
                        map.remove(range.clone(), |_| {}).unwrap();
                        map.insert(range.clone(), Data { kind, offset: range.start }).unwrap();
                        prop_assert!(map.covers(range.clone()) && !map.is_free(range));
                        model[start..end].fill(Some(kind));
                    }
                    Op::Unmap(start, len) => {
                        let end = (start + len).min(PAGES);
                        let mut taken = 0;
                        map.remove(start as u64 * PAGE..end as u64 * PAGE, |area| taken += area.len() / PAGE).unwrap();
                        prop_assert_eq!(taken as usize, model[start..end].iter().flatten().count());
                        model[start..end].fill(None);
                    }
                    Op::Protect(start, len, kind) => {
                        let end = (start + len).min(PAGES);
                        map.update(start as u64 * PAGE..end as u64 * PAGE, |_, data| data.kind = kind).unwrap();
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
                let got: Vec<_> = map.iter().map(|a| (a.start, a.end, a.data.kind)).collect();
                prop_assert_eq!(map.count(), expected.len());
                prop_assert_eq!(got, expected);
                prop_assert!(map.leaves.iter().all(|leaf| (1..=LEAF).contains(&leaf.areas.len())));
                for (page, kind) in model.iter().enumerate() {
                    let addr = page as u64 * PAGE + 7;
                    prop_assert_eq!(map.find_mut(addr).map(|area| area.data.kind), *kind);
                    prop_assert_eq!(map.get(addr).is_some(), kind.is_some());
                }
            }
        }
    }
}
