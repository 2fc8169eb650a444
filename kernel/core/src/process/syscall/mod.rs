//! System calls of this area, one file per family.

pub mod clone;
pub mod credentials;
pub mod exec;
pub mod job;
pub mod limit;
pub mod misc;
pub mod pidfd;
pub mod prctl;
pub mod process;
pub mod unshare;
pub mod usage;
pub mod wait;
