//! Extended attributes: in the inode behind its fields, then in one block. Names have their prefix as a number on disk. POSIX ACLs
//! are stored in a form of their own and are given and taken as Linux's system calls have them.

use crate::allocator::Class;
use crate::inode::InodeState;
use crate::layout::inode::{CTIME, extra_isize, file_acl, set_file_acl};
use crate::layout::{XATTR_MAGIC, copied, le16, le32, push, put, put8, put16, put32, zeroed};
use crate::prelude::*;

/// Prefixes by their numbers on disk; a longer one comes before its own start.
const PREFIXES: [(u8, &[u8]); 6] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

/// Bytes of an entry before its name; of a block before its first entry.
const ENTRY: usize = 16;
const BLOCK_HEADER: usize = 32;

/// setxattr(2)'s flags.
pub const CREATE: u32 = 1;
pub const REPLACE: u32 = 2;

pub const CREDITS: usize = 8;

/// One attribute in memory.
struct Attribute {
    prefix: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

fn padded(len: usize) -> usize {
    (len + 3) & !3
}

impl Attribute {
    fn size(&self) -> usize {
        padded(ENTRY + self.name.len()) + padded(self.value.len())
    }
    /// The hash of name and value that entries have.
    fn hash(&self) -> u32 {
        let hash = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(hash, |hash, bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

pub fn seal(block: &mut [u8], seed: u32, number: u64, crc: impl Fn(u32, &[u8]) -> u32) {
    let sum = checksum(block, seed, number, crc);
    put32(block, 0x10, sum);
}

fn checksum(block: &[u8], seed: u32, number: u64, crc: impl Fn(u32, &[u8]) -> u32) -> u32 {
    let sum = crc(crc(seed, &number.to_le_bytes()), &block[..0x10]);
    crc(crc(sum, &[0; 4]), &block[0x14..])
}

/// Reads attributes: entries at `first`, value offsets counted from `base`. `None` for what cannot be.
fn read_entries(area: &[u8], first: usize, base: usize) -> Result<Option<Vec<Attribute>>> {
    let mut list = Vec::new();
    let mut at = first;
    loop {
        if at + 4 > area.len() {
            return Ok(None);
        }
        if le32(area, at) == 0 {
            return Ok(Some(list));
        }
        let name_len = usize::from(area[at]);
        let (offset, size) = (usize::from(le16(area, at + 2)), le32(area, at + 8) as usize);
        let name = area.get(at + ENTRY..at + ENTRY + name_len);
        let value = if size == 0 {
            Some(&[][..])
        } else {
            size.checked_add(base + offset).and_then(|end| area.get(base + offset..end))
        };
        let (Some(name), Some(value)) = (name, value) else { return Ok(None) };
        // A value in an inode of its own is a feature this does not have.
        if le32(area, at + 4) != 0 {
            return Ok(None);
        }
        push(&mut list, Attribute { prefix: area[at + 1], name: copied(name)?, value: copied(value)? })?;
        at += padded(ENTRY + name_len);
    }
}

/// Writes attributes into `area`, which is zero from `first` on and long enough.
fn write_entries(area: &mut [u8], first: usize, base: usize, list: &[Attribute], with_hash: bool) {
    let (mut at, mut end) = (first, area.len());
    for attribute in list {
        end -= padded(attribute.value.len());
        put8(area, at, attribute.name.len() as u8);
        put8(area, at + 1, attribute.prefix);
        put16(area, at + 2, if attribute.value.is_empty() { 0 } else { (end - base) as u16 });
        put32(area, at + 8, attribute.value.len() as u32);
        put32(area, at + 12, if with_hash { attribute.hash() } else { 0 });
        put(area, at + ENTRY, &attribute.name);
        put(area, end, &attribute.value);
        at += padded(ENTRY + attribute.name.len());
    }
}

fn total(list: &[Attribute]) -> usize {
    list.iter().map(Attribute::size).sum()
}

/// The number and the rest of a name. EOPNOTSUPP for a prefix ext4 does not store; EINVAL for a name that is only a prefix.
fn split_name(name: &[u8]) -> Result<(u8, &[u8])> {
    for (number, prefix) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            let is_whole = number == ACL_ACCESS || number == ACL_DEFAULT;
            return match (is_whole, rest.is_empty()) {
                (true, true) => Ok((number, rest)),
                (false, false) if number != 7 => Ok((number, rest)),
                (false, true) => Err(Errno::EINVAL),
                _ => Err(Errno::EOPNOTSUPP),
            };
        }
    }
    Err(Errno::EOPNOTSUPP)
}

/// From the system calls' ACL (version 2, entries of 8 bytes) to the disk's (version 1, an id only where it means something).
fn acl_to_disk(value: &[u8]) -> Result<Vec<u8>> {
    let Some(entries) = value.get(4..).filter(|rest| le32(value, 0) == 2 && rest.len() % 8 == 0) else {
        return Err(Errno::EINVAL);
    };
    let mut out = zeroed(4)?;
    put32(&mut out, 0, 1);
    out.try_reserve(entries.len()).map_err(|_| Errno::ENOMEM)?;
    for entry in entries.as_chunks::<8>().0 {
        out.extend_from_slice(&entry[..if acl_has_id(entry)? { 8 } else { 4 }]);
    }
    Ok(out)
}

fn acl_from_disk(value: &[u8]) -> Result<Vec<u8>> {
    let mut out = zeroed(4)?;
    put32(&mut out, 0, 2);
    let mut rest = value.get(4..).filter(|_| le32(value, 0) == 1).ok_or(Errno::EIO)?;
    while !rest.is_empty() {
        let len = if acl_has_id(rest).map_err(|_| Errno::EIO)? { 8 } else { 4 };
        let entry = rest.get(..len).ok_or(Errno::EIO)?;
        out.try_reserve(8).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(entry);
        if len == 4 {
            out.extend_from_slice(&[0xFF; 4]);
        }
        rest = &rest[len..];
    }
    Ok(out)
}

/// Whether an ACL entry names a user or a group. EINVAL for an unknown tag.
fn acl_has_id(entry: &[u8]) -> Result<bool> {
    match le16(entry, 0) {
        1 | 4 | 0x10 | 0x20 if entry.len() >= 4 => Ok(false),
        2 | 8 if entry.len() >= 8 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// The attributes in the inode.
    fn inode_attributes(&self, number: u32, state: &InodeState) -> Result<Vec<Attribute>> {
        let start = 128 + extra_isize(&state.raw);
        let area = state.raw.get(start..).unwrap_or_default();
        if extra_isize(&state.raw) == 0 || area.len() < 8 || le32(area, 0) != XATTR_MAGIC {
            return Ok(Vec::new());
        }
        read_entries(area, 4, 4)?.ok_or_else(|| self.corrupt(format_args!("attributes in inode {number}")))
    }

    fn attribute_block(&self, number: u32, state: &InodeState) -> Result<Option<Arc<Buffer<L>>>> {
        let block = file_acl(&state.raw);
        if block == 0 {
            return Ok(None);
        }
        let bad = || self.corrupt(format_args!("inode {number}: attribute block {block}"));
        if !self.geometry.contains(block, 1) || self.in_zone(block, 1) {
            return Err(bad());
        }
        let buffer = self.read_block(block)?;
        if !buffer.is_verified(Seal::Xattr) {
            let bytes = buffer.bytes()?;
            if le32(&bytes, 0) != XATTR_MAGIC || le32(&bytes, 4) == 0 || le32(&bytes, 8) != 1 {
                return Err(bad());
            }
            let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
            if self.geometry.has_csum() && checksum(&bytes, self.geometry.csum_seed, block, crc) != le32(&bytes, 0x10) {
                return Err(self.bad_checksum(format_args!("inode {number}: attribute block {block}")));
            }
            buffer.set_verified(Seal::Xattr);
        }
        Ok(Some(buffer))
    }

    fn block_attributes(&self, number: u32, state: &InodeState) -> Result<Vec<Attribute>> {
        let Some(buffer) = self.attribute_block(number, state)? else { return Ok(Vec::new()) };
        read_entries(&buffer.bytes()?, BLOCK_HEADER, 0)?
            .ok_or_else(|| self.corrupt(format_args!("inode {number}: attribute block")))
    }

    /// An attribute's value. `name` has its prefix. ENODATA; EOPNOTSUPP for a prefix that is not stored.
    pub fn get_xattr(&self, inode: &Inode<L>, name: &[u8]) -> Result<Vec<u8>> {
        let (prefix, rest) = split_name(name)?;
        let state = inode.lock();
        let matches = |attribute: &Attribute| attribute.prefix == prefix && attribute.name == rest;
        let mut found = self.inode_attributes(inode.number, &state)?.into_iter().find(matches);
        if found.is_none() {
            found = self.block_attributes(inode.number, &state)?.into_iter().find(matches);
        }
        let value = found.ok_or(Errno::ENODATA)?.value;
        if prefix == ACL_ACCESS || prefix == ACL_DEFAULT { acl_from_disk(&value) } else { Ok(value) }
    }

    /// The names, each with a NUL behind it. The caller leaves out what may not be seen ("trusted.").
    pub fn list_xattr(&self, inode: &Inode<L>) -> Result<Vec<u8>> {
        let state = inode.lock();
        let mut names = Vec::new();
        let in_block = self.block_attributes(inode.number, &state)?;
        for attribute in self.inode_attributes(inode.number, &state)?.iter().chain(&in_block) {
            let Some((_, prefix)) = PREFIXES.iter().find(|(number, _)| *number == attribute.prefix) else { continue };
            names.try_reserve(prefix.len() + attribute.name.len() + 1).map_err(|_| Errno::ENOMEM)?;
            names.extend_from_slice(prefix);
            names.extend_from_slice(&attribute.name);
            names.push(0);
        }
        Ok(names)
    }

    /// Sets an attribute, or removes it (`None`); `flags` as in setxattr(2). EEXIST, ENODATA, ENOSPC (they do not fit into the inode
    /// and one block), ERANGE (name), EINVAL (ACL).
    pub fn set_xattr(&self, inode: &Inode<L>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        let (prefix, rest) = split_name(name)?;
        if rest.len() > 255 {
            return Err(Errno::ERANGE);
        }
        let is_acl = prefix == ACL_ACCESS || prefix == ACL_DEFAULT;
        let value = match value {
            Some(value) if is_acl => Some(acl_to_disk(value)?),
            Some(value) if value.len() > self.geometry.block_size => return Err(Errno::ENOSPC),
            Some(value) => Some(copied(value)?),
            None => None,
        };
        let rest = copied(rest)?;
        self.with_retry(|| {
            let mut state = inode.lock();
            let handle = self.begin(CREDITS)?;
            self.set_attribute(&handle, inode, &mut state, (prefix, &rest), value.as_deref(), flags)?;
            state.set_time(CTIME, self.disk.now());
            self.half_done(self.write_inode(&handle, inode, &mut state))
        })
    }

    /// Gives a new inode an attribute.
    pub(crate) fn set_new_xattr(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let (prefix, rest) = split_name(name)?;
        let is_acl = prefix == ACL_ACCESS || prefix == ACL_DEFAULT;
        let value = if is_acl { acl_to_disk(value)? } else { copied(value)? };
        self.set_attribute(handle, inode, state, (prefix, rest), Some(&value), 0)
    }

    fn set_attribute(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
        (prefix, name): (u8, &[u8]),
        value: Option<&[u8]>,
        flags: u32,
    ) -> Result<()> {
        let mut inside = self.inode_attributes(inode.number, state)?;
        let mut outside = self.block_attributes(inode.number, state)?;
        let same = |attribute: &Attribute| attribute.prefix == prefix && attribute.name == name;
        let (was_inside, was_outside) = (inside.iter().any(same), outside.iter().any(same));
        let exists = was_inside || was_outside;
        if (value.is_none() || flags & REPLACE != 0) && !exists {
            return Err(Errno::ENODATA);
        }
        if flags & CREATE != 0 && exists {
            return Err(Errno::EEXIST);
        }
        inside.retain(|attribute| !same(attribute));
        outside.retain(|attribute| !same(attribute));
        let (mut changed_inside, mut changed_outside) = (was_inside, was_outside);
        if let Some(value) = value {
            let new = Attribute { prefix, name: copied(name)?, value: copied(value)? };
            let start = 128 + extra_isize(&state.raw);
            // Four bytes of zero end the list; the magic number begins it.
            let room = if start > 128 { state.raw.len().saturating_sub(start + 8) } else { 0 };
            if total(&inside) + new.size() <= room {
                push(&mut inside, new)?;
                changed_inside = true;
            } else {
                if total(&outside) + new.size() > self.geometry.block_size - BLOCK_HEADER - 4 {
                    return Err(Errno::ENOSPC);
                }
                push(&mut outside, new)?;
                changed_outside = true;
            }
        }
        if changed_outside {
            // What can fail for lack of space comes first.
            self.write_attribute_block(handle, inode, state, &mut outside)?;
        }
        if changed_inside {
            let start = 128 + extra_isize(&state.raw);
            if let Some(area) = state.raw.get_mut(start..) {
                area.fill(0);
                if !inside.is_empty() {
                    put32(area, 0, XATTR_MAGIC);
                    write_entries(area, 4, 4, &inside, true);
                }
            }
        }
        Ok(())
    }

    /// Writes the attribute block anew: in place if nobody else has it, else (or for the first time) in a new block.
    fn write_attribute_block(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
        list: &mut [Attribute],
    ) -> Result<()> {
        let old = self.attribute_block(inode.number, state)?;
        let references = match &old {
            Some(buffer) => le32(&buffer.bytes()?, 4),
            None => 0,
        };
        if list.is_empty() {
            return self.drop_attribute_block(handle, inode, state);
        }
        list.sort_unstable_by(|a, b| (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name)));
        let hash = list.iter().fold(0u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
        let mut bytes = zeroed(self.geometry.block_size)?;
        put32(&mut bytes, 0, XATTR_MAGIC);
        put32(&mut bytes, 4, 1);
        put32(&mut bytes, 8, 1);
        put32(&mut bytes, 12, hash);
        write_entries(&mut bytes, BLOCK_HEADER, 0, list, true);
        let buffer = match old {
            Some(buffer) if references == 1 => buffer,
            old => {
                let (block, _) = self.allocate(handle, self.goal(inode.number), 1, Class::Ordinary)?;
                let buffer = self.half_done(self.cache.fresh(block, self.geometry.block_size))?;
                if let Some(old) = old {
                    let left = references - 1;
                    self.half_done(handle.modify(&old, Seal::Xattr, |bytes| put32(bytes, 4, left)))?;
                } else {
                    state.add_blocks(&self.geometry, 1);
                }
                set_file_acl(&mut state.raw, block);
                buffer
            }
        };
        self.half_done(handle.modify(&buffer, Seal::Xattr, |place| place.copy_from_slice(&bytes)))?;
        buffer.set_verified(Seal::Xattr);
        Ok(())
    }

    /// Takes the attribute block from an inode, and frees it if nobody else has it.
    pub(crate) fn drop_attribute_block(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
    ) -> Result<()> {
        let Some(buffer) = self.attribute_block(inode.number, state)? else { return Ok(()) };
        let references = le32(&buffer.bytes()?, 4);
        set_file_acl(&mut state.raw, 0);
        state.add_blocks(&self.geometry, -1);
        self.half_done(if references > 1 {
            handle.modify(&buffer, Seal::Xattr, |bytes| put32(bytes, 4, references - 1))
        } else {
            handle.revoke(buffer.block).and_then(|()| self.free_blocks(handle, buffer.block, 1))
        })
    }
}
