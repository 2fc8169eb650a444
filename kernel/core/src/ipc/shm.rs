//! System V shared memory: segments are [`MemObject`]s with an identifier; attaching maps them.
//!
//! Attach counts follow the mappings themselves (an observer on the object), so fork, exec, exit and munmap are counted
//! without hooks of their own. Lock order: address-space mutex, then `TABLE`, then a segment's `state`.

use super::sysv::{Get, IPC_PRIVATE, IdTable, IpcPerm, Permissions, Which, now_seconds, with_caller};
use crate::mm::area::AreaFlags;
use crate::mm::map::Source;
use crate::mm::object::MapObserver;
use crate::mm::{MapFlags, MemObject, Prot, stats};
use crate::prelude::*;
use crate::task::credentials::cap;
use crate::task::current_arc;
use crate::task::process::rlimit;
use alloc::collections::BTreeMap;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PAGE: u64 = PAGE_SIZE as u64;

/// Flags of shmget: huge pages, whose size's logarithm stands in the uppermost bits; memory that is not promised.
const SHM_HUGETLB: i32 = 0o4000;
const SHM_HUGE_SHIFT: u32 = 26;
const SHM_NORESERVE: i32 = 0o10000;

const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;

/// Mode bits of IPC_STAT: to be destroyed, locked.
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;

/// kernel.shmmax, shmall (pages) and shmmni.
pub static SHMMAX: AtomicU64 = AtomicU64::new(u64::MAX - (1 << 24));
pub static SHMALL: AtomicU64 = AtomicU64::new(u64::MAX - (1 << 24));
pub static SHMMNI: AtomicU64 = AtomicU64::new(4096);

/// Sets one of them (/proc/sys/kernel): EINVAL.
pub fn set_limit(limit: &AtomicU64, text: &str) -> Result<(), Errno> {
    let number: u64 = text.parse().map_err(|_| Errno::EINVAL)?;
    if core::ptr::eq(limit, &SHMMNI) && number > 32_768 {
        return Err(Errno::EINVAL);
    }
    limit.store(number, Ordering::Relaxed);
    Ok(())
}

/// kernel.shm_rmid_forced: segments go with their last attachment, or with who made them.
static RMID_FORCED: AtomicBool = AtomicBool::new(false);

pub fn is_rmid_forced() -> bool {
    RMID_FORCED.load(Ordering::Relaxed)
}

/// Sets it: EINVAL. Segments that nobody uses and whose maker has gone go at once.
pub fn set_rmid_forced(text: &str) -> Result<(), Errno> {
    let on = match text {
        "0" => false,
        "1" => true,
        _ => return Err(Errno::EINVAL),
    };
    RMID_FORCED.store(on, Ordering::Relaxed);
    if on {
        remove_unused(|state| state.creator.strong_count() == 0);
    }
    Ok(())
}

/// Removes the segments that nobody has attached and that `is_meant` answers true for.
fn remove_unused(is_meant: impl Fn(&mut State) -> bool) {
    let mut gone = Vec::new();
    let mut table = TABLE.lock();
    let is_unused = |segment: &Segment| {
        let mut state = segment.state.lock();
        is_meant(&mut state) && state.attached == 0
    };
    let ids: Vec<i32> = table.iter().filter(|(.., segment)| is_unused(segment)).map(|(id, ..)| id).collect();
    gone.extend(ids.into_iter().filter_map(|id| table.remove(id).ok()));
    drop(table);
    drop(gone);
}

/// The thread ends: what it made has no maker any more.
pub fn on_exit(task: &Task) {
    if !task.ipc.has_made_segments.load(Ordering::Relaxed) {
        return;
    }
    let forced = is_rmid_forced();
    remove_unused(|state| {
        let is_own = core::ptr::eq(state.creator.as_ptr(), task);
        if is_own {
            state.creator = Weak::new();
        }
        is_own && forced
    });
}

