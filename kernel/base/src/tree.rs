//! [`Tree`]: an ordered set of values with a weight each, as a balanced (AVL) tree in a [`Slab`].
//!
//! A node knows the greatest weight below it: with the end of a range for a weight the tree finds the ranges that overlap another one,
//! with an inverted sequence number the oldest of some keys; in time that grows with the logarithm of how many values there are.
//! Only [`Tree::insert`] allocates, and says so; nodes are small. A tree can stand unordered until it is first asked: values that are
//! mostly never asked for cost no balancing.

use crate::errno::Errno;
use crate::slab::{Chunks, NONE, Slab};
use core::ops::{ControlFlow, Range};

/// What values are ordered by; equal ones may be there several times.
pub type Key = (u64, u64);

#[derive(Clone, Copy)]
struct Node {
    key: Key,
    weight: u64,
    /// Greatest weight of the node and all below it.
    heaviest: u64,
    /// Left and right.
    below: [u32; 2],
    height: u8,
}

/// The highest tree of 2^31 nodes.
const MAX_HEIGHT: usize = 48;
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// A way down: nodes and the side it went on to from each.
struct Path {
    /// The side in the top bit.
    steps: [u32; MAX_HEIGHT],
    len: usize,
}

const SIDE: u32 = 1 << 31;

fn unpack(step: u32) -> (u32, usize) {
    (step & !SIDE, usize::from(step & SIDE != 0))
}

impl Path {
    const fn new() -> Self {
        Self { steps: [0; MAX_HEIGHT], len: 0 }
    }
    fn push(&mut self, node: u32, side: usize) {
        if let Some(step) = self.steps.get_mut(self.len) {
            *step = node | if side == RIGHT { SIDE } else { 0 };
            self.len += 1;
        }
    }
    /// The step before step `at`.
    fn before(&self, at: usize) -> Option<(u32, usize)> {
        self.steps.get(at.checked_sub(1)?).map(|step| unpack(*step))
    }
    fn pop(&mut self) -> Option<(u32, usize)> {
        self.len = self.len.checked_sub(1)?;
        self.steps.get(self.len).map(|step| unpack(*step))
    }
}

/// The nodes and their links, whatever the values are: this code is there once.
struct Links {
    nodes: Chunks<Node>,
    root: u32,
}

impl Links {
    fn height(&self, index: u32) -> i32 {
        self.nodes.get(index).map_or(0, |node| i32::from(node.height))
    }

    fn heaviest_below(&self, index: u32) -> u64 {
        self.nodes.get(index).map_or(0, |node| node.heaviest)
    }

    fn child(&self, index: u32, side: usize) -> u32 {
        self.nodes.get(index).map_or(NONE, |node| node.below[side & 1])
    }

    fn set_child(&mut self, index: u32, side: usize, child: u32) {
        match self.nodes.get_mut(index) {
            Some(node) => node.below[side & 1] = child,
            None => self.root = child,
        }
    }

    /// Computes what a node says of what is below it; answers whether that changed.
    fn refresh(&mut self, index: u32) -> bool {
        let Some(&Node { below, weight, .. }) = self.nodes.get(index) else { return false };
        let height = 1 + self.height(below[LEFT]).max(self.height(below[RIGHT]));
        let heaviest = weight.max(self.heaviest_below(below[LEFT])).max(self.heaviest_below(below[RIGHT]));
        let Some(node) = self.nodes.get_mut(index) else { return false };
        let changed = i32::from(node.height) != height || node.heaviest != heaviest;
        node.height = height as u8;
        node.heaviest = heaviest;
        changed
    }

    /// Turns the subtree so that the child on the other side than `side` stands above `index`; answers the new top.
    fn rotate(&mut self, index: u32, side: usize) -> u32 {
        let top = self.child(index, 1 - side);
        let inner = self.child(top, side);
        self.set_child(index, 1 - side, inner);
        self.set_child(top, side, index);
        self.refresh(index);
        self.refresh(top);
        top
    }

