//! Spin locks whose type says what they mask.

use core::ops::{Deref, DerefMut};
use hal::cpu::IrqGuard;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::rank::Site;

#[inline(always)]
fn enter() {
    hal::cpu::set_lock_depth(hal::cpu::lock_depth() + 1);
}

#[inline(always)]
fn leave() {
    hal::cpu::set_lock_depth(hal::cpu::lock_depth() - 1);
}

/// How many spin locks the calling CPU holds, those that mask IRQs not counted (kept for `might_sleep`).
#[inline(always)]
pub fn spin_depth() -> u64 {
    hal::cpu::lock_depth()
}

/// Panics when the caller may not sleep: a spin lock is held or IRQs are masked.
#[track_caller]
#[inline]
pub fn might_sleep() {
    assert!(spin_depth() == 0 && hal::cpu::irqs_enabled(), "sleeping in atomic context");
}

/// A lock for short sections among threads. Not for data that interrupt handlers touch.
pub struct SpinLock<T: ?Sized> {
    site: Site,
    inner: SpinMutex<T>,
}

pub struct SpinGuard<'a, T: ?Sized>(SpinMutexGuard<'a, T>);

impl<T> SpinLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    pub const fn new(value: T) -> Self {
        Self { site: Site::new(), inner: SpinMutex::new(value) }
    }
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.site.check_spin::<T>();
        enter();
        let guard = self.inner.lock();
        self.site.hold_spin(&*guard);
        SpinGuard(guard)
    }
    /// For a section of a few instructions that calls nothing that could sleep: `might_sleep` does not see it.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn leaf(&self) -> SpinMutexGuard<'_, T> {
        self.site.check_spin::<T>();
        self.inner.lock()
    }
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        enter();
        match self.inner.try_lock() {
            Some(guard) => {
                self.site.hold_spin(&*guard);
                Some(SpinGuard(guard))
            }
            None => {
                leave();
                None
            }
        }
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized> Drop for SpinGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        Site::release_spin(&*self.0);
        leave();
    }
}

/// A lock that interrupt handlers take too: masks IRQs while held, by which `might_sleep` sees it (it is not counted).
pub struct IrqSpinLock<T: ?Sized> {
    site: Site,
    inner: SpinMutex<T>,
}

pub struct IrqSpinGuard<'a, T: ?Sized> {
    // Dropped in order: the lock first, then the IRQ mask.
    guard: SpinMutexGuard<'a, T>,
    _irq: IrqGuard,
}

impl<T> IrqSpinLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    pub const fn new(value: T) -> Self {
        Self { site: Site::new(), inner: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> IrqSpinLock<T> {
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock(&self) -> IrqSpinGuard<'_, T> {
        let irq = IrqGuard::new();
        self.site.check_spin::<T>();
        let guard = self.inner.lock();
        self.site.hold_spin(&*guard);
        IrqSpinGuard { guard, _irq: irq }
    }
    /// Locks where IRQs are masked already, for no longer than that.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn leaf<'a>(&'a self, _masked: &'a IrqGuard) -> SpinMutexGuard<'a, T> {
        self.site.check_spin::<T>();
        self.inner.lock()
    }
    pub fn try_lock(&self) -> Option<IrqSpinGuard<'_, T>> {
        let irq = IrqGuard::new();
        let guard = self.inner.try_lock()?;
        self.site.hold_spin(&*guard);
        Some(IrqSpinGuard { guard, _irq: irq })
    }
}

impl<T: Default> Default for IrqSpinLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Deref for IrqSpinGuard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for IrqSpinGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Only a kernel that checks ranks looks at what a guard lets go.
#[cfg(debug_assertions)]
impl<T: ?Sized> Drop for IrqSpinGuard<'_, T> {
    fn drop(&mut self) {
        Site::release_spin(&*self.guard);
    }
}
