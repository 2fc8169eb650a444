//! Device registers: [`Mmio`], the proof that a driver may touch a mapped block, and the registers in it.
//!
//! An access is one instruction of a fixed form ([`Word`]): a load or store of a general register from an address in a register. A
//! hypervisor that emulates the device is told the register and the width of such an access alone (ESR_EL2.ISV, Arm ARM D24.2.40);
//! for the forms that a compiler may choose for a volatile access, with write-back or a pair, it would have to decode instructions.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{RegisterLongName, UIntLike};

/// `len` bytes of device memory mapped at `base` for the life of the kernel. Whoever has it has the block to itself: it cannot be
/// copied, and nobody maps the same registers twice.
#[derive(Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: device memory is mapped the same way on every CPU, and no reference to its bytes as Rust values exists.
unsafe impl Send for Mmio {}
// SAFETY: as above; `&Mmio` alone reaches no register.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// # Safety
    /// `base..base+len` must stay mapped as device memory (or be ordinary memory in a test) for the rest of the
    /// program, and be used for nothing else.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The register block of type `T` at byte `offset`; panics (a driver's bug, at probe time) when it does not fit or is not
    /// aligned.
    pub(crate) fn registers<T: RegisterBlock>(&self, offset: usize) -> Registers<T> {
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len);
        assert!(fits, "register block larger than its mapping");
        // SAFETY: inside the mapping by the check above.
        let at = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "register block at an odd address");
        // SAFETY: inside the mapping, which `new`'s contract keeps for ever, and aligned; `T` is made of registers, which have
        // interior mutability, so that the reference says nothing about the bytes.
        Registers(unsafe { at.as_ref() })
    }

    /// The `len` bytes at `offset` as a block of their own: the driver keeps to itself which part of it touches what.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        // SAFETY: inside the mapping, which is this driver's.
        fits.then(|| unsafe { Self::new(self.base.add(offset), len) })
    }
}

/// A type that may be laid over device registers.
///
/// # Safety
/// It consists of [`ReadOnly`], [`WriteOnly`] and [`ReadWrite`], arrays of them, and bytes that nobody reads, in `repr(C)` order
/// (`register_structs!` writes such types).
pub unsafe trait RegisterBlock {}

// SAFETY: registers themselves.
unsafe impl<T: Word, R: RegisterLongName> RegisterBlock for ReadOnly<T, R> {}
// SAFETY: as above.
unsafe impl<T: Word, R: RegisterLongName> RegisterBlock for WriteOnly<T, R> {}
// SAFETY: as above.
unsafe impl<T: Word, R: RegisterLongName> RegisterBlock for ReadWrite<T, R> {}

/// A mapped register block of type `T`.
pub struct Registers<T: 'static>(&'static T);

// SAFETY: a register block is device memory, reachable from every CPU; each access is one instruction on one register, and drivers
// serialise sequences that must not mix.
unsafe impl<T> Send for Registers<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Registers<T> {}

impl<T> core::ops::Deref for Registers<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}

/// What one instruction reads or writes.
pub trait Word: UIntLike {
    /// # Safety
    /// `at` is aligned and valid for such a read: device memory, or ordinary memory in a test.
    unsafe fn read(at: *const Self) -> Self;
    /// # Safety
    /// As for `read`, for a write.
    unsafe fn write(at: *mut Self, value: Self);
}

macro_rules! word {
    ($type:ty, $raw:ty, $load:literal, $store:literal) => {
        impl Word for $type {
            #[inline(always)]
            unsafe fn read(at: *const Self) -> Self {
                #[cfg(target_os = "none")]
                {
                    let value: $raw;
                    // SAFETY: one aligned load by the caller's promise. Memory is not declared untouched: what comes before and
                    // after in the program stays there.
                    unsafe {
                        core::arch::asm!($load, value = out(reg) value, at = in(reg) at, options(nostack, preserves_flags));
                    }
                    value as Self
                }
                #[cfg(not(target_os = "none"))]
                // SAFETY: the caller's promise.
                unsafe {
                    at.read_volatile()
                }
            }
            #[inline(always)]
            unsafe fn write(at: *mut Self, value: Self) {
                #[cfg(target_os = "none")]
                // SAFETY: as in `read`.
                unsafe {
                    core::arch::asm!(
                        $store, value = in(reg) <$raw>::from(value), at = in(reg) at, options(nostack, preserves_flags)
                    );
                }
                #[cfg(not(target_os = "none"))]
                // SAFETY: the caller's promise.
                unsafe {
                    at.write_volatile(value)
                }
            }
        }
    };
}

