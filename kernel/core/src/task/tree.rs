//! All processes and threads: numbers, look-up, parentage.
//!
//! One table maps numbers to threads and processes; its lock is short and interrupt-safe. Parent and child links change
//! under `TREE`, which comes before any process's `relations`.

use super::{Process, Task};
use crate::prelude::*;
use hashbrown::HashMap;

/// Numbers are handed out in rising order and start anew here (kernel.pid_max).
const PID_MAX: u32 = 32_768;
/// First number after a wrap, as on Linux.
const RESERVED: u32 = 300;

#[derive(Default)]
struct Slot {
    task: Option<Arc<Task>>,
    process: Option<Arc<Process>>,
}

struct Table {
    slots: Option<HashMap<u32, Slot>>,
    last: u32,
    processes: Numbers,
    nr_tasks: usize,
}

static TABLE: IrqSpinLock<Table> =
    IrqSpinLock::new(Table { slots: None, last: 0, processes: Numbers::new(), nr_tasks: 0 });

/// A set of process numbers: a bit for each, and a bit for each word of them.
struct Numbers {
    words: [u64; PID_MAX as usize / 64],
    used: [u64; PID_MAX as usize / 64 / 64],
}

impl Numbers {
    const fn new() -> Self {
        Self { words: [0; PID_MAX as usize / 64], used: [0; PID_MAX as usize / 64 / 64] }
    }
    fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        self.words[word] |= 1 << (number % 64);
        self.used[word / 64] |= 1 << (word % 64);
    }
    fn remove(&mut self, number: u32) {
        let word = number as usize / 64;
        self.words[word] &= !(1 << (number % 64));
        if self.words[word] == 0 {
            self.used[word / 64] &= !(1 << (word % 64));
        }
    }
    /// The lowest one not below `from`.
    fn next(&self, from: u32) -> Option<u32> {
        let at = from as usize / 64;
        let rest = self.words.get(at)? >> (from % 64);
        if rest != 0 {
            return Some(from + rest.trailing_zeros());
        }
        let mut index = (at + 1) / 64;
        let mut bits = self.used.get(index)? & (!0 << ((at + 1) % 64));
        while bits == 0 {
            index += 1;
            bits = *self.used.get(index)?;
        }
        let word = index * 64 + bits.trailing_zeros() as usize;
        Some((word * 64) as u32 + self.words[word].trailing_zeros())
    }
}

/// Serialises changes of parentage.
pub static TREE: SpinLock<()> = SpinLock::new(());

impl Table {
    fn slots(&mut self) -> &mut HashMap<u32, Slot> {
        self.slots.get_or_insert_with(HashMap::new)
    }
    fn forget_if_empty(&mut self, id: u32) {
        let slots = self.slots();
        if slots.get(&id).is_some_and(|slot| slot.task.is_none() && slot.process.is_none()) {
            slots.remove(&id);
        }
    }
}

/// Reserves a number: EAGAIN when all are in use.
pub fn allocate_id() -> Result<u32, Errno> {
    let mut table = TABLE.lock();
    for _ in 0..PID_MAX {
        let next = if table.last + 1 >= PID_MAX { RESERVED } else { table.last + 1 };
        table.last = next;
        if !table.slots().contains_key(&next) {
            admit(size_of::<(u32, Slot)>()).map_err(|_| Errno::EAGAIN)?;
            table.slots().try_reserve(1).map_err(|_| Errno::EAGAIN)?;
            table.slots().insert(next, Slot::default());
            return Ok(next);
        }
    }
    Err(Errno::EAGAIN)
}

/// Gives back a number that nothing was registered under.
pub fn release_id(id: u32) {
    TABLE.lock().forget_if_empty(id);
}

pub fn register_task(task: &Arc<Task>) {
    let mut table = TABLE.lock();
    table.nr_tasks += 1;
    table.slots().entry(task.tid()).or_default().task = Some(task.clone());
}

pub fn register_process(process: &Arc<Process>) {
    let mut table = TABLE.lock();
    table.processes.insert(process.pid);
    table.slots().entry(process.pid).or_default().process = Some(process.clone());
}

/// The thread's number is free, unless an execve has given it to another ([`take_leader_id`]).
pub fn unregister_task(task: &Task) {
    let tid = task.tid();
    let mut table = TABLE.lock();
    let slot = table.slots().get_mut(&tid);
    let own = slot.and_then(|slot| slot.task.take_if(|registered| core::ptr::eq(&raw const **registered, task)));
    if own.is_some() {
        table.nr_tasks -= 1;
        table.forget_if_empty(tid);
    }
    drop(table);
    drop(own);
}

pub fn unregister_process(pid: u32) {
    let mut table = TABLE.lock();
    let process = table.slots().get_mut(&pid).and_then(|slot| slot.process.take());
    table.processes.remove(pid);
    table.forget_if_empty(pid);
    drop(table);
    drop(process);
}

