//! [`Ext4`]: mount, remount, unmount, errors, and what does not belong to one file.

use crate::allocator::{Counters, Group};
use crate::cache::Cache;
use crate::journal::format::Format;
use crate::journal::recover::recover;
use crate::journal::{Journal, LogMap};
use crate::layout::group::{self, Descriptor};
use crate::layout::superblock::{self as sb, compat, incompat, ro_compat};
use crate::layout::{le16, le32, push, put16, put32, zeroed};
use crate::prelude::*;
use alloc::sync::Weak;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicBool, Ordering};

/// What happens after an error in what the disk holds (`errors=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorPolicy {
    Continue,
    RemountReadOnly,
}

#[derive(Clone, Debug)]
pub struct MountOptions {
    pub read_only: bool,
    /// `None`: what the superblock says ("panic" there is taken as remount-ro).
    pub errors: Option<ErrorPolicy>,
    /// `norecovery`: do not replay the journal. Only with `read_only`.
    pub no_recovery: bool,
    /// Metadata blocks to keep in memory.
    pub cache_blocks: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions { read_only: false, errors: None, no_recovery: false, cache_blocks: 4096 }
    }
}

/// statfs(2), in blocks of `block_size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs {
    pub block_size: u32,
    pub blocks: u64,
    pub free: u64,
    /// Free for those who may not use the administrator's reserve.
    pub available: u64,
    pub files: u64,
    pub free_files: u64,
    pub id: u64,
}

