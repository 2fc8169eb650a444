//! A process's life cycle: alive, zombie, reaped; its exit status and what its children used.

/// Owned by process/exit.rs and process/wait.rs.
pub struct Life {}
