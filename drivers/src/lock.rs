//! The drivers' lock: a spin lock that masks this CPU's interrupts while held, so that a handler on the same CPU cannot
//! spin on what it interrupted. How interrupts are masked is the kernel's business: `hal::cpu` defines the two functions.

use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    /// Masks the calling CPU's interrupts and returns the masks as they were.
    safe fn driver_mask_interrupts() -> u64;
    /// Puts masks back that the other function returned on this CPU.
    safe fn driver_restore_interrupts(masks: u64);
}

/// The host has no interrupts.
#[cfg(not(target_os = "none"))]
fn driver_mask_interrupts() -> u64 {
    0
}
#[cfg(not(target_os = "none"))]
fn driver_restore_interrupts(_masks: u64) {}

/// The calling CPU's interrupt masks, put back on drop.
struct Masked(u64);

impl Masked {
    #[inline(always)]
    fn new() -> Self {
        Self(driver_mask_interrupts())
    }
}

impl Drop for Masked {
    #[inline(always)]
    fn drop(&mut self) {
        driver_restore_interrupts(self.0);
    }
}

pub struct IrqLock<T>(SpinMutex<T>);

/// The data, then the masks: fields are dropped in this order.
pub struct IrqGuard<'a, T>(SpinMutexGuard<'a, T>, #[expect(dead_code, reason = "held for its drop")] Masked);

impl<T> IrqLock<T> {
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    pub fn lock(&self) -> IrqGuard<'_, T> {
        let masked = Masked::new();
        IrqGuard(self.0.lock(), masked)
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
