//! UNIX sockets: stream, datagram, sequenced packets; path names and abstract names; descriptors and credentials in messages.
//!
//! Every socket has an inbox; sending puts a message into the other side's. What a message costs is charged to its sender until
//! it has been received, up to SO_SNDBUF. A reader takes messages out under `reading`, so that what does not fit can be put back
//! in order.
//!
//! Map: [`name`] binding and finding · [`connect`] listen, connect, accept · [`send`] · [`receive`] · [`urgent`] MSG_OOB ·
//! [`flight`] descriptors in messages, and the sockets among them that nobody can reach any more · [`file`] the socket as a file.
//!
//! Lock order: `reading` (sleeping) → `flight` → `state` (two of them by address) → `inbox`; the table of names alone. Nothing
//! spins while bytes are copied, and no message is dropped under a spin lock.

mod connect;
mod file;
mod flight;
mod name;
mod receive;
mod send;
mod urgent;

use super::options::Common;
use super::socket::{self, AF_UNIX};
use crate::prelude::*;
use crate::task::Credentials;
use crate::vfs::Path;
use crate::vfs::{PollEvents, PollSet};
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use flight::Flying;

pub use name::format_table;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Stream = 1,
    Datagram = 2,
    SeqPacket = 5,
}

/// `struct ucred`.
#[derive(Clone, Copy, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Ucred {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Ucred {
    pub fn current() -> Self {
        let task = current();
        task.credentials.with(|own| Self { pid: task.process.pid, uid: own.euid, gid: own.egid })
    }
}

/// Who was at the other side when the connection was made.
#[derive(Clone)]
struct Identity {
    ucred: Ucred,
    creds: Arc<Credentials>,
}

impl Identity {
    fn current() -> Self {
        Self { ucred: Ucred::current(), creds: current().creds() }
    }
}

/// A socket's name as bind(2) gave it, without the family. Abstract names begin with NUL.
type Name = Arc<[u8]>;

/// What a message costs its sender until it has been received.
struct Charge {
    sender: Weak<UnixSocket>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.upgrade() {
            sender.used.fetch_sub(self.bytes, Ordering::AcqRel);
            sender.tell_room();
        }
    }
}

struct Message {
    /// Its place in the order of all that came into this inbox.
    serial: u64,
    /// Sent with MSG_OOB: one byte.
    is_urgent: bool,
    bytes: Vec<u8>,
    /// A stream's bytes before this one have been received.
    start: usize,
    creds: Ucred,
    flying: Option<Flying>,
    from: Option<Name>,
    /// Dropped with the message, which gives the sender room.
    _charge: Charge,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The serial of the message that came last.
    last: u64,
    /// The serial of the urgent byte, a message by itself, until it has been received or a later one has taken its place.
    urgent: Option<u64>,
}

#[derive(Default)]
struct State {
    name: Option<Name>,
    /// Keeps the inode of a bound path.
    place: Option<Path>,
    peer: Option<Weak<UnixSocket>>,
    /// Connections not yet accepted, and how many there may be; `None` unless listening.
    pending: Option<(VecDeque<Arc<UnixSocket>>, usize)>,
    peer_identity: Option<Identity>,
    connected: bool,
}

/// net.unix.max_dgram_qlen: datagrams that wait in the queue of a new socket when their senders are not its peer.
pub static MAX_DATAGRAMS: AtomicUsize = AtomicUsize::new(10);

pub struct UnixSocket {
    pub kind: Kind,
    id: u64,
    /// [`MAX_DATAGRAMS`] of the time when it was made.
    max_datagrams: usize,
    own: Weak<UnixSocket>,
    state: SpinLock<State>,
    inbox: SpinLock<Inbox>,
    reading: Mutex<()>,
    /// What its messages in other inboxes cost.
    used: AtomicUsize,
    /// Nothing more will come: the other side is gone or has shut down writing, or this one reading.
    end_of_input: AtomicBool,
    /// This side may not send any more.
    shut_write: AtomicBool,
    /// This socket, or the other side, has been closed.
    hung_up: AtomicBool,
    /// SO_PEEK_OFF: how far MSG_PEEK has looked; negative when it is off.
    peek_offset: AtomicI32,
    /// The other side went with unread data: reported once.
    reset: AtomicBool,
    common: Common,
    readable: WaitQueue,
    /// Senders through this socket wait here for what they sent before to be received.
    writable: WaitQueue,
    /// Senders to this socket wait here for room in its queue of datagrams, or of connections.
    room: WaitQueue,
    poll_set: PollSet,
    /// Those who poll to send to this socket hear here that it has taken a datagram.
    drained: PollSet,
}