pub struct Ext4<D: Disk, L: RawMutex> {
    pub disk: D,
    pub(crate) geometry: Geometry,
    pub(crate) cache: Cache<L>,
    pub(crate) groups: Vec<Group<L>>,
    /// The blocks of group descriptors: only commits change them.
    pub(crate) desc_buffers: Vec<Arc<Buffer<L>>>,
    pub(crate) zones: Vec<(u64, u64)>,
    pub(crate) super_buffer: Arc<Buffer<L>>,
    pub(crate) journal: Journal<L>,
    pub(crate) counters: Counters,
    pub(crate) inodes: Mutex<L, HashMap<u32, Weak<Inode<L>>>>,
    /// Inodes whose times are newer than the disk's.
    pub(crate) dirty: Mutex<L, HashMap<u32, Arc<Inode<L>>>>,
    /// The orphan list, its head first.
    pub(crate) orphans: Mutex<L, Vec<Arc<Inode<L>>>>,
    policy: ErrorPolicy,
    read_only: AtomicBool,
    has_error: AtomicBool,
    /// The journal was not replayed.
    unrecovered: bool,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Mounts: replays the journal, then deals with orphans, then says on disk that it is in use. EINVAL (no ext4, a feature this does
    /// not know: the log names it), EROFS (the journal needs a replay and the disk cannot be written), EUCLEAN, EBADMSG, EIO, ENOMEM.
    pub fn mount(disk: D, options: &MountOptions) -> Result<Self> {
        let mut fs = Self::open(disk, options)?;
        let read_only = options.read_only || fs.disk.read_only() || fs.must_be_read_only();
        if fs.geometry.compat & compat::HAS_JOURNAL != 0 {
            fs.load_journal(options)?;
        }
        fs.load_groups(true)?;
        fs.read_only.store(read_only, Ordering::Release);
        if !read_only {
            fs.start_writing()?;
        }
        Ok(fs)
    }

    /// Reads the superblock and just enough of the descriptors to read inodes.
    fn open(disk: D, options: &MountOptions) -> Result<Self> {
        let mut block = zeroed(sb::LEN)?;
        disk.read(sb::OFFSET / 512, &mut block)?;
        let geometry = Self::parse(&disk, &block)?;
        let policy = options.errors.unwrap_or(match le16(&block, sb::ERRORS) {
            2 | 3 => ErrorPolicy::RemountReadOnly,
            _ => ErrorPolicy::Continue,
        });
        let cache = Cache::new(options.cache_blocks);
        let super_buffer = Self::read_super(&disk, &geometry, &cache)?;
        let mut fs = Ext4 {
            disk,
            cache,
            groups: Vec::new(),
            desc_buffers: Vec::new(),
            zones: Vec::new(),
            super_buffer,
            journal: Journal::new(None),
            counters: Counters::default(),
            inodes: Mutex::new(HashMap::new()),
            dirty: Mutex::new(HashMap::new()),
            orphans: Mutex::new(Vec::new()),
            policy,
            read_only: AtomicBool::new(true),
            has_error: AtomicBool::new(false),
            unrecovered: false,
            geometry,
        };
        fs.load_groups(false)?;
        Ok(fs)
    }

    fn parse(disk: &D, block: &[u8]) -> Result<Geometry> {
        let geometry = Geometry::parse(block, disk.sectors() * 512, |sum, bytes| disk.crc32c(sum, bytes)).map_err(
            |sb::Refused(error, why)| {
                disk.log(format_args!("ext4: cannot mount: {why}"));
                error
            },
        )?;
        let unknown = geometry.incompat & !incompat::SUPPORTED;
        if unknown != 0 {
            let name = incompat::NAMES.iter().find(|(bit, _)| unknown & bit != 0).map_or("unknown", |(_, name)| name);
            disk.log(format_args!("ext4: cannot mount: feature {name} ({unknown:#x}) is not supported"));
            return Err(Errno::EINVAL);
        }
        Ok(geometry)
    }

    fn read_super(disk: &D, geometry: &Geometry, cache: &Cache<L>) -> Result<Arc<Buffer<L>>> {
        let block = geometry.first_data_block;
        cache.read(block, geometry.block_size, |bytes| disk.read(block << (geometry.block_bits - 9), bytes))
    }

    /// Where the superblock lies in its block.
    fn super_offset(&self) -> usize {
        if self.geometry.block_size == 1024 { 0 } else { 1024 }
    }

    /// Whether a feature forbids writing; the log names it.
    fn must_be_read_only(&self) -> bool {
        let unknown = self.geometry.ro_compat & !ro_compat::SUPPORTED;
        if unknown != 0 {
            let names = ro_compat::NAMES;
            let name = names.iter().find(|(bit, _)| unknown & bit != 0).map_or("unknown", |(_, name)| name);
            self.disk.log(format_args!("ext4: read-only: feature {name} ({unknown:#x}) is not supported"));
        }
        unknown != 0
    }

    fn load_groups(&mut self, check: bool) -> Result<()> {
        let geometry = &self.geometry;
        let per_block = geometry.block_size / geometry.desc_size;
        let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
        let (mut groups, mut buffers) = (Vec::new(), Vec::new());
        groups.try_reserve_exact(geometry.groups as usize).map_err(|_| Errno::ENOMEM)?;
        let (mut free, mut free_inodes) = (0, 0);
        for number in 0..geometry.groups {
            let at = number as usize % per_block;
            if at == 0 {
                let block = geometry.first_data_block + 1 + (number as usize / per_block) as u64;
                push(&mut buffers, self.read_block(block)?)?;
            }
            let bytes = buffers.last().ok_or(Errno::EIO)?.bytes()?;
            let desc = &bytes[at * geometry.desc_size..(at + 1) * geometry.desc_size];
            if check && !group::is_valid(geometry, number, desc, crc) {
                self.disk.log(format_args!("ext4: cannot mount: checksum of group descriptor {number}"));
                return Err(Errno::EBADMSG);
            }
            let mut desc = Descriptor::parse(geometry, desc);
            if geometry.ro_compat & (ro_compat::METADATA_CSUM | ro_compat::GDT_CSUM) == 0 {
                // Without checksums these fields have no meaning.
                desc.flags = 0;
                desc.unused_inodes = 0;
            }
            let len = geometry.group_len(number);
            if check && (desc.free_blocks > len || desc.free_inodes > geometry.inodes_per_group) {
                self.disk.log(format_args!("ext4: cannot mount: counts of group {number}"));
                return Err(Errno::EUCLEAN);
            }
            desc.unused_inodes = desc.unused_inodes.min(geometry.inodes_per_group);
            free += i64::from(desc.free_blocks);
            free_inodes += i64::from(desc.free_inodes);
            groups.push(Group::new(desc));
        }
        let zones = Self::find_zones(geometry, &groups).inspect_err(|_| {
            self.disk.log(format_args!("ext4: cannot mount: a group's tables are not where they can be"));
        })?;
        self.groups = groups;
        self.desc_buffers = buffers;
        self.zones = zones;
        self.counters = Counters::default();
        self.counters.free.store(free, Ordering::Relaxed);
        self.counters.free_inodes.store(free_inodes, Ordering::Relaxed);
        Ok(())
    }

    /// Finds the journal and replays it.
    fn load_journal(&mut self, options: &MountOptions) -> Result<()> {
        let refuse = |disk: &D, why: &str| {
            disk.log(format_args!("ext4: cannot mount: {why}"));
            Errno::EUCLEAN
        };
        let inode = self.inode(self.geometry.journal_inode)?;
        let blocks = self.stat(&inode).size >> self.geometry.block_bits;
        let map = self.log_map(&inode, blocks)?;
        drop(inode);
        let mut block = zeroed(self.geometry.block_size)?;
        map.read(&self.disk, self.geometry.block_bits, 0, &mut block)?;
        let mut format = Format::parse(&self.disk, &block, blocks, self.geometry.block_size)
            .map_err(|why| refuse(&self.disk, why))?;
        let needs_recovery = self.geometry.incompat & incompat::RECOVER != 0;
        if format.start() != 0 && options.no_recovery && options.read_only {
            self.unrecovered = true;
            return Ok(());
        }
        if format.start() != 0 || needs_recovery {
            if self.disk.read_only() {
                self.disk.log(format_args!("ext4: cannot mount: the journal needs a replay and the disk is read-only"));
                return Err(Errno::EROFS);
            }
            if format.incompat() & crate::journal::format::INCOMPAT_FAST_COMMIT != 0 {
                self.disk.log(format_args!("ext4: cannot mount: the journal may hold fast commits: run e2fsck"));
                return Err(Errno::EINVAL);
            }
            let count = recover(&self.disk, &mut format, &map, self.geometry.blocks)?;
            if count != 0 {
                self.disk.log(format_args!("ext4: journal replayed: {count} blocks"));
            }
            // What was read before the replay may be old.
            self.cache = Cache::new(options.cache_blocks);
            self.inodes.lock().clear();
            let mut block = zeroed(sb::LEN)?;
            self.disk.read(sb::OFFSET / 512, &mut block)?;
            self.geometry = Self::parse(&self.disk, &block)?;
            self.super_buffer = Self::read_super(&self.disk, &self.geometry, &self.cache)?;
        }
        self.journal = Journal::new(Some((format, map)));
        if self.journal.take_errno() {
            self.has_error.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Where the blocks of the journal's file are. EUCLEAN for a hole or a place outside.
    fn log_map(&self, inode: &Inode<L>, blocks: u64) -> Result<LogMap> {
        let mut map = Vec::new();
        let end = u32::try_from(blocks).map_err(|_| Errno::EUCLEAN)?;
        let mut at = 0;
        while at < end {
            let run = self.map(inode, at, end - at)?;
            let block = run.block.filter(|_| run.state == crate::State::Written).ok_or(Errno::EUCLEAN)?;
            if !self.geometry.contains(block, u64::from(run.len)) {
                return Err(Errno::EUCLEAN);
            }
            push(&mut map, (at, block, run.len))?;
            at += run.len;
        }
        if map.is_empty() { Err(Errno::EUCLEAN) } else { Ok(LogMap(map)) }
    }

    /// The file system is about to be written: says so on disk, starts the journal, deals with orphans.
    fn start_writing(&self) -> Result<()> {
        let now = self.disk.now();
        let has_log = self.journal.has_log();
        let had_error = self.has_error.load(Ordering::Acquire);
        self.write_superblock(|block| {
            put32(block, sb::MOUNT_TIME, now.seconds as u32);
            put32(block, sb::WRITE_TIME, now.seconds as u32);
            put16(block, sb::MOUNT_COUNT, le16(block, sb::MOUNT_COUNT).wrapping_add(1));
            if has_log {
                put32(block, sb::INCOMPAT, le32(block, sb::INCOMPAT) | incompat::RECOVER);
            } else {
                put16(block, sb::STATE, le16(block, sb::STATE) & !sb::STATE_VALID);
            }
            if had_error {
                put16(block, sb::STATE, le16(block, sb::STATE) | sb::STATE_ERROR);
            }
        })?;
        self.journal.start(&self.disk, &self.geometry)?;
        self.read_only.store(false, Ordering::Release);
        self.clean_orphans()
    }

    /// Everything goes to disk, and the disk says that it is clean.
    fn stop_writing(&self) -> Result<()> {
        if self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.journal.is_aborted() {
            self.read_only.store(true, Ordering::Release);
            return Err(Errno::EIO);
        }
        self.write_dirty_inodes()?;
        let handle = self.begin(2)?;
        let (free, inodes) = self.free_counts();
        let now = self.disk.now();
        self.change_super(&handle, |block| {
            put32(block, sb::FREE_BLOCKS_LO, free as u32);
            put32(block, sb::FREE_BLOCKS_HI, (free >> 32) as u32);
            put32(block, sb::FREE_INODES, inodes as u32);
            put32(block, sb::WRITE_TIME, now.seconds as u32);
        })?;
        let tid = handle.tid;
        drop(handle);
        self.commit(tid)?;
        self.checkpoint()?;
        self.journal.stop(&self.disk, &self.geometry)?;
        self.read_only.store(true, Ordering::Release);
        let has_error = self.has_error.load(Ordering::Acquire);
        self.write_superblock(|block| {
            put32(block, sb::INCOMPAT, le32(block, sb::INCOMPAT) & !incompat::RECOVER);
            let state = le16(block, sb::STATE) | if has_error { sb::STATE_ERROR } else { 0 };
            put16(block, sb::STATE, state | sb::STATE_VALID);
        })
    }

    /// Takes the file system off its disk: everything is written, the disk says that it is clean. Nobody uses it any more. EIO, and
    /// then the disk needs a replay or a check.
    pub fn unmount(self) -> Result<()> {
        self.stop_writing()
    }

    /// The disk is clean until [`Ext4::thaw`] (FIFREEZE). The caller lets no operation that changes anything in.
    pub fn freeze(&self) -> Result<()> {
        self.stop_writing()
    }

    pub fn thaw(&self) -> Result<()> {
        self.remount(false)
    }

    /// Makes it read-only (the caller has made sure that no file is open for writing), or writable: EROFS if that cannot be.
    pub fn remount(&self, read_only: bool) -> Result<()> {
        if read_only {
            return self.stop_writing();
        }
        if !self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        let forbidden = self.disk.read_only() || self.unrecovered || self.must_be_read_only();
        if forbidden || self.journal.is_aborted() {
            return Err(Errno::EROFS);
        }
        self.start_writing()
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.read_only.load(Ordering::Acquire) || self.journal.is_aborted() { Err(Errno::EROFS) } else { Ok(()) }
    }

    pub(crate) fn read_block(&self, block: u64) -> Result<Arc<Buffer<L>>> {
        if !self.geometry.contains(block, 1) {
            return Err(Errno::EUCLEAN);
        }
        let sector = block << (self.geometry.block_bits - 9);
        self.cache.read(block, self.geometry.block_size, |bytes| self.disk.read(sector, bytes))
    }

    /// Changes the superblock within a transaction.
    pub(crate) fn change_super(&self, handle: &Handle<'_, D, L>, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let at = self.super_offset();
        handle.modify(&self.super_buffer, Seal::Superblock, |bytes| {
            if let Some(place) = bytes.get_mut(at..at + sb::LEN) {
                change(place);
            }
        })
    }

    /// A field of the superblock.
    pub(crate) fn super_field(&self, at: usize) -> Result<u32> {
        Ok(le32(&self.super_buffer.bytes()?, self.super_offset() + at))
    }

    /// Writes the superblock at once, durably: only while the journal is empty and stopped.
    fn write_superblock(&self, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let at = self.super_offset();
        self.super_buffer.change(Seal::Superblock, |bytes| {
            if let Some(place) = bytes.get_mut(at..at + sb::LEN) {
                change(place);
            }
        })?;
        let bytes = self.super_buffer.sealed(|seal, block, bytes| self.seal(seal, block, bytes))?;
        self.disk.write(self.super_buffer.block << (self.geometry.block_bits - 9), &[&bytes], false)?;
        self.disk.flush()
    }

    /// Puts a block's checksum in.
    pub(crate) fn seal(&self, seal: Seal, block: u64, bytes: &mut [u8]) {
        if !self.geometry.has_csum() {
            return;
        }
        let crc = |sum, bytes: &[u8]| self.disk.crc32c(sum, bytes);
        match seal {
            Seal::None => {}
            Seal::Superblock => {
                let at = self.super_offset();
                let sum = crc(!0, &bytes[at..at + sb::CHECKSUM]);
                put32(bytes, at + sb::CHECKSUM, sum);
            }
            Seal::DirLeaf(seed) => crate::dir::seal_leaf(bytes, seed, crc),
            Seal::DirIndex(seed) => crate::dir::seal_index(bytes, seed, crc),
            Seal::Extents(seed) => crate::extents::seal(bytes, seed, crc),
            Seal::Xattr => crate::xattr::seal(bytes, self.geometry.csum_seed, block, crc),
        }
    }

    /// Free blocks (freed ones that are not committed among them) and inodes.
    fn free_counts(&self) -> (i64, i64) {
        self.groups.iter().fold((0, 0), |(blocks, inodes), group| {
            let desc = group.desc();
            (blocks + i64::from(desc.free_blocks), inodes + i64::from(desc.free_inodes))
        })
    }

    pub fn statfs(&self) -> StatFs {
        let geometry = &self.geometry;
        let counters = &self.counters;
        let free = counters.free.load(Ordering::Relaxed) + counters.freeing.load(Ordering::Relaxed)
            - counters.reserved.load(Ordering::Relaxed);
        let free = free.max(0) as u64;
        let overhead = if geometry.overhead != 0 {
            u64::from(geometry.overhead)
        } else {
            geometry.first_data_block + self.zones.iter().map(|(_, len)| len).sum::<u64>()
        };
        StatFs {
            block_size: geometry.block_size as u32,
            blocks: geometry.blocks.saturating_sub(overhead),
            free,
            available: free.saturating_sub(geometry.reserved_blocks),
            files: u64::from(geometry.inodes),
            free_files: counters.free_inodes.load(Ordering::Relaxed).max(0) as u64,
            id: geometry.uuid.iter().fold(0, |id: u64, byte| id.rotate_left(8) ^ u64::from(*byte)),
        }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// sync(2), syncfs(2): all metadata is durable, with all data written before. The caller has written its pages back.
    pub fn sync(&self) -> Result<()> {
        if self.is_read_only() {
            return if self.journal.is_aborted() { Err(Errno::EIO) } else { Ok(()) };
        }
        self.write_dirty_inodes()?;
        if self.has_running() { self.commit(self.running_tid()) } else { self.disk.flush() }
    }

    /// To be called each five seconds: commits what is there, and makes room in the log.
    pub fn tick(&self) -> Result<()> {
        if self.check_writable().is_err() {
            return Ok(());
        }
        self.write_dirty_inodes()?;
        if self.has_running() {
            self.commit(self.running_tid())?;
        }
        if self.wants_checkpoint() { self.checkpoint() } else { Ok(()) }
    }

    /// Drops metadata blocks that can be read again; returns how many bytes.
    pub fn shrink(&self) -> usize {
        self.inodes.lock().retain(|_, inode| inode.strong_count() != 0);
        self.cache.shrink() * self.geometry.block_size
    }

    /// What the disk holds cannot be: notes it, does what `errors=` says, and gives EUCLEAN.
    pub(crate) fn corrupt(&self, what: Arguments<'_>) -> Errno {
        self.found_error("not as it must be", what);
        Errno::EUCLEAN
    }

    pub(crate) fn bad_checksum(&self, what: Arguments<'_>) -> Errno {
        self.found_error("checksum does not agree", what);
        Errno::EBADMSG
    }

    fn found_error(&self, how: &str, what: Arguments<'_>) {
        self.disk.log(format_args!("ext4: error: {what}: {how}"));
        if self.read_only.load(Ordering::Acquire) {
            return;
        }
        if self.policy == ErrorPolicy::RemountReadOnly {
            self.journal.abort();
            self.disk.log(format_args!("ext4: the file system is read-only now"));
        }
        self.mark_error();
    }

    /// The journal stops: nothing is written any more, and the disk is as after a crash.
    pub(crate) fn abort(&self, why: Arguments<'_>) {
        if !self.journal.is_aborted() {
            self.journal.abort();
            self.disk.log(format_args!("ext4: error: {why}; the file system is read-only now"));
            self.mark_error();
        }
    }

    /// An operation failed halfway: its transaction must not reach the disk.
    pub(crate) fn half_done<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.abort(format_args!("an operation failed halfway: error {}", error.0)))
    }

    /// Notes in the superblock on disk that it has errors, once. What else is in the superblock in memory may not be committed, so
    /// the disk's own is changed.
    fn mark_error(&self) {
        if self.has_error.swap(true, Ordering::AcqRel) || self.disk.read_only() {
            return;
        }
        let now = self.disk.now().seconds as u32;
        let change = |block: &mut [u8]| {
            put16(block, sb::STATE, le16(block, sb::STATE) | sb::STATE_ERROR);
            let count = le32(block, sb::ERROR_COUNT);
            put32(block, sb::ERROR_COUNT, count.wrapping_add(1));
            if count == 0 {
                put32(block, sb::FIRST_ERROR_TIME, now);
            }
            put32(block, sb::LAST_ERROR_TIME, now);
        };
        let at = self.super_offset();
        let sector = self.super_buffer.block << (self.geometry.block_bits - 9);
        let Ok(mut bytes) = zeroed(self.geometry.block_size) else { return };
        if self.disk.read(sector, &mut bytes).is_ok() && le16(&bytes, at + 0x38) == sb::MAGIC {
            change(&mut bytes[at..at + sb::LEN]);
            self.seal(Seal::Superblock, self.super_buffer.block, &mut bytes);
            let _ = self.disk.write(sector, &[&bytes], true);
        }
    }
}
