//! All processes and threads: numbers, look-up, groups, parentage.
//!
//! One table maps numbers to threads and processes, and knows the members of each group; its lock is short and interrupt-safe. Parent
//! and child links change under `TREE`, which knows every process's children. Both come before any process's `relations`.

use super::{Process, Task};
use crate::prelude::*;
use base::numbers::NumberMap;
use base::slab::NONE;
use base::tree::{Key, Tree};
use core::ops::{ControlFlow, Range};
use core::sync::atomic::Ordering;

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
    slots: NumberMap<Slot>,
    last: u32,
    nr_tasks: usize,
    /// The processes by group and pid; each knows its number here ([`super::process::Relations::group_slot`]).
    groups: Tree<Arc<Process>>,
}

static TABLE: IrqSpinLock<Table> =
    IrqSpinLock::new(Table { slots: NumberMap::new(), last: 0, nr_tasks: 0, groups: Tree::new() });

/// Who is whose child.
pub struct Family {
    /// The children of all processes, by parent and age; a weight of 1 is one with something to report to wait(2). Each child knows its
    /// number here ([`super::process::Relations::child_slot`]).
    children: Tree<Arc<Process>>,
    /// Children there have been.
    made: u64,
}

/// Serialises changes of parentage.
pub static TREE: IrqSpinLock<Family> = IrqSpinLock::new(Family { children: Tree::new(), made: 0 });

/// The keys that begin with `number`.
fn all_of(number: u32) -> Range<Key> {
    (u64::from(number), 0)..(u64::from(number) + 1, 0)
}

impl Table {
    fn forget_if_empty(&mut self, id: u32) {
        if self.slots.get(id).is_some_and(|slot| slot.task.is_none() && slot.process.is_none()) {
            self.slots.release(id);
        }
    }
}

/// Reserves a number: EAGAIN when all are in use, ENOMEM.
pub fn allocate_id() -> Result<u32, Errno> {
    let mut table = TABLE.lock();
    let next = table.last + 1;
    let first = if next < RESERVED { next } else { RESERVED };
    table.last = table.slots.take(&[next..PID_MAX, first..next.max(first)])?;
    Ok(table.last)
}

/// Gives back a number that nothing was registered under.
pub fn release_id(id: u32) {
    TABLE.lock().forget_if_empty(id);
}

/// Registers a thread under its number, which is reserved.
pub fn register_task(task: &Arc<Task>) {
    let mut table = TABLE.lock();
    if let Some(slot) = table.slots.get_mut(task.tid()) {
        slot.task = Some(task.clone());
        table.nr_tasks += 1;
    }
}

/// Registers a process under its number, which is reserved, and in its group: ENOMEM.
pub fn register_process(process: &Arc<Process>) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let mut relations = process.relations.lock();
    let key = (u64::from(relations.pgid), u64::from(process.pid));
    relations.group_slot = table.groups.insert(key, 0, process.clone())?;
    drop(relations);
    if let Some(slot) = table.slots.get_mut(process.pid) {
        slot.process = Some(process.clone());
    }
    Ok(())
}

/// Puts a process into group `pgid`, and into session `sid` if there is one: ENOMEM.
pub fn set_group(process: &Arc<Process>, pgid: u32, sid: Option<u32>) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let mut relations = process.relations.lock();
    let slot = table.groups.insert((u64::from(pgid), u64::from(process.pid)), 0, process.clone())?;
    let old = table.groups.remove(relations.group_slot);
    relations.group_slot = slot;
    relations.pgid = pgid;
    relations.sid = sid.unwrap_or(relations.sid);
    drop(relations);
    drop(table);
    drop(old);
    Ok(())
}

/// The thread's number is free, unless an execve has given it to another ([`take_leader_id`]).
pub fn unregister_task(task: &Task) {
    let tid = task.tid();
    let mut table = TABLE.lock();
    let slot = table.slots.get_mut(tid);
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
    let process = table.slots.get_mut(pid).and_then(|slot| slot.process.take());
    let slot = process.as_ref().map_or(NONE, |process| process.relations.lock().group_slot);
    let member = table.groups.remove(slot);
    table.forget_if_empty(pid);
    drop(table);
    drop((process, member));
}

/// Gives the only thread of a process the leader's number (execve from another thread): its own is free again. The leader that was may
/// be registered still: it has left the process, but not yet come to [`unregister_task`].
pub fn take_leader_id(task: &Task) {
    let (old, new) = (task.tid(), task.process.pid);
    let mut table = TABLE.lock();
    let entry = table.slots.get_mut(old).and_then(|slot| slot.task.take());
    // The process stands there: its number is taken.
    let leader = table.slots.get_mut(new).and_then(|slot| core::mem::replace(&mut slot.task, entry));
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
    TABLE.lock().slots.len()
}

/// The number given out last (/proc/loadavg).
pub fn last_id() -> u32 {
    TABLE.lock().last
}

/// The living or zombie process `pid`.
pub fn find_process(pid: u32) -> Option<Arc<Process>> {
    TABLE.lock().slots.get(pid)?.process.clone()
}

/// The thread `tid`.
pub fn find_task(tid: u32) -> Option<Arc<Task>> {
    TABLE.lock().slots.get(tid)?.task.clone()
}

fn snapshot(table: &Table) -> Vec<Arc<Process>> {
    table.slots.values().filter_map(|slot| slot.process.clone()).collect()
}

