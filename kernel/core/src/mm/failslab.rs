//! Fault injection into allocations, as Linux's failslab: calls of chosen processes are refused memory now and then, for no reason.
//!
//! `failslab=INTERVAL,PROBABILITY,SPACE,TIMES` on the command line: of the allocations that can fail every INTERVAL-th is refused with
//! PROBABILITY percent, after the first SPACE bytes, TIMES times in all (-1: always). Only in system calls of processes whose
//! `/proc/PID/make-it-fail` is 1, which children inherit (Linux's `task-filter` is on).

use crate::prelude::*;
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};

static INTERVAL: AtomicU32 = AtomicU32::new(1);
static PROBABILITY: AtomicU32 = AtomicU32::new(0);
static SPACE: AtomicI64 = AtomicI64::new(0);
/// How many are left; below 0 without end.
static TIMES: AtomicI64 = AtomicI64::new(0);
static COUNT: AtomicU32 = AtomicU32::new(0);
/// The same sequence on every boot.
static DICE: AtomicU32 = AtomicU32::new(0x2545_f491);

/// Reads the command line's option; a missing or malformed number keeps its default (1, 0, 0, 1), as on Linux.
pub fn init() {
    let Some(option) = crate::command_line::option("failslab") else { return };
    let mut numbers = option.split(',').map(|number| number.trim().parse::<i64>().ok());
    let mut next = |default| numbers.next().flatten().unwrap_or(default);
    INTERVAL.store(next(1).clamp(1, i64::from(u32::MAX)) as u32, Ordering::Relaxed);
    PROBABILITY.store(next(0).clamp(0, 100) as u32, Ordering::Relaxed);
    SPACE.store(next(0), Ordering::Relaxed);
    TIMES.store(next(1), Ordering::Relaxed);
    base::heap::set_faults(true);
}

/// Whether `task`'s allocation of `bytes` is to be refused.
pub fn should_fail(task: &Task, bytes: usize) -> bool {
    if task.syscall_nr.load(Ordering::Relaxed) == 0 || !task.process.makes_fail.load(Ordering::Relaxed) {
        return false;
    }
    if TIMES.load(Ordering::Relaxed) == 0 || SPACE.fetch_sub(bytes as i64, Ordering::Relaxed) > bytes as i64 {
        return false;
    }
    SPACE.store(0, Ordering::Relaxed);
    let count = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if !count.is_multiple_of(INTERVAL.load(Ordering::Relaxed)) {
        return false;
    }
    let mut dice = DICE.load(Ordering::Relaxed);
    dice ^= dice << 13;
    dice ^= dice >> 17;
    dice ^= dice << 5;
    DICE.store(dice, Ordering::Relaxed);
    if dice % 100 >= PROBABILITY.load(Ordering::Relaxed) {
        return false;
    }
    if TIMES.load(Ordering::Relaxed) > 0 {
        TIMES.fetch_sub(1, Ordering::Relaxed);
    }
    true
}
