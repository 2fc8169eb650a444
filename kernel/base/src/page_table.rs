//! Translation tables of user programs (VMSAv8-64: 48-bit addresses, 4 KiB pages, four levels; Arm ARM D8.3): what an entry says, and
//! walking, mapping, unmapping, sharing and moving over any memory that holds tables ([`Frames`]).
//!
//! Leaf descriptors keep three software bits: COW (55), DIRTY (56), and NO_ACCESS (57): a page that is present for the kernel's
//! bookkeeping but whose hardware entry is invalid (PROT_NONE). When TLBs forget what was changed is the caller's business.

use crate::addr::{PAGE_SIZE, USER_END};
use core::ops::Range;

/// Bits of every descriptor. A leaf has `TABLE` too.
pub const VALID: u64 = 1;
pub const TABLE: u64 = 1 << 1;
/// Physical address bits of a descriptor.
pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// AP\[1\]: EL0 may access it. AP\[2\]: nobody may write it.
const USER: u64 = 1 << 6;
pub const READ_ONLY: u64 = 1 << 7;
/// SH: inner shareable. AF: accessed. nG: of one ASID.
pub const INNER: u64 = 3 << 8;
pub const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
pub const PXN: u64 = 1 << 53;
pub const UXN: u64 = 1 << 54;
const COW: u64 = 1 << 55;
const DIRTY: u64 = 1 << 56;
const NO_ACCESS: u64 = 1 << 57;

/// What user code may do with a mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFlags {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// A software bit: private page shared copy-on-write; a write fault copies.
    pub cow: bool,
    /// A software bit: written through this mapping since it was mapped (set by the mapper; kept by `protect`).
    pub dirty: bool,
}

impl PageFlags {
    /// The leaf descriptor of the page at physical address `phys`.
    #[inline]
    pub fn encode(self, phys: u64) -> u64 {
        let mut entry = phys | TABLE | USER | INNER | AF | NG | PXN;
        if self.read || self.write || self.execute {
            entry |= VALID;
        } else {
            entry |= NO_ACCESS;
        }
        if !self.write {
            entry |= READ_ONLY;
        }
        if !self.execute {
            entry |= UXN;
        }
        if self.cow {
            entry |= COW;
        }
        if self.dirty {
            entry |= DIRTY;
        }
        entry
    }
    #[inline]
    pub fn decode(entry: u64) -> Self {
        let accessible = entry & VALID != 0;
        Self {
            read: accessible,
            write: accessible && entry & READ_ONLY == 0,
            execute: accessible && entry & UXN == 0,
            cow: entry & COW != 0,
            dirty: entry & DIRTY != 0,
        }
    }
}

/// Whether a leaf descriptor maps a page, accessible or not.
#[inline(always)]
pub const fn is_present(entry: u64) -> bool {
    entry & (VALID | NO_ACCESS) != 0
}

/// Whether the hardware may use (and remember) a descriptor.
#[inline(always)]
pub const fn is_valid(entry: u64) -> bool {
    entry & VALID != 0
}

/// The index in the table of `level` (0 is the root) of the entry for `va`.
#[inline(always)]
pub const fn index(va: u64, level: u32) -> usize {
    (va >> (39 - 9 * level) & 511) as usize
}

/// Bytes that a leaf table maps.
pub const BLOCK_BYTES: u64 = 1 << 21;
const EIGHT_PAGES: u64 = 8 * PAGE_SIZE as u64;

/// There is no memory for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTable;

/// Memory that holds tables of 512 entries.
///
/// Only [`Tree`] links and unlinks tables, and stores leaves; an implementation may rely on it that `child` is asked for entries of
/// levels 0 to 2 only, and `load` and `store` get those of level 3.
pub trait Frames {
    type Table: Copy;
    type Entry: Copy;
    /// An empty table.
    fn new_table(&self) -> Result<Self::Table, NoTable>;
    /// Entry `index`, below 512, of `table`.
    fn entry(&self, table: Self::Table, index: usize) -> Self::Entry;
    /// Entry `index`, below 512, of the table that `entry` is in.
    fn sibling(&self, entry: Self::Entry, index: usize) -> Self::Entry;
    /// The table that an entry of levels 0 to 2 points to.
    fn child(&self, entry: Self::Entry) -> Option<Self::Table>;
    /// Makes an empty entry of levels 0 to 2 point to a new table, whose emptiness walkers see first.
    fn link(&self, entry: Self::Entry, table: Self::Table);
    /// Empties an entry of levels 0 to 2.
    fn unlink(&self, entry: Self::Entry);
    /// A leaf's descriptor.
    fn load(&self, leaf: Self::Entry) -> u64;
    fn store(&self, leaf: Self::Entry, descriptor: u64);
    /// Whether this leaf, whose index is a multiple of 8, and the seven behind it are zero.
    fn are_eight_zero(&self, leaf: Self::Entry) -> bool;
    /// Counts one more mapping of the page that `descriptor` maps.
    fn share(&self, descriptor: u64);
}

