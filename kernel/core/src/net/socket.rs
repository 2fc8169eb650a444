//! [`Socket`], what a socket can do: the calls of `syscall` find it through `FileOps::as_socket` and know nothing of families.

use super::message::{Address, Control, ControlItem};
use super::options::{Common, OptionIn};
use crate::prelude::*;
use crate::sync::{Deadline, WaitError};
use crate::vfs::{FileOps, OpenFile, OpenFlags};
use crate::vfs::{FileType, Stat};

pub const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

pub const SOCK_STREAM: i32 = 1;
pub const SOCK_DGRAM: i32 = 2;
pub const SOCK_RAW: i32 = 3;
pub const SOCK_SEQPACKET: i32 = 5;

bitflags! {
    /// MSG_ flags of send and receive calls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MsgFlags: u32 {
        const OOB = 1;
        const PEEK = 2;
        const DONTROUTE = 4;
        const CTRUNC = 8;
        const TRUNC = 0x20;
        const DONTWAIT = 0x40;
        const EOR = 0x80;
        const WAITALL = 0x100;
        const CONFIRM = 0x800;
        const ERRQUEUE = 0x2000;
        const NOSIGNAL = 0x4000;
        const MORE = 0x8000;
        const WAITFORONE = 0x1_0000;
        const CMSG_CLOEXEC = 0x4000_0000;
        const _ = !0;
    }
}

/// How a send or receive call is to be done.
#[derive(Clone, Copy, Default)]
pub struct How {
    /// O_NONBLOCK or MSG_DONTWAIT.
    pub nonblocking: bool,
    pub flags: MsgFlags,
}

impl How {
    pub fn new(file: &OpenFile, flags: u32) -> Self {
        let flags = MsgFlags::from_bits_retain(flags);
        Self { nonblocking: flags.contains(MsgFlags::DONTWAIT) || file.is_nonblocking(), flags }
    }
    pub fn peeks(self) -> bool {
        self.flags.contains(MsgFlags::PEEK)
    }
    /// SIGPIPE goes with EPIPE.
    pub fn signals(self) -> bool {
        !self.flags.contains(MsgFlags::NOSIGNAL)
    }
}

/// What a send call gives beside the bytes.
#[derive(Default)]
pub struct Outgoing<'a> {
    /// The explicit destination, a `struct sockaddr` of any length.
    pub to: Option<&'a [u8]>,
    pub control: &'a [Control],
}

/// What a receive call got.
#[derive(Default)]
pub struct Received {
    /// Bytes copied.
    pub len: usize,
    /// Length of the whole datagram (what MSG_TRUNC answers); 0 for streams.
    pub full_len: usize,
    /// Flags for msg_flags: TRUNC, EOR, OOB, ERRQUEUE.
    pub flags: MsgFlags,
    /// The sender's address; empty when there is none to tell.
    pub from: Address,
    pub control: Vec<ControlItem>,
}

/// A connection taken from a listener.
pub struct Accepted {
    pub socket: Arc<dyn FileOps>,
    pub peer: Address,
}

/// A socket of any family. Methods take user memory only through readers and writers, and hold no lock across a copy.
///
/// Addresses are whole `struct sockaddr`s, family first, as the program gave them: 0 to 128 bytes.
pub trait Socket: FileOps {
    fn common(&self) -> &Common;
    /// SO_DOMAIN, SO_TYPE and SO_PROTOCOL.
    fn domain(&self) -> u16;
    fn kind(&self) -> i32;
    fn protocol(&self) -> i32 {
        0
    }
    /// Its inode number, from [`new_id`].
    fn inode(&self) -> u64;
    fn bind(&self, _address: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn listen(&self, _backlog: i32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn accept(&self, _nonblocking: bool) -> Result<Accepted, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn connect(&self, _address: &[u8], _nonblocking: bool) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    fn name(&self) -> Result<Address, Errno>;
    /// ENOTCONN.
    fn peer_name(&self) -> Result<Address, Errno>;
    fn send(&self, src: &mut UserReader<'_>, out: Outgoing<'_>, how: How) -> SysResult;
    fn receive(&self, dst: &mut UserWriter<'_>, how: How) -> Result<Received, Errno>;
    fn shutdown(&self, _read: bool, _write: bool) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// SO_ERROR, which forgets it.
    fn take_error(&self) -> Option<Errno> {
        None
    }
    /// SO_ACCEPTCONN.
    fn is_listening(&self) -> bool {
        false
    }
    /// Options the common ones do not know, of any level; `None`: not this socket's either.
    fn set_option(&self, _level: i32, _name: i32, _value: OptionIn) -> Option<Result<(), Errno>> {
        None
    }
    /// As [`Socket::set_option`]; `room` is what the program has place for.
    fn option(&self, _level: i32, _name: i32, _room: usize) -> Option<Result<Vec<u8>, Errno>> {
        None
    }
    /// What an option of a level that this socket does not have answers.
    fn unknown_level(&self) -> Errno {
        Errno::EOPNOTSUPP
    }
}

impl dyn Socket + '_ {
    /// What its link in /proc/PID/fd says.
    pub fn label(&self) -> String {
        alloc::format!("socket:[{}]", self.inode())
    }
    /// fstat(2).
    pub fn inode_stat(&self) -> Stat {
        let (ino, mode) = (self.inode(), FileType::Socket.mode_bits());
        let bare = Stat { dev: 9, ino, mode, nlink: 1, block_size: PAGE_SIZE as u32, ..Stat::default() };
        self.common().attributes.complete(bare)
    }
}

/// The open file of a socket that the caller has made or accepted.
pub fn open_file(socket: Arc<dyn FileOps>, nonblocking: bool) -> Arc<OpenFile> {
    if let Some(attributes) = socket.attributes() {
        attributes.give_to_caller();
    }
    let mut flags = OpenFlags::RDWR;
    flags.set(OpenFlags::NONBLOCK, nonblocking);
    OpenFile::anonymous(socket, flags)
}

/// A socket's inode number.
pub fn new_id() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// When a wait that begins now ends; 0 ns is never.
pub fn deadline(timeout_ns: u64) -> Deadline {
    (timeout_ns != 0).then(|| crate::time::now_ns().saturating_add(timeout_ns))
}

/// A wait's end as socket calls report it: a time-out is EAGAIN; a call that has one (SO_RCVTIMEO, SO_SNDTIMEO) is not restarted
/// after a signal, for it would wait the whole time again.
pub fn wait_error(until: Deadline) -> impl Fn(WaitError) -> Errno {
    move |error| match error {
        WaitError::TimedOut => Errno::EAGAIN,
        WaitError::Interrupted if until.is_some() => Errno::EINTR,
        WaitError::Interrupted => Errno::ERESTARTSYS,
    }
}
