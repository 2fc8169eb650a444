//! Locks that sleep.

use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::rwlock::{RwLock as SpinRwLock, RwLockReadGuard as SpinRead, RwLockWriteGuard as SpinWrite};

use super::wait::WaitQueue;

/// A mutual-exclusion lock whose waiters sleep (uninterruptibly: its sections are bounded). FIFO is not promised.
pub struct Mutex<T: ?Sized> {
    waiters: WaitQueue,
    inner: SpinMutex<T>,
}

pub struct MutexGuard<'a, T: ?Sized> {
    inner: Option<SpinMutexGuard<'a, T>>,
    waiters: &'a WaitQueue,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self { waiters: WaitQueue::new(), inner: SpinMutex::new(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    #[track_caller]
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.inner.try_lock() {
            Some(guard) => MutexGuard { inner: Some(guard), waiters: &self.waiters },
            None => self.lock_contended(),
        }
    }
    #[track_caller]
    #[cold]
    fn lock_contended(&self) -> MutexGuard<'_, T> {
        let inner = self.waiters.wait_uninterruptible("mutex", || self.inner.try_lock());
        MutexGuard { inner: Some(inner), waiters: &self.waiters }
    }
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(MutexGuard { inner: Some(self.inner.try_lock()?), waiters: &self.waiters })
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
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
        self.inner = None; // unlock first, then wake
        self.waiters.wake_one();
    }
}

/// A readers-writer lock whose waiters sleep (uninterruptibly).
pub struct RwLock<T: ?Sized> {
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
    pub const fn new(value: T) -> Self {
        Self { waiters: WaitQueue::new(), inner: SpinRwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let inner = match self.inner.try_read() {
            Some(guard) => guard,
            None => self.waiters.wait_uninterruptible("rwlock", || self.inner.try_read()),
        };
        RwLockReadGuard { inner: Some(inner), waiters: &self.waiters }
    }
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let inner = match self.inner.try_write() {
            Some(guard) => guard,
            None => self.waiters.wait_uninterruptible("rwlock", || self.inner.try_write()),
        };
        RwLockWriteGuard { inner: Some(inner), waiters: &self.waiters }
    }
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
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
        self.inner = None;
        self.waiters.wake_all();
    }
}
