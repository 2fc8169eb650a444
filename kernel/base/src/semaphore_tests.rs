//! Operations one by one, then every short history of several threads against what must hold whatever happens.

use super::*;

fn op(number: u16, change: i16) -> Op {
    Op { number, change, flags: 0 }
}

#[test]
fn all_or_nothing() {
    let mut set = [Semaphore::new(1, 0), Semaphore::new(0, 0)];
    assert_eq!(attempt(&mut set, &[op(0, -1), op(1, -1)], 7, &mut []), Ok(Outcome::Blocked(1)));
    assert_eq!(set[0], Semaphore::new(1, 0));
    assert_eq!(attempt(&mut set, &[op(1, 1), op(0, -1), op(1, -1)], 7, &mut []), Ok(Outcome::Done));
    assert_eq!((set[0].value, set[1].value, set[0].pid), (0, 0, 7));
    assert_eq!(attempt(&mut set, &[op(0, 0)], 8, &mut []), Ok(Outcome::Done));
    assert_eq!(attempt(&mut set, &[op(0, 32_767), op(0, 1)], 8, &mut []), Err(Errno::ERANGE));
    assert_eq!(set[0].value, 0);
}

#[test]
fn adjustments_mirror_changes() {
    let mut set = [Semaphore::new(3, 0)];
    let mut adjust = [0i16];
    let take = Op { flags: SEM_UNDO, ..op(0, -2) };
    assert_eq!(attempt(&mut set, &[take], 1, &mut adjust), Ok(Outcome::Done));
    assert_eq!((set[0].value, adjust[0]), (1, 2));
    assert_eq!(attempt(&mut set, &[take], 1, &mut adjust), Ok(Outcome::Blocked(0)));
    assert_eq!(attempt(&mut set, &[take, take], 1, &mut adjust), Ok(Outcome::Blocked(0)));
    assert_eq!(adjust[0], 2);
    assert!(undo(&mut set, &adjust, 9));
    assert_eq!((set[0].value, set[0].pid, set[0].holder()), (3, 9, None));
}

#[test]
fn a_lock_has_a_holder_and_a_signal_has_none() {
    let mut set = [Semaphore::new(1, 1)];
    let mut step = |change, pid| {
        assert_eq!(attempt(&mut set, &[op(0, change)], pid, &mut []), Ok(Outcome::Done));
        set[0].holder()
    };
    assert_eq!(step(-1, 2), Some(2));
    assert_eq!(step(1, 2), None);
    assert_eq!(step(-1, 3), Some(3));
    // Raised by another: from now on nobody is said to hold it.
    assert_eq!(step(1, 2), None);
    assert_eq!(step(-1, 3), None);
    // Raised before anyone had taken it: a count of events.
    let mut set = [Semaphore::new(0, 0)];
    assert_eq!(attempt(&mut set, &[op(0, 1)], 1, &mut []), Ok(Outcome::Done));
    assert_eq!(attempt(&mut set, &[op(0, -1)], 2, &mut []), Ok(Outcome::Done));
    assert_eq!(set[0].holder(), None);
}

use alloc::vec::Vec;
use core::cell::RefCell;
use std::rc::Rc;

/// A thread of the histories.
struct Thread {
    ops: Vec<Op>,
    pid: u32,
    adjust: Rc<RefCell<[i16; 2]>>,
}

impl Waiter for Thread {
    fn ops(&self) -> &[Op] {
        &self.ops
    }
    fn pid(&self) -> u32 {
        self.pid
    }
    fn with_adjustments<R>(&self, f: impl FnOnce(&mut [i16]) -> R) -> R {
        f(&mut *self.adjust.borrow_mut())
    }
}

