//! Numbers of Linux's interface that more than one place must know.

pub mod ioctl;
