//! The descriptor table: lowest free number, close-on-exec, RLIMIT_NOFILE.
//!
//! One spin lock guards the table; files are dropped, and larger tables allocated, only after it is released.

use super::{OpenFile, PollEvents};
use crate::prelude::*;
use crate::task::process::rlimit;
use base::descriptors::Slots;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FdFlags: u32 {
        const CLOEXEC = 1;
    }
}

/// How many descriptors are looked up with the lock taken once.
const AT_ONCE: usize = 64;
/// The most descriptors any limit allows (fs.nr_open).
pub const NR_OPEN: u64 = 1 << 20;

pub struct FdTable {
    slots: SpinLock<Slots<Arc<OpenFile>>>,
}

impl FdTable {
    /// An empty one, which grows with its first descriptor.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { slots: SpinLock::new(Slots::new()) })
    }

    /// One without room, for a thread that ends: nothing is allocated for it.
    pub fn closed() -> Arc<Self> {
        Arc::new(Self { slots: SpinLock::new(Slots::new()) })
    }

    /// A copy for fork(2): ENOMEM.
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        loop {
            let len = self.slots.lock().used_len();
            let mut copy = Slots::try_with_len(len)?;
            let slots = self.slots.lock();
            if slots.used_len() > len {
                continue; // it grew meanwhile
            }
            slots.copy_into(&mut copy);
            return Ok(try_arc(Self { slots: SpinLock::new(copy) })?);
        }
    }

    #[inline]
    pub fn get(&self, fd: i32) -> Option<Arc<OpenFile>> {
        self.slots.leaf().get(fd as u32 as usize).cloned()
    }

    /// As `get`, but O_PATH files.
    #[inline]
    fn get_for_io(&self, fd: i32) -> Option<Arc<OpenFile>> {
        let slots = self.slots.leaf();
        slots.get(fd as u32 as usize).filter(|file| !file.is_path()).cloned()
    }

    /// Appends the file of the descriptor that each of `items` names, `None` where there is none or an O_PATH file. The lock is given
    /// up now and then.
    pub fn get_each<T>(&self, items: &[T], fd: impl Fn(&T) -> i32, files: &mut Vec<Option<Arc<OpenFile>>>) {
        for items in items.chunks(AT_ONCE) {
            let slots = self.slots.lock();
            let open = slots.as_slice();
            files.extend(items.iter().map(|item| {
                let file = open.get(fd(item) as u32 as usize)?.as_ref()?;
                (!file.is_path()).then(|| file.clone())
            }));
        }
    }

    /// Tells each of `items` what holds of the file that its descriptor names (`None`: there is none, or an O_PATH file) and counts no
    /// references for it. Answers false at the first file that cannot be looked at so.
    pub fn look_each<T>(
        &self,
        items: &mut [T],
        fd: impl Fn(&T) -> i32,
        mut tell: impl FnMut(&mut T, Option<PollEvents>),
    ) -> bool {
        for items in items.chunks_mut(AT_ONCE) {
            let slots = self.slots.lock();
            let open = slots.as_slice();
            for item in items {
                let holds = match open.get(fd(item) as u32 as usize) {
                    Some(Some(file)) if !file.is_path() => match file.ops.look() {
                        None => return false,
                        found => found,
                    },
                    _ => None,
                };
                tell(item, holds);
            }
        }
        true
    }

    /// Makes sure descriptor `fd` has a slot: EMFILE beyond NR_OPEN, ENOMEM.
    fn reserve(&self, fd: usize) -> Result<(), Errno> {
        if fd as u64 >= NR_OPEN {
            return Err(Errno::EMFILE);
        }
        let len = (fd + 1).next_power_of_two().max(64);
        let mut larger = Slots::try_with_memory(len)?;
        let mut slots = self.slots.lock();
        slots.grow_into(&mut larger, len);
        drop(slots);
        drop(larger);
        Ok(())
    }

    /// The lowest free descriptor: EMFILE at RLIMIT_NOFILE.
    pub fn insert(&self, file: Arc<OpenFile>, flags: FdFlags) -> Result<i32, Errno> {
        self.insert_from(0, file, flags)
    }

    /// The lowest free descriptor not below `from` (F_DUPFD): EMFILE.
    pub fn insert_from(&self, from: usize, file: Arc<OpenFile>, flags: FdFlags) -> Result<i32, Errno> {
        let limit = nofile_limit();
        loop {
            let mut slots = self.slots.leaf();
            let fd = slots.lowest_free(from);
            if fd as u64 >= limit {
                drop(slots);
                return Err(Errno::EMFILE);
            }
            if fd < slots.capacity() {
                let old = slots.place(fd, file, flags.contains(FdFlags::CLOEXEC));
                debug_assert!(old.is_none());
                return Ok(fd as i32);
            }
            drop(slots);
            self.reserve(fd)?;
        }
    }

    /// Puts `file` at `fd` and answers what was there (dup3): EBADF at RLIMIT_NOFILE.
    pub fn replace(&self, fd: i32, file: Arc<OpenFile>, flags: FdFlags) -> Result<Option<Arc<OpenFile>>, Errno> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if at as u64 >= nofile_limit() {
            return Err(Errno::EBADF);
        }
        if at >= self.slots.lock().capacity() {
            self.reserve(at)?;
        }
        Ok(self.slots.lock().place(at, file, flags.contains(FdFlags::CLOEXEC)))
    }

    /// Takes the descriptor out (close): EBADF.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.slots.leaf().take(fd as u32 as usize).ok_or(Errno::EBADF)
    }

    /// FD_CLOEXEC of `fd`: EBADF.
    pub fn flags(&self, fd: i32) -> Result<FdFlags, Errno> {
        let slots = self.slots.lock();
        match slots.get(fd as u32 as usize) {
            Some(_) if slots.is_cloexec(fd as usize) => Ok(FdFlags::CLOEXEC),
            Some(_) => Ok(FdFlags::empty()),
            None => Err(Errno::EBADF),
        }
    }
    pub fn set_flags(&self, fd: i32, flags: FdFlags) -> Result<(), Errno> {
        let mut slots = self.slots.lock();
        match slots.get(fd as u32 as usize) {
            Some(_) => {
                slots.set_cloexec(fd as usize, flags.contains(FdFlags::CLOEXEC));
                Ok(())
            }
            None => Err(Errno::EBADF),
        }
    }

    /// Closes every descriptor of `first..=last`.
    pub fn close_between(&self, first: u32, last: u32) {
        let mut at = first as usize;
        loop {
            let mut slots = self.slots.lock();
            let Some(fd) = slots.next_used(at).filter(|&fd| fd <= last as usize) else { return };
            let file = slots.take(fd);
            drop(slots);
            if let Some(file) = file {
                let _ = closed(file);
            }
            at = fd + 1;
        }
    }
    /// Marks every descriptor of `first..=last` close-on-exec.
    pub fn cloexec_between(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let mut at = first as usize;
        while let Some(fd) = slots.next_used(at).filter(|&fd| fd <= last as usize) {
            slots.set_cloexec(fd, true);
            at = fd + 1;
        }
    }

    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        let mut at = 0;
        loop {
            let mut slots = self.slots.lock();
            let Some(fd) = slots.next_cloexec(at) else { return };
            let file = slots.take(fd);
            drop(slots);
            if let Some(file) = file {
                let _ = closed(file);
            }
            at = fd + 1;
        }
    }
    /// Closes everything (exit). Dropping the table does so too.
    pub fn close_all(&self) {
        self.close_between(0, u32::MAX);
    }
    /// The descriptors in use, for /proc/PID/fd.
    pub fn numbers(&self) -> Result<Vec<i32>, NoMemory> {
        let mut out = Vec::with_room(self.slots.lock().count())?;
        let slots = self.slots.lock();
        let mut at = 0;
        while let Some(fd) = slots.next_used(at) {
            out.try_push(fd as i32)?;
            at = fd + 1;
        }
        Ok(out)
    }
    /// Runs `f` on each open file under the table's lock: it must be short and may not sleep.
    pub fn for_each(&self, mut f: impl FnMut(&Arc<OpenFile>)) {
        let slots = self.slots.lock();
        slots.as_slice().iter().flatten().for_each(&mut f);
    }
    /// How many descriptors there is room for (select(2) looks no further; FDSize of /proc/PID/status).
    pub fn capacity(&self) -> usize {
        self.slots.lock().capacity()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}