    /// Restores balance and sums from the end of `path` up to where nothing changes; `sure` is the step to go up to in any case.
    fn repair(&mut self, path: &mut Path, sure: usize) {
        let mut next = path.pop();
        while let Some((index, _)) = next {
            let step = path.len;
            next = path.pop();
            let lean = self.height(self.child(index, LEFT)) - self.height(self.child(index, RIGHT));
            if (-1..=1).contains(&lean) {
                if !self.refresh(index) && step <= sure {
                    return;
                }
                continue;
            }
            let heavy = if lean > 0 { LEFT } else { RIGHT };
            let child = self.child(index, heavy);
            if self.height(self.child(child, 1 - heavy)) > self.height(self.child(child, heavy)) {
                let child = self.rotate(child, heavy);
                self.set_child(index, heavy, child);
            }
            let top = self.rotate(index, 1 - heavy);
            match next {
                Some((above, side)) => self.set_child(above, side, top),
                None => self.root = top,
            }
        }
    }

    /// The way from the top to node `index`, not included; equal keys are ordered by number.
    fn way_to(&self, key: Key, index: u32) -> Path {
        let mut path = Path::new();
        let mut at = self.root;
        while at != index
            && let Some(node) = self.nodes.get(at)
        {
            let side = if (key, index) < (node.key, at) { LEFT } else { RIGHT };
            path.push(at, side);
            at = node.below[side];
        }
        path
    }

    /// Puts node `new` at its place.
    fn link(&mut self, new: u32) {
        let Some(node) = self.nodes.get_mut(new) else { return };
        (node.below, node.height, node.heaviest) = ([NONE; 2], 1, node.weight);
        let key = node.key;
        let mut path = self.way_to(key, new);
        match path.before(path.len) {
            Some((above, side)) => self.set_child(above, side, new),
            None => self.root = new,
        }
        self.repair(&mut path, usize::MAX);
    }

    /// Takes node `gone` out.
    fn unlink(&mut self, gone: u32) {
        let Some(&Node { key, below, height, heaviest, .. }) = self.nodes.get(gone) else { return };
        let mut path = self.way_to(key, gone);
        let place = path.len;
        let replacement = if below[LEFT] == NONE {
            below[RIGHT]
        } else if below[RIGHT] == NONE {
            below[LEFT]
        } else {
            // The next one in order takes its place, and its own child the place of that.
            path.push(gone, RIGHT);
            let mut next = below[RIGHT];
            while self.child(next, LEFT) != NONE {
                path.push(next, LEFT);
                next = self.child(next, LEFT);
            }
            let orphan = self.child(next, RIGHT);
            if let Some((above, side)) = path.before(path.len) {
                self.set_child(above, side, orphan);
            }
            let right = self.child(gone, RIGHT);
            // Those above know it as the one that was there.
            if let Some(node) = self.nodes.get_mut(next) {
                (node.below, node.height, node.heaviest) = ([below[LEFT], right], height, heaviest);
            }
            if let Some(step) = path.steps.get_mut(place) {
                *step = next | SIDE;
            }
            next
        };
        match path.before(place) {
            Some((above, side)) => self.set_child(above, side, replacement),
            None => self.root = replacement,
        }
        self.repair(&mut path, place);
    }

