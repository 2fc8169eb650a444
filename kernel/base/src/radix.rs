//! [`Radix`]: a sparse array indexed by page number, 64 slots a node, with three tag bits per entry.
//!
//! The index of a `MemObject`'s pages. An object of one page (most small files) costs no node at all; lookups touch one
//! node per 64-fold of size; tags (dirty, instruction cache clean, referenced) live in the leaf as one word each.

use alloc::boxed::Box;
use core::ops::Range;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Levels that cover every `u64` index.
const MAX_HEIGHT: u32 = 11;

/// Tags an entry can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    First = 0,
    Second = 1,
    Third = 2,
}

const TAGS: usize = 3;

struct Leaf<T> {
    slots: [Option<T>; SLOTS],
    tags: [u64; TAGS],
    count: u32,
}

struct Inner<T> {
    children: [Option<Box<Node<T>>>; SLOTS],
    count: u32,
}

enum Node<T> {
    Leaf(Leaf<T>),
    Inner(Inner<T>),
}

impl<T> Node<T> {
    fn leaf() -> Box<Self> {
        Box::new(Node::Leaf(Leaf { slots: [const { None }; SLOTS], tags: [0; TAGS], count: 0 }))
    }
    fn inner() -> Box<Self> {
        Box::new(Node::Inner(Inner { children: [const { None }; SLOTS], count: 0 }))
    }
    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.count == 0,
            Node::Inner(inner) => inner.count == 0,
        }
    }
}

enum Root<T> {
    Empty,
    /// Only index 0 is present.
    One(T, [bool; TAGS]),
    /// A tree whose root node covers `64^height` indexes.
    Tree(Box<Node<T>>, u32),
}

/// A sparse array of `T`.
pub struct Radix<T> {
    root: Root<T>,
    len: usize,
}

impl<T> Default for Radix<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a tree of `height` levels has a slot for `index`.
fn covers(height: u32, index: u64) -> bool {
    height >= MAX_HEIGHT || index >> (BITS * height) == 0
}

fn slot_of(index: u64, level: u32) -> usize {
    (index >> (BITS * (level - 1))) as usize % SLOTS
}

