//! [`Inode`]: an inode in memory. Its state is the bytes on disk, changed in place and written as a whole.

use crate::layout::inode::{self as raw, *};
use crate::layout::{copied, le16, le32, put, put16, put32, zeroed};
use crate::prelude::*;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use lock_api::MutexGuard;

pub struct Inode<L: RawMutex> {
    pub number: u32,
    /// Guards attributes and the map of blocks.
    state: Mutex<L, InodeState>,
    /// Whether it is on the orphan list, and the next one there.
    pub(crate) is_orphan: AtomicBool,
    pub(crate) next_orphan: AtomicU32,
    /// The last transaction it was changed in, and the last that changed what fdatasync needs (size, blocks).
    pub(crate) tid: AtomicU64,
    pub(crate) data_tid: AtomicU64,
}

#[derive(Default)]
pub struct InodeState {
    /// As on disk, `inode_size` bytes; empty before it is read.
    pub raw: Vec<u8>,
    /// Start value of its checksums.
    pub seed: u32,
    /// Counts what took blocks away or moved them.
    pub map_changes: u64,
    /// Newer than the disk (times only).
    pub is_dirty: bool,
    /// The inode has been freed.
    pub is_gone: bool,
    /// Made without a name: it may get one.
    pub is_linkable: bool,
}

/// What stat(2) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub inode: u32,
    /// Type and permission bits.
    pub mode: u16,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// Major and minor number of a device node, as dev_t in user space.
    pub device: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub sectors: u64,
    pub flags: u32,
    pub generation: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub birth: Time,
}

impl InodeState {
    pub fn mode(&self) -> u16 {
        le16(&self.raw, MODE)
    }
    pub fn is(&self, kind: u16) -> bool {
        self.mode() & S_IFMT == kind
    }
    pub fn is_dir(&self) -> bool {
        self.is(S_IFDIR)
    }
    pub fn size(&self) -> u64 {
        raw::size(&self.raw)
    }
    pub fn set_size(&mut self, size: u64) {
        raw::set_size(&mut self.raw, size);
    }
    pub fn flags(&self) -> u32 {
        le32(&self.raw, FLAGS)
    }
    pub fn set_flags(&mut self, flags: u32) {
        put32(&mut self.raw, FLAGS, flags);
    }
    pub fn links(&self) -> u32 {
        u32::from(le16(&self.raw, LINKS))
    }
    pub fn set_links(&mut self, links: u32) {
        put16(&mut self.raw, LINKS, links as u16);
    }
    pub fn set_time(&mut self, at: usize, time: Time) {
        raw::set_time(&mut self.raw, at, time);
    }
    /// The root of the extent tree, or whatever lies there.
    pub fn block(&self) -> &[u8] {
        &self.raw[BLOCK..BLOCK + BLOCK_LEN]
    }
    pub fn block_mut(&mut self) -> &mut [u8] {
        &mut self.raw[BLOCK..BLOCK + BLOCK_LEN]
    }
    pub fn add_blocks(&mut self, geometry: &Geometry, blocks: i64) {
        let sectors = raw::sectors(geometry, &self.raw);
        let change = blocks << (geometry.block_bits - 9);
        raw::set_sectors(geometry, &mut self.raw, sectors.saturating_add_signed(change));
    }
    pub fn touch(&mut self, now: Time) {
        self.set_time(MTIME, now);
        self.set_time(CTIME, now);
    }
    /// A symlink whose target is in the inode.
    pub fn is_fast_symlink(&self) -> bool {
        self.is(S_IFLNK) && self.size() < BLOCK_LEN as u64 && self.flags() & flag::EXTENTS == 0
    }
    /// Whether it maps blocks at all.
    pub fn has_map(&self) -> bool {
        self.is(S_IFREG) || self.is_dir() || (self.is(S_IFLNK) && !self.is_fast_symlink())
    }
}

