//! Priority inheritance as a pure state machine: who owns which contended lock, who waits for it, and which priority each owner
//! is lent, along chains of locks that wait for each other.
//!
//! Priorities are real-time priorities: 0 is none, 99 the highest. Every operation that changes what is lent answers the
//! changes; the caller applies them to its tasks. `K` names a lock.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Longer chains are not followed: they count as circles, as on Linux.
pub const MAX_CHAIN: usize = 1024;

/// Thread number and the priority it is lent now.
pub type Changes = Vec<(u32, u8)>;

struct Lock {
    owner: u32,
    /// In the order of arrival.
    waiters: Vec<u32>,
}

struct Wait<K> {
    lock: K,
    /// The waiter's priority without what it is lent.
    own: u8,
}

/// The contended locks of all threads.
pub struct PriorityGraph<K> {
    locks: BTreeMap<K, Lock>,
    waits: BTreeMap<u32, Wait<K>>,
    /// Contended locks by owner.
    held: BTreeMap<u32, BTreeSet<K>>,
    /// What owners are lent, where it is not 0.
    lent: BTreeMap<u32, u8>,
}

impl<K: Ord + Copy> PriorityGraph<K> {
    #[expect(clippy::new_without_default, reason = "const constructor is the one used")]
    pub const fn new() -> Self {
        Self { locks: BTreeMap::new(), waits: BTreeMap::new(), held: BTreeMap::new(), lent: BTreeMap::new() }
    }

    /// Whether anybody waits for the lock.
    pub fn is_contended(&self, lock: &K) -> bool {
        self.locks.contains_key(lock)
    }

    /// How many threads wait for the lock.
    pub fn nr_waiters(&self, lock: &K) -> usize {
        self.locks.get(lock).map_or(0, |lock| lock.waiters.len())
    }

    /// Whether waiting for `owner` would, along the chain, wait for `tid` itself.
    pub fn closes_circle(&self, owner: u32, tid: u32) -> bool {
        let mut at = owner;
        for _ in 0..MAX_CHAIN {
            if at == tid {
                return true;
            }
            match self.waits.get(&at).and_then(|wait| self.locks.get(&wait.lock)) {
                Some(lock) => at = lock.owner,
                None => return false,
            }
        }
        true
    }

    /// A thread's priority with what it is lent.
    fn effective(&self, tid: u32) -> u8 {
        let own = self.waits.get(&tid).map_or(0, |wait| wait.own);
        own.max(self.lent.get(&tid).copied().unwrap_or(0))
    }

    /// Who owns the lock that `tid` waits for.
    pub fn owner_for(&self, tid: u32) -> Option<u32> {
        Some(self.locks.get(&self.waits.get(&tid)?.lock)?.owner)
    }

    /// The waiter that gets the lock next: of the highest priority, the longest waiting.
    pub fn first(&self, lock: &K) -> Option<u32> {
        let waiters = &self.locks.get(lock)?.waiters;
        waiters.iter().copied().reduce(|best, tid| if self.effective(tid) > self.effective(best) { tid } else { best })
    }

    /// Brings what `tid` is lent up to date, and so on along the chain it waits in.
    fn lend(&mut self, tid: u32, changes: &mut Changes) {
        let mut tid = tid;
        for _ in 0..MAX_CHAIN {
            let held = self.held.get(&tid).into_iter().flatten().filter_map(|lock| self.locks.get(lock));
            let lent = held.flat_map(|lock| &lock.waiters).map(|waiter| self.effective(*waiter)).max().unwrap_or(0);
            let old = if lent == 0 { self.lent.remove(&tid) } else { self.lent.insert(tid, lent) };
            if old.unwrap_or(0) == lent {
                return;
            }
            changes.push((tid, lent));
            match self.waits.get(&tid).and_then(|wait| self.locks.get(&wait.lock)) {
                Some(lock) => tid = lock.owner,
                None => return,
            }
        }
    }

