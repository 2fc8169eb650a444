//! Indexed directories (htree): names in leaves by their hash, an index of one or two levels above them.

use super::{Found, block, found_in, hash, index};
use crate::inode::InodeState;
use crate::layout::inode::flag;
use crate::layout::{copied, le16, put8, put16};
use crate::prelude::*;
use arrayvec::ArrayVec;

/// A block of the index on the way to a leaf.
pub(super) struct Frame<L: RawMutex> {
    buffer: Arc<Buffer<L>>,
    start: usize,
    at: usize,
    count: usize,
}

pub(super) type Frames<L> = ArrayVec<Frame<L>, 2>;

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    pub(super) fn index_root(&self, number: u32, state: &InodeState) -> Result<Arc<Buffer<L>>> {
        self.dir_block(number, state, 0, Some(index::ROOT))
    }

    /// The hash the index is ordered by; `None` for one that is not known.
    pub(super) fn index_version(&self, number: u32, state: &InodeState) -> Result<Option<u8>> {
        let version = index::version(&self.index_root(number, state)?.bytes()?);
        Ok(hash::is_known(version).then_some(version))
    }

    pub(super) fn hash_of(&self, name: &[u8], version: u8) -> (u32, u32) {
        hash::hash(name, version, self.geometry.hash_unsigned, &self.geometry.hash_seed)
    }

    /// The way to the leaf for a hash, and the leaf's block.
    pub(super) fn descend(&self, number: u32, state: &InodeState, wanted: u32) -> Result<(Frames<L>, u32)> {
        let mut frames = Frames::new();
        let mut buffer = self.index_root(number, state)?;
        let mut start = index::ROOT;
        let levels = index::levels(&buffer.bytes()?);
        for level in 0..=levels.min(1) {
            let bytes = buffer.bytes()?;
            let at = index::search(&bytes, start, wanted);
            let child = index::child(&bytes, start, at);
            let count = index::count(&bytes, start);
            drop(bytes);
            frames.push(Frame { buffer, start, at, count });
            if level == levels {
                return Ok((frames, child));
            }
            start = index::NODE;
            buffer = self.dir_block(number, state, child, Some(start))?;
        }
        Err(Errno::EUCLEAN)
    }

    /// Goes on to the next leaf: its least hash and its block. `None` after the last.
    pub(super) fn next_leaf(
        &self,
        number: u32,
        state: &InodeState,
        frames: &mut Frames<L>,
    ) -> Result<Option<(u32, u32)>> {
        let Some(depth) = frames.iter().rposition(|frame| frame.at + 1 < frame.count) else { return Ok(None) };
        let down = frames.len() - 1 - depth;
        frames.truncate(depth + 1);
        let frame = &mut frames[depth];
        frame.at += 1;
        let bytes = frame.buffer.bytes()?;
        let least = index::hash(&bytes, frame.start, frame.at);
        let mut child = index::child(&bytes, frame.start, frame.at);
        drop(bytes);
        for _ in 0..down {
            let buffer = self.dir_block(number, state, child, Some(index::NODE))?;
            let bytes = buffer.bytes()?;
            child = index::child(&bytes, index::NODE, 0);
            let count = index::count(&bytes, index::NODE);
            drop(bytes);
            frames.push(Frame { buffer, start: index::NODE, at: 0, count });
        }
        Ok(Some((least, child)))
    }

    /// Looks a name up by its hash; the outer `None`: the index uses an unknown hash.
    pub(super) fn find_hashed(&self, number: u32, state: &InodeState, name: &[u8]) -> Result<Option<Option<Found<L>>>> {
        let Some(version) = self.index_version(number, state)? else { return Ok(None) };
        let (major, _) = self.hash_of(name, version);
        let (mut frames, mut leaf) = self.descend(number, state, major)?;
        loop {
            let buffer = self.dir_block(number, state, leaf, None)?;
            if let Some(found) = found_in(&buffer, name, Seal::DirLeaf(state.seed))? {
                return Ok(Some(Some(found)));
            }
            // Names with one hash may go on in the next leaf; its hash is odd then.
            match self.next_leaf(number, state, &mut frames)? {
                Some((least, next)) if least == major | 1 => leaf = next,
                _ => return Ok(Some(None)),
            }
        }
    }

    pub(super) fn add_hashed(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        name: &[u8],
        inode: u32,
        kind: u8,
    ) -> Result<()> {
        let version = self.index_version(number, state)?.ok_or(Errno::EOPNOTSUPP)?;
        let (major, _) = self.hash_of(name, version);
        // Each turn adds the name, or splits something on the way to its leaf; three splits and a level are the most.
        for _ in 0..8 {
            let (frames, leaf) = self.descend(number, state, major)?;
            let buffer = self.dir_block(number, state, leaf, None)?;
            if self.add_to_leaf(handle, state, &buffer, name, inode, kind)? {
                return Ok(());
            }
            let Some(frame) = frames.last() else { return Err(Errno::EUCLEAN) };
            let has_csum = self.geometry.has_csum();
            let limit = |frame: &Frame<L>| index::limit(self.geometry.block_size, frame.start, has_csum);
            if frame.count < limit(frame) {
                self.split_leaf(handle, number, state, frame, &buffer, version)?;
            } else if frames.len() == 1 {
                self.grow_index(handle, number, state, frame)?;
            } else if frames[0].count < limit(&frames[0]) {
                self.split_node(handle, number, state, &frames[0], frame)?;
            } else {
                self.disk.log(format_args!("ext4: directory {number}: its index is full"));
                return Err(Errno::ENOSPC);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Moves the upper half of a leaf, by hash, into a new one.
    fn split_leaf(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        frame: &Frame<L>,
        buffer: &Arc<Buffer<L>>,
        version: u8,
    ) -> Result<()> {
        let bytes = buffer.bytes()?;
        let mut names: Vec<(u32, usize, usize)> = Vec::new();
        names.try_reserve(bytes.len() / 12).map_err(|_| Errno::ENOMEM)?;
        for entry in block::entries(&bytes).filter(|entry| entry.inode != 0) {
            names.push((self.hash_of(entry.name, version).0, entry.at, block::needed(entry.name.len())));
        }
        if names.len() < 2 {
            return Err(Errno::ENOSPC);
        }
        names.sort_unstable();
        let all: usize = names.iter().map(|(.., len)| len).sum();
        let mut below = 0;
        let half = names
            .iter()
            .position(|(.., len)| {
                below += len;
                below * 2 > all
            })
            .unwrap_or(0)
            .clamp(1, names.len() - 1);
        let least = names[half].0;
        let continued = u32::from(names[half - 1].0 == least);
        let has_csum = self.geometry.has_csum();
        let mut low = copied(&bytes)?;
        let mut high = copied(&bytes)?;
        pack(&bytes, &names[..half], &mut low, has_csum);
        pack(&bytes, &names[half..], &mut high, has_csum);
        drop(bytes);

        let (logical, new) = self.append_dir_block(handle, number, state)?;
        let seal = Seal::DirLeaf(state.seed);
        self.half_done(
            handle
                .modify(&new, seal, |bytes| bytes.copy_from_slice(&high))
                .and_then(|()| handle.modify(buffer, seal, |bytes| bytes.copy_from_slice(&low)))
                .and_then(|()| {
                    handle.modify(&frame.buffer, Seal::DirIndex(state.seed), |bytes| {
                        index::insert(bytes, frame.start, frame.at + 1, least | continued, logical)
                    })
                }),
        )
    }

    /// Moves the root's entries into a node below it.
    fn grow_index(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        root: &Frame<L>,
    ) -> Result<()> {
        let entries = copied(&root.buffer.bytes()?[root.start..root.start + root.count * 8])?;
        let (logical, new) = self.append_dir_block(handle, number, state)?;
        let limit = index::limit(self.geometry.block_size, index::NODE, self.geometry.has_csum());
        let seal = Seal::DirIndex(state.seed);
        self.half_done(handle.modify(&new, seal, |bytes| init_node(bytes, &entries, limit)).and_then(|()| {
            new.set_verified(seal);
            handle.modify(&root.buffer, seal, |bytes| {
                put16(bytes, root.start + 2, 1);
                index::set_child(bytes, root.start, 0, logical);
                put8(bytes, 30, 1);
            })
        }))
    }

    /// Moves the upper half of a full node into a new one; the root has room.
    fn split_node(
        &self,
        handle: &Handle<'_, D, L>,
        number: u32,
        state: &mut InodeState,
        root: &Frame<L>,
        node: &Frame<L>,
    ) -> Result<()> {
        let keep = node.count / 2;
        let bytes = node.buffer.bytes()?;
        let entries = copied(&bytes[node.start + keep * 8..node.start + node.count * 8])?;
        let least = index::hash(&bytes, node.start, keep);
        drop(bytes);
        let (logical, new) = self.append_dir_block(handle, number, state)?;
        let limit = index::limit(self.geometry.block_size, index::NODE, self.geometry.has_csum());
        let seal = Seal::DirIndex(state.seed);
        self.half_done(
            handle
                .modify(&new, seal, |bytes| init_node(bytes, &entries, limit))
                .and_then(|()| {
                    new.set_verified(seal);
                    handle.modify(&node.buffer, seal, |bytes| put16(bytes, node.start + 2, keep as u16))
                })
                .and_then(|()| {
                    handle.modify(&root.buffer, seal, |bytes| {
                        index::insert(bytes, root.start, root.at + 1, least, logical)
                    })
                }),
        )
    }

    /// Turns a directory of one block into an indexed one with one leaf.
    pub(super) fn make_index(&self, handle: &Handle<'_, D, L>, number: u32, state: &mut InodeState) -> Result<()> {
        let first = self.dir_block(number, state, 0, None)?;
        let bytes = first.bytes()?;
        let parent = block::find(&bytes, b"..").map(|entry| entry.inode).ok_or(Errno::EUCLEAN)?;
        if block::entries(&bytes).take(2).map(|entry| entry.name).ne([&b"."[..], b".."]) {
            return Err(self.corrupt(format_args!("directory {number}: no \".\" and \"..\"")));
        }
        let mut names: Vec<(u32, usize, usize)> = Vec::new();
        names.try_reserve(bytes.len() / 12).map_err(|_| Errno::ENOMEM)?;
        for entry in block::entries(&bytes).skip(2).filter(|entry| entry.inode != 0) {
            names.push((0, entry.at, block::needed(entry.name.len())));
        }
        let has_csum = self.geometry.has_csum();
        let mut leaf = copied(&bytes)?;
        pack(&bytes, &names, &mut leaf, has_csum);
        drop(bytes);
        let (logical, new) = self.append_dir_block(handle, number, state)?;
        let version = self.geometry.hash_version % 3;
        let kind = self.entry_kind(crate::layout::inode::S_IFDIR);
        let limit = index::limit(self.geometry.block_size, index::ROOT, has_csum);
        let seal = Seal::DirIndex(state.seed);
        self.half_done(handle.modify(&new, Seal::DirLeaf(state.seed), |bytes| bytes.copy_from_slice(&leaf)).and_then(
            |()| {
                handle.modify(&first, seal, |bytes| {
                    bytes.fill(0);
                    let len = bytes.len();
                    block::write(bytes, 0, 12, number, kind, b".");
                    block::write(bytes, 12, len - 12, parent, kind, b"..");
                    put8(bytes, 28, version);
                    put8(bytes, 29, 8);
                    index::set_counts(bytes, index::ROOT, limit, 1);
                    index::set_child(bytes, index::ROOT, 0, logical);
                })
            },
        ))?;
        first.set_verified(seal);
        state.set_flags(state.flags() | flag::INDEX);
        Ok(())
    }
}

/// Fills `out` with the entries of `from` that `names` (hash, offset, bytes) lists.
fn pack(from: &[u8], names: &[(u32, usize, usize)], out: &mut [u8], has_csum: bool) {
    block::init(out, has_csum);
    let end = usize::from(le16(out, 4));
    let mut at = 0;
    for (i, (_, source, len)) in names.iter().enumerate() {
        let Some(bytes) = from.get(*source..*source + *len) else { continue };
        let Some(place) = out.get_mut(at..at + *len) else { break };
        place.copy_from_slice(bytes);
        let len = if i + 1 == names.len() { end - at } else { *len };
        put16(out, at + 4, len as u16);
        at += len;
    }
}

/// A node with these entries, the first of which loses its hash.
fn init_node(bytes: &mut [u8], entries: &[u8], limit: usize) {
    bytes.fill(0);
    let len = bytes.len();
    put16(bytes, 4, len as u16);
    crate::layout::put(bytes, index::NODE, entries);
    index::set_counts(bytes, index::NODE, limit, entries.len() / 8);
}
