//! The drivers' lock: a spin lock that masks this CPU's interrupts while held, so that a handler on the same CPU cannot
//! spin on what it interrupted.

use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// The calling CPU's interrupt masks, put back on drop.
struct Masked(u64);

impl Masked {
    fn new() -> Self {
        #[cfg(target_os = "none")]
        {
            use aarch64_cpu::registers::DAIF;
            use tock_registers::interfaces::{Readable, Writeable};
            let old = DAIF.get();
            DAIF.write(DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked);
            Self(old)
        }
        #[cfg(not(target_os = "none"))]
        Self(0)
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        #[cfg(target_os = "none")]
        tock_registers::interfaces::Writeable::set(&aarch64_cpu::registers::DAIF, self.0);
        #[cfg(not(target_os = "none"))]
        let _ = self.0;
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
