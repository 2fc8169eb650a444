//! Locks that sleep.

use crate::sync::WaitKind;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::rwlock::{RwLock as SpinRwLock, RwLockReadGuard as SpinRead, RwLockWriteGuard as SpinWrite};

use super::rank::Site;
use super::wait::WaitQueue;

/// A mutual-exclusion lock whose waiters sleep (uninterruptibly: its sections are bounded). FIFO is not promised.
pub struct Mutex<T: ?Sized> {
    site: Site,
    waiters: WaitQueue,
    inner: SpinMutex<T>,
}

pub struct MutexGuard<'a, T: ?Sized> {
    inner: Option<SpinMutexGuard<'a, T>>,
    waiters: &'a WaitQueue,
}

impl<T> Mutex<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    pub const fn new(value: T) -> Self {
        Self { site: Site::new(), waiters: WaitQueue::new(), inner: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    #[track_caller]
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.site.check_sleeping::<T>();
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.lock_contended(),
        };
        self.site.hold_sleeping(&*inner);
        MutexGuard { inner: Some(inner), waiters: &self.waiters }
    }
    #[track_caller]
    #[cold]
    fn lock_contended(&self) -> SpinMutexGuard<'_, T> {
        self.waiters.wait_uninterruptible(WaitKind::Mutex, || self.inner.try_lock())
    }
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.inner.try_lock()?;
        self.site.hold_sleeping(&*guard);
        Some(MutexGuard { inner: Some(guard), waiters: &self.waiters })
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.inner {
            Some(guard) => guard,
            None => unreachable!("guard is taken only in drop"),
        }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.inner {
            Some(guard) => guard,
            None => unreachable!("guard is taken only in drop"),
        }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(guard) = &self.inner {
            Site::release_sleeping(&**guard);
        }
        self.inner = None; // unlock first, then wake
        self.waiters.wake_one();
    }
}

/// A readers-writer lock whose waiters sleep (uninterruptibly).
pub struct RwLock<T: ?Sized> {
    site: Site,
    waiters: WaitQueue,
    inner: SpinRwLock<T>,
}

pub struct RwLockReadGuard<'a, T: ?Sized> {
    inner: Option<SpinRead<'a, T>>,
    waiters: &'a WaitQueue,
}

pub struct RwLockWriteGuard<'a, T: ?Sized> {
    inner: Option<SpinWrite<'a, T>>,
    waiters: &'a WaitQueue,
}

impl<T> RwLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    pub const fn new(value: T) -> Self {
        Self { site: Site::new(), waiters: WaitQueue::new(), inner: SpinRwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.site.check_sleeping::<T>();
        let inner = match self.inner.try_read() {
            Some(guard) => guard,
            None => self.waiters.wait_uninterruptible(WaitKind::Rwlock, || self.inner.try_read()),
        };
        self.site.hold_sleeping(&*inner);
        RwLockReadGuard { inner: Some(inner), waiters: &self.waiters }
    }
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.site.check_sleeping::<T>();
        let inner = match self.inner.try_write() {
            Some(guard) => guard,
            None => self.waiters.wait_uninterruptible(WaitKind::Rwlock, || self.inner.try_write()),
        };
        self.site.hold_sleeping(&*inner);
        RwLockWriteGuard { inner: Some(inner), waiters: &self.waiters }
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.inner {
            Some(guard) => guard,
            None => unreachable!("guard is taken only in drop"),
        }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = &self.inner {
            Site::release_sleeping(&**guard);
        }
        self.inner = None;
        self.waiters.wake_all();
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.inner {
            Some(guard) => guard,
            None => unreachable!("guard is taken only in drop"),
        }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.inner {
            Some(guard) => guard,
            None => unreachable!("guard is taken only in drop"),
        }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = &self.inner {
            Site::release_sleeping(&**guard);
        }
        self.inner = None;
        self.waiters.wake_all();
    }
}
