//! Robust lists (set_robust_list(2)): at exit, each lock on the list that the thread holds is marked FUTEX_OWNER_DIED and
//! one waiter is woken.

use super::{MATCH_ANY, Word};
use crate::prelude::*;
use core::sync::atomic::Ordering;
use hal::user;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
/// The most entries that are followed: the list is user memory and may be circular.
const LIMIT: usize = 2048;

/// Marks the lock at `addr` if the calling thread holds it. `pending`: the thread died between taking or releasing the lock
/// and (un)linking it, so a waiter may have to be woken even though nobody holds it. `inherits`: its waiters are `pi`'s, which wakes them.
fn release(addr: UserAddr, tid: u32, pending: bool, inherits: bool) -> Result<(), Errno> {
    if addr.0 & 3 != 0 {
        return Err(Errno::EINVAL);
    }
    let word = Word { addr, shared: true };
    loop {
        let value = user::load_u32(addr)?;
        if pending && !inherits && value & TID_MASK == 0 {
            super::wake_word(word, 1, MATCH_ANY)?;
            return Ok(());
        }
        if value & TID_MASK != tid {
            return Ok(());
        }
        let dead = value & WAITERS | OWNER_DIED;
        if user::compare_exchange_u32(addr, value, dead)?.is_ok() {
            if value & WAITERS != 0 && !inherits {
                super::wake_word(word, 1, MATCH_ANY)?;
            }
            return Ok(());
        }
    }
}

fn walk(head: UserAddr, tid: u32) -> Result<(), Errno> {
    let word = |addr: u64| UserPtr::<u64>::new(UserAddr(addr)).read();
    let offset = word(head.0.wrapping_add(8))? as i64;
    let pending = word(head.0.wrapping_add(16))?;
    // Bit 0 of an entry says that the lock inherits priority; the word is the same.
    let lock = |entry: u64| UserAddr((entry & !1).wrapping_add_signed(offset));
    let mut entry = word(head.0)?;
    for _ in 0..LIMIT {
        if entry & !1 == head.0 {
            break;
        }
        let next = word(entry & !1);
        if entry & !1 != pending & !1 {
            release(lock(entry), tid, false, entry & 1 != 0)?;
        }
        entry = next?;
        crate::sched::cond_resched();
    }
    if pending & !1 != 0 {
        release(lock(pending), tid, true, pending & 1 != 0)?;
    }
    Ok(())
}

/// Walks the calling thread's robust list at exit and execve. What user memory makes impossible is left undone.
pub fn exit_robust_list() {
    let task = current();
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        let _ = walk(UserAddr(head), task.tid());
    }
    super::pi::on_exit();
}