    fn no_longer_holds(&mut self, tid: u32, lock: &K) {
        if let Some(held) = self.held.get_mut(&tid) {
            held.remove(lock);
            if held.is_empty() {
                self.held.remove(&tid);
            }
        }
    }

    /// `tid` owns the lock now; nothing happens when nobody waits for it.
    pub fn set_owner(&mut self, lock: &K, tid: u32, changes: &mut Changes) {
        let Some(entry) = self.locks.get_mut(lock) else { return };
        let old = core::mem::replace(&mut entry.owner, tid);
        if old != tid {
            self.no_longer_holds(old, lock);
            self.held.entry(tid).or_default().insert(*lock);
            self.lend(old, changes);
        }
        self.lend(tid, changes);
    }

    /// `tid`, of its own priority `own`, waits for the lock, which `owner` holds. The caller has asked
    /// [`closes_circle`](Self::closes_circle) before.
    pub fn wait(&mut self, lock: K, owner: u32, tid: u32, own: u8, changes: &mut Changes) {
        self.locks.entry(lock).or_insert_with(|| Lock { owner, waiters: Vec::new() }).waiters.push(tid);
        self.held.entry(owner).or_default().insert(lock);
        self.waits.insert(tid, Wait { lock, own });
        self.set_owner(&lock, owner, changes);
    }

    /// `tid` waits no longer; answers the lock it waited for.
    pub fn leave(&mut self, tid: u32, changes: &mut Changes) -> Option<K> {
        let wait = self.waits.remove(&tid)?;
        let lock = self.locks.get_mut(&wait.lock)?;
        lock.waiters.retain(|other| *other != tid);
        let owner = lock.owner;
        if lock.waiters.is_empty() {
            self.locks.remove(&wait.lock);
            self.no_longer_holds(owner, &wait.lock);
        }
        self.lend(owner, changes);
        Some(wait.lock)
    }

    /// The first waiter becomes the owner and waits no longer: answers it.
    pub fn hand_over(&mut self, lock: &K, changes: &mut Changes) -> Option<u32> {
        let next = self.first(lock)?;
        self.leave(next, changes);
        self.set_owner(lock, next, changes);
        Some(next)
    }

    /// The contended locks that `tid` owns.
    pub fn held_by(&self, tid: u32) -> Vec<K> {
        self.held.get(&tid).into_iter().flatten().copied().collect()
    }

