//! The load averages: exponentially decaying means over 1, 5 and 15 minutes of how many tasks run or want to, in Linux's fixed-point
//! arithmetic, one step every five seconds.

use crate::prelude::*;
use crate::time::timer::KernelTimer;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits behind the point.
const SHIFT: u32 = 11;
const ONE: u64 = 1 << SHIFT;
/// 1/exp(5 s / 1, 5, 15 min).
const DECAY: [u64; 3] = [1884, 2014, 2037];
const STEP_NS: u64 = 5_000_000_000;

static LOADS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Starts the means.
pub fn start() {
    static TIMER: spin::Once<Arc<KernelTimer>> = spin::Once::new();
    let timer = TIMER.call_once(|| {
        KernelTimer::new(Box::new(|| {
            step();
            if let Some(timer) = TIMER.get() {
                timer.arm(crate::time::now_ns() + STEP_NS);
            }
        }))
    });
    timer.arm(crate::time::now_ns() + STEP_NS);
}

fn step() {
    let active = super::nr_runnable() as u64 * ONE;
    for (load, decay) in LOADS.iter().zip(DECAY) {
        let old = load.load(Ordering::Relaxed);
        let mut new = old * decay + active * (ONE - decay);
        if active >= old {
            new += ONE - 1;
        }
        load.store(new / ONE, Ordering::Relaxed);
    }
}

/// The means in 1/65536, as sysinfo(2) has them.
pub fn averages() -> [u64; 3] {
    [0, 1, 2].map(|index| LOADS[index].load(Ordering::Relaxed) << (16 - SHIFT))
}

/// One mean as /proc/loadavg shows it: whole and hundredths.
pub fn shown(average: u64) -> (u64, u64) {
    let rounded = average + 65536 / 200;
    (rounded >> 16, ((rounded & 0xffff) * 100) >> 16)
}