    /// The first node with a key in `keys`.
    fn first(&self, keys: &Range<Key>) -> Option<u32> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = self.nodes.get(at) {
            let side = if node.key >= keys.start { LEFT } else { RIGHT };
            if side == LEFT {
                found = (node.key < keys.end).then_some(at);
            }
            at = node.below[side];
        }
        found
    }

    fn visit(
        &self,
        top: u32,
        keys: &Range<Key>,
        least: u64,
        f: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut top = top;
        while let Some(at) = self.nodes.get(top).filter(|node| node.heaviest >= least) {
            if at.key >= keys.start {
                self.visit(at.below[LEFT], keys, least, f)?;
                if at.key >= keys.end {
                    break;
                }
                if at.weight >= least {
                    f(top)?;
                }
            }
            top = at.below[RIGHT];
        }
        ControlFlow::Continue(())
    }

    /// Looks below `top` for a node heavier than the best one so far.
    fn heaviest(&self, top: u32, keys: &Range<Key>, best: &mut Option<(u64, u32)>) {
        let Some(at) = self.nodes.get(top).filter(|node| best.is_none_or(|best| node.heaviest > best.0)) else {
            return;
        };
        if at.key < keys.start {
            return self.heaviest(at.below[RIGHT], keys, best);
        }
        if at.key >= keys.end {
            return self.heaviest(at.below[LEFT], keys, best);
        }
        if best.is_none_or(|best| at.weight > best.0) {
            *best = Some((at.weight, top));
        }
        // The heavier side first: it spares the other.
        let right_first = self.heaviest_below(at.below[RIGHT]) > self.heaviest_below(at.below[LEFT]);
        let first = usize::from(right_first);
        self.heaviest(at.below[first], keys, best);
        self.heaviest(at.below[1 - first], keys, best);
    }
}

