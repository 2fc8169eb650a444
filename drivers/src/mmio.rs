//! A mapped register block: the proof that a driver may touch it.

use core::ptr::NonNull;

/// `len` bytes of device memory mapped at `base` for the life of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: device registers may be reached from every CPU; drivers serialise what must be serialised.
unsafe impl Send for Mmio {}
// SAFETY: as above.
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

    /// The register block of type `T` at byte `offset`; panics (a driver's bug, at probe time) when it does not fit.
    pub fn registers<T>(&self, offset: usize) -> Registers<T> {
        assert!(offset + size_of::<T>() <= self.len, "register block larger than its mapping");
        // SAFETY: inside the mapping by the check above, mapped for ever by `new`'s contract; T is a struct of
        // volatile cells.
        Registers(unsafe { &*self.base.as_ptr().add(offset).cast::<T>() })
    }
}

/// A mapped register block of type `T`.
pub struct Registers<T: 'static>(&'static T);

// SAFETY: a register block is device memory, reachable from every CPU; each access is one volatile word, and drivers
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
