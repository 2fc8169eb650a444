//! What lies behind descriptors without a file system of its own: pipes, eventfd, epoll, timerfd, signalfd, memfd, inotify,
//! character devices, terminals.

pub mod block;
pub mod device;
pub mod direct;
pub mod epoll;
pub mod eventfd;
mod hwrng;
pub mod inotify;
pub mod memfd;
pub mod pipe;
pub mod signal_io;
pub mod signalfd;
pub mod splice;
pub mod timerfd;
pub mod tty;
