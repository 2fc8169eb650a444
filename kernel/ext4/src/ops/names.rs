//! What directories hold: lookup, create, link, unlink, rename; and the end of an inode.

use super::*;
use crate::allocator::Class;
use crate::dir::{self, Found};
use crate::extents::{self, Extent};
use crate::layout::inode::{
    self as raw, ATIME, BLOCK_LEN, CRTIME, CTIME, DTIME, MTIME, S_IFBLK, S_IFCHR, S_IFLNK, S_IFREG, set_device,
    set_owner,
};
use crate::layout::{put, put16, zeroed};

/// What a new inode is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewInode<'a> {
    /// Type and permission bits, the umask applied.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Of a device node: dev_t as user space has it.
    pub device: u64,
    /// Extended attributes (full name, value) it has from the beginning: inherited ACLs, security labels.
    pub attributes: &'a [(&'a [u8], &'a [u8])],
}

/// renameat2(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}

/// Blocks a new inode touches beside the directory: bitmap, table, descriptor, its own first block, attributes, superblock.
const CREATE: usize = dir::CREDITS + 12 + crate::xattr::CREDITS;

fn check_name(name: &[u8]) -> Result<()> {
    match name.len() {
        0 => Err(Errno::ENOENT),
        1..=NAME_MAX if !name.contains(&0) && !name.contains(&b'/') => Ok(()),
        1..=NAME_MAX => Err(Errno::EINVAL),
        _ => Err(Errno::ENAMETOOLONG),
    }
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    fn find_number(&self, dir: &Inode<L>, name: &[u8]) -> Result<u32> {
        let state = dir.lock();
        if !state.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let number = self.find_name(dir.number, &state, name)?.inode;
        if number != 2 && number < self.geometry.first_inode {
            return Err(self.corrupt(format_args!("directory {} names inode {number}", dir.number)));
        }
        Ok(number)
    }

    /// The inode a name stands for ("." and ".." too). ENOENT, ENOTDIR, ENAMETOOLONG; EUCLEAN if it is one that is free.
    pub fn lookup(&self, dir: &Inode<L>, name: &[u8]) -> Result<Arc<Inode<L>>> {
        let number = self.find_number(dir, name)?;
        match self.inode(number) {
            Ok(inode) if inode.lock().links() != 0 || number == dir.number => Ok(inode),
            // Unlinked since it was found, or a name of an inode that is free.
            Ok(_) | Err(Errno::ESTALE) => match self.find_number(dir, name) {
                Ok(again) if again == number => {
                    Err(self.corrupt(format_args!("directory {} names free inode {number}", dir.number)))
                }
                Ok(again) => self.inode(again),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Makes a regular file, directory, FIFO, socket or device node under `name`; without a name an unlinked file, which
    /// [`Ext4::link`] may name (O_TMPFILE). EEXIST, ENOSPC, EMLINK, EPERM (immutable directory), ENAMETOOLONG.
    pub fn create(&self, dir: &Inode<L>, name: Option<&[u8]>, new: &NewInode<'_>) -> Result<Arc<Inode<L>>> {
        name.map_or(Ok(()), check_name)?;
        self.with_retry(|| self.create_once(dir, name, new, &|_, _, _| Ok(())))
    }

    /// Makes a symlink. ENAMETOOLONG for a target that does not fit into a block; else as [`Ext4::create`].
    pub fn symlink(&self, dir: &Inode<L>, name: &[u8], target: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode<L>>> {
        check_name(name)?;
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() >= self.geometry.block_size {
            return Err(Errno::ENAMETOOLONG);
        }
        let new = NewInode { mode: S_IFLNK | 0o777, ..*new };
        if target.len() < BLOCK_LEN {
            return self.with_retry(|| {
                self.create_once(dir, Some(name), &new, &|_, _, state| {
                    state.set_flags(state.flags() & !flag::EXTENTS);
                    state.block_mut().fill(0);
                    put(state.block_mut(), 0, target);
                    state.set_size(target.len() as u64);
                    Ok(())
                })
            });
        }
        // The target is data: on disk before anything names it.
        let mut bytes = zeroed(self.geometry.block_size)?;
        put(&mut bytes, 0, target);
        self.with_retry(|| {
            self.check_writable()?;
            let (block, _) = self.choose(self.goal(dir.number), 1, Class::Ordinary)?;
            // Once it is recorded, an error gives it back as it does any block.
            let is_recorded = core::cell::Cell::new(false);
            let result = self.disk.write(block << (self.geometry.block_bits - 9), &[&bytes], false).and_then(|()| {
                self.create_once(dir, Some(name), &new, &|handle, _, state| {
                    let extent = Extent { logical: 0, block, len: 1, unwritten: false };
                    self.insert(handle, state, extent)?;
                    is_recorded.set(true);
                    self.half_done(self.claim(handle, block, 1))?;
                    state.add_blocks(&self.geometry, 1);
                    state.set_size(target.len() as u64);
                    Ok(())
                })
            });
            if !is_recorded.get() {
                self.unchoose(block, 1);
            }
            result
        })
    }

    fn create_once(
        &self,
        dir: &Inode<L>,
        name: Option<&[u8]>,
        new: &NewInode<'_>,
        fill: &dyn Fn(&Handle<'_, D, L>, &Inode<L>, &mut InodeState) -> Result<()>,
    ) -> Result<Arc<Inode<L>>> {
        let mut parent = dir.lock();
        self.dir_may_change(&parent, false)?;
        let is_dir = new.mode & S_IFMT == S_IFDIR;
        if let Some(name) = name {
            match self.find_name(dir.number, &parent, name) {
                Err(Errno::ENOENT) => {}
                Ok(_) => return Err(Errno::EEXIST),
                Err(error) => return Err(error),
            }
        }
        if is_dir {
            self.dir_may_gain(&parent)?;
        }
        let handle = self.begin(CREATE)?;
        let number = self.allocate_inode(&handle, dir.number, is_dir)?;
        let inode = self.half_done(self.new_inode(number))?;
        let mut state = inode.lock();
        self.init_inode(&mut state, new, parent.flags());
        let now = self.disk.now();
        let made = self
            .fill_inode(&handle, &inode, &mut state, new, dir.number)
            .and_then(|()| fill(&handle, &inode, &mut state))
            .and_then(|()| match name {
                Some(name) => {
                    let kind = self.entry_kind(new.mode);
                    self.add_name(&handle, dir.number, &mut parent, name, number, kind)
                }
                None => Ok(()),
            });
        if let Err(error) = made {
            // Nothing names it: it goes again, in the same handle.
            self.half_done(self.undo_create(&handle, &inode, &mut state, is_dir))?;
            self.half_done(self.write_inode(&handle, dir, &mut parent))?;
            return Err(error);
        }
        let finish = (|| {
            if name.is_some() {
                if is_dir {
                    self.change_dir_links(&mut parent, true);
                }
                parent.touch(now);
                self.write_inode(&handle, dir, &mut parent)?;
                dir.data_tid.store(handle.tid, Ordering::Release);
            } else {
                state.set_links(0);
                state.is_linkable = true;
                self.add_orphan(&handle, &inode)?;
            }
            self.write_inode(&handle, &inode, &mut state)
        })();
        self.half_done(finish)?;
        inode.data_tid.store(handle.tid, Ordering::Release);
        drop(state);
        Ok(inode)
    }

    fn init_inode(&self, state: &mut InodeState, new: &NewInode<'_>, parent_flags: u32) {
        let now = self.disk.now();
        put16(&mut state.raw, MODE, new.mode);
        set_owner(&mut state.raw, new.uid, new.gid);
        for at in [ATIME, CTIME, MTIME, CRTIME] {
            state.set_time(at, now);
        }
        let kind = new.mode & S_IFMT;
        state.set_links(if kind == S_IFDIR { 2 } else { 1 });
        if kind == S_IFDIR || kind == S_IFREG {
            state.set_flags(parent_flags & flag::INHERITED & if kind == S_IFDIR { !0 } else { !flag::DIRSYNC });
        }
        if matches!(kind, S_IFDIR | S_IFREG | S_IFLNK) && self.geometry.has_extents() {
            extents::init_root(state);
        }
        if kind == S_IFCHR || kind == S_IFBLK {
            set_device(&mut state.raw, new.device);
        }
    }

    fn fill_inode(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
        new: &NewInode<'_>,
        parent: u32,
    ) -> Result<()> {
        for (name, value) in new.attributes {
            self.set_new_xattr(handle, inode, state, name, value)?;
        }
        if state.is_dir() { self.init_dir(handle, inode.number, state, parent) } else { Ok(()) }
    }

    fn undo_create(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Inode<L>,
        state: &mut InodeState,
        is_dir: bool,
    ) -> Result<()> {
        if state.has_map() && state.flags() & flag::EXTENTS != 0 {
            while !self.remove_last(handle, state, 0, 1 << 32)? {}
        }
        self.drop_attribute_block(handle, inode, state)?;
        self.bury(handle, inode, state, is_dir)
    }

    /// Frees the inode itself.
    fn bury(&self, handle: &Handle<'_, D, L>, inode: &Inode<L>, state: &mut InodeState, is_dir: bool) -> Result<()> {
        self.free_inode(handle, inode.number, is_dir)?;
        state.set_links(0);
        state.set_size(0);
        put32(&mut state.raw, DTIME, self.disk.now().seconds as u32);
        self.write_inode(handle, inode, state)?;
        state.is_gone = true;
        self.inodes.lock().remove(&inode.number);
        Ok(())
    }

    /// Gives an inode one more name. EEXIST, EMLINK, EPERM (a directory; immutable or append-only), ENOENT (unlinked), ENOSPC.
    pub fn link(&self, inode: &Inode<L>, dir: &Inode<L>, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.with_retry(|| {
            let mut locked = Locked::new(&[Some(inode), Some(dir)]);
            let state = locked.get(inode)?;
            if state.is_dir() || state.flags() & (flag::IMMUTABLE | flag::APPEND) != 0 {
                return Err(Errno::EPERM);
            }
            let links = state.links();
            if links == 0 && !state.is_linkable {
                return Err(Errno::ENOENT);
            }
            if links >= LINK_MAX {
                return Err(Errno::EMLINK);
            }
            let kind = self.entry_kind(state.mode());
            let parent = locked.get(dir)?;
            self.dir_may_change(parent, false)?;
            match self.find_name(dir.number, parent, name) {
                Err(Errno::ENOENT) => {}
                Ok(_) => return Err(Errno::EEXIST),
                Err(error) => return Err(error),
            }
            let handle = self.begin(dir::CREDITS + 4)?;
            if let Err(error) = self.add_name(&handle, dir.number, parent, name, inode.number, kind) {
                self.half_done(self.write_inode(&handle, dir, parent))?;
                return Err(error);
            }
            let now = self.disk.now();
            parent.touch(now);
            let finish = self.write_inode(&handle, dir, parent).and_then(|()| {
                let state = locked.get(inode)?;
                if links == 0 {
                    self.keep(&handle, inode, state)?;
                }
                state.set_links(links + 1);
                state.set_time(CTIME, now);
                self.write_inode(&handle, inode, state)
            });
            dir.data_tid.store(handle.tid, Ordering::Release);
            self.half_done(finish)
        })
    }

    /// Takes a name away; returns the inode. If that has no other name it lives until [`Ext4::release`]. ENOENT, EISDIR, EPERM.
    pub fn unlink(&self, dir: &Inode<L>, name: &[u8]) -> Result<Arc<Inode<L>>> {
        self.remove(dir, name, false)
    }

    /// Removes an empty directory; returns its inode. ENOENT, ENOTDIR, ENOTEMPTY, EPERM.
    pub fn rmdir(&self, dir: &Inode<L>, name: &[u8]) -> Result<Arc<Inode<L>>> {
        if name == b"." {
            return Err(Errno::EINVAL);
        }
        self.remove(dir, name, true)
    }

    fn remove(&self, dir: &Inode<L>, name: &[u8], is_rmdir: bool) -> Result<Arc<Inode<L>>> {
        if name == b".." || name == b"." {
            return Err(if is_rmdir { Errno::ENOTEMPTY } else { Errno::EISDIR });
        }
        loop {
            let inode = self.lookup(dir, name)?;
            let mut locked = Locked::new(&[Some(&inode), Some(dir)]);
            let parent = locked.get(dir)?;
            let found = self.find_name(dir.number, parent, name)?;
            if found.inode != inode.number {
                continue;
            }
            self.dir_may_change(parent, true)?;
            self.may_lose(&inode, locked.get(&inode)?, is_rmdir)?;
            let handle = self.begin(crate::orphan::CREDITS + 8)?;
            let now = self.disk.now();
            self.remove_name(&handle, &found)?;
            let finish = (|| {
                let parent = locked.get(dir)?;
                if is_rmdir {
                    self.change_dir_links(parent, false);
                }
                parent.touch(now);
                self.write_inode(&handle, dir, parent)?;
                self.drop_link(&handle, &inode, locked.get(&inode)?, now)
            })();
            dir.data_tid.store(handle.tid, Ordering::Release);
            self.half_done(finish)?;
            drop(locked);
            return Ok(inode);
        }
    }

    /// Whether an inode may lose a name.
    fn may_lose(&self, inode: &Inode<L>, state: &InodeState, as_dir: bool) -> Result<()> {
        match (as_dir, state.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
        if state.flags() & (flag::IMMUTABLE | flag::APPEND) != 0 {
            return Err(Errno::EPERM);
        }
        if as_dir && !self.is_empty_dir(inode.number, state)? {
            return Err(Errno::ENOTEMPTY);
        }
        // Maps without extents are not written: its blocks could not be freed.
        if state.has_map() && state.flags() & flag::EXTENTS == 0 && raw::sectors(&self.geometry, &state.raw) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    /// Moves a name. The caller has checked that no directory goes into itself. Returns the inode that lost the new name, if one
    /// did. EEXIST, ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EMLINK, EPERM, ENOSPC.
    pub fn rename(
        &self,
        dir: &Inode<L>,
        name: &[u8],
        new_dir: &Inode<L>,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<Option<Arc<Inode<L>>>> {
        check_name(new_name)?;
        if [name, new_name].iter().any(|name| *name == b"." || *name == b"..") {
            return Err(Errno::EBUSY);
        }
        self.with_retry(|| {
            loop {
                let inode = self.lookup(dir, name)?;
                let target = match self.lookup(new_dir, new_name) {
                    Ok(target) => Some(target),
                    Err(Errno::ENOENT) => None,
                    Err(error) => return Err(error),
                };
                let mut locked = Locked::new(&[Some(dir), Some(new_dir), Some(&inode), target.as_deref()]);
                let old = self.find_name(dir.number, locked.get(dir)?, name)?;
                let new = match self.find_name(new_dir.number, locked.get(new_dir)?, new_name) {
                    Ok(found) => Some(found),
                    Err(Errno::ENOENT) => None,
                    Err(error) => return Err(error),
                };
                if old.inode != inode.number
                    || new.as_ref().map(|found| found.inode) != target.as_ref().map(|target| target.number)
                {
                    continue;
                }
                if target.as_ref().is_some_and(|target| target.number == inode.number) {
                    return if mode == RenameMode::NoReplace { Err(Errno::EEXIST) } else { Ok(None) };
                }
                let moved = Moved { dir, name, new_dir, new_name, inode: &inode };
                return match (mode, &target, new) {
                    (RenameMode::NoReplace, Some(_), _) => Err(Errno::EEXIST),
                    (RenameMode::Exchange, Some(target), Some(new)) => {
                        self.exchange(&mut locked, &moved, &old, target, &new)?;
                        Ok(None)
                    }
                    (RenameMode::Exchange, ..) => Err(Errno::ENOENT),
                    (_, target, new) => {
                        self.rename_locked(&mut locked, &moved, target.as_ref(), new.as_ref())?;
                        Ok(target.clone())
                    }
                };
            }
        })
    }

    fn rename_locked(
        &self,
        locked: &mut Locked<'_, L>,
        moved: &Moved<'_, L>,
        target: Option<&Arc<Inode<L>>>,
        new: Option<&Found<L>>,
    ) -> Result<()> {
        let &Moved { dir, name, new_dir, new_name, inode } = moved;
        self.dir_may_change(locked.get(dir)?, true)?;
        self.dir_may_change(locked.get(new_dir)?, target.is_some())?;
        let state = locked.get(inode)?;
        let (is_dir, mode) = (state.is_dir(), state.mode());
        if state.flags() & (flag::IMMUTABLE | flag::APPEND) != 0 {
            return Err(Errno::EPERM);
        }
        if let Some(target) = target {
            self.may_lose(target, locked.get(target)?, is_dir)?;
        }
        let changes_parent = is_dir && dir.number != new_dir.number;
        if changes_parent && target.is_none() {
            self.dir_may_gain(locked.get(new_dir)?)?;
        }
        let handle = self.begin(dir::CREDITS + 14)?;
        let now = self.disk.now();
        let kind = self.entry_kind(mode);
        let placed = match new {
            Some(new) => self.set_name(&handle, new, inode.number, kind),
            None => {
                let parent = locked.get(new_dir)?;
                self.add_name(&handle, new_dir.number, parent, new_name, inode.number, kind)
            }
        };
        if let Err(error) = placed {
            let parent = locked.get(new_dir)?;
            self.half_done(self.write_inode(&handle, new_dir, parent))?;
            return Err(error);
        }
        let finish = (|| {
            // Adding a name may have moved the old one.
            let old = self.find_name(dir.number, locked.get(dir)?, name)?;
            self.remove_name(&handle, &old)?;
            if let Some(target) = target {
                if is_dir {
                    self.change_dir_links(locked.get(new_dir)?, false);
                }
                self.drop_link(&handle, target, locked.get(target)?, now)?;
            }
            if changes_parent {
                self.set_parent(&handle, inode, locked.get(inode)?, new_dir.number)?;
                self.change_dir_links(locked.get(dir)?, false);
                self.change_dir_links(locked.get(new_dir)?, true);
            }
            let state = locked.get(inode)?;
            state.set_time(CTIME, now);
            self.write_inode(&handle, inode, state)?;
            for changed in [dir, new_dir] {
                let state = locked.get(changed)?;
                state.touch(now);
                self.write_inode(&handle, changed, state)?;
                changed.data_tid.store(handle.tid, Ordering::Release);
            }
            Ok(())
        })();
        self.half_done(finish)
    }

    fn exchange(
        &self,
        locked: &mut Locked<'_, L>,
        moved: &Moved<'_, L>,
        old: &Found<L>,
        target: &Inode<L>,
        new: &Found<L>,
    ) -> Result<()> {
        let &Moved { dir, new_dir, inode, .. } = moved;
        for dir in [dir, new_dir] {
            self.dir_may_change(locked.get(dir)?, true)?;
        }
        for inode in [inode, target] {
            if locked.get(inode)?.flags() & (flag::IMMUTABLE | flag::APPEND) != 0 {
                return Err(Errno::EPERM);
            }
        }
        let (is_dir, target_is_dir) = (locked.get(inode)?.is_dir(), locked.get(target)?.is_dir());
        let kinds = (self.entry_kind(locked.get(inode)?.mode()), self.entry_kind(locked.get(target)?.mode()));
        if dir.number != new_dir.number && is_dir != target_is_dir {
            self.dir_may_gain(locked.get(if is_dir { new_dir } else { dir })?)?;
        }
        let handle = self.begin(12)?;
        let now = self.disk.now();
        let finish = (|| {
            self.set_name(&handle, new, inode.number, kinds.0)?;
            self.set_name(&handle, old, target.number, kinds.1)?;
            if dir.number != new_dir.number {
                for (child, is_dir, from, to) in [(inode, is_dir, dir, new_dir), (target, target_is_dir, new_dir, dir)]
                {
                    if is_dir {
                        self.set_parent(&handle, child, locked.get(child)?, to.number)?;
                        self.change_dir_links(locked.get(from)?, false);
                        self.change_dir_links(locked.get(to)?, true);
                    }
                }
            }
            for changed in [inode, target] {
                let state = locked.get(changed)?;
                state.set_time(CTIME, now);
                self.write_inode(&handle, changed, state)?;
            }
            for changed in [dir, new_dir] {
                let state = locked.get(changed)?;
                state.touch(now);
                self.write_inode(&handle, changed, state)?;
                changed.data_tid.store(handle.tid, Ordering::Release);
            }
            Ok(())
        })();
        self.half_done(finish)
    }

    /// Makes ".." of a directory another one.
    fn set_parent(&self, handle: &Handle<'_, D, L>, inode: &Inode<L>, state: &InodeState, parent: u32) -> Result<()> {
        let found = self.find_name(inode.number, state, b"..")?;
        self.set_name(handle, &found, parent, found.kind)
    }

    /// A symlink's target. EINVAL for anything else.
    pub fn read_link(&self, inode: &Inode<L>) -> Result<Vec<u8>> {
        let state = inode.lock();
        if !state.is(S_IFLNK) {
            return Err(Errno::EINVAL);
        }
        let len = state.size() as usize;
        if state.is_fast_symlink() {
            return crate::layout::copied(&state.block()[..len]);
        }
        let run = self.map_locked(&state, 0, 1)?;
        let Some(block) = run.block.filter(|_| len < self.geometry.block_size) else {
            return Err(self.corrupt(format_args!("symlink {}", inode.number)));
        };
        let mut bytes = zeroed(self.geometry.block_size)?;
        self.disk.read(block << (self.geometry.block_bits - 9), &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Frees an inode that has no name and that nobody uses any more, with its blocks; does nothing for one that has a name. May
    /// take many transactions.
    pub fn release(&self, inode: &Arc<Inode<L>>) -> Result<()> {
        {
            let state = inode.lock();
            if state.links() != 0 || state.is_gone || state.raw.is_empty() {
                return Ok(());
            }
            if state.has_map() && state.flags() & flag::EXTENTS != 0 {
                drop(state);
                self.remove_blocks(inode, 0)?;
            }
        }
        let mut state = inode.lock();
        if state.is_gone {
            return Ok(());
        }
        let is_dir = state.is_dir();
        let handle = self.begin(crate::orphan::CREDITS + crate::xattr::CREDITS + 6)?;
        let finish = self
            .drop_attribute_block(&handle, inode, &mut state)
            .and_then(|()| self.remove_orphan(&handle, inode))
            .and_then(|()| self.bury(&handle, inode, &mut state, is_dir));
        self.half_done(finish)?;
        drop(state);
        self.dirty.lock().remove(&inode.number);
        Ok(())
    }
}

/// What a rename moves.
struct Moved<'a, L: RawMutex> {
    dir: &'a Inode<L>,
    name: &'a [u8],
    new_dir: &'a Inode<L>,
    new_name: &'a [u8],
    inode: &'a Inode<L>,
}
