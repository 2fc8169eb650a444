//! Hardware random number generators: what they give goes into the kernel's own generator (`process::random`) and to /dev/hwrng.

use crate::prelude::*;
use crate::process::spawn_kernel_thread;
use crate::random;
use crate::sync::{Park, WaitKind, WaitReason};
use core::convert::Infallible;
use drivers::traits::Entropy;

/// Found at boot, the best first.
static SOURCES: SpinLock<Vec<Source>> = SpinLock::new(Vec::new());

struct Source {
    name: &'static str,
    device: Arc<dyn Entropy>,
    /// Bytes it still has to give for the first seed.
    owed: usize,
}

/// Bytes that each source gives for the first seed.
const SEED_BYTES: usize = 64;
/// How long a source that is warming up is left alone, and how often that may happen.
const PAUSE_NS: u64 = 10_000_000;
const MOST_PAUSES: u32 = 200;

pub(super) fn register(name: &'static str, device: Arc<dyn Entropy>) {
    SOURCES.lock().push(Source { name, device, owed: SEED_BYTES });
}

/// Mixes what the sources have into the random pool. One that has nothing yet is asked again by a thread.
pub fn seed() {
    if !seed_once() {
        spawn_kernel_thread("hwrng", || {
            for _ in 0..MOST_PAUSES {
                pause();
                if seed_once() {
                    return;
                }
            }
            for source in SOURCES.lock().iter().filter(|source| source.owed > 0) {
                crate::warn!("{}: gives no random numbers", source.name);
            }
        });
    }
}

/// Whether every source has given its part.
fn seed_once() -> bool {
    let mut sources = SOURCES.lock();
    for source in sources.iter_mut().filter(|source| source.owed > 0) {
        let mut bytes = [0; SEED_BYTES];
        let count = source.device.fill(&mut bytes[..source.owed]);
        random::mix(&bytes[..count]);
        source.owed -= count;
        if source.owed == 0 {
            crate::info!("{}: {SEED_BYTES} bytes for the random number generator", source.name);
        }
    }
    sources.iter().all(|source| source.owed == 0)
}

fn pause() {
    let deadline = crate::time::now_ns() + PAUSE_NS;
    let never = || None::<Infallible>;
    let _ = Park::park_until(WaitMode::Uninterruptible, Some(deadline), WaitReason::new(WaitKind::Hwrng), never);
}

/// Fills a prefix of `buf` from the first source; `None` when there is no source.
pub fn read(buf: &mut [u8]) -> Option<usize> {
    let device = SOURCES.lock().first()?.device.clone();
    Some(device.fill(buf))
}
