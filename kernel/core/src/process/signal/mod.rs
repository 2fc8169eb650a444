//! Signals: generation, pending sets, delivery, stops.
//!
//! [`state`]: what threads and processes keep · [`slot`]: how much of it · [`send`]: generation · [`deliver`]: before user mode · [`frame`]: handler
//! frames · [`stop`]: job control. Everything a sender touches is under interrupt-safe locks: timers and terminals send from
//! interrupts. The numbers are in [`crate::task::siginfo`].

pub mod deliver;
pub mod frame;
pub mod send;
pub mod slot;
pub mod state;
pub mod stop;
pub mod trampoline;

pub use deliver::{
    deliver, end_temporary_mask, force_fault, force_fault_with_esr, rewind, set_restart, set_temporary_mask,
};
pub use send::{
    check_orphaned_groups, ignores_children, is_blocked_or_ignored, is_discarded, may_signal, send_timer,
    send_to_group, send_to_process, send_to_task, try_send_to_process, try_send_to_task,
};
pub use state::{ProcessSignal, TaskSignal, on_exec, on_thread_exit};