/// Pages that real users have locked by SHM_LOCK.
static LOCKED: SpinLock<BTreeMap<u32, u64>> = SpinLock::new(BTreeMap::new());

/// A segment's share of that, until it is unlocked or goes.
struct LockedPages {
    uid: u32,
    pages: u64,
}

impl LockedPages {
    /// ENOMEM when `uid` would have more than `limit` pages.
    fn new(uid: u32, pages: u64, limit: u64) -> Result<Self, Errno> {
        let mut users = LOCKED.lock();
        let locked = users.get(&uid).copied().unwrap_or(0) + pages;
        if locked > limit {
            return Err(Errno::ENOMEM);
        }
        users.insert(uid, locked);
        Ok(Self { uid, pages })
    }
}

impl Drop for LockedPages {
    fn drop(&mut self) {
        let mut users = LOCKED.lock();
        let left = users.get(&self.uid).map_or(0, |locked| locked - self.pages);
        if left == 0 {
            users.remove(&self.uid);
        } else {
            users.insert(self.uid, left);
        }
    }
}

/// Pages of all segments.
static TOTAL_PAGES: AtomicU64 = AtomicU64::new(0);

struct State {
    permissions: Permissions,
    attached: u64,
    attach_time: i64,
    detach_time: i64,
    change_time: i64,
    last_pid: u32,
    /// IPC_RMID was called; the last detach destroys it.
    doomed: bool,
    locked: Option<LockedPages>,
    /// The thread that made it, while it lives.
    creator: Weak<Task>,
}

/// One segment.
pub struct Segment {
    id: i32,
    key: i32,
    size: u64,
    object: Arc<MemObject>,
    creator_pid: u32,
    /// Its pages count as promised (Committed_AS).
    is_promised: bool,
    state: SpinLock<State>,
}

static TABLE: SpinLock<IdTable<Arc<Segment>>> = SpinLock::new(IdTable::new());

/// kernel.shm_next_id: -1 when none was asked for.
pub fn next_id() -> i32 {
    TABLE.lock().next_id().unwrap_or(-1)
}

/// Sets it: EINVAL.
pub fn set_next_id(text: &str) -> Result<(), Errno> {
    TABLE.lock().set_next_id(super::sysv::read_next_id(text)?);
    Ok(())
}

impl Segment {
    fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        TOTAL_PAGES.fetch_sub(self.pages(), Ordering::Relaxed);
        if self.is_promised {
            stats::COMMITTED.add(-(self.pages() as i64));
        }
    }
}

/// Counts attachments: the object tells it of every mapping that begins and ends.
struct Counter(Weak<Segment>);

impl MapObserver for Counter {
    fn attached(&self) {
        if let Some(segment) = self.0.upgrade() {
            let mut state = segment.state.lock();
            state.attached += 1;
            state.attach_time = now_seconds();
            state.last_pid = current().process.pid;
        }
    }

    fn detached(&self) {
        let Some(segment) = self.0.upgrade() else { return };
        let destroy = {
            let mut state = segment.state.lock();
            state.attached = state.attached.saturating_sub(1);
            state.detach_time = now_seconds();
            state.last_pid = current().process.pid;
            (state.doomed || is_rmid_forced()) && state.attached == 0
        };
        if destroy {
            let gone = TABLE.lock().remove(segment.id);
            drop(gone);
        }
    }

    fn name(&self) -> Option<(String, u64)> {
        self.0.upgrade().map(|segment| (alloc::format!("/SYSV{:08x} (deleted)", segment.key), segment.id as u64))
    }
}