/// Gives the only thread of a process the leader's number (execve from another thread): its own is free again. The leader that was may
/// be registered still: it has left the process, but not yet come to [`unregister_task`].
pub fn take_leader_id(task: &Task) {
    let (old, new) = (task.tid(), task.process.pid);
    let mut table = TABLE.lock();
    let slots = table.slots();
    let entry = slots.get_mut(&old).and_then(|slot| slot.task.take());
    let leader = core::mem::replace(&mut slots.entry(new).or_default().task, entry);
    if leader.is_some() {
        table.nr_tasks -= 1;
    }
    task.set_tid(new);
    table.forget_if_empty(old);
    drop(table);
    drop(leader);
}

pub fn nr_tasks() -> usize {
    TABLE.lock().nr_tasks
}

/// How many numbers are taken: threads, zombies, and those that are about to be either.
pub fn nr_ids() -> usize {
    TABLE.lock().slots().len()
}

/// The number given out last (/proc/loadavg).
pub fn last_id() -> u32 {
    TABLE.lock().last
}

/// The living or zombie process `pid`.
pub fn find_process(pid: u32) -> Option<Arc<Process>> {
    TABLE.lock().slots().get(&pid)?.process.clone()
}

/// The thread `tid`.
pub fn find_task(tid: u32) -> Option<Arc<Task>> {
    TABLE.lock().slots().get(&tid)?.task.clone()
}

fn snapshot(table: &mut Table) -> Vec<Arc<Process>> {
    table.slots().values().filter_map(|slot| slot.process.clone()).collect()
}

fn sorted(mut all: Vec<Arc<Process>>) -> Vec<Arc<Process>> {
    all.sort_unstable_by_key(|process| process.pid);
    all
}

/// A snapshot of all processes, by pid (procfs, kill(-1)).
pub fn all_processes() -> Vec<Arc<Process>> {
    let all = snapshot(&mut TABLE.lock());
    sorted(all)
}

/// As [`all_processes`], empty when the table is locked: for reports of a kernel that may have stopped anywhere.
pub fn all_processes_if_unlocked() -> Vec<Arc<Process>> {
    let Some(mut table) = TABLE.try_lock() else { return Vec::new() };
    let all = snapshot(&mut table);
    drop(table);
    sorted(all)
}

/// Calls `f` for every process, by pid, with no lock held and no memory needed.
pub fn for_each_process(mut f: impl FnMut(Arc<Process>)) {
    let mut at = 1;
    loop {
        let mut table = TABLE.lock();
        let Some(pid) = table.processes.next(at) else { return };
        let process = table.slots().get(&pid).and_then(|slot| slot.process.clone());
        drop(table);
        at = pid + 1;
        if let Some(process) = process {
            f(process);
        }
    }
}

/// A snapshot of the processes of group `pgid`.
pub fn process_group(pgid: u32) -> Vec<Arc<Process>> {
    let mut members = Vec::new();
    for_each_process(|process| {
        if process.pgid() == pgid {
            members.push(process);
        }
    });
    members
}

/// How many threads and zombies belong to real user id `uid` (RLIMIT_NPROC).
pub fn nr_ids_of(uid: u32) -> usize {
    let owners: Vec<_> = {
        let mut table = TABLE.lock();
        table.slots().values().map(|slot| (slot.task.clone(), slot.process.clone())).collect()
    };
    let owner = |(task, process): &(Option<Arc<Task>>, Option<Arc<Process>>)| match (task, process) {
        (Some(task), _) => Some(task.creds().uid),
        (None, Some(process)) if process.life.is_zombie() => Some(process.creds().uid),
        _ => None,
    };
    owners.iter().filter(|one| owner(one) == Some(uid)).count()
}

/// Makes `child` a child of `parent`.
pub fn adopt(parent: &Arc<Process>, child: &Arc<Process>) {
    child.relations.lock().parent = Arc::downgrade(parent);
    child.ppid.store(parent.pid, core::sync::atomic::Ordering::Relaxed);
    parent.relations.lock().children.push(child.clone());
}

/// Takes a reaped child from its parent's list.
pub fn disown(parent: &Process, child: &Arc<Process>) {
    parent.relations.lock().children.retain(|other| !Arc::ptr_eq(other, child));
}

/// Who inherits the children of `process`: the nearest living subreaper above it, else pid 1.
pub fn heir(process: &Arc<Process>) -> Option<Arc<Process>> {
    use core::sync::atomic::Ordering;
    let mut ancestor = process.parent();
    while let Some(candidate) = ancestor {
        if candidate.life.is_subreaper.load(Ordering::Relaxed) && !candidate.life.is_zombie() {
            return Some(candidate);
        }
        ancestor = candidate.parent();
    }
    find_process(1).filter(|init| !Arc::ptr_eq(init, process))
}
