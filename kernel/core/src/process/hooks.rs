//! What the layers above do at the turns of a thread's life. `init` registers it, once, as a list that can be read.

use crate::prelude::*;
use crate::task::life::Status;
use spin::Once;

pub struct Hooks {
    /// First function of a new user thread, whose registers wait in `task.start`.
    pub run_user_thread: fn(usize) -> !,
    /// clone(2): the second thread, of the first, is about to be known.
    pub cloned: fn(&Task, &Task),
    /// execve(2), at the point of no return: the thread may become the leader, by whose number it is known from then on.
    pub before_exec: fn(),
    /// execve(2): it has the number it keeps, and its old memory still.
    pub exec: fn(&'static Task),
    /// The calling thread ends with that status; its memory is still there.
    pub thread_ends: fn(Status),
    /// The calling thread has no memory any more.
    pub memory_is_gone: fn(&'static Task),
    /// The word at an address was cleared (clear_child_tid): one who waits for it is woken.
    pub word_cleared: fn(UserAddr),
    /// The leader of that session ended.
    pub session_leader_ended: fn(u32),
    /// The number of restart_syscall(2).
    pub restart_syscall: u64,
    /// The machine is to be powered off: what is queued is written.
    pub power_off: fn(),
}

static HOOKS: Once<&'static Hooks> = Once::new();

/// Registers what is to be done. Before the first user thread.
pub fn set(hooks: &'static Hooks) {
    HOOKS.call_once(|| hooks);
}

pub fn get() -> &'static Hooks {
    match HOOKS.get() {
        Some(hooks) => hooks,
        None => panic!("no hooks for threads"),
    }
}
