//! System calls of this area, one file per family.

pub mod attr;
pub mod inotify;
pub mod lock;
pub mod mount;
pub mod path;
pub mod stat;
pub mod xattr;