/// Takes over what [`Tree::unmap`] takes away; both may be in TLBs still.
pub trait Gather<T> {
    fn page(&mut self, descriptor: u64);
    fn table(&mut self, table: T);
}

/// One translation tree: its tables, and how much it maps.
pub struct Tree<F: Frames> {
    frames: F,
    root: F::Table,
    resident: usize,
    tables: usize,
}

impl<F: Frames> Tree<F> {
    /// A tree whose root table is `root`, which is empty.
    pub fn new(frames: F, root: F::Table) -> Self {
        Self { frames, root, resident: 0, tables: 1 }
    }

    pub fn frames(&self) -> &F {
        &self.frames
    }
    pub fn root(&self) -> F::Table {
        self.root
    }
    /// Pages mapped now.
    pub fn resident(&self) -> usize {
        self.resident
    }
    /// Tables, the root included.
    pub fn tables(&self) -> usize {
        self.tables
    }

    /// The leaf of `va`, when its tables exist.
    #[inline]
    pub fn find(&self, va: u64) -> Option<F::Entry> {
        if va >= USER_END {
            return None;
        }
        let mut table = self.root;
        for level in 0..3 {
            table = self.frames.child(self.frames.entry(table, index(va, level)))?;
        }
        Some(self.frames.entry(table, index(va, 3)))
    }

    /// The leaf of `va`, making tables on the way. Panics for an address that is no user's.
    #[inline]
    pub fn find_or_make(&mut self, va: u64) -> Result<F::Entry, NoTable> {
        make(&self.frames, self.root, va, &mut self.tables)
    }

    /// Maps a page at an empty leaf; panics if one is mapped there.
    #[inline]
    pub fn fill(&mut self, leaf: F::Entry, descriptor: u64) {
        assert!(!is_present(self.frames.load(leaf)), "a page is mapped there already");
        self.frames.store(leaf, descriptor);
        self.resident += 1;
    }

    /// Calls `f(va, leaf)` for every mapped page in `range`, in order.
    pub fn walk(&self, range: Range<u64>, f: &mut dyn FnMut(u64, F::Entry)) {
        walk(&self.frames, self.root, range, f);
    }

    /// Applies `f` to the flags of every mapped page in `range`; returns whether anything changed.
    pub fn protect(&mut self, range: Range<u64>, f: &mut dyn FnMut(u64, PageFlags) -> PageFlags) -> bool {
        let mut changed = false;
        self.walk(range, &mut |va, leaf| {
            let old = self.frames.load(leaf);
            let new = f(va, PageFlags::decode(old)).encode(old & ADDRESS);
            if new != old {
                self.frames.store(leaf, new);
                changed = true;
            }
        });
        changed
    }

    /// Unmaps every page in `range` into `gather`. There is nothing in `free`, which contains `range`, but in `range`, no page and no
    /// table: tables on the way that lie wholly in `free` go too (what they hold outside of `range` is lost otherwise). Returns how many pages and tables were taken.
    pub fn unmap<G: Gather<F::Table>>(
        &mut self,
        range: Range<u64>,
        free: Range<u64>,
        gather: &mut G,
    ) -> (usize, usize) {
        let range = range.start..range.end.min(USER_END);
        if range.is_empty() {
            return (0, 0);
        }
        let mut taken = (0, 0);
        unmap_level(&self.frames, self.root, 0, 0, &range, &free, gather, &mut taken);
        self.resident -= taken.0;
        self.tables -= taken.1;
        taken
    }