impl<T> Radix<T> {
    pub const fn new() -> Self {
        Self { root: Root::Empty, len: 0 }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn leaf(&self, index: u64) -> Option<&Leaf<T>> {
        let Root::Tree(node, height) = &self.root else { return None };
        if !covers(*height, index) {
            return None;
        }
        let mut node = &**node;
        let mut level = *height;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => {
                    node = inner.children[slot_of(index, level)].as_deref()?;
                    level -= 1;
                }
            }
        }
    }

    fn leaf_mut(&mut self, index: u64) -> Option<&mut Leaf<T>> {
        let Root::Tree(node, height) = &mut self.root else { return None };
        if !covers(*height, index) {
            return None;
        }
        let mut node = &mut **node;
        let mut level = *height;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => {
                    node = inner.children[slot_of(index, level)].as_deref_mut()?;
                    level -= 1;
                }
            }
        }
    }

    /// The entry at `index`.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&T> {
        match &self.root {
            Root::Empty => None,
            Root::One(value, _) => (index == 0).then_some(value),
            Root::Tree(..) => self.leaf(index)?.slots[slot_of(index, 1)].as_ref(),
        }
    }

    /// The entry at `index`, which gets `tag`.
    #[inline]
    pub fn touch(&mut self, index: u64, tag: Tag) -> Option<&T> {
        if matches!(self.root, Root::Tree(..)) {
            let slot = slot_of(index, 1);
            let leaf = self.leaf_mut(index)?;
            let value = leaf.slots[slot].as_ref()?;
            leaf.tags[tag as usize] |= 1 << slot;
            return Some(value);
        }
        match &mut self.root {
            Root::One(value, tags) if index == 0 => {
                tags[tag as usize] = true;
                Some(value)
            }
            _ => None,
        }
    }

    /// Puts `value` at `index`, with no tags; answers what was there.
    pub fn insert(&mut self, index: u64, value: T) -> Option<T> {
        match &mut self.root {
            Root::Empty if index == 0 => {
                self.root = Root::One(value, [false; TAGS]);
                self.len = 1;
                return None;
            }
            Root::One(old, tags) if index == 0 => {
                *tags = [false; TAGS];
                return Some(core::mem::replace(old, value));
            }
            Root::Empty => self.root = Root::Tree(Node::leaf(), 1),
            Root::One(..) => {
                let Root::One(old, tags) = core::mem::replace(&mut self.root, Root::Empty) else { return None };
                let mut leaf = Leaf { slots: [const { None }; SLOTS], tags: tags.map(u64::from), count: 1 };
                leaf.slots[0] = Some(old);
                self.root = Root::Tree(Box::new(Node::Leaf(leaf)), 1);
            }
            Root::Tree(..) => {}
        }
        self.grow(index);
        let Root::Tree(node, height) = &mut self.root else { return None };
        let mut level = *height;
        let mut node = &mut **node;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let slot = slot_of(index, 1);
                    leaf.tags.iter_mut().for_each(|tags| *tags &= !(1 << slot));
                    let old = leaf.slots[slot].replace(value);
                    if old.is_none() {
                        leaf.count += 1;
                        self.len += 1;
                    }
                    return old;
                }
                Node::Inner(inner) => {
                    let child = &mut inner.children[slot_of(index, level)];
                    level -= 1;
                    if child.is_none() {
                        inner.count += 1;
                    }
                    node = child.get_or_insert_with(|| if level == 1 { Node::leaf() } else { Node::inner() });
                }
            }
        }
    }

    /// Adds levels on top until `index` is covered.
    fn grow(&mut self, index: u64) {
        while let Root::Tree(_, height) = &self.root
            && !covers(*height, index)
        {
            let Root::Tree(old, height) = core::mem::replace(&mut self.root, Root::Empty) else { return };
            let mut top = Node::inner();
            if let Node::Inner(inner) = &mut *top
                && !old.is_empty()
            {
                inner.children[0] = Some(old);
                inner.count = 1;
            }
            self.root = Root::Tree(top, height + 1);
        }
    }

    /// Takes the entry at `index` out.
    pub fn remove(&mut self, index: u64) -> Option<T> {
        let mut taken = None;
        self.remove_range(index..index.saturating_add(1), &mut |_, value| taken = Some(value));
        taken
    }

    /// Takes every entry of `range` out, in order, and hands it to `f`; empty nodes are freed.
    pub fn remove_range(&mut self, range: Range<u64>, f: &mut dyn FnMut(u64, T)) {
        if range.is_empty() {
            return;
        }
        match &mut self.root {
            Root::Empty => {}
            Root::One(..) => {
                if range.start == 0
                    && let Root::One(value, _) = core::mem::replace(&mut self.root, Root::Empty)
                {
                    self.len = 0;
                    f(0, value);
                }
            }
            Root::Tree(node, height) => {
                let mut removed = 0;
                Self::remove_in(node, *height, 0, &range, &mut |index, value| {
                    removed += 1;
                    f(index, value);
                });
                self.len -= removed;
                if node.is_empty() {
                    self.root = Root::Empty;
                }
            }
        }
    }

    fn remove_in(node: &mut Node<T>, level: u32, base: u64, range: &Range<u64>, f: &mut dyn FnMut(u64, T)) {
        let (first, last) = Self::slot_range(level, base, range);
        match node {
            Node::Leaf(leaf) => {
                for slot in first..=last {
                    if let Some(value) = leaf.slots[slot].take() {
                        leaf.count -= 1;
                        leaf.tags.iter_mut().for_each(|tags| *tags &= !(1 << slot));
                        f(base + slot as u64, value);
                    }
                }
            }
            Node::Inner(inner) => {
                for slot in first..=last {
                    if let Some(child) = &mut inner.children[slot] {
                        Self::remove_in(child, level - 1, base + ((slot as u64) << (BITS * (level - 1))), range, f);
                        if child.is_empty() {
                            inner.children[slot] = None;
                            inner.count -= 1;
                        }
                    }
                }
            }
        }
    }

    /// First and last slot of a node at `level` based at `base` that `range` (not empty, overlapping) touches.
    fn slot_range(level: u32, base: u64, range: &Range<u64>) -> (usize, usize) {
        let shift = BITS * (level - 1);
        let last_index = range.end - 1;
        let first = range.start.saturating_sub(base) >> shift;
        let last = last_index.saturating_sub(base) >> shift;
        if last_index < base {
            return (1, 0);
        }
        (first.min(SLOTS as u64) as usize, last.min(SLOTS as u64 - 1) as usize)
    }

    /// Calls `f` for every entry of `range`, in order, until it answers false.
    pub fn for_each(&self, range: Range<u64>, f: &mut dyn FnMut(u64, &T) -> bool) {
        if range.is_empty() {
            return;
        }
        match &self.root {
            Root::Empty => {}
            Root::One(value, _) => {
                if range.start == 0 {
                    f(0, value);
                }
            }
            Root::Tree(node, height) => {
                Self::visit(node, *height, 0, &range, None, f);
            }
        }
    }

    fn visit(
        node: &Node<T>,
        level: u32,
        base: u64,
        range: &Range<u64>,
        tag: Option<Tag>,
        f: &mut dyn FnMut(u64, &T) -> bool,
    ) -> bool {
        let (first, last) = Self::slot_range(level, base, range);
        match node {
            Node::Leaf(leaf) => {
                for slot in first..=last {
                    if let Some(value) = &leaf.slots[slot]
                        && tag.is_none_or(|tag| leaf.tags[tag as usize] >> slot & 1 == 1)
                        && !f(base + slot as u64, value)
                    {
                        return false;
                    }
                }
            }
            Node::Inner(inner) => {
                for slot in first..=last {
                    if let Some(child) = &inner.children[slot]
                        && !Self::visit(child, level - 1, base + ((slot as u64) << (BITS * (level - 1))), range, tag, f)
                    {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// As [`Radix::for_each`], of the entries that carry `tag`.
    pub fn for_each_tagged(&self, range: Range<u64>, tag: Tag, f: &mut dyn FnMut(u64, &T) -> bool) {
        if range.is_empty() {
            return;
        }
        match &self.root {
            Root::Empty => {}
            Root::One(value, tags) => {
                if range.start == 0 && tags[tag as usize] {
                    f(0, value);
                }
            }
            Root::Tree(node, height) => {
                Self::visit(node, *height, 0, &range, Some(tag), f);
            }
        }
    }

    /// The first entry at or after `index`.
    pub fn next_present(&self, index: u64) -> Option<u64> {
        let mut found = None;
        self.for_each(index..u64::MAX, &mut |at, _| {
            found = Some(at);
            false
        });
        found
    }

    /// The first index at or after `index` with no entry.
    pub fn next_absent(&self, index: u64) -> u64 {
        let mut expect = index;
        self.for_each(index..u64::MAX, &mut |at, _| {
            if at == expect {
                expect += 1;
                true
            } else {
                false
            }
        });
        expect
    }

    /// Sets or clears a tag of the entry at `index`; answers whether it was set (false when there is no entry).
    pub fn set_tag(&mut self, index: u64, tag: Tag, on: bool) -> bool {
        match &mut self.root {
            Root::Empty => false,
            Root::One(_, tags) => index == 0 && core::mem::replace(&mut tags[tag as usize], on),
            Root::Tree(..) => {
                let slot = slot_of(index, 1);
                let Some(leaf) = self.leaf_mut(index) else { return false };
                if leaf.slots[slot].is_none() {
                    return false;
                }
                let word = &mut leaf.tags[tag as usize];
                let was = *word >> slot & 1 == 1;
                *word = *word & !(1 << slot) | u64::from(on) << slot;
                was
            }
        }
    }

    /// Whether the entry at `index` carries `tag`.
    pub fn has_tag(&self, index: u64, tag: Tag) -> bool {
        match &self.root {
            Root::Empty => false,
            Root::One(_, tags) => index == 0 && tags[tag as usize],
            Root::Tree(..) => {
                self.leaf(index).is_some_and(|leaf| leaf.tags[tag as usize] >> slot_of(index, 1) & 1 == 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u32),
        Remove(u64),
        RemoveRange(u64, u64),
        Tag(u64, bool),
    }

    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, 0..200u64, 0..10_000u64, (1u64 << 40)..(1 << 40) + 100, Just(u64::MAX >> 12)]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (index(), any::<u32>()).prop_map(|(i, v)| Op::Insert(i, v)),
            2 => index().prop_map(Op::Remove),
            1 => (index(), index()).prop_map(|(a, b)| Op::RemoveRange(a.min(b), a.max(b))),
            2 => (index(), any::<bool>()).prop_map(|(i, on)| Op::Tag(i, on)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(ops in proptest::collection::vec(op(), 1..200), probes in proptest::collection::vec(index(), 10)) {
            let mut radix = Radix::new();
            let mut model: BTreeMap<u64, (u32, bool)> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Insert(i, v) => {
                        prop_assert_eq!(radix.insert(i, v), model.insert(i, (v, false)).map(|x| x.0));
                    }
                    Op::Remove(i) => prop_assert_eq!(radix.remove(i), model.remove(&i).map(|x| x.0)),
                    Op::RemoveRange(a, b) => {
                        let mut got = Vec::new();
                        radix.remove_range(a..b, &mut |i, v| got.push((i, v)));
                        let keys: Vec<u64> = model.range(a..b).map(|(k, _)| *k).collect();
                        let want: Vec<(u64, u32)> = keys.iter().map(|k| (*k, model.remove(k).unwrap().0)).collect();
                        prop_assert_eq!(got, want);
                    }
                    Op::Tag(i, on) => {
                        let was = radix.set_tag(i, Tag::First, on);
                        match model.get_mut(&i) {
                            Some(entry) => prop_assert_eq!(was, core::mem::replace(&mut entry.1, on)),
                            None => prop_assert!(!was),
                        }
                    }
                }
                prop_assert_eq!(radix.len(), model.len());
            }
            for probe in probes {
                prop_assert_eq!(radix.touch(probe, Tag::Third).copied(), model.get(&probe).map(|x| x.0));
                prop_assert_eq!(radix.has_tag(probe, Tag::Third), model.contains_key(&probe));
                prop_assert_eq!(radix.get(probe).copied(), model.get(&probe).map(|x| x.0));
                prop_assert_eq!(radix.has_tag(probe, Tag::First), model.get(&probe).is_some_and(|x| x.1));
                prop_assert!(!radix.has_tag(probe, Tag::Second));
                prop_assert_eq!(radix.next_present(probe), model.range(probe..).next().map(|x| *x.0));
                let mut absent = probe;
                while model.contains_key(&absent) { absent += 1; }
                prop_assert_eq!(radix.next_absent(probe), absent);
            }
            let mut tagged = Vec::new();
            radix.for_each_tagged(0..u64::MAX, Tag::First, &mut |i, v| { tagged.push((i, *v)); true });
            let want: Vec<(u64, u32)> = model.iter().filter(|(_, e)| e.1).map(|(i, e)| (*i, e.0)).collect();
            prop_assert_eq!(tagged, want);
        }
    }
}
