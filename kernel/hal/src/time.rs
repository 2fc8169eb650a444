//! The generic timer (virtual counter): monotonic time and one deadline per CPU.

use drivers::traits::Irq;

/// CNTVCT_EL0 now.
#[inline(always)]
pub fn ticks() -> u64 {
    todo!()
}
/// Counter frequency in Hz.
pub fn frequency_hz() -> u64 {
    todo!()
}
/// Nanoseconds since power-on: the raw monotonic clock (multiply-shift, no division).
#[inline(always)]
pub fn now_ns() -> u64 {
    todo!()
}
/// The multiplier and shift of `now_ns`: `ns = (ticks * mult) >> shift`, for the vDSO.
pub fn mult_shift() -> (u32, u32) {
    todo!()
}
/// Arms this CPU's timer for `deadline_ns` (fires at once if past), or disarms it.
pub fn set_deadline(_deadline_ns: Option<u64>) {
    todo!()
}
/// The timer's interrupt (a PPI), from the device tree.
pub fn irq() -> Irq {
    todo!()
}
