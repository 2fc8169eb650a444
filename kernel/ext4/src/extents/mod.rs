//! Extent trees: find, insert, take away, convert, shift. [`node`] has the bytes; [`indirect`] reads the older maps.
//!
//! Everything that changes a leaf is a [`splice`](Ext4::splice): entries are replaced by others, neighbours are joined, keys
//! above are put right, an empty node goes. [`make_room`](Ext4::make_room) splits nodes first, so a splice finds room: what can fail
//! for lack of space fails before anything has changed.
//!
//! The caller holds the inode's lock and writes the inode in the same handle.

mod indirect;
pub mod node;

use crate::allocator::Class;
use crate::inode::InodeState;
use crate::layout::inode::flag;
use crate::layout::put32;
use crate::prelude::*;
use arrayvec::ArrayVec;
pub use node::Extent;
use node::{MAX_DEPTH, ROOT_MAX};

/// What a run of a file's blocks is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Hole,
    /// Space is allocated, and reads as zeroes.
    Unwritten,
    Written,
}

/// A run of blocks of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub state: State,
    /// The first block on disk; `None` for a hole.
    pub block: Option<u64>,
    pub len: u32,
}

/// Blocks that one change of a tree may touch: a path of nodes, a split of each with bitmap and descriptor.
pub const CREDITS: usize = 24;

/// A node on the way to a leaf, the root first.
struct Step<L: RawMutex> {
    /// `None`: the root in the inode.
    buffer: Option<Arc<Buffer<L>>>,
    /// The last entry whose key is not beyond what is looked for.
    index: Option<usize>,
    entries: usize,
    max: usize,
}

type Path<L> = ArrayVec<Step<L>, { MAX_DEPTH + 1 }>;

