//! System calls of this area, one file per family.

pub mod descriptor;
pub mod epoll;
pub mod poll;
pub mod rw;
pub mod splice;
