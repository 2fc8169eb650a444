//! The kernel's random number generator (getrandom, /dev/urandom, ASLR, AT_RANDOM).

/// Fills `buffer` with random bytes. Any context but IRQ.
pub fn fill(_buffer: &mut [u8]) {
    todo!()
}

/// Mixes bytes in (writes to /dev/urandom, interrupt timing).
pub fn mix(_bytes: &[u8]) {}