#[test]
fn a_line_goes_on_in_order() {
    let mut set = [Semaphore::new(0, 0), Semaphore::new(0, 0)];
    let mut line = Line::new();
    let thread = |pid, ops: &[Op]| Thread { ops: ops.to_vec(), pid, adjust: Rc::default() };
    line.push(thread(1, &[op(0, -2)]), 0);
    line.push(thread(2, &[op(0, -1), op(1, 1)]), 0);
    line.push(thread(3, &[op(0, -1), Op { flags: IPC_NOWAIT, ..op(1, -5) }]), 0);
    line.push(thread(4, &[op(1, -1), op(0, 0)]), 0);
    assert_eq!((line.count_waiting(0), line.count_waiting(1)), ((3, 0), (1, 0)));
    set[0].value = 1;
    let mut ended = Vec::new();
    assert!(line.after_change(&mut set, |thread, result| ended.push((thread.pid, result))));
    // 2 takes the unit and raises 1, which lets 4 go; 3 waits for another unit still.
    assert_eq!(ended, [(2, Ok(())), (4, Ok(()))]);
    set[0].value = 1;
    ended.clear();
    assert!(!line.after_change(&mut set, |thread, result| ended.push((thread.pid, result))));
    assert_eq!(ended, [(3, Err(Errno::EAGAIN))]);
    assert_eq!(set[0].value, 1);
    assert_eq!(line.blocked_at(|thread| thread.pid == 1), Some(op(0, -2)));
    assert!(line.cancel(|thread| thread.pid == 1) && line.is_empty());
}

/// Five steps of three threads on two semaphores: operations of every kind, a time-out, a kill, SETVAL.
#[test]
fn all_short_histories() {
    const CHOICES: u32 = 9;
    let undo = |number, change| Op { flags: SEM_UNDO, ..op(number, change) };
    let menu: [Vec<Op>; 6] = [
        alloc::vec![op(0, 1)],
        alloc::vec![op(0, -1)],
        alloc::vec![undo(0, -1), undo(1, 1)],
        alloc::vec![undo(1, -2), op(0, 2)],
        alloc::vec![op(0, 0), undo(0, 1)],
        alloc::vec![op(1, -1), Op { flags: IPC_NOWAIT, ..op(0, -1) }],
    ];
    for history in 0..CHOICES.pow(5) {
        let mut set = [Semaphore::new(1, 0), Semaphore::new(0, 0)];
        let mut line: Line<Thread> = Line::new();
        let adjust: [Rc<RefCell<[i16; 2]>>; 3] = Default::default();
        for step in 0..5u32 {
            let pid = step % 3;
            let own = &adjust[pid as usize];
            let mut changed = true;
            match history / CHOICES.pow(step) % CHOICES {
                // A thread that sleeps in the line can do nothing more.
                choice @ 0..6 if line.blocked_at(|thread| thread.pid == pid).is_none() => {
                    let ops = &menu[choice as usize];
                    let before = (set, *own.borrow());
                    let outcome = attempt(&mut set, ops, pid, &mut *own.borrow_mut()).unwrap();
                    if let Outcome::Blocked(at) = outcome {
                        assert_eq!(before, (set, *own.borrow()), "nothing is done by halves");
                        changed = false;
                        if !ops[at].is_no_wait() {
                            line.push(Thread { ops: ops.clone(), pid, adjust: own.clone() }, at);
                        }
                    }
                }
                6 => changed = !line.cancel(|thread| thread.pid == pid),
                7 => {
                    line.cancel(|thread| thread.pid == pid);
                    let values = set.map(|semaphore| i32::from(semaphore.value));
                    undo_all(&mut set, own, pid);
                    let left = own.replace([0; 2]);
                    for number in 0..2 {
                        let expected = (values[number] + i32::from(left[number])).clamp(0, MAX_VALUE);
                        assert_eq!(i32::from(set[number].value), expected);
                    }
                }
                8 => {
                    set[0] = Semaphore::new(2, pid);
                    adjust.iter().for_each(|adjust| adjust.borrow_mut()[0] = 0);
                }
                _ => changed = false,
            }
            if changed {
                line.after_change(&mut set, |thread, result| {
                    assert!(result.is_ok() || thread.ops.iter().any(|op| op.is_no_wait()));
                });
            }
            // Nobody sleeps who could go on, and what holds them up is told as it is.
            for place in &line.places {
                let (mut copy, mut adjust) = (set, *place.waiter.adjust.borrow());
                let outcome = attempt(&mut copy, &place.waiter.ops, place.waiter.pid, &mut adjust);
                assert_eq!(outcome, Ok(Outcome::Blocked(place.blocked)));
            }
        }
    }
}

fn undo_all(set: &mut [Semaphore; 2], adjust: &RefCell<[i16; 2]>, pid: u32) {
    super::undo(set, &*adjust.borrow(), pid);
}
