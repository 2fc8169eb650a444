//! System V semaphores: semget(2), semop(2), semctl(2). What operations do to a set is `base::semaphore`.
//!
//! By hand-over: whoever changes a set completes the operations that can now go ahead, in the order of arrival, leaves the
//! result with their threads ([`Ended`]) and wakes them. Lock order: `TABLE`, then a set's state, then an undo list.

use super::sysv::{Get, IdTable, IpcPerm, Permissions, Which, now_seconds, with_caller};
use crate::prelude::*;
use crate::sync::{Deadline, Park, WaitError, WaitKind, WaitReason, WakeList};
use crate::time::Timespec;
use alloc::collections::BTreeMap;
use base::semaphore::{Line, MAX_VALUE, Op, Outcome, Semaphore, Waiter, attempt, undo};
use core::fmt::Write;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use smallvec::SmallVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// kernel.sem: SEMMSL, SEMMNS, SEMOPM, SEMMNI.
static SEMMSL: AtomicUsize = AtomicUsize::new(32_000);
static SEMMNS: AtomicUsize = AtomicUsize::new(1_024_000_000);
static SEMOPM: AtomicUsize = AtomicUsize::new(500);
static SEMMNI: AtomicUsize = AtomicUsize::new(32_000);

fn limit(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

/// What /proc/sys/kernel/sem says.
pub fn limits_line() -> String {
    alloc::format!("{}\t{}\t{}\t{}\n", limit(&SEMMSL), limit(&SEMMNS), limit(&SEMOPM), limit(&SEMMNI))
}

/// Sets the limits, as many as are given: EINVAL.
pub fn set_limits(text: &str) -> Result<(), Errno> {
    let mut numbers: SmallVec<[usize; 4]> = SmallVec::new();
    for word in text.split_whitespace() {
        numbers.push(word.parse().ok().filter(|number| *number <= i32::MAX as usize).ok_or(Errno::EINVAL)?);
    }
    if numbers.get(3).is_some_and(|sets| *sets > 32_768) {
        return Err(Errno::EINVAL);
    }
    for (of, number) in [&SEMMSL, &SEMMNS, &SEMOPM, &SEMMNI].into_iter().zip(numbers) {
        of.store(number, Ordering::Relaxed);
    }
    Ok(())
}

/// Semaphores of all sets.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// SEM_UNDO adjustments by set; shared with CLONE_SYSVSEM.
pub struct UndoList {
    adjust: SpinLock<BTreeMap<i32, Vec<i16>>>,
    /// Threads that share it.
    sharers: AtomicUsize,
}

impl UndoList {
    /// Makes the adjustments of a set of `count` semaphores, if there are none yet: ENOMEM.
    fn prepare(&self, set: i32, count: usize) -> Result<(), NoMemory> {
        if !self.adjust.lock().contains_key(&set) {
            let mut none = Vec::new();
            none.try_resize(count, 0)?;
            self.adjust.lock().entry(set).or_insert(none);
        }
        Ok(())
    }
}

/// The operations of one call.
pub type Ops = SmallVec<[Op; 4]>;

/// How a thread's wait in a line ended: WAITING, DONE, or minus an errno.
pub struct Ended(AtomicI32);

const WAITING: i32 = 0;
const DONE: i32 = 1;

impl Ended {
    pub(super) const fn new() -> Self {
        Self(AtomicI32::new(DONE))
    }
    /// A wait begins. The lock of the set stands between this and the end.
    fn begin(&self) {
        self.0.store(WAITING, Ordering::Relaxed);
    }
    fn set(&self, result: Result<(), Errno>) {
        self.0.store(result.map_or_else(|errno| -i32::from(errno.0), |()| DONE), Ordering::Release);
    }
    fn get(&self) -> Option<SysResult> {
        match self.0.load(Ordering::Acquire) {
            WAITING => None,
            DONE => Some(Ok(0)),
            failed => Some(Err(Errno((-failed) as _))),
        }
    }
}

/// A thread in a set's line.
struct Waiting {
    task: Arc<Task>,
    ops: Ops,
    undo: Option<Arc<UndoList>>,
    set: i32,
    /// Semaphores of the set.
    count: usize,
}

impl Waiter for Waiting {
    fn ops(&self) -> &[Op] {
        &self.ops
    }
    fn pid(&self) -> u32 {
        self.task.process.pid
    }
    fn with_adjustments<R>(&self, f: impl FnOnce(&mut [i16]) -> R) -> R {
        with_adjustments(self.undo.as_deref(), self.set, self.count, f)
    }
}

/// Lends a thread's adjustments of a set, if it has a list of them.
#[inline(always)]
fn with_adjustments<R>(list: Option<&UndoList>, set: i32, count: usize, f: impl FnOnce(&mut [i16]) -> R) -> R {
    match list {
        // Infallible: `prepare` has made them; only a set removed meanwhile has lost them.
        Some(list) => f(list.adjust.lock().entry(set).or_insert_with(|| alloc::vec![0; count])),
        None => f(&mut []),
    }
}

struct State {
    permissions: Permissions,
    semaphores: Vec<Semaphore>,
    line: Line<Waiting>,
    op_time: i64,
    change_time: i64,
    removed: bool,
}

struct Set {
    id: i32,
    count: usize,
    state: SpinLock<State>,
}

static TABLE: SpinLock<IdTable<Arc<Set>>> = SpinLock::new(IdTable::new());

/// kernel.sem_next_id: -1 when none was asked for.
pub fn next_id() -> i32 {
    TABLE.lock().next_id().unwrap_or(-1)
}

/// Sets it: EINVAL.
pub fn set_next_id(text: &str) -> Result<(), Errno> {
    TABLE.lock().set_next_id(super::sysv::read_next_id(text)?);
    Ok(())
}

impl State {
    /// Completes what can go ahead at `now`, after a change, until nothing more can.
    fn after_change(&mut self, now: i64, woken: &mut WakeList) {
        let any_done = self.line.after_change(&mut self.semaphores, |waiter, result| {
            waiter.task.ipc.semop.set(result);
            woken.push(waiter.task);
        });
        if any_done {
            self.op_time = now;
        }
    }
}

fn find(id: i32) -> Result<Arc<Set>, Errno> {
    Ok(TABLE.leaf().get(id)?.clone())
}

/// semget(2): EINVAL, ENOENT, EEXIST, EACCES, ENOSPC.
pub fn get(key: i32, nsems: i32, flags: i32) -> SysResult {
    if !usize::try_from(nsems).is_ok_and(|count| count <= limit(&SEMMSL)) {
        return Err(Errno::EINVAL);
    }
    let count = nsems as usize;
    let mut table = TABLE.lock();
    match table.get_or_create(key, flags)? {
        Get::Existing(id) => {
            let set = table.get(id)?.clone();
            drop(table);
            if count > set.count {
                return Err(Errno::EINVAL);
            }
            with_caller(|caller| set.state.lock().permissions.check(caller, flags as u32))?;
            Ok(id as usize)
        }
        Get::Create => {
            if count == 0 {
                return Err(Errno::EINVAL);
            }
            if TOTAL.load(Ordering::Relaxed) + count > limit(&SEMMNS) {
                return Err(Errno::ENOSPC);
            }
            let permissions = with_caller(|caller| Permissions::new(caller, flags as u32));
            let mut semaphores = Vec::new();
            semaphores.try_resize(count, Semaphore::default())?;
            let id = table.add(key, limit(&SEMMNI), |id| {
                let state = State {
                    permissions,
                    semaphores,
                    line: Line::new(),
                    op_time: 0,
                    change_time: now_seconds(),
                    removed: false,
                };
                Arc::new(Set { id, count, state: SpinLock::new(state) })
            })?;
            TOTAL.fetch_add(count, Ordering::Relaxed);
            Ok(id as usize)
        }
    }
}

/// Whether a call may have so many operations: E2BIG, EINVAL.
pub fn check_count(count: usize) -> Result<(), Errno> {
    if count > limit(&SEMOPM) {
        return Err(Errno::E2BIG);
    }
    if count < 1 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// semtimedop(2): EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ERANGE, EACCES.
pub fn operate(id: i32, ops: Ops, timeout: Option<Timespec>) -> SysResult {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let deadline: Deadline = match timeout {
        Some(timeout) => Some(crate::time::now_ns().saturating_add(timeout.to_ns()?)),
        None => None,
    };
    let task = current();
    let alters = ops.iter().any(|op| op.change != 0);
    let undo = ops.iter().any(|op| op.has_undo()).then(|| own_undo_list(&task.ipc));
    let set = find(id)?;
    if ops.iter().any(|op| usize::from(op.number) >= set.count) {
        return Err(Errno::EFBIG);
    }
    if let Some(list) = &undo {
        list.prepare(id, set.count)?;
    }
    let mut woken = WakeList::new();
    let mut state = set.state.lock();
    with_caller(|caller| state.permissions.check(caller, if alters { 0o222 } else { 0o444 }))?;
    if state.removed {
        return Err(Errno::EIDRM);
    }
    let outcome = with_adjustments(undo.as_deref(), id, set.count, |adjust| {
        attempt(&mut state.semaphores, &ops, task.process.pid, adjust)
    });
    let blocked = match outcome? {
        Outcome::Done => {
            let now = now_seconds();
            state.op_time = now;
            if alters && !state.line.is_empty() {
                state.after_change(now, &mut woken);
            }
            drop(state);
            woken.wake();
            return Ok(0);
        }
        Outcome::Blocked(at) if ops[at].is_no_wait() => return Err(Errno::EAGAIN),
        Outcome::Blocked(at) => at,
    };
    let ended = &task.ipc.semop;
    ended.begin();
    state.line.push(Waiting { task: crate::task::current_arc(), ops, undo, set: id, count: set.count }, blocked);
    drop(state);
    let reason = WaitReason::on(WaitKind::Semop, id as u64);
    Park::park_until(WaitMode::Interruptible, deadline, reason, || ended.get()).unwrap_or_else(|error| {
        let was_in_line = set.state.lock().line.cancel(|other| core::ptr::eq(&*other.task, task));
        // Else it was done before it could be taken back.
        ended.get().filter(|_| !was_in_line).unwrap_or(Err(match error {
            WaitError::TimedOut => Errno::EAGAIN,
            WaitError::Interrupted => Errno::EINTR,
        }))
    })
}

/// The semaphore `task` waits for in set `id`, and the process that holds it as a lock.
pub fn holder_for(id: u64, task: &Arc<Task>) -> Option<(usize, u32)> {
    let set = find(i32::try_from(id).ok()?).ok()?;
    let state = set.state.lock();
    let op = state.line.blocked_at(|waiter| Arc::ptr_eq(&waiter.task, task)).filter(|op| op.change < 0)?;
    let number = usize::from(op.number);
    Some((number, state.semaphores.get(number)?.holder()?))
}

/// `struct semid64_ds`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SemidDs {
    perm: IpcPerm,
    otime: i64,
    ctime: i64,
    nsems: u64,
    unused: [u64; 2],
}

fn describe(set: &Set, key: i32) -> SemidDs {
    let state = set.state.lock();
    SemidDs {
        perm: IpcPerm::new(&state.permissions, set.id, key, 0),
        otime: state.op_time,
        ctime: state.change_time,
        nsems: set.count as u64,
        unused: [0; 2],
    }
}

/// What SEM_INFO and IPC_INFO tell: sets in use, semaphores of all sets, the highest index.
pub fn usage() -> (usize, usize, usize) {
    let table = TABLE.lock();
    (table.used(), TOTAL.load(Ordering::Relaxed), table.max_index())
}

/// kernel.sem: SEMMSL, SEMMNS, SEMOPM, SEMMNI.
pub fn limits() -> [usize; 4] {
    [limit(&SEMMSL), limit(&SEMMNS), limit(&SEMOPM), limit(&SEMMNI)]
}

/// IPC_STAT and its kin: the set's number and description. EINVAL, EACCES.
pub fn stat(which: Which) -> Result<(i32, SemidDs), Errno> {
    let table = TABLE.lock();
    let id = which.id(&table)?;
    let (set, key) = (table.get(id)?.clone(), table.key(id)?);
    drop(table);
    if which.needs_right() {
        with_caller(|caller| set.state.lock().permissions.check(caller, 0o444))?;
    }
    Ok((id, describe(&set, key)))
}

/// IPC_SET: EINVAL, EPERM.
pub fn set_permissions(id: i32, wanted: &SemidDs) -> Result<(), Errno> {
    let set = find(id)?;
    with_caller(|caller| {
        let mut state = set.state.lock();
        state.permissions.check_owner(caller)?;
        wanted.perm.apply(&mut state.permissions)?;
        state.change_time = now_seconds();
        Ok(())
    })
}

/// What GETVAL, GETPID, GETNCNT and GETZCNT tell of a semaphore.
pub struct Look {
    pub value: u16,
    pub pid: u32,
    /// Threads that wait for it to grow, and to become zero.
    pub waiting: (usize, usize),
}

/// EINVAL, EACCES.
pub fn look(id: i32, number: i32) -> Result<Look, Errno> {
    let set = find(id)?;
    let state = set.state.lock();
    with_caller(|caller| state.permissions.check(caller, 0o444))?;
    let semaphore =
        usize::try_from(number).ok().and_then(|number| state.semaphores.get(number)).ok_or(Errno::EINVAL)?;
    Ok(Look { value: semaphore.value, pid: semaphore.pid, waiting: state.line.count_waiting(number as u16) })
}

/// SETVAL: EINVAL, ERANGE, EACCES.
pub fn set_value(id: i32, num: i32, value: i32) -> SysResult {
    if !(0..=MAX_VALUE).contains(&value) {
        return Err(Errno::ERANGE);
    }
    let set = find(id)?;
    let mut woken = WakeList::new();
    let mut state = set.state.lock();
    let number = usize::try_from(num).ok().filter(|number| *number < set.count).ok_or(Errno::EINVAL)?;
    with_caller(|caller| state.permissions.check(caller, 0o222))?;
    state.semaphores[number] = Semaphore::new(value as u16, current().process.pid);
    let now = now_seconds();
    state.change_time = now;
    forget_adjustments(id, Some(number));
    state.after_change(now, &mut woken);
    drop(state);
    woken.wake();
    Ok(0)
}

/// GETALL: EINVAL, EACCES.
pub fn values(id: i32) -> Result<Vec<u16>, Errno> {
    let set = find(id)?;
    with_caller(|caller| set.state.lock().permissions.check(caller, 0o444))?;
    let mut values = Vec::with_room(set.count)?;
    values.extend(set.state.lock().semaphores.iter().map(|semaphore| semaphore.value));
    Ok(values)
}

/// SETALL, of the values that `read` gives for so many semaphores: EINVAL, EACCES, ERANGE, EIDRM.
pub fn set_values(id: i32, read: impl FnOnce(usize) -> Result<Vec<u16>, Errno>) -> SysResult {
    let set = find(id)?;
    with_caller(|caller| set.state.lock().permissions.check(caller, 0o222))?;
    let values = read(set.count)?;
    if values.iter().any(|value| i32::from(*value) > MAX_VALUE) {
        return Err(Errno::ERANGE);
    }
    let pid = current().process.pid;
    let mut woken = WakeList::new();
    let mut state = set.state.lock();
    if state.removed {
        return Err(Errno::EIDRM);
    }
    for (semaphore, value) in state.semaphores.iter_mut().zip(&values) {
        *semaphore = Semaphore::new(*value, pid);
    }
    let now = now_seconds();
    state.change_time = now;
    forget_adjustments(id, None);
    state.after_change(now, &mut woken);
    drop(state);
    woken.wake();
    Ok(0)
}

/// IPC_RMID: EINVAL, EPERM.
pub fn remove(id: i32) -> SysResult {
    let set = find(id)?;
    with_caller(|caller| set.state.lock().permissions.check_owner(caller))?;
    let gone = TABLE.lock().remove(id)?;
    TOTAL.fetch_sub(set.count, Ordering::Relaxed);
    let mut state = set.state.lock();
    state.removed = true;
    let mut woken = WakeList::new();
    for waiter in state.line.drain() {
        waiter.task.ipc.semop.set(Err(Errno::EIDRM));
        woken.push(waiter.task);
    }
    drop(state);
    drop(gone);
    forget_adjustments(id, None);
    woken.wake();
    Ok(0)
}

/// Every undo list, so that SETVAL, SETALL and IPC_RMID can clear what no longer holds.
static UNDO_LISTS: SpinLock<Vec<Weak<UndoList>>> = SpinLock::new(Vec::new());

/// Clears all threads' adjustments of a set, or of one of its semaphores.
fn forget_adjustments(id: i32, number: Option<usize>) {
    for list in UNDO_LISTS.lock().iter().filter_map(Weak::upgrade) {
        let mut list = list.adjust.lock();
        match number {
            None => drop(list.remove(&id)),
            Some(number) => {
                if let Some(adjust) = list.get_mut(&id).and_then(|adjust| adjust.get_mut(number)) {
                    *adjust = 0;
                }
            }
        }
    }
}

/// Makes a list known to [`forget_adjustments`].
fn remember(list: &Arc<UndoList>) {
    let mut lists = UNDO_LISTS.lock();
    lists.retain(|other| other.strong_count() > 0);
    lists.push(Arc::downgrade(list));
}

/// The undo list a clone with CLONE_SYSVSEM shares.
pub(super) fn share_undo_list(parent: &super::TaskIpc) -> Arc<UndoList> {
    let list = own_undo_list(parent);
    list.sharers.fetch_add(1, Ordering::Relaxed);
    list
}

/// A thread's undo list, made at its first use.
fn own_undo_list(ipc: &super::TaskIpc) -> Arc<UndoList> {
    ipc.undo.lock().get_or_insert_with(new_undo_list).clone()
}

fn new_undo_list() -> Arc<UndoList> {
    let list = Arc::new(UndoList { adjust: SpinLock::new(BTreeMap::new()), sharers: AtomicUsize::new(1) });
    remember(&list);
    list
}

/// The last thread that shares the list is ending: its adjustments are applied.
pub(super) fn on_exit(task: &Task) {
    let Some(list) = task.ipc.undo.lock().take() else { return };
    if list.sharers.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    let adjustments = core::mem::take(&mut *list.adjust.lock());
    for (id, adjust) in adjustments {
        let Ok(set) = find(id) else { continue };
        let mut woken = WakeList::new();
        let mut state = set.state.lock();
        if !state.removed {
            let now = now_seconds();
            state.op_time = now;
            if undo(&mut state.semaphores, &adjust, task.process.pid) {
                state.after_change(now, &mut woken);
            }
        }
        drop(state);
        woken.wake();
    }
}

/// /proc/sysvipc/sem.
pub fn format_table() -> String {
    let mut out =
        String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    let sets: Vec<(i32, Arc<Set>)> =
        Vec::try_collect(TABLE.lock().iter().map(|(_, key, set)| (key, set.clone()))).unwrap_or_default();
    for (key, set) in sets {
        if !text_room(&mut out, 256) {
            break;
        }
        let ds = describe(&set, key);
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o} {:>10} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10}",
            key,
            set.id,
            ds.perm.mode,
            ds.nsems,
            ds.perm.uid,
            ds.perm.gid,
            ds.perm.cuid,
            ds.perm.cgid,
            ds.otime,
            ds.ctime
        );
    }
    out
}
