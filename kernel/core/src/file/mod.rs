//! Open files and descriptors; the objects that are files without a file system (pipes, eventfd, epoll, terminals).

pub mod ops;
pub mod syscall;
pub mod poll;
pub mod table;

pub use ops::{Advance, FileOps, OpenFile, OpenFlags, SeekFrom};
pub use poll::{PollEvents, PollSet, PollTable};
pub use table::{FdFlags, FdTable};
