//! System calls of this area, one file per family.

pub mod path;
pub mod inotify;
pub mod lock;
pub mod mount;
pub mod stat;
pub mod attr;
pub mod xattr;

