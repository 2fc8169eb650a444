//! futex(2), futex_waitv(2), set_robust_list(2), get_robust_list(2).

use crate::ipc::futex::{MATCH_ANY, WaitEntry, Word, pi, requeue_pi};
use crate::prelude::*;
use crate::process::may_inspect;
use crate::process::timers::clock;
use crate::task::find_task;
use crate::time::Timespec;
use core::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const PRIVATE_FLAG: u32 = 128;
const CLOCK_REALTIME_FLAG: u32 = 256;

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
const WAIT_REQUEUE_PI: u32 = 11;
const CMP_REQUEUE_PI: u32 = 12;
const LOCK_PI2: u32 = 13;

/// A time-out argument as a monotonic deadline.
#[inline]
fn deadline(timeout: UserAddr, realtime: bool, absolute: bool) -> Result<Option<u64>, Errno> {
    match UserPtr::<Timespec>::new(timeout).non_null() {
        Some(pointer) => read_deadline(pointer, realtime, absolute).map(Some),
        None => Ok(None),
    }
}

#[inline(never)]
fn read_deadline(pointer: UserPtr<Timespec>, realtime: bool, absolute: bool) -> Result<u64, Errno> {
    let ns = pointer.read()?.to_ns()?;
    let clock = if realtime { clock::REALTIME } else { clock::MONOTONIC };
    clock::deadline(clock, ns, absolute)
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET: without a time-out a signal restarts them as they are; with one they go on to the
/// same deadline.
fn wait(word: Word, expected: u32, bitset: u32, deadline: Option<u64>) -> SysResult {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    match crate::ipc::futex::wait(word, expected, bitset, deadline) {
        Ok(()) => Ok(0),
        Err(Errno::ERESTARTSYS) if deadline.is_some() => {
            Err(crate::process::signal::set_restart(Box::new(move || wait(word, expected, bitset, deadline))))
        }
        Err(errno) => Err(errno),
    }
}

pub fn sys_futex(uaddr: UserAddr, op: u32, val: u32, timeout: UserAddr, uaddr2: UserAddr, val3: u32) -> SysResult {
    let shared = op & PRIVATE_FLAG == 0;
    let realtime = op & CLOCK_REALTIME_FLAG != 0;
    let command = op & !(PRIVATE_FLAG | CLOCK_REALTIME_FLAG);
    let word = Word { addr: hal::user::accessible(uaddr), shared };
    if realtime && !matches!(command, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    match command {
        WAIT => wait(word, val, MATCH_ANY, deadline(timeout, false, false)?),
        WAIT_BITSET => wait(word, val, val3, deadline(timeout, realtime, true)?),
        WAKE => crate::ipc::futex::wake_word(word, at_least_one(val), MATCH_ANY),
        _ => rarer_command(command, word, val, timeout, uaddr2, val3, realtime),
    }
}

/// A count of wakers is an int. Whoever wakes stops after the one that reaches it: one less than 1 wakes one.
fn at_least_one(count: u32) -> usize {
    (count as i32).max(1) as usize
}

/// The other commands: a function of its own, for it needs much more of the stack.
#[inline(never)]
fn rarer_command(
    command: u32,
    word: Word,
    val: u32,
    timeout: UserAddr,
    uaddr2: UserAddr,
    val3: u32,
    realtime: bool,
) -> SysResult {
    let word2 = Word { addr: hal::user::accessible(uaddr2), shared: word.shared };
    let val2 = timeout.0 as u32;
    let (count, count2) = (val as usize, val2 as usize);
    match command {
        WAKE_BITSET if val3 == 0 => Err(Errno::EINVAL),
        WAKE_BITSET => crate::ipc::futex::wake_word(word, at_least_one(val), val3),
        WAIT_REQUEUE_PI => requeue_pi::wait(word, val, word2, deadline(timeout, realtime, true)?).map(|()| 0),
        REQUEUE | CMP_REQUEUE | CMP_REQUEUE_PI => {
            if (val as i32) < 0 || (count2 as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            if command == CMP_REQUEUE_PI {
                return requeue_pi::requeue(word, word2, count, count2, val3);
            }
            let expected = (command == CMP_REQUEUE).then_some(val3);
            let (woken, moved) = crate::ipc::futex::requeue(word, word2, count, count2, expected)?;
            Ok(woken + moved)
        }
        WAKE_OP => crate::ipc::futex::wake_op(word, word2, at_least_one(val), at_least_one(val2), val3),
        // The first of the two always takes its time-out on CLOCK_REALTIME.
        LOCK_PI => pi::lock(word, deadline(timeout, true, true)?).map(|()| 0),
        LOCK_PI2 => pi::lock(word, deadline(timeout, realtime, true)?).map(|()| 0),
        UNLOCK_PI => pi::unlock(word).map(|()| 0),
        TRYLOCK_PI => pi::try_lock(word).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

/// Bytes of `struct robust_list_head`.
const ROBUST_HEAD_BYTES: usize = 24;

pub fn sys_set_robust_list(head: UserAddr, len: usize) -> SysResult {
    if len != ROBUST_HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(head.0, Ordering::Relaxed);
    Ok(0)
}

pub fn sys_get_robust_list(pid: i32, head: UserAddr, len: UserAddr) -> SysResult {
    let list = if pid == 0 {
        current().robust_list.load(Ordering::Relaxed)
    } else {
        let task = u32::try_from(pid).ok().and_then(find_task).ok_or(Errno::ESRCH)?;
        if !may_inspect(&task.process) {
            return Err(Errno::EPERM);
        }
        task.robust_list.load(Ordering::Relaxed)
    };
    UserPtr::<u64>::new(len).write(&(ROBUST_HEAD_BYTES as u64))?;
    UserPtr::<u64>::new(head).write(&list)?;
    Ok(0)
}

/// `struct futex_waitv`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct FutexWaitv {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX_32: u32 = 2;
const WAITV_MAX: u32 = 128;

pub fn sys_futex_waitv(waiters: UserAddr, nr: u32, flags: u32, timeout: UserAddr, clockid: i32) -> SysResult {
    if flags != 0 || nr == 0 || nr > WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let until = if timeout.is_null() {
        None
    } else {
        if clockid != clock::REALTIME && clockid != clock::MONOTONIC {
            return Err(Errno::EINVAL);
        }
        deadline(timeout, clockid == clock::REALTIME, true)?
    };
    let raw = UserPtr::<FutexWaitv>::new(waiters).read_vec(nr as usize)?;
    let mut entries = Vec::with_room(raw.len())?;
    for entry in raw {
        if entry.flags & !(PRIVATE_FLAG | FUTEX_32) != 0 || entry.flags & FUTEX_32 == 0 || entry.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        let word = Word { addr: hal::user::accessible(UserAddr(entry.uaddr)), shared: entry.flags & PRIVATE_FLAG == 0 };
        entries.push(WaitEntry { word, expected: entry.val as u32 });
    }
    crate::ipc::futex::wait_many(&entries, until)
}
