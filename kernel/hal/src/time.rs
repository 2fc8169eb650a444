//! The generic timer (virtual counter): monotonic time and one deadline per CPU.

use aarch64_cpu::registers::*;
use core::sync::atomic::{AtomicU64, Ordering};
use drivers::traits::Irq;

/// ns = ticks * MULT >> SHIFT, in 128 bits.
static MULT: AtomicU64 = AtomicU64::new(0);
const SHIFT: u32 = 32;
static FREQUENCY: AtomicU64 = AtomicU64::new(1);
/// Ticks per ns, times 2^62: the inverse of MULT and SHIFT, rounded up.
static INVERSE: AtomicU64 = AtomicU64::new(0);

/// The virtual timer's PPI on every GIC (INTID 27).
const VIRTUAL_TIMER: Irq = Irq(27);

pub(crate) fn init() {
    let frequency = CNTFRQ_EL0.get().max(1);
    // A fixed shift costs three instructions to undo, and with 32 bits of fraction the rate is exact to 1e-9 up to 4 GHz.
    let mult = (1_000_000_000u128 << SHIFT) / u128::from(frequency);
    MULT.store(mult as u64, Ordering::Relaxed);
    FREQUENCY.store(frequency, Ordering::Relaxed);
    let inverse = (1u128 << (62 + SHIFT)).div_ceil(mult.max(1));
    INVERSE.store(u64::try_from(inverse).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// CNTVCT_EL0 now.
#[inline(always)]
pub fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads the counter, which has no side effect; the ISB keeps it from being read early (Arm ARM D12.1.2).
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Counter frequency in Hz.
pub fn frequency_hz() -> u64 {
    FREQUENCY.load(Ordering::Relaxed)
}

#[inline(always)]
fn to_ns(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(MULT.load(Ordering::Relaxed))) >> SHIFT) as u64
}

/// Nanoseconds since power-on: the raw monotonic clock (multiply-shift, no division).
#[inline(always)]
pub fn now_ns() -> u64 {
    to_ns(ticks())
}

/// The multiplier and shift of `now_ns`: `ns = (ticks * mult) >> shift` in 128 bits, for the vDSO.
pub fn mult_shift() -> (u64, u32) {
    (MULT.load(Ordering::Relaxed), SHIFT)
}

/// Arms this CPU's timer for `deadline_ns` (fires at once if past), or disarms it.
pub fn set_deadline(deadline_ns: Option<u64>) {
    match deadline_ns {
        Some(ns) => {
            // Rounded up, and by the inverse of what `now_ns` does: the interrupt never comes before `now_ns` reads `ns`.
            let ticks = (u128::from(ns) * u128::from(INVERSE.load(Ordering::Relaxed))) >> 62;
            CNTV_CVAL_EL0.set(u64::try_from(ticks + 1).unwrap_or(u64::MAX));
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        }
        None => CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR),
    }
}

/// The timer's interrupt (a PPI).
pub fn irq() -> Irq {
    VIRTUAL_TIMER
}

/// CNTVCT_EL0 without the barrier: for accounting, where a few instructions' skew does not matter.
#[inline(always)]
pub fn ticks_relaxed() -> u64 {
    let ticks: u64;
    // SAFETY: reads the counter.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// A counter difference in ns.
#[inline]
pub fn ticks_to_ns(ticks: u64) -> u64 {
    to_ns(ticks)
}