/// A snapshot of all processes, by pid (procfs, kill(-1)).
pub fn all_processes() -> Vec<Arc<Process>> {
    snapshot(&TABLE.lock())
}

/// As [`all_processes`], empty when the table is locked: for reports of a kernel that may have stopped anywhere.
pub fn all_processes_if_unlocked() -> Vec<Arc<Process>> {
    TABLE.try_lock().map_or_else(Vec::new, |table| snapshot(&table))
}

/// Calls `f` for every process, by pid, with no lock held and no memory needed.
pub fn for_each_process(mut f: impl FnMut(Arc<Process>)) {
    let mut next = 0;
    while let Some((pid, process)) = next_process(next) {
        next = pid + 1;
        f(process);
    }
}

/// The first process with a number of `from` or more.
fn next_process(from: u32) -> Option<(u32, Arc<Process>)> {
    let table = TABLE.lock();
    table.slots.iter_from(from).find_map(|(pid, slot)| Some((pid, slot.process.clone()?)))
}

/// Calls `f` for every process of group `pgid`, by pid, with no lock held and no memory needed.
pub fn for_each_in_group(pgid: u32, mut f: impl FnMut(Arc<Process>)) {
    let mut from = all_of(pgid);
    loop {
        let table = TABLE.lock();
        let member = table.groups.first(from.clone(), 0).and_then(|index| table.groups.get(index)).cloned();
        drop(table);
        let Some(member) = member else { return };
        from.start.1 = u64::from(member.pid) + 1;
        f(member);
    }
}

/// A snapshot of the processes of group `pgid`, by pid.
pub fn process_group(pgid: u32) -> Vec<Arc<Process>> {
    let mut members = Vec::new();
    TABLE.lock().groups.visit(all_of(pgid), 0, &mut |_, process| {
        members.push(process.clone());
        ControlFlow::Continue(())
    });
    members
}

/// How many threads and zombies belong to real user id `uid` (RLIMIT_NPROC).
pub fn nr_ids_of(uid: u32) -> usize {
    let owners: Vec<_> = {
        let table = TABLE.lock();
        table.slots.values().map(|slot| (slot.task.clone(), slot.process.clone())).collect()
    };
    let owner = |(task, process): &(Option<Arc<Task>>, Option<Arc<Process>>)| match (task, process) {
        (Some(task), _) => Some(task.creds().uid),
        (None, Some(process)) if process.life.is_zombie() => Some(process.creds().uid),
        _ => None,
    };
    owners.iter().filter(|one| owner(one) == Some(uid)).count()
}

impl Family {
    /// Makes `child`, which has no parent here, a child of `parent`: ENOMEM, but not for one that was just disowned.
    pub fn adopt(&mut self, parent: &Arc<Process>, child: &Arc<Process>) -> Result<(), Errno> {
        self.made += 1;
        let key = (u64::from(parent.pid), self.made);
        let slot = self.children.insert(key, u64::from(child.life.has_report()), child.clone())?;
        let mut relations = child.relations.lock();
        relations.child_slot = slot;
        relations.parent = Arc::downgrade(parent);
        child.ppid.store(parent.pid, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a child from its parent's.
    pub fn disown(&mut self, child: &Process) {
        let slot = core::mem::replace(&mut child.relations.lock().child_slot, NONE);
        let own = self.children.remove(slot);
        drop(own);
    }

    /// The oldest child of `pid`.
    pub fn first_child(&self, pid: u32) -> Option<Arc<Process>> {
        self.children.get(self.children.first(all_of(pid), 0)?).cloned()
    }

    /// Runs `f` on the children of `pid`, oldest first, until it breaks; answers whether it did.
    pub fn visit_children(&self, pid: u32, f: &mut dyn FnMut(&Arc<Process>) -> ControlFlow<()>) -> bool {
        self.children.visit(all_of(pid), 0, &mut |_, child| f(child))
    }

    /// The oldest child of `pid`, of those behind `after`, that may have something to report, and its place.
    pub fn next_report(&mut self, pid: u32, after: u64) -> Option<(Arc<Process>, u64)> {
        let (pid, mut after) = (u64::from(pid), after);
        loop {
            let index = self.children.first((pid, after + 1)..(pid + 1, 0), 1)?;
            let ((_, place), _) = self.children.place(index)?;
            let child = self.children.get(index)?;
            if child.life.has_report() {
                return Some((child.clone(), place));
            }
            // Whoever has something to report from now on says so again.
            self.children.set_weight(index, 0);
            after = place;
        }
    }
}

/// `child` has something to report to wait(2): call it after that is so.
pub fn note_report(child: &Process) {
    let mut family = TREE.lock();
    let slot = child.relations.lock().child_slot;
    family.children.set_weight(slot, 1);
}

/// Who inherits the children of `process`: the nearest living subreaper above it, else pid 1.
pub fn heir(process: &Arc<Process>) -> Option<Arc<Process>> {
    let mut ancestor = process.parent();
    while let Some(candidate) = ancestor {
        if candidate.life.is_subreaper.load(Ordering::Relaxed) && !candidate.life.is_zombie() {
            return Some(candidate);
        }
        ancestor = candidate.parent();
    }
    find_process(1).filter(|init| !Arc::ptr_eq(init, process))
}
