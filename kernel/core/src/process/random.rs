//! The kernel's random number generator (getrandom, /dev/urandom, ASLR, AT_RANDOM).
//!
//! ChaCha20 with fast key erasure: each request makes a block whose first half becomes the next key before the rest is given
//! out, so that what was given out cannot be reconstructed later. Seeded at first use from the boot loader's seed, the CPU's
//! generator and the counter; later contributions are mixed into the key.

use crate::prelude::*;
use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

struct Pool {
    generator: Option<ChaCha20Rng>,
}

static POOL: IrqSpinLock<Pool> = IrqSpinLock::new(Pool { generator: None });

/// Folds `bytes` into a 32-byte key by running the cipher between the pieces.
fn absorb(key: [u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut key = key;
    for piece in bytes.chunks(32) {
        for (slot, byte) in key.iter_mut().zip(piece) {
            *slot ^= byte;
        }
        ChaCha20Rng::from_seed(key).fill_bytes(&mut key);
    }
    key
}

fn first_key() -> [u8; 32] {
    let info = hal::boot::info();
    let mut key = absorb([0x63; 32], info.rng_seed);
    for _ in 0..16 {
        let jitter = hal::time::ticks() ^ hal::rng::cpu_random().unwrap_or(0).rotate_left(17);
        key = absorb(key, &jitter.to_le_bytes());
    }
    absorb(key, &crate::time::realtime_ns().to_le_bytes())
}

/// Fills `buffer` with random bytes.
pub fn fill(buffer: &mut [u8]) {
    let mut own = {
        let mut pool = POOL.lock();
        let generator = pool.generator.get_or_insert_with(|| ChaCha20Rng::from_seed(first_key()));
        let mut keys = [0u8; 64];
        generator.fill_bytes(&mut keys);
        let (next, given) = keys.split_at(32);
        let seed = |half: &[u8]| {
            let mut seed = [0; 32];
            seed.copy_from_slice(half);
            ChaCha20Rng::from_seed(seed)
        };
        *generator = seed(next);
        seed(given)
    };
    own.fill_bytes(buffer);
}

/// Mixes bytes in (writes to /dev/urandom, device timing).
pub fn mix(bytes: &[u8]) {
    let mut key = [0; 32];
    fill(&mut key);
    let fresh = absorb(key, bytes);
    POOL.lock().generator = Some(ChaCha20Rng::from_seed(fresh));
}
