//! Sockets: the calls, and UNIX sockets. Other families: EAFNOSUPPORT.

pub mod message;
pub mod syscall;
pub mod unix;
