//! The owner of a mutex, read from the memory of the thread that waits for it.
//!
//! A futex is only a word to the kernel; who owns it is written where the C library keeps it:
//!
//! - the word itself holds the owner's thread number and FUTEX_WAITERS (robust mutexes; musl's recursive and error-checking ones);
//! - glibc's `pthread_mutex_t` begins with the word (2: locked, with waiters), count, owner, number of users and kind;
//! - pthread_join waits on the word that the kernel clears when the thread ends.
//!
//! What is read is believed only if it is plausible: the owner must be a living thread that shares the memory, and the fields
//! beside it must be what a mutex has there. musl's and Rust's plain mutexes keep no owner: nothing is known of them.

use crate::prelude::*;
use crate::task::find_task;
use core::sync::atomic::Ordering;

const WAITERS: u32 = 0x8000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
/// What musl's plain mutexes hold when they are locked, besides FUTEX_WAITERS: EBUSY.
const MUSL_PLAIN: u32 = 16;

/// glibc's `__kind`: the type below, then robust, priority inheritance, priority protection, and process-shared.
mod kind {
    pub const TYPE: u32 = 3;
    pub const ROBUST: u32 = 16;
    pub const PROTECT: u32 = 64;
    pub const SHARED: u32 = 128;
    /// Lock elision, chosen or not.
    pub const ELISION: u32 = 256 | 512;
    pub const KNOWN: u32 = TYPE | ROBUST | PROTECT | SHARED | ELISION;
}

/// Thread number of the owner and what it owns, of the word at `addr` that `task` waits on.
pub fn owner(task: &Task, addr: u64) -> Option<(u32, &'static str)> {
    let space = task.mm.get()?;
    // The word, and four more behind it; the one before it is musl's type.
    let mut words = [0u32; 5];
    for (at, word) in words.iter_mut().enumerate() {
        *word = space.peek_u32(addr.checked_add(at as u64 * 4)?).or((at != 0).then_some(0))?;
    }
    let [value, count, owner, users, kind] = words;
    let lives = |tid: u32| tid != 0 && find_task(tid).is_some_and(|other| shares(task, &other, addr));
    if value & TID_MASK == value
        && let Some(thread) = find_task(value)
        && thread.process.pid == task.process.pid
        && thread.clear_child_tid.load(Ordering::Relaxed) == addr
    {
        return Some((value, "the end of thread"));
    }
    if value & WAITERS != 0 {
        let tid = value & TID_MASK;
        let before = space.peek_u32(addr.wrapping_sub(4)).unwrap_or(0);
        let is_musl = tid == MUSL_PLAIN && before & kind::TYPE == 0 && owner != tid;
        return (!is_musl && lives(tid)).then_some((tid, "robust mutex"));
    }
    let is_recursive = kind & kind::TYPE == 1;
    let is_mutex =
        value == 2 && (1..1 << 20).contains(&users) && kind & !kind::KNOWN == 0 && (is_recursive || count == 0);
    (is_mutex && lives(owner)).then_some((owner, "mutex"))
}

/// Whether `other` can reach the word at `addr` of `task`: in the same memory, or because the word is shared.
fn shares(task: &Task, other: &Task, addr: u64) -> bool {
    let (Some(own), Some(space)) = (task.mm.get(), other.mm.get()) else { return false };
    own.id() == space.id() || own.futex_key(UserAddr(addr), true).is_ok_and(|key| key.is_shared())
}