/// shmget(2): EINVAL (size), ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM; EPERM for huge pages.
pub fn get(key: i32, size: usize, flags: i32) -> SysResult {
    loop {
        let existing = {
            let table = TABLE.lock();
            match table.get_or_create(key, flags)? {
                Get::Existing(id) => Some(table.get(id)?.clone()),
                Get::Create => None,
            }
        };
        if let Some(segment) = existing {
            if size as u64 > segment.size {
                return Err(Errno::EINVAL);
            }
            with_caller(|caller| segment.state.lock().permissions.check(caller, flags as u32))?;
            return Ok(segment.id as usize);
        }
        if let Some(id) = create(key, size as u64, flags)? {
            return Ok(id as usize);
        }
        // Another thread made the key meanwhile.
    }
}

/// Why there are no huge pages: EINVAL for a size that is none, EPERM for who may not have any, else ENOMEM, as on a machine
/// that keeps none ready.
fn no_huge_pages(flags: i32) -> Errno {
    // The default of 2 MiB, 64 KiB, 2 MiB, 32 MiB, 1 GiB.
    if !matches!(flags as u32 >> SHM_HUGE_SHIFT, 0 | 16 | 21 | 25 | 30) {
        return Errno::EINVAL;
    }
    // vm.hugetlb_shm_group is 0.
    let creds = current().creds();
    if creds.has_cap(cap::IPC_LOCK) || creds.in_group(0) { Errno::ENOMEM } else { Errno::EPERM }
}

/// Makes a segment; `None` when the key exists by now.
fn create(key: i32, size: u64, flags: i32) -> Result<Option<i32>, Errno> {
    if size < 1 || size > SHMMAX.load(Ordering::Relaxed) {
        return Err(Errno::EINVAL);
    }
    let pages = size.div_ceil(PAGE);
    if pages.checked_mul(PAGE).is_none()
        || TOTAL_PAGES
            .load(Ordering::Relaxed)
            .checked_add(pages)
            .is_none_or(|total| total > SHMALL.load(Ordering::Relaxed))
    {
        return Err(Errno::ENOSPC);
    }
    if flags & SHM_HUGETLB != 0 {
        return Err(no_huge_pages(flags));
    }
    if size > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let is_promised = flags & SHM_NORESERVE == 0;
    if is_promised {
        crate::mm::map::check_commit(pages)?;
    }
    let object = MemObject::anonymous(pages * PAGE);
    let permissions = with_caller(|caller| Permissions::new(caller, flags as u32));
    let now = now_seconds();
    let pid = current().process.pid;
    let creator = current_arc();
    creator.ipc.has_made_segments.store(true, Ordering::Relaxed);
    let mut table = TABLE.lock();
    if key != IPC_PRIVATE && table.by_key(key).is_some() {
        return Ok(None);
    }
    let mut made = None;
    let id = table.add(key, SHMMNI.load(Ordering::Relaxed) as usize, |id| {
        let segment = Arc::new(Segment {
            id,
            key,
            size,
            object,
            creator_pid: pid,
            is_promised,
            state: SpinLock::new(State {
                permissions,
                attached: 0,
                attach_time: 0,
                detach_time: 0,
                change_time: now,
                last_pid: 0,
                doomed: false,
                locked: None,
                creator: Arc::downgrade(&creator),
            }),
        });
        segment.object.set_observer(Box::new(Counter(Arc::downgrade(&segment))));
        made = Some(());
        segment
    })?;
    if made.is_some() {
        TOTAL_PAGES.fetch_add(pages, Ordering::Relaxed);
        if is_promised {
            stats::COMMITTED.add(pages as i64);
        }
    }
    Ok(Some(id))
}

fn find(id: i32) -> Result<Arc<Segment>, Errno> {
    Ok(TABLE.lock().get(id)?.clone())
}

