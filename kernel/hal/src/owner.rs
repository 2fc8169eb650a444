//! [`Owned`]: a field of the current thread's object that its thread reads without an atomic instruction.
//!
//! Most look-ups of what a thread has (descriptors, credentials, address space) are the thread's own, and only the thread itself puts
//! another value there. So the thread needs no lock to read; others, who read, and the thread when it writes, take one.

use crate::cpu::{Current, IrqGuard, is_in_current};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::mutex::SpinMutex;

/// A value that only the owner replaces: the thread whose [`Current`] object holds the cell.
pub struct Owned<T> {
    value: UnsafeCell<T>,
    /// Taken by readers that are not the owner, and by the owner to replace the value.
    lock: SpinMutex<()>,
    /// Borrows by the owner that have not ended; changed by the owner alone.
    borrows: AtomicU32,
}

// SAFETY: `value` is read by several threads at once and dropped by another, which T allows by Send and Sync; it is written only by
// `replace` and `into_inner`.
unsafe impl<T: Send + Sync> Sync for Owned<T> {}

impl<T> Owned<T> {
    pub const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), lock: SpinMutex::new(()), borrows: AtomicU32::new(0) }
    }

    /// Runs `f` on the value. `f` must not sleep: for who is not the owner, a lock is held meanwhile.
    #[inline(always)]
    pub fn with<O: Send + Sync + 'static, R>(&self, _current: &Current<O>, f: impl FnOnce(&T) -> R) -> R {
        if !is_in_current::<O, _>(self) {
            let _lock = self.lock.lock();
            // SAFETY: the value is written under the lock alone.
            return f(unsafe { &*self.value.get() });
        }
        let borrows = self.borrows.load(Ordering::Relaxed);
        self.borrows.store(borrows + 1, Ordering::Relaxed);
        // SAFETY: the caller runs in the owner's thread (or in an interrupt of it). Only that thread writes, by `replace`, and not while
        // `borrows` is above 0: it is until `f` has returned, and `f` cannot unwind.
        let result = f(unsafe { &*self.value.get() });
        self.borrows.store(borrows, Ordering::Relaxed);
        result
    }

    /// Puts `value` there and gives back the old one. Panics when the caller is not the owner, or in the middle of [`Owned::with`].
    pub fn replace<O: Send + Sync + 'static>(&self, _current: &Current<O>, value: T) -> T {
        assert!(is_in_current::<O, _>(self), "a thread's own field replaced by another");
        // An interrupt of the owner reads without the lock, and would wait for ever with it.
        let _irq = IrqGuard::new();
        let _lock = self.lock.lock();
        assert!(self.borrows.load(Ordering::Relaxed) == 0, "a thread's own field replaced while it is looked at");
        // SAFETY: other threads read under the lock, which is held; the owner is here, and has no borrow.
        core::mem::replace(unsafe { &mut *self.value.get() }, value)
    }
}
