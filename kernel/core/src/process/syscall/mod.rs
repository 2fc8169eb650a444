//! System calls of this area, one file per family.

pub mod credentials;
pub mod prctl;
pub mod process;
pub mod usage;
pub mod wait;
pub mod misc;
pub mod job;
pub mod limit;
pub mod clone;
pub mod exec;
pub mod pidfd;