fn nofile_limit() -> u64 {
    current().process.limit(rlimit::NOFILE)
}

/// What every close(2) does with the file it took out of the table: flush, the process's POSIX locks, one reference less.
pub fn closed(file: Arc<OpenFile>) -> Result<(), Errno> {
    if file.is_path() {
        return Ok(());
    }
    let result = file.ops.flush(&file);
    if file.path.is_some() {
        crate::vfs::lock::release_posix(&file);
    }
    result
}

/// The calling thread's file `fd`: EBADF (also for O_PATH files).
#[inline(always)]
pub fn file(fd: i32) -> Result<Arc<OpenFile>, Errno> {
    find(fd).ok_or(Errno::EBADF)
}

/// An `Option` comes back in a register, a `Result` through memory.
#[inline(never)]
fn find(fd: i32) -> Option<Arc<OpenFile>> {
    current().files.with(|table| table.get_for_io(fd))
}

/// As [`file`], O_PATH files included.
pub fn file_or_path(fd: i32) -> Result<Arc<OpenFile>, Errno> {
    current().files.with(|table| table.get(fd)).ok_or(Errno::EBADF)
}

/// Installs a file at the calling thread's lowest free descriptor: EMFILE.
pub fn install(file: Arc<OpenFile>, cloexec: bool) -> SysResult {
    let flags = if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
    Ok(current().files.get().insert(file, flags)? as usize)
}
