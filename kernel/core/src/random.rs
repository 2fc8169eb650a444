//! The kernel's random number generator (getrandom, /dev/urandom, ASLR, AT_RANDOM).
//!
//! ChaCha20 with fast key erasure: each turn of the generator makes the next key and a batch of bytes; small requests take from
//! the batch, where what was taken is erased, and large ones run a generator of their own from 32 of its bytes. So what was
//! given out cannot be reconstructed later. Seeded at first use from the boot loader's seed, the CPU's
//! generator and the counter; later contributions are mixed into the key.

use crate::prelude::*;
use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// Bytes that one turn of the generator makes beside the next key.
const BATCH_BYTES: usize = 224;
/// Requests of at most this many bytes share a batch.
const SMALL_BYTES: usize = 32;

struct Pool {
    generator: Option<ChaCha20Rng>,
    /// Made and not given out yet: the first `left` bytes. What is given out is erased.
    batch: [u8; BATCH_BYTES],
    left: usize,
}

static POOL: IrqSpinLock<Pool> = IrqSpinLock::new(Pool { generator: None, batch: [0; BATCH_BYTES], left: 0 });

impl Pool {
    /// Makes a new key and fresh bytes.
    fn refill(&mut self) {
        let generator = self.generator.get_or_insert_with(|| ChaCha20Rng::from_seed(first_key()));
        let mut key = [0; 32];
        generator.fill_bytes(&mut key);
        generator.fill_bytes(&mut self.batch);
        self.left = BATCH_BYTES;
        *generator = ChaCha20Rng::from_seed(key);
    }
    /// Gives out at most [`SMALL_BYTES`].
    fn take(&mut self, out: &mut [u8]) {
        if self.left < out.len() {
            self.refill();
        }
        self.left -= out.len();
        let given = &mut self.batch[self.left..self.left + out.len()];
        out.copy_from_slice(given);
        given.fill(0);
    }
}

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
    if buffer.len() <= SMALL_BYTES {
        return POOL.lock().take(buffer);
    }
    let mut key = [0; 32];
    POOL.lock().take(&mut key);
    ChaCha20Rng::from_seed(key).fill_bytes(buffer);
}

/// Mixes bytes in (writes to /dev/urandom, device timing).
pub fn mix(bytes: &[u8]) {
    let mut key = [0; 32];
    fill(&mut key);
    let fresh = absorb(key, bytes);
    let mut pool = POOL.lock();
    pool.generator = Some(ChaCha20Rng::from_seed(fresh));
    pool.left = 0;
}
