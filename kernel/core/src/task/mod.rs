//! Threads and processes as objects: what they are, their numbers and parentage. How they begin, act and end is [`crate::process`]'s.
//!
//! [`Task`] is one thread, [`Process`] the thread group. Each subsystem keeps its own part of a task in a struct of its own
//! (`task.sched`, `task.signal`, `task.files` ...), with its own locks; this module only holds them together.
//!
//! [`task`], [`process`], [`life`]: the objects · [`tree`]: numbers and parentage · [`credentials`] · [`user`]: what a user's
//! processes are counted for together · [`siginfo`]: signal numbers and what a signal says · [`uts`]: names of the machine.

pub mod credentials;
pub mod life;
pub mod process;
pub mod siginfo;
pub mod task;
pub mod tree;
pub mod user;
pub mod uts;

pub use credentials::Credentials;
pub use process::Process;
pub use task::{Task, current, current_arc};
pub use tree::{all_processes, all_processes_if_unlocked, find_process, find_task, process_group};
