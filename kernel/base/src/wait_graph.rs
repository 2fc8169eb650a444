//! Who waits for whom, and which of them can never go on.
//!
//! A thread that waits names its needs; each need is a set of threads any one of which could meet it (the one owner of a mutex,
//! all threads that could write to a pipe). A thread is stuck when one of its needs can only be met by stuck threads: the
//! largest set with that property is what [`stuck`] finds, by taking away, again and again, whoever can still go on.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One waiting thread. Threads without a `Wait` can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub thread: u32,
    /// All must be met; each by any one of its threads.
    pub needs: Vec<Vec<u32>>,
}

/// The threads that can never go on, as indexes into `waits`, in their order. `waits` has one entry a thread.
pub fn stuck(waits: &[Wait]) -> Vec<usize> {
    let mut is_stuck: Vec<bool> = waits.iter().map(|wait| !wait.needs.is_empty()).collect();
    let places: BTreeMap<u32, usize> = waits.iter().enumerate().map(|(at, wait)| (wait.thread, at)).collect();
    let index = |thread: u32| places.get(&thread).copied();
    let needs: Vec<Vec<Vec<Option<usize>>>> = waits
        .iter()
        .map(|wait| wait.needs.iter().map(|need| need.iter().map(|thread| index(*thread)).collect()).collect())
        .collect();
    loop {
        let mut changed = false;
        for at in 0..waits.len() {
            let can_be_met = |need: &Vec<Option<usize>>| {
                need.is_empty() || need.iter().any(|who| who.is_none_or(|who| !is_stuck[who]))
            };
            if is_stuck[at] && needs[at].iter().all(can_be_met) {
                is_stuck[at] = false;
                changed = true;
            }
        }
        if !changed {
            return (0..waits.len()).filter(|&at| is_stuck[at]).collect();
        }
    }
}

/// The circles among stuck threads: each a walk of indexes into `waits` where every thread waits for the next one and the last for
/// the first, beginning with its lowest index. Every stuck thread is on one of them or waits, perhaps by others, for one.
pub fn circles(waits: &[Wait], stuck: &[usize]) -> Vec<Vec<usize>> {
    let places: BTreeMap<u32, usize> = stuck.iter().map(|&at| (waits[at].thread, at)).collect();
    let is_stuck = |thread: u32| places.get(&thread).copied();
    // The first need that nobody can meet, and of those who could have, the first.
    let next = |at: usize| {
        let hopeless = waits[at]
            .needs
            .iter()
            .find(|need| !need.is_empty() && need.iter().all(|thread| is_stuck(*thread).is_some()))?;
        // Another thread tells more than the thread itself.
        let others = hopeless.iter().find(|thread| **thread != waits[at].thread);
        is_stuck(*others.or(hopeless.first())?)
    };
    let mut found: Vec<Vec<usize>> = Vec::new();
    for &start in stuck {
        let mut walk = Vec::new();
        let mut at = start;
        let circle = loop {
            if let Some(first) = walk.iter().position(|&seen| seen == at) {
                break walk.split_off(first);
            }
            walk.push(at);
            match next(at) {
                Some(to) => at = to,
                None => break Vec::new(),
            }
        };
        let lowest = circle.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(place, _)| place);
        let circle: Vec<usize> = circle[lowest..].iter().chain(&circle[..lowest]).copied().collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(thread: u32, needs: &[&[u32]]) -> Wait {
        Wait { thread, needs: needs.iter().map(|need| need.to_vec()).collect() }
    }

    #[test]
    fn two_mutexes_in_opposite_order() {
        let waits = [wait(1, &[&[2]]), wait(2, &[&[1]])];
        assert_eq!(stuck(&waits), [0, 1]);
        assert_eq!(circles(&waits, &[0, 1]), [[0, 1]]);
    }

    #[test]
    fn a_chain_to_a_running_thread_is_no_deadlock() {
        let waits = [wait(1, &[&[2]]), wait(2, &[&[3]])];
        assert!(stuck(&waits).is_empty());
    }

    #[test]
    fn who_waits_behind_a_circle_is_stuck_but_not_in_it() {
        let waits = [wait(9, &[&[1]]), wait(1, &[&[2]]), wait(2, &[&[1]])];
        assert_eq!(stuck(&waits), [0, 1, 2]);
        assert_eq!(circles(&waits, &[0, 1, 2]), [[1, 2]]);
    }

    #[test]
    fn one_who_could_help_is_enough_for_a_pipe() {
        // 1 and 2 read each other's pipe; 3 holds a write end of one.
        assert!(stuck(&[wait(1, &[&[2, 3]]), wait(2, &[&[1]])]).is_empty());
        // 3 is blocked as well, on a thread that runs.
        assert!(stuck(&[wait(1, &[&[2, 3]]), wait(2, &[&[1]]), wait(3, &[&[4]])]).is_empty());
        // 3 is blocked on 1.
        assert_eq!(stuck(&[wait(1, &[&[2, 3]]), wait(2, &[&[1]]), wait(3, &[&[1]])]), [0, 1, 2]);
    }

    #[test]
    fn every_lock_in_the_way_must_go() {
        // 1 waits for two read locks: 2 runs, 3 waits for 1.
        let waits = [wait(1, &[&[2], &[3]]), wait(3, &[&[1]])];
        assert_eq!(stuck(&waits), [0, 1]);
        assert_eq!(circles(&waits, &[0, 1]), [[0, 1]]);
    }

    #[test]
    fn a_thread_can_wait_for_itself() {
        let waits = [wait(5, &[&[5]])];
        assert_eq!(circles(&waits, &stuck(&waits)), [[0]]);
    }

    #[test]
    fn nothing_known_is_no_deadlock() {
        assert!(stuck(&[wait(1, &[]), wait(2, &[&[]])]).is_empty());
        assert!(stuck(&[]).is_empty());
    }

    /// Against the definition: for every graph of four threads with up to one need of up to two threads each, the answer is the
    /// largest set in which everyone's need lies inside.
    #[test]
    fn all_small_graphs() {
        const N: u32 = 4;
        // A need is a set of threads as bits; 0 is a thread that does not wait.
        let needs: Vec<u32> = (0..1u32 << N).filter(|set| set.count_ones() <= 2).collect();
        let mut choice = [0usize; N as usize];
        loop {
            let waits: Vec<Wait> = (0..N)
                .filter(|&thread| needs[choice[thread as usize]] != 0)
                .map(|thread| {
                    let set = needs[choice[thread as usize]];
                    Wait { thread, needs: vec![(0..N).filter(|other| set >> other & 1 == 1).collect()] }
                })
                .collect();
            let mut largest = 0u32;
            for set in 0..1u32 << N {
                let closed = (0..N).filter(|thread| set >> thread & 1 == 1).all(|thread| {
                    let need = needs[choice[thread as usize]];
                    need != 0 && need & !set == 0
                });
                if closed && set.count_ones() > largest.count_ones() {
                    largest = set;
                }
            }
            let found = stuck(&waits);
            assert_eq!(found.iter().fold(0, |set, &at| set | 1 << waits[at].thread), largest, "{waits:?}");
            for circle in circles(&waits, &found) {
                for (place, &at) in circle.iter().enumerate() {
                    let next = waits[circle[(place + 1) % circle.len()]].thread;
                    assert!(waits[at].needs[0].contains(&next), "{waits:?} {circle:?}");
                }
            }
            assert_eq!(circles(&waits, &found).is_empty(), found.is_empty());
            let Some(place) = choice.iter().position(|&at| at + 1 < needs.len()) else { break };
            choice[place] += 1;
            choice[..place].fill(0);
        }
    }
}
