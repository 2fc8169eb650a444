//! Open files and descriptors; the objects that are files without a file system (pipes, eventfd, epoll, terminals).

mod attributes;
pub mod device;
pub mod epoll;
pub mod eventfd;
mod hwrng;
pub mod ops;
pub mod pipe;
pub mod poll;
pub mod signal_io;
pub mod splice;
pub mod syscall;
pub mod table;
pub mod tty;

pub use attributes::Attributes;
pub use ops::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
pub use poll::{PollEvents, PollSet, PollTable};
pub use table::{FdFlags, FdTable};
