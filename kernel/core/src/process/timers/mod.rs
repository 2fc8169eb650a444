//! Timers of processes: interval and POSIX timers, CPU-time clocks and sleeps, alarms of CLOCK_REALTIME, the vDSO's data.

pub mod alarm;
pub mod clock;
pub mod cpu_sleep;
pub mod posix;
pub mod timers;
pub mod vdso;

pub use timers::ProcessTimers;