    /// The own priority of a thread that may be waiting has changed.
    pub fn set_priority(&mut self, tid: u32, own: u8, changes: &mut Changes) {
        let Some(wait) = self.waits.get_mut(&tid) else { return };
        wait.own = own;
        if let Some(owner) = self.locks.get(&wait.lock).map(|lock| lock.owner) {
            self.lend(owner, changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What must be lent, computed from nothing: the highest priority of all who wait, however indirectly.
    fn expected(graph: &PriorityGraph<u32>, tid: u32) -> u8 {
        fn of(graph: &PriorityGraph<u32>, tid: u32) -> u8 {
            let waiters = graph.locks.values().filter(|lock| lock.owner == tid).flat_map(|lock| &lock.waiters);
            waiters.map(|waiter| graph.waits[waiter].own.max(of(graph, *waiter))).max().unwrap_or(0)
        }
        of(graph, tid)
    }

    fn check(graph: &PriorityGraph<u32>, applied: &BTreeMap<u32, u8>) {
        for tid in 1..=6 {
            let lent = expected(graph, tid);
            assert_eq!(graph.lent.get(&tid).copied().unwrap_or(0), lent, "thread {tid}");
            assert_eq!(applied.get(&tid).copied().unwrap_or(0), lent, "changes told of thread {tid}");
        }
        for (key, lock) in &graph.locks {
            assert!(!lock.waiters.is_empty());
            assert!(graph.held[&lock.owner].contains(key));
            assert!(lock.waiters.iter().all(|waiter| graph.waits[waiter].lock == *key));
        }
        assert_eq!(graph.held.values().map(BTreeSet::len).sum::<usize>(), graph.locks.len());
        assert_eq!(graph.waits.len(), graph.locks.values().map(|lock| lock.waiters.len()).sum::<usize>());
    }

    #[test]
    fn priority_goes_along_the_chain_and_comes_back() {
        let mut graph = PriorityGraph::new();
        let mut changes = Changes::new();
        graph.wait('a', 1, 2, 10, &mut changes);
        graph.wait('b', 2, 3, 50, &mut changes);
        assert_eq!(changes, [(1, 10), (2, 50), (1, 50)]);
        assert!(graph.closes_circle(3, 3) && graph.closes_circle(1, 1) && !graph.closes_circle(1, 3));
        assert!(graph.closes_circle(2, 1), "3 would wait for 2, which waits for 1");
        changes.clear();
        graph.set_priority(3, 60, &mut changes);
        assert_eq!(changes, [(2, 60), (1, 60)]);
        changes.clear();
        assert_eq!(graph.leave(3, &mut changes), Some('b'));
        assert_eq!(changes, [(2, 0), (1, 10)]);
        changes.clear();
        assert_eq!(graph.hand_over(&'a', &mut changes), Some(2));
        assert_eq!(changes, [(1, 0)]);
        assert!(!graph.is_contended(&'a'));
    }

    #[test]
    fn the_highest_waits_least_and_equals_keep_their_order() {
        let mut graph = PriorityGraph::new();
        let mut changes = Changes::new();
        for (tid, own) in [(2, 5), (3, 9), (4, 9), (5, 0)] {
            graph.wait('a', 1, tid, own, &mut changes);
        }
        // A waiter that is lent a higher priority goes before all.
        graph.wait('b', 5, 6, 20, &mut changes);
        for next in [5, 3, 4, 2] {
            assert_eq!(graph.hand_over(&'a', &mut changes), Some(next));
        }
        assert_eq!(graph.hand_over(&'a', &mut changes), None);
    }

    /// Every sequence of four operations of four threads and two locks, of which 1 and 2 own one each, checked against the
    /// definition after each step.
    #[test]
    fn all_short_histories() {
        #[derive(Clone, Copy)]
        enum Step {
            Wait(u32, u32),
            Leave(u32),
            HandOver(u32),
            Priority(u32, u8),
        }
        let mut steps = Vec::new();
        for lock in 0..2 {
            steps.extend((1..=4).map(|tid| Step::Wait(lock, tid)));
            steps.push(Step::HandOver(lock));
        }
        steps.extend((1..=4).flat_map(|tid| [Step::Leave(tid), Step::Priority(tid, 99)]));
        let mut at = [0usize; 4];
        loop {
            let mut graph: PriorityGraph<u32> = PriorityGraph::new();
            // Who owns the locks, contended or not: 0 nobody.
            let mut owners = [1u32, 2];
            let mut applied = BTreeMap::new();
            for index in at {
                let mut changes = Changes::new();
                match steps[index] {
                    Step::Wait(lock, tid) => {
                        let owner = owners[lock as usize];
                        if owner == 0 && !graph.waits.contains_key(&tid) {
                            owners[lock as usize] = tid;
                        } else if owner != 0 && !graph.waits.contains_key(&tid) && !graph.closes_circle(owner, tid) {
                            graph.wait(lock, owner, tid, tid as u8 * 10, &mut changes);
                        }
                    }
                    Step::Leave(tid) => drop(graph.leave(tid, &mut changes)),
                    Step::HandOver(lock) => {
                        owners[lock as usize] = graph.hand_over(&lock, &mut changes).unwrap_or(0);
                    }
                    Step::Priority(tid, own) => graph.set_priority(tid, own, &mut changes),
                }
                applied.extend(changes);
                check(&graph, &applied);
            }
            let Some(place) = at.iter().position(|index| index + 1 < steps.len()) else { break };
            at[..place].fill(0);
            at[place] += 1;
        }
    }
}