    /// Copies every mapping of `range` into `child` (which has nothing there). With `cow`, writable pages become read-only with the
    /// `cow` bit in both; else they are shared as they are. On failure `child` has a part of them.
    pub fn fork(&mut self, child: &mut Self, range: Range<u64>, cow: bool) -> Result<(), NoTable> {
        let mut result = Ok(());
        let mut table: Option<(u64, F::Entry)> = None;
        self.walk(range, &mut |va, leaf| {
            if result.is_err() {
                return;
            }
            let mut value = self.frames.load(leaf);
            let block = va & !(BLOCK_BYTES - 1);
            let first = match table {
                Some((known, first)) if known == block => first,
                _ => match child.find_or_make(block) {
                    Ok(first) => {
                        table = Some((block, first));
                        first
                    }
                    Err(error) => {
                        result = Err(error);
                        return;
                    }
                },
            };
            if cow && value & (VALID | READ_ONLY) == VALID {
                value |= READ_ONLY | COW;
                self.frames.store(leaf, value);
            }
            self.frames.share(value);
            child.frames.store(child.frames.sibling(first, index(va, 3)), value);
            child.resident += 1;
        });
        result
    }

    /// Moves the mappings of `from` to addresses from `to` on, where nothing is mapped (it panics if something is). On failure
    /// everything is as it was, but for empty tables.
    pub fn move_pages(&mut self, from: Range<u64>, to: u64) -> Result<(), NoTable> {
        let len = from.end.saturating_sub(from.start);
        assert!(to >= from.end || to.saturating_add(len) <= from.start, "moving a range onto itself");
        let (frames, root, tables) = (&self.frames, self.root, &mut self.tables);
        // The target's tables first.
        let mut result = Ok(());
        let mut made = None;
        walk(frames, root, from.clone(), &mut |va, _| {
            let target = to + (va - from.start);
            let block = target & !(BLOCK_BYTES - 1);
            if result.is_ok() && made != Some(block) {
                result = make(frames, root, target, tables).map(drop);
                made = Some(block);
            }
        });
        result?;
        walk(frames, root, from.clone(), &mut |va, old| {
            if let Some(new) = self.find(to + (va - from.start)) {
                let value = frames.load(old);
                assert!(!is_present(frames.load(new)), "moving onto a mapped page");
                frames.store(old, 0);
                frames.store(new, value);
            }
        });
        Ok(())
    }
}

/// The leaf of user address `va` below `root`; makes tables on the way, and counts them in `tables`.
#[inline]
fn make<F: Frames>(frames: &F, root: F::Table, va: u64, tables: &mut usize) -> Result<F::Entry, NoTable> {
    assert!(va < USER_END, "not a user address");
    let mut table = root;
    for level in 0..3 {
        let entry = frames.entry(table, index(va, level));
        table = match frames.child(entry) {
            Some(child) => child,
            None => {
                let child = frames.new_table()?;
                *tables += 1;
                frames.link(entry, child);
                child
            }
        };
    }
    Ok(frames.entry(table, index(va, 3)))
}

/// As [`Tree::walk`].
fn walk<F: Frames>(frames: &F, root: F::Table, range: Range<u64>, f: &mut dyn FnMut(u64, F::Entry)) {
    let mut va = range.start;
    let end = range.end.min(USER_END);
    while va < end {
        let mut table = root;
        let mut skip = 0;
        for level in 0..3 {
            match frames.child(frames.entry(table, index(va, level))) {
                Some(child) => table = child,
                None => {
                    skip = 1u64 << (39 - 9 * level);
                    break;
                }
            }
        }
        if skip != 0 {
            va = (va & !(skip - 1)) + skip;
            continue;
        }
        let table_end = ((va & !(BLOCK_BYTES - 1)) + BLOCK_BYTES).min(end);
        while va < table_end {
            let leaf = frames.entry(table, index(va, 3));
            if va.is_multiple_of(EIGHT_PAGES) && va + EIGHT_PAGES <= table_end && frames.are_eight_zero(leaf) {
                va += EIGHT_PAGES;
                continue;
            }
            if is_present(frames.load(leaf)) {
                f(va, leaf);
            }
            va += PAGE_SIZE as u64;
        }
    }
}

