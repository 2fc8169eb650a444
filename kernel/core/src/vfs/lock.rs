//! File locks: POSIX byte ranges (by process), open-file-description ranges, flock.
//!
//! Every inode with locks has a [`Locks`] in a table; it goes with the last lock. Closing a file looks here only while any lock
//! exists at all. Lock order: `TABLE` → [`Locks::state`] → `WAITING`; all short, never held while sleeping.

use crate::prelude::*;
use crate::sync::{WaitKind, WaitReason};
use crate::vfs::OpenFile;
use base::record_locks::{LockOwner, LockedRange, RecordLocks};
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use hashbrown::HashMap;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;
const F_GETLK: u32 = 5;
const F_SETLKW: u32 = 7;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;

/// The last byte of a lock "to the end of the file".
const TO_END: u64 = i64::MAX as u64;

/// `struct flock` of 64-bit Linux.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct UserLock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad2: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// POSIX: the process.
    Process(u32),
    /// F_OFD_* and flock: the open file description.
    Description(u64),
}

impl LockOwner for Owner {
    fn number(&self) -> (u64, u64) {
        match *self {
            Owner::Process(pid) => (0, u64::from(pid)),
            Owner::Description(id) => (1, id),
        }
    }
}

type Range = LockedRange<Owner>;

#[derive(Default)]
struct State {
    ranges: RecordLocks<Owner>,
    /// flock: description and whether it is exclusive.
    flocks: Vec<(u64, bool)>,
    /// st_dev and st_ino, for /proc/locks.
    place: (u64, u64),
}

struct Locks {
    state: SpinLock<State>,
    changed: WaitQueue,
}