pub struct Tree<T> {
    links: Links,
    values: Slab<T>,
    /// Whether the nodes are linked: else they wait for the first question.
    ordered: bool,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Tree<T> {
    pub const fn new() -> Self {
        Self { links: Links { nodes: Chunks::new(), root: NONE }, values: Slab::new(), ordered: true }
    }
    /// One that keeps no order until [`Tree::order`] is called.
    pub const fn unordered() -> Self {
        Self { links: Links { nodes: Chunks::new(), root: NONE }, values: Slab::new(), ordered: false }
    }
    pub fn len(&self) -> usize {
        self.values.len()
    }
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    pub fn get(&self, index: u32) -> Option<&T> {
        self.values.get(index)
    }
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.values.get_mut(index)
    }
    /// Key and weight of a value.
    pub fn place(&self, index: u32) -> Option<(Key, u64)> {
        self.values.get(index)?;
        self.links.nodes.get(index).map(|node| (node.key, node.weight))
    }
    /// All values with their numbers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.values.iter()
    }

    /// Makes room for one more: ENOMEM. The next [`Tree::insert`] succeeds then.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        self.values.reserve()?;
        self.links.nodes.reserve()
    }

    /// Adds a value: its number, or ENOMEM.
    pub fn insert(&mut self, key: Key, weight: u64, value: T) -> Result<u32, Errno> {
        self.links.nodes.reserve()?;
        let index = self.values.insert(value)?;
        let node = Node { key, weight, heaviest: weight, below: [NONE; 2], height: 1 };
        match self.links.nodes.get_mut(index) {
            Some(old) => *old = node,
            None => drop(self.links.nodes.push(node)?),
        }
        if self.ordered {
            self.links.link(index);
        }
        Ok(index)
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.values.remove(index)?;
        if self.ordered {
            self.links.unlink(index);
        }
        if self.values.is_empty() {
            self.links.nodes.clear();
        }
        Some(value)
    }

    /// Gives a value another weight.
    pub fn set_weight(&mut self, index: u32, weight: u64) {
        if self.values.get(index).is_none() {
            return;
        }
        let Some(node) = self.links.nodes.get_mut(index) else { return };
        node.weight = weight;
        let key = node.key;
        if self.ordered {
            let mut path = self.links.way_to(key, index);
            path.push(index, LEFT);
            self.links.repair(&mut path, usize::MAX);
        }
    }

    /// Puts the values in order, from now on.
    pub fn order(&mut self) {
        if !self.ordered {
            self.ordered = true;
            for (index, _) in self.values.iter() {
                self.links.link(index);
            }
        }
    }

    /// Calls `f` with the values with a key in `keys` and a weight of `least` or more, in order, until it breaks; answers whether
    /// it did. An unordered tree shows nothing.
    pub fn visit(&self, keys: Range<Key>, least: u64, f: &mut dyn FnMut(u32, &T) -> ControlFlow<()>) -> bool {
        let flow = self.links.visit(self.links.root, &keys, least, &mut |index| match self.values.get(index) {
            Some(value) => f(index, value),
            None => ControlFlow::Continue(()),
        });
        flow.is_break()
    }

    /// The first value with a key in `keys` and a weight of `least` or more.
    pub fn first(&self, keys: Range<Key>, least: u64) -> Option<u32> {
        if least == 0 {
            return self.links.first(&keys);
        }
        let mut found = None;
        let _ = self.links.visit(self.links.root, &keys, least, &mut |index| {
            found = Some(index);
            ControlFlow::Break(())
        });
        found
    }

    /// The value of the greatest weight with a key in `keys`.
    pub fn heaviest(&self, keys: Range<Key>) -> Option<u32> {
        let mut found = None;
        self.links.heaviest(self.links.root, &keys, &mut found);
        found.map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const ALL: Range<Key> = (0, 0)..(u64::MAX, u64::MAX);

    /// Height, after every promise of the subtree was looked at.
    fn check(links: &Links, top: u32) -> i32 {
        let Some(node) = links.nodes.get(top) else { return 0 };
        let (left, right) = (check(links, node.below[LEFT]), check(links, node.below[RIGHT]));
        assert!((left - right).abs() <= 1);
        assert_eq!(i32::from(node.height), 1 + left.max(right));
        let below = links.heaviest_below(node.below[LEFT]).max(links.heaviest_below(node.below[RIGHT]));
        assert_eq!(node.heaviest, node.weight.max(below));
        i32::from(node.height)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn agrees_with_a_list(ops in proptest::collection::vec((0..6u8, 0..40u64, 0..50u64), 1..300), ordered in any::<bool>()) {
            let mut tree = if ordered { Tree::new() } else { Tree::unordered() };
            let mut model: Vec<(Key, u64, u32)> = Vec::new();
            for (step, (op, a, b)) in ops.into_iter().enumerate() {
                if step == 60 {
                    tree.order();
                }
                match op {
                    0..=2 => {
                        let index = tree.insert((a, b), a + b, step).unwrap();
                        model.push(((a, b), a + b, index));
                        prop_assert_eq!(tree.get(index), Some(&step));
                    }
                    3 if !model.is_empty() => {
                        let (_, _, index) = model.swap_remove(a as usize % model.len());
                        prop_assert!(tree.remove(index).is_some());
                        prop_assert_eq!(tree.remove(index), None);
                    }
                    4 if !model.is_empty() => {
                        let at = a as usize % model.len();
                        model[at].1 = b;
                        tree.set_weight(model[at].2, b);
                    }
                    _ => {}
                }
                prop_assert_eq!(tree.len(), model.len());
                if !ordered && step < 60 {
                    continue;
                }
                check(&tree.links, tree.links.root);
                model.sort_unstable_by_key(|one| (one.0, one.2));
                let keys = (a, 0)..(a + 9, b);
                let mut seen = Vec::new();
                tree.visit(keys.clone(), b, &mut |index, _| {
                    seen.push(index);
                    ControlFlow::Continue(())
                });
                let within = || model.iter().filter(|one| keys.contains(&one.0));
                let wanted: Vec<u32> = within().filter(|one| one.1 >= b).map(|one| one.2).collect();
                prop_assert_eq!(tree.first(keys.clone(), b), wanted.first().copied());
                prop_assert_eq!(seen, wanted);
                let found = tree.heaviest(keys.clone()).and_then(|index| tree.place(index)).map(|place| place.1);
                prop_assert_eq!(found, within().map(|one| one.1).max());
            }
            tree.order();
            prop_assert_eq!(tree.first(ALL, 0).is_some(), !model.is_empty());
        }
    }
}