impl<L: RawMutex> Inode<L> {
    fn new(number: u32) -> Self {
        Inode {
            number,
            state: Mutex::new(InodeState::default()),
            is_orphan: AtomicBool::new(false),
            next_orphan: AtomicU32::new(0),
            tid: AtomicU64::new(0),
            data_tid: AtomicU64::new(0),
        }
    }
    pub(crate) fn lock(&self) -> MutexGuard<'_, L, InodeState> {
        self.state.lock()
    }
    /// Mode with type bits, uid and gid: for permission checks.
    pub fn access(&self) -> (u16, u32, u32) {
        let state = self.lock();
        (state.mode(), uid(&state.raw), gid(&state.raw))
    }
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// The root directory.
    pub fn root(&self) -> Result<Arc<Inode<L>>> {
        let root = self.inode(2)?;
        if !root.lock().is_dir() {
            return Err(self.corrupt(format_args!("inode 2")));
        }
        Ok(root)
    }

    /// An inode by its number. ESTALE: it is not in use. EUCLEAN, EBADMSG, EIO, ENOMEM. The caller holds no inode's lock.
    pub fn inode(&self, number: u32) -> Result<Arc<Inode<L>>> {
        if number == 0 || number > self.geometry.inodes {
            return Err(self.corrupt(format_args!("inode number {number}")));
        }
        let mut map = self.inodes.lock();
        let inode = match map.get(&number).and_then(Weak::upgrade) {
            Some(inode) => inode,
            None => self.insert_inode(&mut map, number)?,
        };
        drop(map);
        let mut state = inode.lock();
        // Whoever comes second waits for the lock and finds it read.
        if state.raw.is_empty() {
            self.load_inode(number, &mut state)?;
        }
        drop(state);
        Ok(inode)
    }

    fn insert_inode(&self, map: &mut HashMap<u32, Weak<Inode<L>>>, number: u32) -> Result<Arc<Inode<L>>> {
        if map.len() == map.capacity() {
            map.retain(|_, inode| inode.strong_count() != 0);
        }
        map.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let inode = Arc::new(Inode::new(number));
        map.insert(number, Arc::downgrade(&inode));
        Ok(inode)
    }

    /// The block of the inode table and the place in it.
    fn inode_place(&self, number: u32) -> Result<(Arc<Buffer<L>>, usize)> {
        let geometry = &self.geometry;
        let (group, index) = ((number - 1) / geometry.inodes_per_group, (number - 1) % geometry.inodes_per_group);
        let table = self.groups.get(group as usize).ok_or(Errno::EUCLEAN)?.desc().inode_table;
        let per_block = geometry.inodes_per_block();
        let buffer = self.read_block(table + u64::from(index / per_block))?;
        Ok((buffer, (index % per_block) as usize * geometry.inode_size))
    }

    fn load_inode(&self, number: u32, state: &mut InodeState) -> Result<()> {
        let (buffer, at) = self.inode_place(number)?;
        let bytes = copied(&buffer.bytes()?[at..at + self.geometry.inode_size])?;
        let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
        let seed = csum_seed(&self.geometry, number, &bytes, crc);
        if le16(&bytes, MODE) == 0 && le16(&bytes, LINKS) == 0 {
            return Err(Errno::ESTALE);
        }
        if self.geometry.has_csum() && !raw::is_valid(seed, &bytes, crc) {
            return Err(self.bad_checksum(format_args!("inode {number}")));
        }
        let extra = extra_isize(&bytes);
        if !extra.is_multiple_of(4) || (bytes.len() > 128 && extra > bytes.len() - 128) {
            return Err(self.corrupt(format_args!("inode {number}: extra size {extra}")));
        }
        let read = InodeState { raw: bytes, seed, ..InodeState::default() };
        let flags = read.flags();
        if flags & (flag::INLINE_DATA | flag::EA_INODE) != 0 || dirent_type(read.mode()) == 0 {
            return Err(self.corrupt(format_args!("inode {number}: mode {:o}, flags {flags:#x}", read.mode())));
        }
        if read.size() >> 63 != 0 || (read.is_dir() && !read.size().is_multiple_of(self.geometry.block_size as u64)) {
            return Err(self.corrupt(format_args!("inode {number}: size {}", read.size())));
        }
        if flags & flag::EXTENTS != 0 && read.has_map() {
            self.check_root(number, &read)?;
        }
        *state = read;
        Ok(())
    }

    /// Makes an inode in memory for a number just allocated, with everything zero but generation and format.
    pub(crate) fn new_inode(&self, number: u32) -> Result<Arc<Inode<L>>> {
        let mut map = self.inodes.lock();
        // An inode that had the number before may still be held by somebody.
        map.remove(&number);
        let inode = self.insert_inode(&mut map, number)?;
        let mut state = inode.lock();
        drop(map);
        let mut bytes = zeroed(self.geometry.inode_size)?;
        put32(&mut bytes, GENERATION, self.disk.random());
        if bytes.len() > 128 {
            let extra = self.geometry.want_extra_isize.min((bytes.len() - 128) as u16) & !3;
            put16(&mut bytes, EXTRA_ISIZE, extra);
        }
        state.seed = csum_seed(&self.geometry, number, &bytes, |sum, bytes| self.disk.crc32c(sum, bytes));
        state.raw = bytes;
        drop(state);
        Ok(inode)
    }

    /// Writes an inode whose lock is held into its table.
    pub(crate) fn write_inode(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
    ) -> Result<()> {
        let (buffer, at) = self.inode_place(inode.number)?;
        let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
        let has_csum = self.geometry.has_csum();
        let (bytes, seed) = (&mut state.raw, state.seed);
        handle.modify(&buffer, Seal::None, |block| {
            if inode.is_orphan.load(Ordering::Acquire) {
                put32(bytes, DTIME, inode.next_orphan.load(Ordering::Acquire));
            }
            if has_csum {
                set_checksum(seed, bytes, crc);
            }
            put(block, at, bytes);
        })?;
        inode.tid.store(handle.tid, Ordering::Release);
        state.is_dirty = false;
        Ok(())
    }

    /// Changes the link of the orphan list in an inode whose lock is not held.
    pub(crate) fn write_orphan_link(&self, handle: &Handle<'_, D, L>, inode: &Inode<L>, next: u32) -> Result<()> {
        let (buffer, at) = self.inode_place(inode.number)?;
        let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
        let has_csum = self.geometry.has_csum();
        handle.modify(&buffer, Seal::None, |block| {
            inode.next_orphan.store(next, Ordering::Release);
            let Some(place) = block.get_mut(at..at + self.geometry.inode_size) else { return };
            put32(place, DTIME, next);
            if has_csum {
                let seed = csum_seed(&self.geometry, inode.number, place, crc);
                set_checksum(seed, place, crc);
            }
        })
    }

    /// Writes the inodes whose times changed since.
    pub(crate) fn write_dirty_inodes(&self) -> Result<()> {
        let dirty = core::mem::take(&mut *self.dirty.lock());
        for inode in dirty.values() {
            self.write_if_dirty(inode)?;
        }
        Ok(())
    }

    pub(crate) fn write_if_dirty(&self, inode: &Inode<L>) -> Result<()> {
        let mut state = inode.lock();
        if !state.is_dirty || state.is_gone {
            return Ok(());
        }
        let handle = self.begin(1)?;
        self.write_inode(&handle, inode, &mut state)
    }

    pub fn stat(&self, inode: &Inode<L>) -> Stat {
        let state = inode.lock();
        let bytes = &state.raw;
        let is_device = state.is(S_IFCHR) || state.is(S_IFBLK);
        Stat {
            inode: inode.number,
            mode: state.mode(),
            links: state.links(),
            uid: uid(bytes),
            gid: gid(bytes),
            device: if is_device { device(bytes) } else { 0 },
            size: state.size(),
            sectors: sectors(&self.geometry, bytes),
            flags: state.flags(),
            generation: le32(bytes, GENERATION),
            atime: time(bytes, ATIME),
            mtime: time(bytes, MTIME),
            ctime: time(bytes, CTIME),
            birth: time(bytes, CRTIME),
        }
    }
}