impl Locks {
    /// What [`Edge`] knows it by.
    fn id(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    /// Nobody is known to wait here any more; for whoever changes the locks and still holds their state.
    fn forget_edges(&self) {
        let id = self.id();
        WAITING.lock().retain(|edge| edge.locks != id);
    }

    /// Takes byte ranges away by `take`, and lets the waiters look again: ENOLCK, with nothing taken away.
    fn take_ranges(&self, take: impl FnOnce(&mut RecordLocks<Owner>) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = self.state.lock();
        take(&mut state.ranges).map_err(|_| Errno::ENOLCK)?;
        self.forget_edges();
        drop(state);
        self.changed.wake_all();
        Ok(())
    }
}

static TABLE: SpinLock<Option<HashMap<usize, Arc<Locks>>>> = SpinLock::new(None);
/// Inodes in the table: while it is 0, closing a file need not look.
static NR_LOCKED: AtomicUsize = AtomicUsize::new(0);
/// Which process waits for which other one's POSIX lock. Every edge is true at every moment: it is written under the
/// [`Locks::state`] in which the lock is held, and all edges of an inode go, under the same lock, with any change of its locks.
/// The waiters, woken by the change, look again and note anew.
static WAITING: SpinLock<Vec<Edge>> = SpinLock::new(Vec::new());

/// Thread `tid` of process `waiter` waits for a lock that process `holder` holds in the [`Locks`] at address `locks`.
struct Edge {
    tid: u32,
    waiter: u32,
    holder: u32,
    locks: usize,
}

/// A thread that sleeps for a lock, for the deadlock detector.
struct Sleeper {
    tid: u32,
    locks: Arc<Locks>,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    Range(Range),
    Flock { file: u64, exclusive: bool },
}

static SLEEPERS: SpinLock<Vec<Sleeper>> = SpinLock::new(Vec::new());

/// Runs `wait` while the calling thread is known to sleep for `wanted`.
fn as_sleeper<R>(locks: &Arc<Locks>, wanted: Wanted, wait: impl FnOnce() -> R) -> R {
    let tid = current().tid();
    SLEEPERS.lock().push(Sleeper { tid, locks: locks.clone(), wanted });
    let result = wait();
    let mut sleepers = SLEEPERS.lock();
    let own = sleepers.iter().position(|sleeper| sleeper.tid == tid).map(|at| sleepers.swap_remove(at));
    drop(sleepers);
    drop(own);
    result
}

/// A lock in somebody's way.
pub struct Blocker {
    pub owner: Owner,
    /// Kind, file and range, in words.
    pub what: String,
}

/// The locks in the way of thread `tid`; empty when it waits for none.
pub fn blockers_of(tid: u32) -> Vec<Blocker> {
    let found = SLEEPERS.lock().iter().find(|one| one.tid == tid).map(|one| (one.locks.clone(), one.wanted));
    let Some((locks, wanted)) = found else { return Vec::new() };
    let state = locks.state.lock();
    let inode = state.place.1;
    match wanted {
        Wanted::Range(wanted) => {
            let mut blockers = Vec::new();
            state.ranges.blockers(&wanted, &mut |range| {
                let kind = if matches!(range.owner, Owner::Process(_)) { "POSIX" } else { "OFD" };
                let end = if range.end == TO_END { String::from("end") } else { alloc::format!("{}", range.end) };
                let what = alloc::format!("the {kind} lock of bytes {} to {end} of inode {inode}", range.start);
                blockers.push(Blocker { owner: range.owner, what });
            });
            blockers
        }
        Wanted::Flock { file, exclusive } => state
            .flocks
            .iter()
            .filter(|held| held.0 != file && (held.1 || exclusive))
            .map(|held| Blocker {
                owner: Owner::Description(held.0),
                what: alloc::format!("the flock lock of inode {inode}"),
            })
            .collect(),
    }
}

/// What identifies the locked object: its inode, or the object itself where there is none.
fn key(file: &OpenFile) -> usize {
    match file.inode() {
        Some(inode) => Arc::as_ptr(inode).cast::<()>() as usize,
        None => file.ops.lock_key().unwrap_or(Arc::as_ptr(&file.ops).cast::<()>() as usize),
    }
}

fn locks_of(file: &OpenFile) -> Arc<Locks> {
    if let Some(locks) = find_locks(file) {
        return locks;
    }
    let place = file.inode().map(|inode| inode.stat()).map_or((0, 0), |stat| (stat.dev, stat.ino));
    let fresh =
        Arc::new(Locks { state: SpinLock::new(State { place, ..State::default() }), changed: WaitQueue::new() });
    let mut table = TABLE.lock();
    let table = table.get_or_insert_with(HashMap::new);
    let locks = table.entry(key(file)).or_insert(fresh).clone();
    NR_LOCKED.store(table.len(), Ordering::Release);
    locks
}

fn find_locks(file: &OpenFile) -> Option<Arc<Locks>> {
    if NR_LOCKED.load(Ordering::Acquire) == 0 {
        return None;
    }
    TABLE.lock().as_ref()?.get(&key(file)).cloned()
}

/// Takes the object out of the table when nothing is locked and nobody else looks at it.
fn forget_unused(file: &OpenFile, locks: Arc<Locks>) {
    const OWN: usize = 2;
    let mut guard = TABLE.lock();
    let Some(table) = guard.as_mut() else { return };
    let unused = {
        let state = locks.state.lock();
        state.ranges.is_empty() && state.flocks.is_empty() && Arc::strong_count(&locks) == OWN
    };
    let gone = if unused { table.remove(&key(file)) } else { None };
    NR_LOCKED.store(table.len(), Ordering::Release);
    drop(guard);
    drop(gone);
}

/// Start and end of what `lock` names: EINVAL, EOVERFLOW.
fn range_of(file: &OpenFile, lock: &UserLock) -> Result<(u64, u64), Errno> {
    let base = match lock.whence {
        0 => 0,
        1 => *file.position.lock(),
        2 => file.inode().map_or(0, |inode| inode.stat().size),
        _ => return Err(Errno::EINVAL),
    };
    let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    match lock.len {
        0 => Ok((start as u64, TO_END)),
        len if len > 0 => Ok((start as u64, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)? as u64)),
        len => {
            let first = start.checked_add(len).filter(|first| *first >= 0).ok_or(Errno::EINVAL)?;
            Ok((first as u64, start as u64 - 1))
        }
    }
}