impl UnixSocket {
    pub fn new(kind: Kind) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            kind,
            id: socket::new_id(),
            max_datagrams: MAX_DATAGRAMS.load(Ordering::Relaxed),
            own: own.clone(),
            state: SpinLock::new(State::default()),
            inbox: SpinLock::new(Inbox::default()),
            reading: Mutex::new(()),
            used: AtomicUsize::new(0),
            end_of_input: AtomicBool::new(false),
            shut_write: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            peek_offset: AtomicI32::new(-1),
            reset: AtomicBool::new(false),
            common: Common::new(),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            room: WaitQueue::new(),
            poll_set: PollSet::new(),
            drained: PollSet::new(),
        })
    }

    /// socketpair(2).
    pub fn pair(kind: Kind) -> (Arc<Self>, Arc<Self>) {
        let (one, other) = (Self::new(kind), Self::new(kind));
        let identity = Identity::current();
        for (own, peer) in [(&one, &other), (&other, &one)] {
            let mut state = own.state.lock();
            state.peer = Some(Arc::downgrade(peer));
            state.peer_identity = Some(identity.clone());
            state.connected = true;
        }
        (one, other)
    }

    /// A counted reference to this very socket: EBADF when it is being closed.
    fn counted(&self) -> Result<Arc<Self>, Errno> {
        self.own.upgrade().ok_or(Errno::EBADF)
    }
    fn peer(&self) -> Option<Arc<Self>> {
        self.state.lock().peer.as_ref()?.upgrade()
    }
    fn is_peer(&self, other: &Self) -> bool {
        self.state.lock().peer.as_ref().is_some_and(|peer| peer.ptr_eq(&other.own))
    }
    fn peer_identity(&self) -> Option<Identity> {
        self.state.lock().peer_identity.clone()
    }
    /// ECONNRESET once after the other side went with unread data.
    fn take_reset(&self) -> Option<Errno> {
        self.reset
            .load(Ordering::Relaxed)
            .then(|| self.reset.swap(false, Ordering::AcqRel))?
            .then_some(Errno::ECONNRESET)
    }

    fn send_limit(&self) -> usize {
        self.common.send_buffer.load(Ordering::Relaxed) as usize
    }
    /// Whether poll says that it can be written to: a quarter of the buffer at most is used.
    fn has_much_room(&self) -> bool {
        self.used.load(Ordering::Acquire) * 4 <= self.send_limit()
    }
    /// Messages of this socket have been received.
    fn tell_room(&self) {
        if self.has_much_room() {
            self.writable.wake_all();
            self.poll_set.notify(PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND);
        }
    }

    /// shutdown(2), of an unconnected socket too.
    fn shut_down(&self, read: bool, write: bool) {
        if read {
            self.end_input();
        }
        if write {
            self.end_output();
        }
        if self.kind != Kind::Datagram
            && let Some(peer) = self.peer()
        {
            if write {
                peer.end_input();
            }
            if read {
                peer.end_output();
            }
        }
    }

    fn end_input(&self) {
        self.end_of_input.store(true, Ordering::Release);
        self.readable.wake_all();
        self.room.wake_all();
        self.poll_set.notify(PollEvents::IN | PollEvents::HUP | PollEvents::RDHUP);
        self.drained.notify(PollEvents::OUT | PollEvents::ERR);
    }

    fn end_output(&self) {
        self.shut_write.store(true, Ordering::Release);
        self.writable.wake_all();
        self.poll_set.notify(PollEvents::OUT | PollEvents::HUP);
    }

    /// The socket goes: its name, its connection, those that wait to be accepted. `embryo`: nobody ever accepted it.
    fn close(&self, embryo: bool) {
        let (place, name, peer, pending) = {
            let mut state = self.state.lock();
            (state.place.take(), state.name.clone(), state.peer.take(), state.pending.take())
        };
        self.forget_name(place.as_ref(), name.as_deref());
        drop(place);
        self.hung_up.store(true, Ordering::Release);
        self.end_input();
        self.end_output();
        let unread = core::mem::take(&mut *self.inbox.lock()).messages;
        if self.kind != Kind::Datagram
            && let Some(peer) = peer.and_then(|peer| peer.upgrade())
        {
            if embryo || urgent::is_unread(&unread) {
                peer.reset.store(true, Ordering::Release);
            }
            peer.hung_up.store(true, Ordering::Release);
            peer.end_output();
            peer.end_input();
        }
        flight::discard(unread);
        for waiting in pending.into_iter().flat_map(|(pending, _)| pending) {
            waiting.close(true);
        }
    }
}

/// The kind of a UNIX socket: EPROTONOSUPPORT, ESOCKTNOSUPPORT.
fn parse_kind(kind: i32, protocol: i32) -> Result<Kind, Errno> {
    if protocol != 0 && protocol != AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        1 => Ok(Kind::Stream),
        // Raw UNIX sockets are datagram sockets, as on Linux.
        2 | 3 => Ok(Kind::Datagram),
        5 => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// socket(2).
pub fn create(kind: i32, protocol: i32) -> Result<Arc<UnixSocket>, Errno> {
    Ok(UnixSocket::new(parse_kind(kind, protocol)?))
}

/// socketpair(2).
pub fn create_pair(kind: i32, protocol: i32) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>), Errno> {
    Ok(UnixSocket::pair(parse_kind(kind, protocol)?))
}