word!(u8, u32, "ldrb {value:w}, [{at}]", "strb {value:w}, [{at}]");
word!(u16, u32, "ldrh {value:w}, [{at}]", "strh {value:w}, [{at}]");
word!(u32, u32, "ldr {value:w}, [{at}]", "str {value:w}, [{at}]");
word!(u64, u64, "ldr {value}, [{at}]", "str {value}, [{at}]");

macro_rules! register {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name<T: Word, R: RegisterLongName = ()> {
            value: UnsafeCell<T>,
            fields: PhantomData<R>,
        }
    };
}
macro_rules! readable {
    ($name:ident) => {
        impl<T: Word, R: RegisterLongName> Readable for $name<T, R> {
            type T = T;
            type R = R;
            #[inline(always)]
            fn get(&self) -> T {
                // SAFETY: a register exists inside a mapped block only (`Mmio::registers`), aligned as its type asks.
                unsafe { T::read(self.value.get()) }
            }
        }
    };
}
macro_rules! writeable {
    ($name:ident) => {
        impl<T: Word, R: RegisterLongName> Writeable for $name<T, R> {
            type T = T;
            type R = R;
            #[inline(always)]
            fn set(&self, value: T) {
                // SAFETY: as in `get`.
                unsafe { T::write(self.value.get(), value) }
            }
        }
    };
}

register!(
    /// A register that is only read.
    ReadOnly
);
register!(
    /// A register that is only written.
    WriteOnly
);
register!(
    /// A register that is read and written.
    ReadWrite
);
readable!(ReadOnly);
readable!(ReadWrite);
writeable!(WriteOnly);
writeable!(ReadWrite);

/// Register blocks in ordinary memory, for tests of drivers.
#[cfg(test)]
pub mod testing {
    use super::Mmio;
    use core::ptr::NonNull;

    /// A block of `len` bytes, zeroed, leaked as `Mmio::new` asks. It keeps what was written last and reacts to nothing.
    pub struct Bank {
        base: NonNull<u8>,
        len: usize,
    }

    impl Bank {
        pub fn new(len: usize) -> Self {
            let words: &'static mut [u64] = vec![0u64; len.div_ceil(8)].leak();
            Self { base: NonNull::from(words).cast(), len }
        }

        pub fn mmio(&self) -> Mmio {
            // SAFETY: leaked memory that only this bank and the driver under test reach, both by volatile accesses.
            unsafe { Mmio::new(self.base, self.len) }
        }

        fn word(&self, offset: usize) -> NonNull<u32> {
            assert!(offset.is_multiple_of(4) && offset + 4 <= self.len);
            // SAFETY: inside the block by the check above.
            unsafe { self.base.add(offset).cast() }
        }

        pub fn get(&self, offset: usize) -> u32 {
            // SAFETY: a valid, aligned word of leaked memory.
            unsafe { self.word(offset).read_volatile() }
        }

        pub fn set(&self, offset: usize, value: u32) {
            // SAFETY: as in `get`.
            unsafe { self.word(offset).write_volatile(value) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Bank;
    use super::*;

    #[test]
    fn registers_of_every_width_are_where_they_are_asked_for() {
        let bank = Bank::new(0x20);
        bank.set(0x8, 0x8877_6655);
        let mmio = bank.mmio();
        assert_eq!(mmio.registers::<ReadOnly<u8>>(0x9).get(), 0x66);
        assert_eq!(mmio.registers::<ReadWrite<u16>>(0xa).get(), 0x8877);
        assert_eq!(mmio.registers::<ReadOnly<u64>>(0x8).get(), 0x8877_6655);
        mmio.registers::<WriteOnly<u16>>(0x8).set(0xabcd);
        assert_eq!(bank.get(0x8), 0x8877_abcd);
    }

    #[test]
    #[should_panic(expected = "larger than its mapping")]
    fn a_register_beyond_the_block_is_refused() {
        let _ = Bank::new(0x20).mmio().registers::<ReadOnly<u32>>(0x1d);
    }

    #[test]
    #[should_panic(expected = "odd address")]
    fn a_register_across_two_words_is_refused() {
        let _ = Bank::new(0x20).mmio().registers::<ReadOnly<u32>>(0x2);
    }

    #[test]
    fn parts_stay_inside() {
        let mmio = Bank::new(0x20).mmio();
        assert_eq!(mmio.part(0x10, 0x10).map(|part| part.len()), Some(0x10));
        assert!(mmio.part(0x11, 0x10).is_none() && mmio.part(usize::MAX, 2).is_none());
    }
}
