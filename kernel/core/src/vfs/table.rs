//! The descriptor table: lowest free number, close-on-exec, RLIMIT_NOFILE.
//!
//! One spin lock guards the table; files are dropped, and larger tables allocated, only after it is released.

use super::{OpenFile, PollEvents};
use crate::prelude::*;
use crate::task::process::rlimit;

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

struct Slots {
    files: Vec<Option<Arc<OpenFile>>>,
    /// One bit a descriptor in use, in whole words.
    open: Vec<u64>,
    cloexec: Vec<u64>,
    /// No word before this one has a free bit.
    first_word: usize,
}

impl Slots {
    const fn new() -> Self {
        Self { files: Vec::new(), open: Vec::new(), cloexec: Vec::new(), first_word: 0 }
    }
    /// Room for `len` descriptors (a multiple of 64), all free.
    fn try_with_len(len: usize) -> Result<Self, NoMemory> {
        let mut new = Self::new();
        new.files.try_room(len)?;
        new.files.resize_with(len, || None);
        new.open.try_resize(len / 64, 0)?;
        new.cloexec.try_resize(len / 64, 0)?;
        Ok(new)
    }
    /// The lowest free number at or above `from` (may be beyond the present length).
    fn lowest_free(&mut self, from: usize) -> usize {
        let from_start = from / 64 <= self.first_word;
        let mut word = (from / 64).max(self.first_word);
        while let Some(&bits) = self.open.get(word) {
            let below = if word == from / 64 { (1u64 << (from % 64)) - 1 } else { 0 };
            let free = !(bits | below);
            if free != 0 {
                if from_start && below == 0 {
                    self.first_word = word;
                }
                return word * 64 + free.trailing_zeros() as usize;
            }
            word += 1;
        }
        from.max(self.files.len())
    }
    fn place(&mut self, fd: usize, file: Arc<OpenFile>, flags: FdFlags) -> Option<Arc<OpenFile>> {
        self.open[fd / 64] |= 1 << (fd % 64);
        self.set_cloexec(fd, flags.contains(FdFlags::CLOEXEC));
        self.files[fd].replace(file)
    }
    fn take(&mut self, fd: usize) -> Option<Arc<OpenFile>> {
        let file = self.files.get_mut(fd)?.take()?;
        self.open[fd / 64] &= !(1 << (fd % 64));
        self.cloexec[fd / 64] &= !(1 << (fd % 64));
        self.first_word = self.first_word.min(fd / 64);
        Some(file)
    }
    fn set_cloexec(&mut self, fd: usize, on: bool) {
        if on { self.cloexec[fd / 64] |= 1 << (fd % 64) } else { self.cloexec[fd / 64] &= !(1 << (fd % 64)) }
    }
    fn is_cloexec(&self, fd: usize) -> bool {
        self.cloexec.get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 == 1)
    }
    /// The first descriptor in use at or above `from`.
    fn next_used(bits: &[u64], from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut mask = !0u64 << (from % 64);
        while let Some(&value) = bits.get(word) {
            if value & mask != 0 {
                return Some(word * 64 + (value & mask).trailing_zeros() as usize);
            }
            mask = !0;
            word += 1;
        }
        None
    }
}