/// Empties the entries of `table` (at `level`, covering addresses from `base`) that `range` touches, into `gather`; child tables that
/// lie wholly in `free` go too. Visits nothing outside `range`. Counts pages and tables in `taken`.
#[expect(clippy::too_many_arguments, reason = "a recursion's state")]
fn unmap_level<F: Frames, G: Gather<F::Table>>(
    frames: &F,
    table: F::Table,
    level: u32,
    base: u64,
    range: &Range<u64>,
    free: &Range<u64>,
    gather: &mut G,
    taken: &mut (usize, usize),
) {
    let shift = 39 - 9 * level;
    let first = (range.start.max(base) - base) >> shift;
    // Exclusive: an inclusive range costs twice the instructions for each entry.
    let end = ((range.end - 1 - base) >> shift).min(511) + 1;
    if level == 3 {
        let mut slot = first;
        while slot < end {
            let leaf = frames.entry(table, slot as usize);
            if slot.is_multiple_of(8) && slot + 8 <= end && frames.are_eight_zero(leaf) {
                slot += 8;
                continue;
            }
            slot += 1;
            let old = frames.load(leaf);
            if is_present(old) {
                frames.store(leaf, 0);
                taken.0 += 1;
                gather.page(old);
            }
        }
        return;
    }
    for slot in first..end {
        let entry = frames.entry(table, slot as usize);
        let Some(child) = frames.child(entry) else { continue };
        let start = base + (slot << shift);
        unmap_level(frames, child, level + 1, start, range, free, gather, taken);
        if free.start <= start && start + (1u64 << shift) <= free.end {
            frames.unlink(entry);
            taken.1 += 1;
            gather.table(child);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

    const PAGE: u64 = PAGE_SIZE as u64;

    /// Tables by number, how often each page is mapped, and how many tables may still be made.
    #[derive(Default)]
    struct Memory {
        tables: RefCell<HashMap<u64, Box<[u64; 512]>>>,
        mapped: RefCell<HashMap<u64, i32>>,
        next: RefCell<u64>,
        room: RefCell<usize>,
    }

    impl Frames for &Memory {
        type Table = u64;
        type Entry = (u64, usize);
        fn new_table(&self) -> Result<u64, NoTable> {
            let mut room = self.room.borrow_mut();
            *room = room.checked_sub(1).ok_or(NoTable)?;
            *self.next.borrow_mut() += PAGE;
            let table = *self.next.borrow();
            self.tables.borrow_mut().insert(table, Box::new([0; 512]));
            Ok(table)
        }
        fn entry(&self, table: u64, index: usize) -> (u64, usize) {
            assert!(index < 512 && self.tables.borrow().contains_key(&table), "an entry of no table");
            (table, index)
        }
        fn sibling(&self, entry: (u64, usize), index: usize) -> (u64, usize) {
            self.entry(entry.0, index)
        }
        fn child(&self, entry: (u64, usize)) -> Option<u64> {
            let value = self.load(entry);
            (value & VALID != 0).then_some(value & ADDRESS)
        }
        fn link(&self, entry: (u64, usize), table: u64) {
            assert_eq!(self.load(entry), 0, "linked over something");
            self.store(entry, table | TABLE | VALID);
        }
        fn unlink(&self, entry: (u64, usize)) {
            self.store(entry, 0);
        }
        fn load(&self, (table, index): (u64, usize)) -> u64 {
            self.tables.borrow()[&table][index]
        }
        fn store(&self, (table, index): (u64, usize), value: u64) {
            self.tables.borrow_mut().get_mut(&table).unwrap()[index] = value;
        }
        fn are_eight_zero(&self, (table, index): (u64, usize)) -> bool {
            assert_eq!(index % 8, 0);
            self.tables.borrow()[&table][index..index + 8].iter().all(|value| *value == 0)
        }
        fn share(&self, descriptor: u64) {
            *self.mapped.borrow_mut().entry(descriptor & ADDRESS).or_default() += 1;
        }
    }

    impl Gather<u64> for &Memory {
        fn page(&mut self, descriptor: u64) {
            let mut mapped = self.mapped.borrow_mut();
            let count = mapped.get_mut(&(descriptor & ADDRESS)).expect("a page that was mapped");
            *count -= 1;
            assert!(*count >= 0, "unmapped twice");
        }
        fn table(&mut self, table: u64) {
            let table = self.tables.borrow_mut().remove(&table).expect("a table that is there");
            assert!(table.iter().all(|entry| *entry == 0), "a table went that maps something");
        }
    }

    type Model = BTreeMap<u64, u64>;

    fn tree(memory: &Memory) -> Tree<&Memory> {
        *memory.room.borrow_mut() += 1;
        let root = memory.new_table().unwrap();
        Tree::new(memory, root)
    }

    fn map(memory: &Memory, tree: &mut Tree<&Memory>, model: &mut Model, va: u64, page: u64, flags: PageFlags) {
        if let std::collections::btree_map::Entry::Vacant(slot) = model.entry(va)
            && let Ok(leaf) = tree.find_or_make(va)
        {
            memory.share(page);
            tree.fill(leaf, flags.encode(page));
            slot.insert(flags.encode(page));
        }
    }

    fn check(memory: &Memory, trees: &[(&Tree<&Memory>, &Model)]) {
        let mut tables = 0;
        let mut counts: HashMap<u64, i32> = HashMap::new();
        for (tree, model) in trees {
            let mut seen = Model::new();
            tree.walk(0..USER_END, &mut |va, leaf| assert!(seen.insert(va, memory.load(leaf)).is_none()));
            assert_eq!(&seen, *model);
            assert_eq!(tree.resident(), model.len());
            tables += tree.tables();
            for value in model.values() {
                *counts.entry(value & ADDRESS).or_default() += 1;
            }
        }
        assert_eq!(memory.tables.borrow().len(), tables, "tables lost or counted wrongly");
        let mapped: HashMap<u64, i32> = memory
            .mapped
            .borrow()
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(page, count)| (*page, *count))
            .collect();
        assert_eq!(mapped, counts, "references");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Map { va: u64, pages: u64, flags: u8 },
        Unmap { range: Range<u64>, takes_tables: bool },
        Protect { range: Range<u64>, flags: u8 },
        Move { range: Range<u64>, to: u64 },
        Fork { range: Range<u64>, cow: bool },
    }

    fn flags_of(bits: u8) -> PageFlags {
        let bit = |at: u8| bits >> at & 1 == 1;
        PageFlags { read: bit(0), write: bit(1), execute: bit(2), cow: bit(3), dirty: bit(4) }
    }

    /// Page addresses around the ends of tables of every level, so that a few steps meet each other.
    fn address() -> impl Strategy<Value = u64> {
        let corner = prop_oneof![
            Just(0),
            Just(1u64 << 21),
            Just(1u64 << 30),
            Just(1u64 << 39),
            Just(USER_END - (1 << 21)),
            Just(7 << 39 | 3 << 30)
        ];
        (corner, 0u64..1040).prop_map(|(corner, page)| (corner + page * PAGE).min(USER_END - PAGE))
    }
    fn range() -> impl Strategy<Value = Range<u64>> {
        (address(), prop_oneof![0u64..20, 500u64..1100, Just(1 << 18), Just(1 << 36)])
            .prop_map(|(start, pages)| start..(start + pages * PAGE).min(USER_END))
    }
    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (address(), 1u64..24, any::<u8>()).prop_map(|(va, pages, flags)| Step::Map { va, pages, flags }),
            2 => (range(), any::<bool>()).prop_map(|(range, takes_tables)| Step::Unmap { range, takes_tables }),
            1 => (range(), any::<u8>()).prop_map(|(range, flags)| Step::Protect { range, flags }),
            1 => (range(), address()).prop_map(|(range, to)| Step::Move { range, to }),
            1 => (range(), any::<bool>()).prop_map(|(range, cow)| Step::Fork { range, cow }),
        ]
    }

    proptest! {
        #[test]
        fn a_tree_maps_what_a_map_says(steps in proptest::collection::vec(step(), 1..40), room in 0usize..60) {
            let memory = Memory::default();
            let (mut parent, mut map_of) = (tree(&memory), Model::new());
            *memory.room.borrow_mut() = room;
            let mut next = 1u64 << 40;
            // Blocks that may have a table.
            let mut areas = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Map { va, pages, flags } => {
                        for page in 0..pages {
                            let va = va + page * PAGE;
                            if va < USER_END {
                                next += PAGE;
                                areas.insert(va & !(BLOCK_BYTES - 1));
                                map(&memory, &mut parent, &mut map_of, va, next, flags_of(flags));
                            }
                        }
                    }
                    Step::Unmap { range, takes_tables } => {
                        // The largest range around it in which no other page is, and no table of others, as in an address space, whose
                        // areas all tables belong to.
                        let first = range.start & !(BLOCK_BYTES - 1);
                        let below = areas.range(..first).next_back().map_or(0, |block| block + BLOCK_BYTES);
                        let below = map_of.range(..range.start).next_back().map_or(below, |(va, _)| below.max(va + PAGE));
                        let above = areas.range(range.end..).next().map_or(USER_END, |block| *block);
                        let above = map_of.range(range.end..).next().map_or(above, |(va, _)| above.min(*va));
                        let free = if takes_tables { below..above } else { range.clone() };
                        if takes_tables && !range.is_empty() {
                            let goes = |block: u64| {
                                let touched = block < range.end && range.start < block + BLOCK_BYTES;
                                touched && below <= block && block + BLOCK_BYTES <= above
                            };
                            areas.retain(|block| !goes(*block));
                        }
                        let before = (parent.resident(), parent.tables());
                        let taken = parent.unmap(range.clone(), free, &mut &memory);
                        prop_assert_eq!((before.0 - taken.0, before.1 - taken.1), (parent.resident(), parent.tables()));
                        map_of.retain(|va, _| !range.contains(va));
                    }
                    Step::Protect { range, flags } => {
                        let changed = parent.protect(range.clone(), &mut |_, old| PageFlags { dirty: old.dirty, ..flags_of(flags) });
                        let mut expected = false;
                        for (_, value) in map_of.range_mut(range) {
                            let new = PageFlags { dirty: PageFlags::decode(*value).dirty, ..flags_of(flags) };
                            let new = new.encode(*value & ADDRESS);
                            expected |= new != *value;
                            *value = new;
                        }
                        prop_assert_eq!(changed, expected);
                    }
                    Step::Move { range, to } => {
                        let len = range.end - range.start;
                        let target = to..to.saturating_add(len);
                        let overlaps = target.start < range.end && range.start < target.end;
                        if target.end > USER_END || overlaps || map_of.range(target).next().is_some() {
                            continue;
                        }
                        let before = map_of.clone();
                        areas.extend(before.range(range.clone()).map(|(va, _)| (to + (va - range.start)) & !(BLOCK_BYTES - 1)));
                        match parent.move_pages(range.clone(), to) {
                            Ok(()) => {
                                map_of.retain(|va, _| !range.contains(va));
                                map_of.extend(before.range(range.clone()).map(|(va, value)| (to + (va - range.start), *value)));
                            }
                            Err(NoTable) => prop_assert_eq!(*memory.room.borrow(), 0),
                        }
                    }
                    Step::Fork { range, cow } => {
                        let (mut child, mut map_of_child) = (tree(&memory), Model::new());
                        let result = parent.fork(&mut child, range.clone(), cow);
                        // As far as it came, in order.
                        let copied = child.resident();
                        for (va, value) in map_of.range_mut(range.clone()).take(copied) {
                            if cow && is_valid(*value) && *value & READ_ONLY == 0 {
                                *value |= READ_ONLY | COW;
                            }
                            map_of_child.insert(*va, *value);
                        }
                        if result.is_ok() {
                            prop_assert_eq!(copied, map_of.range(range).count());
                        }
                        check(&memory, &[(&parent, &map_of), (&child, &map_of_child)]);
                        child.unmap(0..USER_END, 0..USER_END, &mut &memory);
                        prop_assert_eq!((child.resident(), child.tables()), (0, 1));
                        memory.tables.borrow_mut().remove(&child.root());
                    }
                }
                check(&memory, &[(&parent, &map_of)]);
                let probes: HashSet<u64> = map_of.keys().flat_map(|va| [*va, va.saturating_sub(PAGE), va + PAGE]).collect();
                for va in probes {
                    let found = parent.find(va).map(|leaf| (&memory).load(leaf)).filter(|value| is_present(*value));
                    prop_assert_eq!(found, map_of.get(&va).copied());
                }
            }
            parent.unmap(0..USER_END, 0..USER_END, &mut &memory);
            map_of.clear();
            check(&memory, &[(&parent, &map_of)]);
            prop_assert_eq!(parent.tables(), 1);
        }
    }

    #[test]
    fn flags_survive_an_entry() {
        for bits in 0..32 {
            let flags = flags_of(bits);
            let entry = flags.encode(0x1234_5000);
            assert_eq!(entry & ADDRESS, 0x1234_5000);
            assert!(is_present(entry));
            let accessible = flags.read || flags.write || flags.execute;
            assert_eq!(is_valid(entry), accessible);
            // What may be written or executed may be read.
            assert_eq!(PageFlags::decode(entry), PageFlags { read: accessible, ..flags });
        }
    }

    #[test]
    #[should_panic(expected = "not a user address")]
    fn a_kernel_address_is_refused() {
        let memory = Memory::default();
        let _ = tree(&memory).find_or_make(USER_END);
    }

    #[test]
    #[should_panic(expected = "mapped there already")]
    fn a_mapped_page_is_not_mapped_over() {
        let memory = Memory::default();
        let mut tree = tree(&memory);
        *memory.room.borrow_mut() = 3;
        let leaf = tree.find_or_make(PAGE).unwrap();
        tree.fill(leaf, PageFlags::default().encode(PAGE));
        tree.fill(leaf, PageFlags::default().encode(PAGE));
    }
}