pub fn seal(block: &mut [u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) {
    let end = node::offset(node::max(block));
    if end + 4 <= block.len() {
        let sum = crc(seed, &block[..end]);
        put32(block, end, sum);
    }
}

fn seal_is_valid(block: &[u8], seed: u32, crc: impl Fn(u32, &[u8]) -> u32) -> bool {
    let end = node::offset(node::max(block));
    end + 4 <= block.len() && crc(seed, &block[..end]) == crate::layout::le32(block, end)
}

/// The root of an empty tree.
pub fn init_root(state: &mut InodeState) {
    state.set_flags(state.flags() | flag::EXTENTS);
    state.block_mut().fill(0);
    node::init(state.block_mut(), 0, ROOT_MAX, 0);
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Entries of a node in a block.
    fn node_max(&self) -> usize {
        (self.geometry.block_size - node::HEADER) / node::ENTRY
    }

    /// Whether a file may have these blocks.
    fn may_hold(&self, block: u64, len: u32) -> bool {
        self.geometry.contains(block, u64::from(len)) && !self.in_zone(block, u64::from(len))
    }

    pub(crate) fn check_root(&self, number: u32, state: &InodeState) -> Result<()> {
        let depth = node::depth(state.block());
        if depth <= MAX_DEPTH && node::is_valid(state.block(), depth, ROOT_MAX, |b, n| self.may_hold(b, n)) {
            return Ok(());
        }
        Err(self.corrupt(format_args!("inode {number}: extent root")))
    }

    fn read_node(&self, block: u64, depth: usize, state: &InodeState) -> Result<(Arc<Buffer<L>>, Arc<Vec<u8>>)> {
        let buffer = self.read_block(block)?;
        let bytes = buffer.bytes()?;
        let seal = Seal::Extents(state.seed);
        if !buffer.is_verified(seal) {
            let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
            if !node::is_valid(&bytes, depth, self.node_max(), |b, n| self.may_hold(b, n)) {
                return Err(self.corrupt(format_args!("extent block {block}")));
            }
            if self.geometry.has_csum() && !seal_is_valid(&bytes, state.seed, crc) {
                return Err(self.bad_checksum(format_args!("extent block {block}")));
            }
            buffer.set_verified(seal);
        }
        // A block that is named twice in a tree may have been found right at another depth.
        if node::depth(&bytes) != depth || node::entries(&bytes) == 0 {
            return Err(self.corrupt(format_args!("extent block {block}: depth")));
        }
        Ok((buffer, bytes))
    }

    /// The path to the leaf where `logical` is or would be, and that leaf's bytes (`None`: it is the root).
    fn find(&self, state: &InodeState, logical: u32) -> Result<(Path<L>, Option<Arc<Vec<u8>>>)> {
        let mut path = Path::new();
        let root = state.block();
        let step = |node: &[u8], buffer| Step {
            buffer,
            index: node::search(node, logical),
            entries: node::entries(node),
            max: node::max(node),
        };
        path.push(step(root, None));
        let depth = node::depth(root).min(MAX_DEPTH);
        let mut bytes: Option<Arc<Vec<u8>>> = None;
        for level in (0..depth).rev() {
            let node: &[u8] = bytes.as_ref().map_or(root, |bytes| bytes);
            let last = path.last_mut().ok_or(Errno::EUCLEAN)?;
            // Before the first key: it would be in the first child.
            let index = *last.index.get_or_insert(0);
            let (buffer, child) = self.read_node(node::child(node, index), level, state)?;
            path.push(step(&child, Some(buffer)));
            bytes = Some(child);
        }
        Ok((path, bytes))
    }

    /// The extent that begins at or before `logical` in its leaf, and where the next one begins.
    fn extent_at(&self, state: &InodeState, logical: u32) -> Result<(Option<Extent>, u64)> {
        let (path, bytes) = self.find(state, logical)?;
        let leaf: &[u8] = bytes.as_ref().map_or(state.block(), |bytes| bytes);
        let Some(last) = path.last() else { return Err(Errno::EUCLEAN) };
        let next = last.index.map_or(0, |index| index + 1);
        let extent = last.index.map(|index| node::extent(leaf, index));
        if next < last.entries {
            return Ok((extent, u64::from(node::key(leaf, next))));
        }
        for step in path.iter().rev().skip(1) {
            let index = step.index.unwrap_or(0) + 1;
            if index < step.entries {
                let bytes = step.buffer.as_ref().map(|buffer| buffer.bytes()).transpose()?;
                let node: &[u8] = bytes.as_ref().map_or(state.block(), |bytes| bytes);
                return Ok((extent, u64::from(node::key(node, index))));
            }
        }
        Ok((extent, 1 << 32))
    }

    /// What `logical` and at most `most` blocks from it are.
    pub(crate) fn map_locked(&self, state: &InodeState, logical: u32, most: u32) -> Result<Mapping> {
        if !state.has_map() {
            return Err(Errno::EINVAL);
        }
        if state.flags() & flag::EXTENTS == 0 {
            return self.map_indirect(state, logical, most);
        }
        let (extent, next) = self.extent_at(state, logical)?;
        match extent.and_then(|extent| extent.part(u64::from(logical), u64::from(logical) + u64::from(most))) {
            Some(part) => Ok(Mapping {
                state: if part.unwritten { State::Unwritten } else { State::Written },
                block: Some(part.block),
                len: part.len,
            }),
            None => {
                let len = (next - u64::from(logical)).min(u64::from(most)) as u32;
                Ok(Mapping { state: State::Hole, block: None, len })
            }
        }
    }

    /// What the blocks of a file are: a run of at most `most` (not 0) blocks from `logical` that are of one kind and, on disk, in a
    /// row. EINVAL for what has no blocks.
    pub fn map(&self, inode: &Inode<L>, logical: u32, most: u32) -> Result<Mapping> {
        self.map_locked(&inode.lock(), logical, most.max(1))
    }

    fn change_node<R>(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        buffer: Option<&Arc<Buffer<L>>>,
        change: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R> {
        match buffer {
            None => Ok(change(state.block_mut())),
            Some(buffer) => handle.modify(buffer, Seal::Extents(state.seed), change),
        }
    }

    /// Sets the keys above a node whose first key is `key` now; `path` ends with the node.
    fn fix_keys(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, path: &[Step<L>], key: u32) -> Result<()> {
        for step in path.iter().rev().skip(1) {
            let index = step.index.unwrap_or(0);
            self.change_node(handle, state, step.buffer.as_ref(), |node| node::set_key(node, index, key))?;
            if index != 0 {
                break;
            }
        }
        Ok(())
    }

    /// Replaces `count` entries at `at` of the leaf that ends `path` by `pieces`, joined with each other and their neighbours where
    /// `join` says so. There is room.
    fn splice(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        path: &[Step<L>],
        (at, count): (usize, usize),
        pieces: &[Extent],
        join: bool,
    ) -> Result<()> {
        let Some(last) = path.last() else { return Err(Errno::EUCLEAN) };
        let (left, key) = self.change_node(handle, state, last.buffer.as_ref(), |leaf| {
            let (mut at, mut count) = (at, count);
            let mut list: ArrayVec<Extent, 5> = ArrayVec::new();
            if join && at > 0 && !pieces.is_empty() {
                at -= 1;
                count += 1;
                list.push(node::extent(leaf, at));
            }
            let right = (join && at + count < node::entries(leaf) && !pieces.is_empty())
                .then(|| node::extent(leaf, at + count));
            count += usize::from(right.is_some());
            for piece in pieces.iter().chain(right.as_ref()) {
                match list.last_mut().and_then(|last| last.joined(piece)).filter(|_| join) {
                    Some(joined) => *list.last_mut().unwrap_or(&mut { joined }) = joined,
                    None => {
                        let _ = list.try_push(*piece);
                    }
                }
            }
            node::shift_entries(leaf, at, count, list.len());
            for (i, piece) in list.iter().enumerate() {
                node::set_extent(leaf, at + i, piece);
            }
            (node::entries(leaf), node::key(leaf, 0))
        })?;
        if left == 0 {
            self.remove_node(handle, state, path)
        } else if at == 0 {
            self.fix_keys(handle, state, path, key)
        } else {
            Ok(())
        }
    }

    /// Takes the empty node that ends `path` out of the tree.
    fn remove_node(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, path: &[Step<L>]) -> Result<()> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let Some(buffer) = &last.buffer else {
            // The root: an empty leaf.
            node::init(state.block_mut(), 0, ROOT_MAX, 0);
            return Ok(());
        };
        handle.revoke(buffer.block)?;
        self.free_blocks(handle, buffer.block, 1)?;
        state.add_blocks(&self.geometry, -1);
        let Some(parent) = above.last() else { return Err(Errno::EUCLEAN) };
        let index = parent.index.unwrap_or(0);
        let (left, key) = self.change_node(handle, state, parent.buffer.as_ref(), |node| {
            node::shift_entries(node, index, 1, 0);
            (node::entries(node), node::key(node, 0))
        })?;
        if left == 0 {
            self.remove_node(handle, state, above)
        } else if index == 0 {
            self.fix_keys(handle, state, above, key)
        } else {
            Ok(())
        }
    }

    /// A new node near `goal`.
    fn new_node(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        goal: u64,
        entries: &[u8],
        depth: usize,
    ) -> Result<u64> {
        let (block, _) = self.allocate(handle, goal, 1, Class::Reserved)?;
        let max = self.node_max();
        let buffer = self.cache.fresh(block, self.geometry.block_size)?;
        handle.modify(&buffer, Seal::Extents(state.seed), |node| {
            node::init(node, entries.len() / node::ENTRY, max, depth);
            crate::layout::put(node, node::HEADER, entries);
        })?;
        buffer.set_verified(Seal::Extents(0));
        state.add_blocks(&self.geometry, 1);
        Ok(block)
    }

    /// Makes the leaf of `logical` have room for `need` (1 or 2) more entries; returns the path to it. ENOSPC, and then the tree says
    /// what it said.
    fn make_room(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        logical: u32,
        need: usize,
    ) -> Result<Path<L>> {
        loop {
            let (path, bytes) = self.find(state, logical)?;
            drop(bytes);
            let Some(leaf) = path.last() else { return Err(Errno::EUCLEAN) };
            if leaf.entries + need <= leaf.max {
                return Ok(path);
            }
            // The lowest node with room above the leaf gets one more child; without any, the tree grows at the root.
            match path.iter().rev().skip(1).position(|step| step.entries < step.max) {
                Some(up) => self.split(handle, state, &path[..path.len() - up])?,
                None => self.grow(handle, state)?,
            }
        }
    }

    /// Splits the node that ends `path`; its parent has room.
    fn split(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, path: &[Step<L>]) -> Result<()> {
        let [.., parent, last] = path else { return Err(Errno::EUCLEAN) };
        let Some(buffer) = &last.buffer else { return Err(Errno::EUCLEAN) };
        let bytes = buffer.bytes()?;
        let count = node::entries(&bytes);
        // At the end of a file nodes are left full.
        let keep = if last.index == Some(count - 1) { count - 1 } else { count / 2 };
        let moved = bytes.get(node::offset(keep)..node::offset(count)).ok_or(Errno::EUCLEAN)?;
        let key = node::key(&bytes, keep);
        let block = self.new_node(handle, state, buffer.block, moved, node::depth(&bytes))?;
        drop(bytes);
        self.change_node(handle, state, Some(buffer), |node| node::set_entries(node, keep))?;
        let at = parent.index.unwrap_or(0) + 1;
        self.change_node(handle, state, parent.buffer.as_ref(), |node| {
            node::shift_entries(node, at, 0, 1);
            node::set_child(node, at, key, block);
        })
    }

    /// Moves the root's entries one level down.
    fn grow(&self, handle: &Handle<'_, D, L>, state: &mut InodeState) -> Result<()> {
        let root: ArrayVec<u8, 60> = state.block().iter().copied().collect();
        let (count, depth) = (node::entries(&root), node::depth(&root));
        if depth >= MAX_DEPTH {
            return Err(Errno::EFBIG);
        }
        let goal = if depth == 0 { node::extent(&root, 0).block } else { node::child(&root, 0) };
        let block = self.new_node(handle, state, goal, &root[node::HEADER..node::offset(count)], depth)?;
        node::init(state.block_mut(), 1, ROOT_MAX, depth + 1);
        node::set_child(state.block_mut(), 0, node::key(&root, 0), block);
        Ok(())
    }

    /// Adds an extent where there is a hole. ENOSPC; EAGAIN if there is none any more.
    pub(crate) fn insert(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, extent: Extent) -> Result<()> {
        let (path, bytes) = self.find(state, extent.logical)?;
        let leaf: &[u8] = bytes.as_ref().map_or(state.block(), |bytes| bytes);
        let Some(last) = path.last() else { return Err(Errno::EUCLEAN) };
        let before = last.index.map(|index| node::extent(leaf, index));
        let at = last.index.map_or(0, |index| index + 1);
        let overlaps = before.is_some_and(|before| before.end() > u64::from(extent.logical))
            || (at < last.entries && u64::from(node::key(leaf, at)) < extent.end());
        if overlaps {
            return Err(Errno::EAGAIN);
        }
        let needs_room = before.and_then(|before| before.joined(&extent)).is_none() && last.entries >= last.max;
        drop(bytes);
        let path = if needs_room { self.make_room(handle, state, extent.logical, 1)? } else { path };
        let at = path.last().and_then(|last| last.index).map_or(0, |index| index + 1);
        self.splice(handle, state, &path, (at, 0), &[extent], true)
    }

    /// The extent that has `logical` in it, and the path to it with room for `more` further entries.
    fn extent_with_room(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        logical: u32,
        more: usize,
    ) -> Result<(Path<L>, usize)> {
        let path = if more > 0 { self.make_room(handle, state, logical, more)? } else { self.find(state, logical)?.0 };
        let index = path.last().and_then(|last| last.index).ok_or(Errno::EUCLEAN)?;
        Ok((path, index))
    }

    /// Takes the last of the extents in `from..to` out, or the part of it that is there, and frees its blocks; returns whether that was
    /// all. One call changes few blocks: [`CREDITS`] and two for each group that one extent's blocks are in.
    pub(crate) fn remove_last(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        from: u32,
        to: u64,
    ) -> Result<bool> {
        let Some(last) = to.checked_sub(1).and_then(|last| u32::try_from(last).ok()) else { return Ok(true) };
        let (extent, _) = self.extent_at(state, last)?;
        let Some(extent) = extent else { return Ok(true) };
        let Some(gone) = extent.part(u64::from(from), to) else { return Ok(true) };
        let pieces: ArrayVec<Extent, 2> =
            [extent.part(0, u64::from(from)), extent.part(to, 1 << 32)].into_iter().flatten().collect();
        let (path, index) = self.extent_with_room(handle, state, extent.logical, pieces.len().saturating_sub(1))?;
        state.map_changes += 1;
        self.half_done(self.splice(handle, state, &path, (index, 1), &pieces, false).and_then(|()| {
            state.add_blocks(&self.geometry, -i64::from(gone.len));
            if state.is_dir() {
                // A directory's blocks are metadata.
                for block in gone.block..gone.block + u64::from(gone.len) {
                    handle.revoke(block)?;
                }
            }
            self.free_blocks(handle, gone.block, gone.len)
        }))?;
        Ok(gone.logical == from)
    }

    /// Marks what is allocated in `from..to` as written or as unwritten, one extent after the other. ENOSPC: done so far is right.
    pub(crate) fn convert(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        from: u32,
        to: u64,
        unwritten: bool,
    ) -> Result<()> {
        let mut at = u64::from(from);
        while at < to {
            let (extent, next) = self.extent_at(state, at as u32)?;
            let Some((extent, part)) = extent.and_then(|extent| Some((extent, extent.part(at, to)?))) else {
                at = next;
                continue;
            };
            // An unwritten extent holds one block less.
            let part = Extent { len: part.len.min(node::MAX_UNWRITTEN), ..part };
            at = part.end();
            if extent.unwritten == unwritten {
                continue;
            }
            let pieces: ArrayVec<Extent, 3> = [
                extent.part(0, u64::from(part.logical)),
                Some(Extent { unwritten, ..part }),
                extent.part(part.end(), 1 << 32),
            ]
            .into_iter()
            .flatten()
            .collect();
            let (path, index) = self.extent_with_room(handle, state, extent.logical, pieces.len() - 1)?;
            state.map_changes += u64::from(unwritten);
            self.splice(handle, state, &path, (index, 1), &pieces, true)?;
        }
        Ok(())
    }

    /// Splits the extent over `logical` there, if there is one.
    pub(crate) fn split_at(&self, handle: &Handle<'_, D, L>, state: &mut InodeState, logical: u32) -> Result<()> {
        let (extent, _) = self.extent_at(state, logical)?;
        let Some(extent) = extent.filter(|e| e.logical < logical && e.end() > u64::from(logical)) else {
            return Ok(());
        };
        let pieces: ArrayVec<Extent, 2> =
            [extent.part(0, u64::from(logical)), extent.part(u64::from(logical), 1 << 32)]
                .into_iter()
                .flatten()
                .collect();
        let (path, index) = self.extent_with_room(handle, state, extent.logical, 1)?;
        self.splice(handle, state, &path, (index, 1), &pieces, false)
    }

    /// Moves the extents of one leaf that begin at or after `from` by `distance` blocks: with `down` the leaf where the first of them
    /// is, else the one where the last before `to` is. Returns where to go on (the new `from` or `to`), `None` at the end. Nothing
    /// is in the way.
    pub(crate) fn shift_leaf(
        &self,
        handle: &Handle<'_, D, L>,
        state: &mut InodeState,
        (from, to): (u32, u64),
        distance: u32,
        down: bool,
    ) -> Result<Option<u64>> {
        let first = if down {
            let (extent, next) = self.extent_at(state, from)?;
            match extent.filter(|extent| extent.logical >= from) {
                Some(extent) => u64::from(extent.logical),
                None => next,
            }
        } else {
            to.wrapping_sub(1)
        };
        let Some(first) = u32::try_from(first).ok() else { return Ok(None) };
        let (path, bytes) = self.find(state, first)?;
        drop(bytes);
        let Some(last) = path.last() else { return Err(Errno::EUCLEAN) };
        state.map_changes += 1;
        let (key, next) = self.change_node(handle, state, last.buffer.as_ref(), |leaf| {
            let mut next = None;
            for i in 0..node::entries(leaf) {
                let key = node::key(leaf, i);
                if key < from || u64::from(key) >= to {
                    continue;
                }
                let extent = node::extent(leaf, i);
                if down {
                    next = Some(extent.end());
                } else if next.is_none() {
                    next = Some(u64::from(key));
                }
                let moved = if down { key.wrapping_sub(distance) } else { key.wrapping_add(distance) };
                node::set_key(leaf, i, moved);
            }
            (node::key(leaf, 0), next)
        })?;
        self.fix_keys(handle, state, &path, key)?;
        Ok(next.filter(|next| down || *next > u64::from(from)))
    }
}