/// shmat(2): EINVAL, EACCES, ENOMEM.
pub fn attach(id: i32, addr: u64, flags: i32) -> SysResult {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let mut addr = addr;
    let is_fixed = addr != 0;
    if is_fixed {
        if !addr.is_multiple_of(PAGE) {
            if flags & SHM_RND == 0 {
                return Err(Errno::EINVAL);
            }
            addr &= !(PAGE - 1);
            if addr == 0 && flags & SHM_REMAP != 0 {
                return Err(Errno::EINVAL);
            }
        }
    } else if flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let read_only = flags & SHM_RDONLY != 0;
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, !read_only);
    let mut wanted = if read_only { 0o444 } else { 0o666 };
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        wanted |= 0o111;
    }
    let segment = find(id)?;
    with_caller(|caller| segment.state.lock().permissions.check(caller, wanted))?;
    let mut map_flags = MapFlags::SHARED;
    if is_fixed {
        let replaces = flags & SHM_REMAP != 0 || addr == 0;
        map_flags |= if replaces { MapFlags::FIXED } else { MapFlags::FIXED_NOREPLACE };
        if !replaces && addr.checked_add(segment.size).is_none() {
            return Err(Errno::EINVAL);
        }
    }
    let mut may = AreaFlags::MAY_ALL;
    may.set(AreaFlags::MAY_WRITE, !read_only);
    let source = Source { object: Some((segment.object.clone(), 0)), file: None, name: None, may };
    match current().address_space().map_source(addr, segment.size, prot, map_flags, source) {
        Ok(at) => Ok(at as usize),
        // Something is there.
        Err(Errno::EEXIST) => Err(Errno::EINVAL),
        Err(error) => Err(error),
    }
}

/// shmdt(2): EINVAL.
pub fn detach(addr: u64) -> SysResult {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    current().address_space().detach(addr, &|object| object.has_observer()).map(|()| 0)
}

/// `struct shmid64_ds`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ShmidDs {
    perm: IpcPerm,
    segsz: u64,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: u32,
    lpid: u32,
    nattch: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ShmInfo64 {
    shmmax: u64,
    shmmin: u64,
    shmmni: u64,
    shmseg: u64,
    shmall: u64,
    unused: [u64; 4],
}

/// `struct shm_info`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ShmInfo {
    used_ids: i32,
    pad: u32,
    shm_tot: u64,
    shm_rss: u64,
    shm_swp: u64,
    swap_attempts: u64,
    swap_successes: u64,
}

fn describe(segment: &Segment, key: i32) -> ShmidDs {
    let state = segment.state.lock();
    let mut extra = 0;
    if state.doomed {
        extra |= SHM_DEST;
    }
    if state.locked.is_some() {
        extra |= SHM_LOCKED;
    }
    ShmidDs {
        perm: IpcPerm::new(&state.permissions, segment.id, key, extra),
        segsz: segment.size,
        atime: state.attach_time,
        dtime: state.detach_time,
        ctime: state.change_time,
        cpid: segment.creator_pid,
        lpid: state.last_pid,
        nattch: state.attached,
        unused: [0; 2],
    }
}

/// IPC_INFO: the limits.
pub fn limits() -> ShmInfo64 {
    ShmInfo64 {
        shmmax: SHMMAX.load(Ordering::Relaxed),
        shmmin: 1,
        shmmni: SHMMNI.load(Ordering::Relaxed),
        shmseg: SHMMNI.load(Ordering::Relaxed),
        shmall: SHMALL.load(Ordering::Relaxed),
        unused: [0; 4],
    }
}

/// SHM_INFO: what there is now.
pub fn usage() -> ShmInfo {
    let segments: Vec<Arc<Segment>> = TABLE.lock().iter().map(|(_, _, segment)| segment.clone()).collect();
    ShmInfo {
        used_ids: segments.len() as i32,
        shm_tot: TOTAL_PAGES.load(Ordering::Relaxed),
        shm_rss: segments.iter().map(|segment| segment.object.nr_pages() as u64).sum(),
        ..ShmInfo::default()
    }
}

/// The highest index in use.
pub fn max_index() -> usize {
    TABLE.lock().max_index()
}

