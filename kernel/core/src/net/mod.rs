//! Sockets: the generic layer, UNIX sockets, and the internet protocols on smoltcp.

pub mod syscall;