/// fcntl F_GETLK, F_SETLK, F_SETLKW and their F_OFD_ forms; `arg` names a `struct flock`.
/// EBADF by open mode, EINVAL, EAGAIN, EDEADLK, EINTR, ENOLCK.
pub fn fcntl_lock(file: &Arc<OpenFile>, cmd: u32, arg: UserAddr) -> SysResult {
    let pointer = UserPtr::<UserLock>::new(arg);
    let lock = pointer.read()?;
    let by_description = matches!(cmd, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    if by_description && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let pid = current().process.pid;
    let owner = if by_description { Owner::Description(file.id) } else { Owner::Process(pid) };
    if !matches!(lock.kind, F_RDLCK | F_WRLCK | F_UNLCK) {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range_of(file, &lock)?;
    let wanted = Range { owner, start, end, exclusive: lock.kind == F_WRLCK };
    if matches!(cmd, F_GETLK | F_OFD_GETLK) {
        if lock.kind == F_UNLCK {
            return Err(Errno::EINVAL);
        }
        return test(file, pointer, lock, &wanted);
    }
    if lock.kind == F_UNLCK {
        if let Some(locks) = find_locks(file) {
            let result = locks.take_ranges(|ranges| ranges.remove(&wanted));
            forget_unused(file, locks);
            result?;
        }
        return Ok(0);
    }
    if lock.kind == F_RDLCK && !file.is_readable() || lock.kind == F_WRLCK && !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let waits = matches!(cmd, F_SETLKW | F_OFD_SETLKW);
    let locks = locks_of(file);
    let result = acquire(&locks, wanted, waits);
    if result.is_err() {
        forget_unused(file, locks);
    } else {
        // A write lock turned into a read lock lets others in.
        locks.changed.wake_all();
    }
    result
}

/// F_GETLK: the first lock in the way, or F_UNLCK.
fn test(file: &OpenFile, pointer: UserPtr<UserLock>, mut lock: UserLock, wanted: &Range) -> SysResult {
    let found = find_locks(file).and_then(|locks| locks.state.lock().ranges.blocker(wanted));
    match found {
        None => lock.kind = F_UNLCK,
        Some(range) => {
            lock.kind = if range.exclusive { F_WRLCK } else { F_RDLCK };
            lock.whence = 0;
            lock.start = range.start as i64;
            lock.len = if range.end == TO_END { 0 } else { (range.end - range.start + 1) as i64 };
            lock.pid = match range.owner {
                Owner::Process(pid) => pid as i32,
                Owner::Description(_) => -1,
            };
        }
    }
    pointer.write(&lock)?;
    Ok(0)
}

/// Notes that `new.waiter` waits for `new.holder`; EDEADLK when the holder waits, directly or not, for the waiter.
fn note_wait(new: Edge) -> Result<(), Errno> {
    let mut waiting = WAITING.lock();
    waiting.retain(|edge| edge.tid != new.tid);
    let mut at = new.holder;
    for _ in 0..=waiting.len() {
        if at == new.waiter {
            return Err(Errno::EDEADLK);
        }
        match waiting.iter().find(|edge| edge.waiter == at) {
            Some(edge) => at = edge.holder,
            None => break,
        }
    }
    waiting.push(new);
    Ok(())
}

fn acquire(locks: &Arc<Locks>, wanted: Range, waits: bool) -> SysResult {
    let tid = current().tid();
    let attempt = || -> Option<SysResult> {
        let mut state = locks.state.lock();
        if !state.ranges.is_blocked(&wanted) {
            if state.ranges.insert(wanted).is_err() {
                return Some(Err(Errno::ENOLCK));
            }
            locks.forget_edges();
            return Some(Ok(0));
        }
        if !waits {
            return Some(Err(Errno::EAGAIN));
        }
        let blocker = state.ranges.blocker(&wanted)?;
        if let (Owner::Process(waiter), Owner::Process(holder)) = (wanted.owner, blocker.owner)
            && let Err(error) = note_wait(Edge { tid, waiter, holder, locks: locks.id() })
        {
            return Some(Err(error));
        }
        None
    };
    if let Some(result) = attempt() {
        return result;
    }
    let reason = WaitReason::on(WaitKind::FileLock, locks.state.lock().place.1);
    let result = as_sleeper(locks, Wanted::Range(wanted), || {
        locks.changed.wait_until(WaitMode::Interruptible, None, reason, attempt)
    });
    WAITING.lock().retain(|edge| edge.tid != tid);
    result?
}

pub const LOCK_SH: i32 = 1;
pub const LOCK_EX: i32 = 2;
pub const LOCK_NB: i32 = 4;
pub const LOCK_UN: i32 = 8;
/// Mandatory locks, which Linux has no more: accepted, without effect.
pub const LOCK_MAND: i32 = 32;

/// EINVAL for an operation that flock(2) does not have.
pub fn check_operation(operation: i32) -> Result<(), Errno> {
    let is_known = operation & LOCK_MAND != 0 || matches!(operation & !LOCK_NB, LOCK_SH | LOCK_EX | LOCK_UN);
    if is_known { Ok(()) } else { Err(Errno::EINVAL) }
}

/// flock(2): EINVAL, EAGAIN, EINTR.
pub fn flock(file: &OpenFile, operation: i32) -> SysResult {
    let exclusive = match operation & !LOCK_NB {
        _ if operation & LOCK_MAND != 0 => return Ok(0),
        LOCK_UN => {
            release_flock(file);
            return Ok(0);
        }
        LOCK_SH => false,
        LOCK_EX => true,
        _ => return Err(Errno::EINVAL),
    };
    let locks = locks_of(file);
    {
        // A lock of the other kind is given up first, as the manual page says.
        let mut state = locks.state.lock();
        if state.flocks.contains(&(file.id, exclusive)) {
            return Ok(0);
        }
        let before = state.flocks.len();
        state.flocks.retain(|held| held.0 != file.id);
        let gave_up = state.flocks.len() != before;
        drop(state);
        if gave_up {
            locks.changed.wake_all();
        }
    }
    let attempt = || -> Option<SysResult> {
        let mut state = locks.state.lock();
        if state.flocks.iter().any(|held| held.0 != file.id && (held.1 || exclusive)) {
            return (operation & LOCK_NB != 0).then_some(Err(Errno::EAGAIN));
        }
        state.flocks.push((file.id, exclusive));
        Some(Ok(0))
    };
    let result = attempt().unwrap_or_else(|| {
        let reason = WaitReason::on(WaitKind::Flock, locks.state.lock().place.1);
        let wanted = Wanted::Flock { file: file.id, exclusive };
        let waited =
            as_sleeper(&locks, wanted, || locks.changed.wait_until(WaitMode::Interruptible, None, reason, attempt));
        waited.map_err(Errno::from).flatten()
    });
    if result.is_err() {
        forget_unused(file, locks);
    }
    result
}

fn release_flock(file: &OpenFile) {
    let Some(locks) = find_locks(file) else { return };
    locks.state.lock().flocks.retain(|held| held.0 != file.id);
    locks.changed.wake_all();
    forget_unused(file, locks);
}

/// A close(2) of any descriptor of the file drops the calling process's POSIX locks on its inode.
#[inline]
pub fn release_posix(file: &OpenFile) {
    if NR_LOCKED.load(Ordering::Acquire) != 0 {
        release(file, Owner::Process(current().process.pid));
    }
}

/// The last reference to the open file description goes: its flock and OFD locks too.
#[inline]
pub fn release_description(file: &OpenFile) {
    if NR_LOCKED.load(Ordering::Acquire) != 0 {
        release(file, Owner::Description(file.id));
        release_flock(file);
    }
}

fn release(file: &OpenFile, owner: Owner) {
    let Some(locks) = find_locks(file) else { return };
    let taken = locks.take_ranges(|ranges| {
        ranges.release(owner);
        Ok(())
    });
    debug_assert!(taken.is_ok());
    forget_unused(file, locks);
}

/// /proc/locks.
pub fn format_locks() -> String {
    let all: Vec<Arc<Locks>> =
        Vec::try_collect(TABLE.lock().iter().flat_map(|table| table.values().cloned())).unwrap_or_default();
    let mut out = String::new();
    let mut number = 0;
    let mut line = |kind: &str, exclusive: bool, pid: i64, place: (u64, u64), start: u64, end: u64| {
        number += 1;
        if !text_room(&mut out, 256) {
            return;
        }
        let access = if exclusive { "WRITE" } else { "READ " };
        let end = if end == TO_END { String::from("EOF") } else { alloc::format!("{end}") };
        let (major, minor) = (base::device::major(place.0), base::device::minor(place.0));
        let _ = writeln!(
            out,
            "{number}: {kind:<6} ADVISORY  {access} {pid} {major:02x}:{minor:02x}:{} {start} {end}",
            place.1
        );
    };
    for locks in all {
        let (ranges, flocks, place) = {
            let state = locks.state.lock();
            let mut ranges = Vec::new();
            state.ranges.for_each(&mut |since, range| ranges.push((since, *range)));
            ranges.sort_unstable_by_key(|(since, range)| (*since, range.start));
            (ranges, state.flocks.clone(), state.place)
        };
        for (_, range) in ranges {
            let (kind, pid) = match range.owner {
                Owner::Process(pid) => ("POSIX", pid as i64),
                Owner::Description(_) => ("OFDLCK", -1),
            };
            line(kind, range.exclusive, pid, place, range.start, range.end);
        }
        for (_, exclusive) in flocks {
            line("FLOCK", exclusive, -1, place, 0, TO_END);
        }
    }
    out
}
