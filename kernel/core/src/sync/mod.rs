//! Locks and waiting.
//!
//! - [`SpinLock`]: short sections among threads; [`IrqSpinLock`]: also taken by interrupt handlers, masks IRQs.
//! - [`Mutex`], [`RwLock`]: may sleep while waiting; never taken in interrupt context or under a spin lock.
//! - [`WaitQueue`]: the one blocking primitive (see its page for the wake rules).
//! - [`WakeList`]: threads to wake once the locks are dropped.
//!
//! Which lock may be taken while which is held: [`rank`].
//!
//! The kernel is not preemptible, so a spin lock needs no preemption count of its own; the per-CPU depth it keeps is what
//! [`might_sleep`] checks.

mod mutex;
mod rank;
mod spin;
mod wait;
mod wait_kind;
mod wake_list;

pub use mutex::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(debug_assertions)]
pub use rank::HeldLocks;
pub use spin::{IrqSpinGuard, IrqSpinLock, SpinGuard, SpinLock, might_sleep, spin_depth};
pub use wait::{Deadline, Park, WaitError, WaitMode, WaitQueue, WaitReason, WaitRecord};
pub use wait_kind::WaitKind;
pub use wake_list::WakeList;