/// IPC_STAT and its kin: the segment's number and description. EINVAL, EACCES.
pub fn stat(which: Which) -> Result<(i32, ShmidDs), Errno> {
    let (segment, key) = {
        let table = TABLE.lock();
        let id = which.id(&table)?;
        (table.get(id)?.clone(), table.key(id)?)
    };
    if which.needs_right() {
        with_caller(|caller| segment.state.lock().permissions.check(caller, 0o444))?;
    }
    Ok((segment.id, describe(&segment, key)))
}

/// IPC_SET: EINVAL, EPERM.
pub fn set(id: i32, wanted: &ShmidDs) -> Result<(), Errno> {
    let segment = find(id)?;
    with_caller(|caller| {
        let mut state = segment.state.lock();
        state.permissions.check_owner(caller)?;
        wanted.perm.apply(&mut state.permissions)?;
        state.change_time = now_seconds();
        Ok(())
    })
}

/// IPC_RMID: it goes with its last attachment. EINVAL, EPERM.
pub fn remove(id: i32) -> Result<(), Errno> {
    let segment = find(id)?;
    with_caller(|caller| segment.state.lock().permissions.check_owner(caller))?;
    let mut table = TABLE.lock();
    let destroy = {
        let mut state = segment.state.lock();
        state.doomed = true;
        state.attached == 0
    };
    let gone = if destroy {
        table.remove(id).ok()
    } else {
        table.forget_key(id);
        None
    };
    drop(table);
    drop(gone);
    Ok(())
}

/// What may be done to a segment, for SHM_LOCK and SHM_UNLOCK: the pages its user may have locked; EPERM.
fn lock_limit(state: &State, locks: bool) -> Result<u64, Errno> {
    let creds = current().creds();
    if creds.has_cap(cap::IPC_LOCK) {
        return Ok(u64::MAX);
    }
    let limit_bytes = current().process.limit(rlimit::MEMLOCK);
    let owner = creds.euid == state.permissions.uid || creds.euid == state.permissions.creator_uid;
    if !owner || locks && limit_bytes == 0 { Err(Errno::EPERM) } else { Ok(limit_bytes / PAGE) }
}

/// SHM_LOCK. There is no swap: a segment's pages stay anyway; they are counted. EINVAL, EPERM, ENOMEM.
pub fn lock(id: i32) -> Result<(), Errno> {
    let segment = find(id)?;
    let mut state = segment.state.lock();
    let limit = lock_limit(&state, true)?;
    if state.locked.is_none() {
        state.locked = Some(LockedPages::new(current().creds().uid, segment.pages(), limit)?);
    }
    Ok(())
}

/// SHM_UNLOCK: EINVAL, EPERM.
pub fn unlock(id: i32) -> Result<(), Errno> {
    let segment = find(id)?;
    let mut state = segment.state.lock();
    lock_limit(&state, false)?;
    let unlocked = state.locked.take();
    drop(state);
    drop(unlocked);
    Ok(())
}

/// /proc/sysvipc/shm.
pub fn format_table() -> String {
    let mut out = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    let segments: Vec<(i32, Arc<Segment>)> =
        Vec::try_collect(TABLE.lock().iter().map(|(_, key, segment)| (key, segment.clone()))).unwrap_or_default();
    for (key, segment) in segments {
        if !text_room(&mut out, 256) {
            break;
        }
        let ds = describe(&segment, key);
        let _ = writeln!(
            out,
            "{:>10} {:>10}  {:>4o} {:>21} {:>5} {:>5}  {:>5} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10} {:>10} {:>21} {:>21}",
            key,
            segment.id,
            ds.perm.mode,
            ds.segsz,
            ds.cpid,
            ds.lpid,
            ds.nattch,
            ds.perm.uid,
            ds.perm.gid,
            ds.perm.cuid,
            ds.perm.cgid,
            ds.atime,
            ds.dtime,
            ds.ctime,
            segment.object.nr_pages() as u64 * PAGE,
            0
        );
    }
    out
}