pub struct FdTable {
    slots: SpinLock<Slots>,
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
            let highest = {
                let slots = self.slots.lock();
                slots.open.iter().rposition(|&word| word != 0).map_or(0, |word| word + 1)
            };
            let mut copy = Slots::try_with_len(highest.max(1) * 64)?;
            let slots = self.slots.lock();
            let words = slots.open.iter().rposition(|&word| word != 0).map_or(0, |word| word + 1);
            if words * 64 > copy.files.len() {
                continue; // it grew meanwhile
            }
            let mut at = 0;
            while let Some(fd) = Slots::next_used(&slots.open, at) {
                copy.files[fd] = slots.files[fd].clone();
                at = fd + 1;
            }
            copy.open[..words].copy_from_slice(&slots.open[..words]);
            copy.cloexec[..words].copy_from_slice(&slots.cloexec[..words]);
            return Ok(try_arc(Self { slots: SpinLock::new(copy) })?);
        }
    }

    #[inline]
    pub fn get(&self, fd: i32) -> Option<Arc<OpenFile>> {
        self.slots.leaf().files.get(fd as u32 as usize)?.clone()
    }

    /// As `get`, but O_PATH files.
    #[inline]
    fn get_for_io(&self, fd: i32) -> Option<Arc<OpenFile>> {
        let slots = self.slots.leaf();
        slots.files.get(fd as u32 as usize)?.as_ref().filter(|file| !file.is_path()).cloned()
    }

    /// Appends the file of the descriptor that each of `items` names, `None` where there is none or an O_PATH file. The lock is given
    /// up now and then.
    pub fn get_each<T>(&self, items: &[T], fd: impl Fn(&T) -> i32, files: &mut Vec<Option<Arc<OpenFile>>>) {
        for items in items.chunks(AT_ONCE) {
            let slots = self.slots.lock();
            let open = &slots.files[..];
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
            let open = &slots.files[..];
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
        let mut larger = Slots::new();
        larger.files.try_room(len)?;
        larger.open.try_room(len / 64)?;
        larger.cloexec.try_room(len / 64)?;
        let mut slots = self.slots.lock();
        if slots.files.len() < len {
            larger.files.append(&mut slots.files);
            larger.files.resize_with(len, || None);
            larger.open.append(&mut slots.open);
            larger.open.resize(len / 64, 0);
            larger.cloexec.append(&mut slots.cloexec);
            larger.cloexec.resize(len / 64, 0);
            larger.first_word = slots.first_word;
            core::mem::swap(&mut *slots, &mut larger);
        }
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
            if fd < slots.files.len() {
                let old = slots.place(fd, file, flags);
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
        if at >= self.slots.lock().files.len() {
            self.reserve(at)?;
        }
        Ok(self.slots.lock().place(at, file, flags))
    }

    /// Takes the descriptor out (close): EBADF.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.slots.leaf().take(fd as u32 as usize).ok_or(Errno::EBADF)
    }

    /// FD_CLOEXEC of `fd`: EBADF.
    pub fn flags(&self, fd: i32) -> Result<FdFlags, Errno> {
        let slots = self.slots.lock();
        match slots.files.get(fd as u32 as usize) {
            Some(Some(_)) if slots.is_cloexec(fd as usize) => Ok(FdFlags::CLOEXEC),
            Some(Some(_)) => Ok(FdFlags::empty()),
            _ => Err(Errno::EBADF),
        }
    }
    pub fn set_flags(&self, fd: i32, flags: FdFlags) -> Result<(), Errno> {
        let mut slots = self.slots.lock();
        match slots.files.get(fd as u32 as usize) {
            Some(Some(_)) => {
                slots.set_cloexec(fd as usize, flags.contains(FdFlags::CLOEXEC));
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Closes every descriptor of `first..=last`.
    pub fn close_between(&self, first: u32, last: u32) {
        let mut at = first as usize;
        loop {
            let mut slots = self.slots.lock();
            let Some(fd) = Slots::next_used(&slots.open, at).filter(|&fd| fd <= last as usize) else { return };
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
        while let Some(fd) = Slots::next_used(&slots.open, at).filter(|&fd| fd <= last as usize) {
            slots.set_cloexec(fd, true);
            at = fd + 1;
        }
    }

    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        let mut at = 0;
        loop {
            let mut slots = self.slots.lock();
            let Some(fd) = Slots::next_used(&slots.cloexec, at) else { return };
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
    /// A snapshot of (fd, file, flags), for /proc/PID/fd.
    pub fn snapshot(&self) -> Vec<(i32, Arc<OpenFile>, FdFlags)> {
        let mut out = Vec::with_capacity(self.slots.lock().open.iter().map(|word| word.count_ones() as usize).sum());
        let slots = self.slots.lock();
        let mut at = 0;
        while let Some(fd) = Slots::next_used(&slots.open, at) {
            if let Some(file) = &slots.files[fd] {
                let flags = if slots.is_cloexec(fd) { FdFlags::CLOEXEC } else { FdFlags::empty() };
                out.push((fd as i32, file.clone(), flags));
            }
            at = fd + 1;
        }
        out
    }
    /// Runs `f` on each open file under the table's lock: it must be short and may not sleep.
    pub fn for_each(&self, mut f: impl FnMut(&Arc<OpenFile>)) {
        let slots = self.slots.lock();
        slots.files.iter().flatten().for_each(&mut f);
    }
    /// How many descriptors there is room for (select(2) looks no further; FDSize of /proc/PID/status).
    pub fn capacity(&self) -> usize {
        self.slots.lock().files.len()
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
