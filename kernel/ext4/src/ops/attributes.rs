//! chmod, chown, utimensat, times in passing, and the flags of FS_IOC_SETFLAGS.

use super::*;
use crate::layout::inode::{ATIME, CTIME, MTIME, gid, set_owner, uid};
use crate::layout::put16;

/// What chmod(2), chown(2) and utimensat(2) change; `None` stays. The caller has checked permissions and cleared set-id bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits; the type stays.
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
}

impl<D: Disk, L: RawMutex> Ext4<D, L> {
    /// Changes attributes, and ctime with them. EPERM for an immutable file (times to the present may be set on one that only grows:
    /// the caller knows). EROFS.
    pub fn set_attr(&self, inode: &Inode<L>, attr: &SetAttr) -> Result<()> {
        let mut state = inode.lock();
        if state.flags() & flag::IMMUTABLE != 0 {
            return Err(Errno::EPERM);
        }
        let handle = self.begin(1)?;
        if let Some(mode) = attr.mode {
            let mode = state.mode() & S_IFMT | mode & !S_IFMT;
            put16(&mut state.raw, MODE, mode);
        }
        let owner = (attr.uid.unwrap_or_else(|| uid(&state.raw)), attr.gid.unwrap_or_else(|| gid(&state.raw)));
        set_owner(&mut state.raw, owner.0, owner.1);
        for (at, time) in [(ATIME, attr.atime), (MTIME, attr.mtime), (CTIME, Some(self.disk.now()))] {
            if let Some(time) = time {
                state.set_time(at, time);
            }
        }
        self.write_inode(&handle, inode, &mut state)
    }

    /// Notes times in memory: they go to disk with the inode's next change, with fsync(2), and with [`Ext4::sync`] and
    /// [`Ext4::tick`].
    pub fn touch(&self, inode: &Arc<Inode<L>>, atime: Option<Time>, mtime: Option<Time>) -> Result<()> {
        let mut state = inode.lock();
        if state.is_gone || self.is_read_only() {
            return Ok(());
        }
        if let Some(time) = atime {
            state.set_time(ATIME, time);
        }
        if let Some(time) = mtime {
            state.touch(time);
        }
        if !core::mem::replace(&mut state.is_dirty, true) {
            drop(state);
            let mut dirty = self.dirty.lock();
            dirty.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            dirty.insert(inode.number, inode.clone());
        }
        Ok(())
    }

    /// The flags of FS_IOC_GETFLAGS.
    pub fn flags(&self, inode: &Inode<L>) -> u32 {
        inode.lock().flags()
    }

    /// FS_IOC_SETFLAGS. The caller has checked CAP_LINUX_IMMUTABLE. EOPNOTSUPP for a flag that cannot be changed.
    pub fn set_flags(&self, inode: &Inode<L>, flags: u32) -> Result<()> {
        let mut state = inode.lock();
        let old = state.flags();
        if (old ^ flags) & !flag::CHANGEABLE != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if flags & (flag::DIRSYNC | flag::TOPDIR) != 0 && !state.is_dir() {
            return Err(Errno::EOPNOTSUPP);
        }
        let handle = self.begin(1)?;
        state.set_flags(flags);
        state.set_time(CTIME, self.disk.now());
        self.write_inode(&handle, inode, &mut state)
    }

    /// Adds to a count of links of a directory that gains or loses a subdirectory.
    pub(super) fn change_dir_links(&self, state: &mut InodeState, gained: bool) {
        let links = state.links();
        // 1 stands for "too many to count".
        if links == 1 {
            return;
        }
        let links = if gained { links + 1 } else { links.saturating_sub(1).max(2) };
        state.set_links(if links >= LINK_MAX { 1 } else { links });
    }

    pub(super) fn dir_may_gain(&self, state: &InodeState) -> Result<()> {
        let counts_all = self.geometry.ro_compat & crate::layout::superblock::ro_compat::DIR_NLINK == 0;
        if counts_all && state.links() >= LINK_MAX - 1 { Err(Errno::EMLINK) } else { Ok(()) }
    }

    /// EPERM for changes to names in a directory that may not be changed.
    pub(super) fn dir_may_change(&self, state: &InodeState, removes: bool) -> Result<()> {
        if !state.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if state.links() == 0 {
            return Err(Errno::ENOENT);
        }
        let forbidden = flag::IMMUTABLE | if removes { flag::APPEND } else { 0 };
        if state.flags() & forbidden != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Puts an inode that lost its last name on the orphan list.
    pub(super) fn drop_link(
        &self,
        handle: &Handle<'_, D, L>,
        inode: &Arc<Inode<L>>,
        state: &mut InodeState,
        now: Time,
    ) -> Result<()> {
        let links = if state.mode() & S_IFMT == S_IFDIR { 0 } else { state.links().saturating_sub(1) };
        state.set_links(links);
        state.set_time(CTIME, now);
        if links == 0 {
            self.add_orphan(handle, inode)?;
        }
        self.write_inode(handle, inode, state)
    }

    /// Takes an inode off the orphan list, as one that is needed again or is truncated.
    pub(super) fn keep(&self, handle: &Handle<'_, D, L>, inode: &Inode<L>, state: &mut InodeState) -> Result<()> {
        self.remove_orphan(handle, inode)?;
        put32(&mut state.raw, crate::layout::inode::DTIME, 0);
        Ok(())
    }
}
